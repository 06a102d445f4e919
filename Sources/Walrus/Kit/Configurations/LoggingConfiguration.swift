import Domain
import Wire

/// Where a bucket's access log goes. Source: S3 API reference, PutBucketLogging.
struct LoggingConfiguration: Sendable, Equatable {
    let targetBucket: String
    let targetPrefix: String
    /// `PartitionedPrefix`: the log's name begins with owner, region, bucket and date; which date: of the events or of the delivery.
    let partitioned: Bool
    let byEventTime: Bool
    /// The format was named, and is told.
    let formatIsGiven: Bool

    /// - Returns: `nil` when the document switches logging off.
    static func parse(_ document: [UInt8]) throws(CloudError) -> LoggingConfiguration? {
        let root = try S3Document.parse(document, root: "BucketLoggingStatus")
        guard let enabled = root.first("LoggingEnabled") else { return nil }
        return try LoggingConfiguration(enabled)
    }

    private init(_ element: XMLElement) throws(CloudError) {
        guard let bucket = element.first("TargetBucket")?.text.trimmed, let prefix = element.first("TargetPrefix")?.text else {
            throw S3Failure.malformedXML("no TargetBucket or TargetPrefix")
        }
        // Grants on the log objects are an ACL; what is not done is not taken.
        guard element.first("TargetGrants")?.children.isEmpty ?? true else {
            throw S3Failure.notImplemented("TargetGrants are not implemented: use the target bucket's policy")
        }
        guard prefix.utf8.count <= 800 else { throw S3Failure.keyTooLong(prefix.utf8.count, limit: 800) }
        targetBucket = bucket
        targetPrefix = prefix
        let format = element.first("TargetObjectKeyFormat")
        formatIsGiven = format != nil
        partitioned = format?.first("PartitionedPrefix") != nil
        byEventTime = format?.first("PartitionedPrefix")?.first("PartitionDateSource")?.text.trimmed == "EventTime"
    }

    var document: [UInt8] {
        S3Document.make("BucketLoggingStatus") { xml in
            xml.open("LoggingEnabled")
            xml.element("TargetBucket", targetBucket)
            xml.element("TargetPrefix", targetPrefix)
            if formatIsGiven {
                xml.open("TargetObjectKeyFormat")
                if partitioned {
                    xml.open("PartitionedPrefix")
                    xml.element("PartitionDateSource", byEventTime ? "EventTime" : "DeliveryTime")
                    xml.close()
                } else {
                    xml.empty("SimplePrefix")
                }
                xml.close()
            }
            xml.close()
        }
    }
}
