import Domain
import Wire

/// Which events of a bucket are told to whom. Source: S3 API reference, PutBucketNotificationConfiguration; S3 User Guide, "Event
/// notification types and destinations".
///
/// A destination is an ARN of a queue, topic or function, as clients know them; the daemon's configuration says which address each ARN
/// stands for (`notification_webhooks`), and what happens is posted there.
struct NotificationConfiguration: Sendable, Equatable {
    enum Destination: String, Sendable, CaseIterable {
        case queue = "QueueConfiguration"
        case topic = "TopicConfiguration"
        case function = "CloudFunctionConfiguration"

        var element: String {
            switch self {
            case .queue: "Queue"
            case .topic: "Topic"
            case .function: "CloudFunction"
            }
        }
    }
    struct Rule: Sendable, Equatable {
        let id: String
        let destination: Destination
        let arn: String
        let events: [String]
        let prefix: String?
        let suffix: String?

        /// - Parameter event: without `s3:`, as `ObjectCreated:Put`.
        func covers(_ event: String, key: String) -> Bool {
            let name = "s3:" + event
            let isListed = events.contains { pattern in
                pattern.hasSuffix("*") ? name.hasPrefix(String(pattern.dropLast())) : pattern == name
            }
            return isListed && key.hasPrefix(prefix ?? "") && key.hasSuffix(suffix ?? "")
        }
    }
    let rules: [Rule]

    /// What we can tell. Others are refused, because nobody would ever hear of them.
    static let events: Set<String> = [
        "s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy",
        "s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectRemoved:*", "s3:ObjectRemoved:Delete",
        "s3:ObjectRemoved:DeleteMarkerCreated", "s3:LifecycleExpiration:*", "s3:LifecycleExpiration:Delete",
        "s3:LifecycleExpiration:DeleteMarkerCreated",
    ]
    static let ruleLimit = 100

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "NotificationConfiguration")
        var rules: [Rule] = []
        for element in root.children {
            guard element.name != "EventBridgeConfiguration" else {
                throw S3Failure.notImplemented("EventBridge is not implemented")
            }
            guard let destination = Destination(rawValue: element.name) else {
                throw S3Failure.malformedXML("\(element.name) in a NotificationConfiguration")
            }
            rules.append(try Self.rule(element, destination, rules.count))
        }
        guard rules.count <= Self.ruleLimit else { throw S3Failure.invalidArgument("There are at most 100 notification configurations") }
        guard Set(rules.map(\.id)).count == rules.count else {
            throw S3Failure.invalidArgument("Same ID used for multiple configurations. IDs must be unique")
        }
        self.rules = rules
    }

    private static func rule(_ element: XMLElement, _ destination: Destination, _ index: Int) throws(CloudError) -> Rule {
        guard let arn = element.first(destination.element)?.text.trimmed, arn.hasPrefix("arn:") else {
            throw S3Failure.invalidArgument("The ARN could not be parsed")
        }
        let events = element.all("Event").map(\.text.trimmed)
        guard !events.isEmpty else { throw S3Failure.malformedXML("no Event") }
        for event in events where !Self.events.contains(event) {
            throw S3Failure.invalidArgument("The event '\(event)' is not supported for notifications")
        }
        var prefix: String?
        var suffix: String?
        for filter in element.first("Filter")?.first("S3Key")?.all("FilterRule") ?? [] {
            let value = filter.first("Value")?.text ?? ""
            switch filter.first("Name")?.text.trimmed.lowercased() {
            case "prefix" where prefix == nil: prefix = value
            case "suffix" where suffix == nil: suffix = value
            case "prefix", "suffix": throw S3Failure.invalidArgument("Cannot specify more than one prefix or suffix rule in a filter.")
            default: throw S3Failure.invalidArgument("filter rule name must be either prefix or suffix")
            }
        }
        let id = element.first("Id")?.text.trimmed ?? ""
        return Rule(
            id: id.isEmpty ? "karri-notification-\(index + 1)" : id, destination: destination, arn: arn, events: events, prefix: prefix,
            suffix: suffix)
    }

    var document: [UInt8] {
        S3Document.make("NotificationConfiguration") { xml in
            for rule in rules {
                xml.open(rule.destination.rawValue)
                xml.element("Id", rule.id)
                xml.element(rule.destination.element, rule.arn)
                for event in rule.events { xml.element("Event", event) }
                if rule.prefix != nil || rule.suffix != nil {
                    xml.open("Filter")
                    xml.open("S3Key")
                    for (name, value) in [("prefix", rule.prefix), ("suffix", rule.suffix)] {
                        guard let value else { continue }
                        xml.open("FilterRule")
                        xml.element("Name", name)
                        xml.element("Value", value)
                        xml.close()
                    }
                    xml.close()
                    xml.close()
                }
                xml.close()
            }
        }
    }
}
