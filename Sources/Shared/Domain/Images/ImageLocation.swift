/// Where an image lies in the object store: `bucket/key`, as RegisterImage's ImageLocation and an instance's
/// `karri:save-on-shutdown` tag write it.
public struct ImageLocation: Sendable, Hashable, CustomStringConvertible {
    public let bucket: String
    public let key: String

    public init(bucket: String, key: String) {
        self.bucket = bucket
        self.key = key
    }

    /// The tag of an instance whose disk is to go back to the object store when it ends. Its value is `bucket/prefix`.
    public static let saveTag = "karri:save-on-shutdown"

    /// `bucket/key`, with or without a leading slash or `s3://`.
    /// - Throws: `.invalidParameter(parameter)` when either part is missing or the bucket cannot be one.
    public init(parsing text: String, parameter: String) throws(CloudError) {
        var rest = text[...]
        if rest.hasPrefix("s3://") { rest = rest.dropFirst(5) }
        if rest.hasPrefix("/") { rest = rest.dropFirst() }
        guard let slash = rest.firstIndex(of: "/") else { throw Self.refusal(text, parameter) }
        let bucket = String(rest[..<slash])
        let key = String(rest[rest.index(after: slash)...])
        guard Self.isBucketName(bucket), !key.isEmpty, key.utf8.count <= 900, !key.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f })
        else { throw Self.refusal(text, parameter) }
        self.bucket = bucket
        self.key = key
    }

    private static func refusal(_ text: String, _ parameter: String) -> CloudError {
        CloudError(.invalidParameter(parameter), "Value (\(text.prefix(100))) for parameter \(parameter) is invalid: expecting bucket/name")
    }

    /// S3's rules for bucket names, with the upper-case letters, underscores and 255 characters of the classic region, which old tools use.
    /// Source: Amazon S3 User Guide, "General purpose bucket naming rules".
    public static func isBucketName(_ name: String) -> Bool {
        (3...255).contains(name.utf8.count)
            && name.utf8.allSatisfy { c in
                (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) || c == 0x2d || c == 0x2e || c == 0x5f
            }
            && !name.hasPrefix(".") && !name.contains("..")
    }

    public var description: String { "\(bucket)/\(key)" }
}

/// The states of a bundle task as EC2 shows them. Source: EC2 API Reference, BundleTask.
public enum BundleTaskState: String, Sendable, CaseIterable {
    case pending
    case waitingForShutdown = "waiting-for-shutdown"
    case bundling, storing, cancelling, complete, failed
    public var isOver: Bool { self == .complete || self == .failed }
}
