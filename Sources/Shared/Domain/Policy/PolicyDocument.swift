/// An IAM policy or a bucket policy, parsed and checked. Source: IAM User Guide, "IAM JSON policy reference".
public struct PolicyDocument: Sendable, Equatable {
    public enum Effect: Sendable, Equatable { case allow, deny }

    /// What a policy hangs on. It decides whether statements name principals.
    public enum Attachment: Sendable {
        /// A user, group or role: statements have no principal; it is whoever the policy hangs on.
        case identity
        /// A bucket and the like: each statement names its principals.
        case resource
        /// A role: each statement names who may assume it. The resource is the role itself and is not named.
        case trust
    }

    /// A list, or everything but a list (`Action` and `NotAction`).
    public struct Selection: Sendable, Equatable {
        public let patterns: [String]
        public let isInverted: Bool
    }

    public struct Statement: Sendable, Equatable {
        public let sid: String?
        public let effect: Effect
        public let principals: Principals?
        public let actions: Selection
        public let resources: Selection
        public let conditions: [Condition]
    }

    public struct Principals: Sendable, Equatable {
        /// Everybody, the anonymous too.
        public let anyone: Bool
        /// Account ids and ARNs (`"AWS"`).
        public let accounts: [String]
        /// S3's ids of accounts (`"CanonicalUser"`).
        public let canonicalUsers: [String]
        /// Identity providers (`"Federated"`), by ARN.
        public let federated: [String]
        /// Parts of the cloud (`"Service"`): `ec2.amazonaws.com`.
        public let services: [String]
        public let isInverted: Bool
    }

    public struct Condition: Sendable, Equatable {
        public let test: PolicyTest
        /// In lower case: names of keys ignore case.
        public let key: String
        public let values: [String]
        /// The key as it was written, for messages.
        public let name: String
    }

    /// Only with this version do `${…}` variables count. Source: "IAM JSON policy elements: Version".
    public let usesVariables: Bool
    public let statements: [Statement]

    /// A document that says nothing, and so allows nothing.
    public static let none = PolicyDocument(usesVariables: true, statements: [])

    private init(usesVariables: Bool, statements: [Statement]) {
        self.usesVariables = usesVariables
        self.statements = statements
    }

    /// The largest document that any service of ours takes (S3's bucket policies).
    public static let maxBytes = 20 * 1024

    /// - Throws: `MalformedPolicyDocument` (HTTP 400) with what is wrong and where.
    public init(parsing text: String, for attachment: Attachment = .identity, maxBytes: Int = Self.maxBytes) throws(CloudError) {
        let json: JSONValue
        do throws(JSONValue.ParseError) { json = try JSONValue(parsing: text, maxBytes: maxBytes) } catch {
            throw Self.malformed("The policy is not valid JSON: \(error)")
        }
        try self.init(json, for: attachment)
    }

    public init(_ json: JSONValue, for attachment: Attachment = .identity) throws(CloudError) {
        guard let members = json.members else { throw Self.malformed("The policy must be a JSON object") }
        for member in members where !["Version", "Id", "Statement"].contains(member.name) {
            throw Self.malformed("Unknown element \(member.name)")
        }
        switch json["Version"]?.text {
        case "2012-10-17": usesVariables = true
        case "2008-10-17": usesVariables = false
        case nil where json["Version"] == nil: usesVariables = false
        default: throw Self.malformed("Version must be 2012-10-17 or 2008-10-17")
        }
        guard let statement = json["Statement"] else { throw Self.malformed("The policy must contain a Statement") }
        var statements: [Statement] = []
        for (index, item) in (statement.items ?? [statement]).enumerated() {
            statements.append(try Self.statement(item, index, attachment))
        }
        guard !statements.isEmpty else { throw Self.malformed("The policy must contain a Statement") }
        let sids = statements.compactMap(\.sid)
        guard Set(sids).count == sids.count else { throw Self.malformed("Statement ids (Sid) must be unique") }
        self.statements = statements
    }

    static func malformed(_ problem: String) -> CloudError {
        CloudError(.named(code: "MalformedPolicyDocument", status: 400), problem)
    }

    private static let known: Set<String> = [
        "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
    ]

