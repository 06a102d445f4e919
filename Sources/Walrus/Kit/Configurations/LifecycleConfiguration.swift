import Domain
import Wire

/// What happens to objects with time. Source: S3 User Guide, "Managing the lifecycle of objects"; S3 API reference,
/// PutBucketLifecycleConfiguration. Both forms are read: the old one with `Prefix` in the rule, and the one with `Filter`.
struct LifecycleConfiguration: Sendable, Equatable {
    struct Filter: Sendable, Equatable {
        var prefix = ""
        var tags: [Tag] = []
        /// Bytes; an object must be larger, or smaller.
        var sizeAbove: Int?
        var sizeBelow: Int?
    }
    struct Tag: Sendable, Equatable { let name, value: String }
    /// When: so many days after, or at a date.
    enum Moment: Sendable, Equatable { case days(Int), date(Timestamp) }
    struct Transition: Sendable, Equatable {
        let at: Moment
        let storageClass: String
        /// Of noncurrent versions: how many of the newest stay.
        var newerNoncurrentVersions: Int?
    }
    struct NoncurrentExpiration: Sendable, Equatable {
        let days: Int
        let newerNoncurrentVersions: Int?
    }
    /// How the rule was written, and is told.
    enum Form: Sendable, Equatable { case prefix, filter, emptyFilter, neither }

    struct Rule: Sendable, Equatable {
        var id: String
        var isEnabled: Bool
        var filter: Filter
        var form: Form
        /// The filter stood in an `And`.
        var isAnd = false
        var hasPrefix = false
        var expiration: Moment?
        var expiredDeleteMarker = false
        var noncurrentExpiration: NoncurrentExpiration?
        var transitions: [Transition] = []
        var noncurrentTransitions: [Transition] = []
        /// Days after an upload's start.
        var abortUploadsAfterDays: Int?
    }

    let rules: [Rule]
    static let ruleLimit = 1000
    private static let storageClasses = ["GLACIER", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "DEEP_ARCHIVE", "GLACIER_IR"]