    private static func statement(_ json: JSONValue, _ index: Int, _ attachment: Attachment) throws(CloudError) -> Statement {
        let place = "Statement \(index)"
        guard let members = json.members else { throw malformed("\(place) must be a JSON object") }
        for member in members where !known.contains(member.name) { throw malformed("\(place): unknown element \(member.name)") }
        let effect: Effect
        switch json["Effect"]?.text {
        case "Allow": effect = .allow
        case "Deny": effect = .deny
        default: throw malformed("\(place): Effect must be Allow or Deny")
        }
        if let sid = json["Sid"], sid.text == nil { throw malformed("\(place): Sid must be a string") }
        guard let actions = try selection(json, "Action", place) else { throw malformed("\(place) must contain Action or NotAction") }
        for action in actions.patterns where action != "*" {
            let parts = action.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw malformed("\(place): the action \"\(action)\" is not of the form service:Name")
            }
        }
        let resources = try resources(json, attachment, place)
        for resource in resources.patterns where resource != "*" && !resource.hasPrefix("arn:") && !resource.hasPrefix("*") {
            throw malformed("\(place): the resource \"\(resource)\" is neither an ARN nor *")
        }
        let principals = try principals(json, place)
        switch attachment {
        case .identity:
            guard principals == nil else { throw malformed("\(place): a policy of a user or group cannot name principals") }
        case .resource, .trust:
            guard principals != nil else { throw malformed("\(place) must contain Principal or NotPrincipal") }
        }
        return Statement(
            sid: json["Sid"]?.text, effect: effect, principals: principals, actions: actions, resources: resources,
            conditions: try conditions(json["Condition"], place))
    }

    private static func resources(_ json: JSONValue, _ attachment: Attachment, _ place: String) throws(CloudError) -> Selection {
        let named = try selection(json, "Resource", place)
        if attachment == .trust {
            guard named == nil else { throw malformed("\(place): a trust policy cannot name resources") }
            return Selection(patterns: ["*"], isInverted: false)
        }
        guard let named else { throw malformed("\(place) must contain Resource or NotResource") }
        return named
    }

    private static func selection(_ json: JSONValue, _ name: String, _ place: String) throws(CloudError) -> Selection? {
        switch (json[name], json["Not" + name]) {
        case (nil, nil): return nil
        case (.some, .some): throw malformed("\(place) cannot contain both \(name) and Not\(name)")
        case (let value?, nil): return Selection(patterns: try strings(value, "\(place): \(name)"), isInverted: false)
        case (nil, let value?): return Selection(patterns: try strings(value, "\(place): Not\(name)"), isInverted: true)
        }
    }

    /// A string, or a list of at least one.
    private static func strings(_ value: JSONValue, _ place: String) throws(CloudError) -> [String] {
        let items = value.items ?? [value]
        var texts: [String] = []
        for item in items {
            guard let text = item.text else { throw malformed("\(place) must be a string or a list of strings") }
            texts.append(text)
        }
        guard !texts.isEmpty else { throw malformed("\(place) must not be empty") }
        return texts
    }

    private static func principals(_ json: JSONValue, _ place: String) throws(CloudError) -> Principals? {
        let isInverted = json["NotPrincipal"] != nil
        guard let value = json["Principal"] ?? json["NotPrincipal"] else { return nil }
        guard json["Principal"] == nil || !isInverted else { throw malformed("\(place) cannot contain both Principal and NotPrincipal") }
        if value.text == "*" {
            return Principals(anyone: true, accounts: [], canonicalUsers: [], federated: [], services: [], isInverted: isInverted)
        }
        guard let members = value.members, !members.isEmpty else { throw malformed("\(place): Principal must be \"*\" or an object") }
        var accounts: [String] = []
        var canonical: [String] = []
        var federated: [String] = []
        var services: [String] = []
        for member in members {
            switch member.name {
            case "AWS": accounts = try strings(member.value, "\(place): Principal")
            case "CanonicalUser": canonical = try strings(member.value, "\(place): Principal")
            case "Federated": federated = try strings(member.value, "\(place): Principal")
            case "Service": services = try strings(member.value, "\(place): Principal")
            default: throw malformed("\(place): principals of the kind \(member.name) are not known")
            }
        }
        for account in accounts where account != "*" && !account.hasPrefix("arn:") && !(account.utf8.count == 12 && Int(account) != nil) {
            throw malformed("\(place): the principal \"\(account)\" is neither an ARN nor an account id")
        }
        return Principals(
            anyone: accounts.contains("*"), accounts: accounts, canonicalUsers: canonical, federated: federated, services: services,
            isInverted: isInverted)
    }

    private static func conditions(_ json: JSONValue?, _ place: String) throws(CloudError) -> [Condition] {
        guard let json else { return [] }
        guard let members = json.members else { throw malformed("\(place): Condition must be a JSON object") }
        var conditions: [Condition] = []
        for member in members {
            guard let test = PolicyTest(member.name) else { throw malformed("\(place): unknown condition operator \(member.name)") }
            guard let keys = member.value.members else { throw malformed("\(place): \(member.name) must be a JSON object") }
            for key in keys {
                var values: [String] = []
                for item in key.value.items ?? [key.value] {
                    switch item {
                    case .string(let text), .number(let text): values.append(text)
                    case .boolean(let flag): values.append(flag ? "true" : "false")
                    default: throw malformed("\(place): \(member.name) \(key.name) must have strings")
                    }
                }
                for value in values where !test.understands(value) {
                    throw malformed("\(place): \(member.name) \(key.name): \"\(value)\" is not a value of this operator")
                }
                conditions.append(Condition(test: test, key: key.name.asciiLowercased, values: values, name: key.name))
            }
        }
        return conditions
    }
}