    // MARK: reading

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(
            document, root: "LifecycleConfiguration", limits: XMLLimits(maxBytes: 1 << 20, maxElements: 40_000))
        guard root.children.allSatisfy({ $0.name == "Rule" }), !root.children.isEmpty, root.children.count <= Self.ruleLimit else {
            throw S3Failure.malformedXML("\(root.children.count) rules")
        }
        var rules: [Rule] = []
        for (index, element) in root.children.enumerated() { rules.append(try Self.rule(element, index)) }
        guard Set(rules.map(\.id)).count == rules.count else {
            throw S3Failure.invalidArgument("Rule ID must be unique. Found same ID for more than one rule")
        }
        self.rules = rules
    }

    private static func rule(_ element: XMLElement, _ index: Int) throws(CloudError) -> Rule {
        // S3 makes up an id for a rule without one; ours is the same whenever the document is read.
        let given = element.first("ID")?.text.trimmed ?? ""
        guard given.unicodeScalars.count <= 255 else {
            throw S3Failure.invalidArgument("ID length should not exceed allowed limit of 255")
        }
        let status = element.first("Status")?.text.trimmed
        guard status == "Enabled" || status == "Disabled" else { throw S3Failure.malformedXML("Status must be Enabled or Disabled") }
        var rule = Rule(
            id: given.isEmpty ? "karri-rule-\(index + 1)" : given, isEnabled: status == "Enabled", filter: Filter(), form: .neither)
        switch (element.first("Filter"), element.first("Prefix")) {
        case (.some, .some): throw S3Failure.malformedXML("both Filter and Prefix")
        case (let filter?, nil): try read(filter, &rule)
        case (nil, let prefix?):
            rule.form = .prefix
            rule.filter.prefix = prefix.text
        case (nil, nil): throw S3Failure.malformedXML("neither Filter nor Prefix")
        }
        if let expiration = element.first("Expiration") { try readExpiration(expiration, &rule) }
        if let noncurrent = element.first("NoncurrentVersionExpiration") {
            rule.noncurrentExpiration = NoncurrentExpiration(
                days: try days(noncurrent, "NoncurrentDays"), newerNoncurrentVersions: try count(noncurrent))
        }
        for transition in element.all("Transition") {
            rule.transitions.append(Transition(at: try moment(transition, atLeast: 0), storageClass: try storageClass(transition)))
        }
        for transition in element.all("NoncurrentVersionTransition") {
            rule.noncurrentTransitions.append(
                Transition(
                    at: .days(try days(transition, "NoncurrentDays", atLeast: 0)), storageClass: try storageClass(transition),
                    newerNoncurrentVersions: try count(transition)))
        }
        if let abort = element.first("AbortIncompleteMultipartUpload") {
            guard rule.filter.tags.isEmpty else {
                throw S3Failure.invalidRequest("AbortIncompleteMultipartUpload cannot be specified with Tags.")
            }
            rule.abortUploadsAfterDays = try days(abort, "DaysAfterInitiation")
        }
        guard
            rule.expiration != nil || rule.expiredDeleteMarker || rule.noncurrentExpiration != nil || !rule.transitions.isEmpty
                || !rule.noncurrentTransitions.isEmpty || rule.abortUploadsAfterDays != nil
        else { throw S3Failure.invalidRequest("At least one action needs to be specified in a rule") }
        return rule
    }

    private static func read(_ element: XMLElement, _ rule: inout Rule) throws(CloudError) {
        rule.form = element.children.isEmpty ? .emptyFilter : .filter
        var parts = element
        if let and = element.first("And") {
            guard element.children.count == 1 else { throw S3Failure.malformedXML("a Filter with And and more") }
            rule.isAnd = true
            parts = and
        } else if element.children.count > 1 {
            throw S3Failure.malformedXML("a Filter with more than one condition needs And")
        }
        for part in parts.children {
            switch part.name {
            case "Prefix":
                rule.hasPrefix = true
                rule.filter.prefix = part.text
            case "Tag":
                guard let name = part.first("Key")?.text, let value = part.first("Value")?.text, !name.isEmpty else {
                    throw S3Failure.malformedXML("a Tag without Key or Value")
                }
                guard !rule.filter.tags.contains(where: { $0.name == name }) else {
                    throw S3Failure.invalidRequest("Duplicate Tag Keys are not allowed.")
                }
                rule.filter.tags.append(Tag(name: name, value: value))
            case "ObjectSizeGreaterThan": rule.filter.sizeAbove = try size(part)
            case "ObjectSizeLessThan": rule.filter.sizeBelow = try size(part)
            default: throw S3Failure.malformedXML("\(part.name) in a Filter")
            }
        }
        if let above = rule.filter.sizeAbove, let below = rule.filter.sizeBelow, above >= below {
            throw S3Failure.invalidRequest("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
        }
    }

    private static func size(_ element: XMLElement) throws(CloudError) -> Int {
        guard let n = Int(element.text.trimmed), n >= 0 else { throw S3Failure.malformedXML(element.name) }
        return n
    }

    private static func readExpiration(_ element: XMLElement, _ rule: inout Rule) throws(CloudError) {
        if let marker = element.first("ExpiredObjectDeleteMarker") {
            guard element.first("Days") == nil, element.first("Date") == nil else {
                throw S3Failure.malformedXML("ExpiredObjectDeleteMarker with Days or Date")
            }
            guard rule.filter.tags.isEmpty else {
                throw S3Failure.invalidRequest("ExpiredObjectDeleteMarker cannot be specified with Tags.")
            }
            switch marker.text.trimmed {
            case "true": rule.expiredDeleteMarker = true
            case "false": break
            default: throw S3Failure.malformedXML("ExpiredObjectDeleteMarker must be true or false")
            }
        } else {
            rule.expiration = try moment(element, atLeast: 1)
        }
    }

    private static func moment(_ element: XMLElement, atLeast: Int) throws(CloudError) -> Moment {
        switch (element.first("Days"), element.first("Date")) {
        case (.some, nil): return .days(try days(element, "Days", atLeast: atLeast))
        case (nil, let date?):
            let text = date.text.trimmed
            guard let time = Timestamp(iso8601: text) ?? Timestamp(iso8601: text + "T00:00:00Z") else {
                throw S3Failure.malformedXML("the date \(text)")
            }
            guard time.milliseconds % 86_400_000 == 0 else { throw S3Failure.invalidArgument("'Date' must be at midnight GMT") }
            return .date(time)
        default: throw S3Failure.malformedXML("one of Days and Date is needed")
        }
    }

    private static func days(_ element: XMLElement, _ name: String, atLeast: Int = 1) throws(CloudError) -> Int {
        guard let days = Int(element.first(name)?.text.trimmed ?? "") else { throw S3Failure.malformedXML("no \(name)") }
        guard days >= atLeast, days <= 1 << 31 else {
            throw S3Failure.invalidArgument(
                atLeast == 0
                    ? "'\(name)' must be a non-negative integer" : "'\(name)' for \(element.name) action must be a positive integer")
        }
        return days
    }

    private static func count(_ element: XMLElement) throws(CloudError) -> Int? {
        guard let text = element.first("NewerNoncurrentVersions")?.text.trimmed else { return nil }
        guard let n = Int(text), (1...100).contains(n) else {
            throw S3Failure.invalidArgument("'NewerNoncurrentVersions' must be a positive integer of at most 100")
        }
        return n
    }

    private static func storageClass(_ element: XMLElement) throws(CloudError) -> String {
        let name = element.first("StorageClass")?.text.trimmed ?? ""
        guard storageClasses.contains(name) else { throw S3Failure.malformedXML("the storage class \(name)") }
        return name
    }

    // MARK: writing

    var document: [UInt8] {
        S3Document.make("LifecycleConfiguration") { xml in for rule in rules { Self.write(rule, &xml) } }
    }

    private static func write(_ rule: Rule, _ xml: inout XMLWriter) {
        xml.open("Rule")
        xml.element("ID", rule.id)
        switch rule.form {
        case .prefix: xml.element("Prefix", rule.filter.prefix)
        case .emptyFilter: xml.empty("Filter")
        case .filter:
            xml.open("Filter")
            if rule.isAnd { xml.open("And") }
            if rule.hasPrefix { xml.element("Prefix", rule.filter.prefix) }
            for tag in rule.filter.tags {
                xml.open("Tag")
                xml.element("Key", tag.name)
                xml.element("Value", tag.value)
                xml.close()
            }
            if let size = rule.filter.sizeAbove { xml.element("ObjectSizeGreaterThan", String(size)) }
            if let size = rule.filter.sizeBelow { xml.element("ObjectSizeLessThan", String(size)) }
            if rule.isAnd { xml.close() }
            xml.close()
        case .neither: break
        }
        xml.element("Status", rule.isEnabled ? "Enabled" : "Disabled")
        for transition in rule.transitions {
            xml.open("Transition")
            write(transition.at, &xml)
            xml.element("StorageClass", transition.storageClass)
            xml.close()
        }
        if rule.expiration != nil || rule.expiredDeleteMarker {
            xml.open("Expiration")
            if let moment = rule.expiration { write(moment, &xml) } else { xml.element("ExpiredObjectDeleteMarker", "true") }
            xml.close()
        }
        for transition in rule.noncurrentTransitions {
            xml.open("NoncurrentVersionTransition")
            if case .days(let days) = transition.at { xml.element("NoncurrentDays", String(days)) }
            if let n = transition.newerNoncurrentVersions { xml.element("NewerNoncurrentVersions", String(n)) }
            xml.element("StorageClass", transition.storageClass)
            xml.close()
        }
        if let noncurrent = rule.noncurrentExpiration {
            xml.open("NoncurrentVersionExpiration")
            xml.element("NoncurrentDays", String(noncurrent.days))
            if let n = noncurrent.newerNoncurrentVersions { xml.element("NewerNoncurrentVersions", String(n)) }
            xml.close()
        }
        if let days = rule.abortUploadsAfterDays {
            xml.open("AbortIncompleteMultipartUpload")
            xml.element("DaysAfterInitiation", String(days))
            xml.close()
        }
        xml.close()
    }

    private static func write(_ moment: Moment, _ xml: inout XMLWriter) {
        switch moment {
        case .days(let days): xml.element("Days", String(days))
        case .date(let date): xml.element("Date", date.iso8601)
        }
    }
}
