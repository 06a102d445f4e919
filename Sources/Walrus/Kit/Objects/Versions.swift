public import Domain

/// Whether a bucket keeps what is replaced and deleted. Source: S3 User Guide, "Using versioning in S3 buckets".
public enum Versioning: Int, Sendable {
    /// Never switched on.
    case off = 0
    case enabled = 1
    /// New objects replace the version that is called `null`; the others stay.
    case suspended = 2

    /// As `VersioningConfiguration` says it.
    public var status: String? {
        switch self {
        case .off: nil
        case .enabled: "Enabled"
        case .suspended: "Suspended"
        }
    }
}

public enum VersionID {
    /// What was written while versioning was off or suspended.
    public static let null = "null"

    /// 48 bits of milliseconds, so that ids of a key are in the order in which they were made, and 80 random bits.
    static func make(now: Timestamp, random: [UInt8]) -> String {
        let time = UInt64(clamping: now.milliseconds)
        return Hex.encode((0..<6).map { UInt8(truncatingIfNeeded: time >> (40 - 8 * UInt64($0))) } + random)
    }

    /// - Returns: the id that a client names; our own are 32 hexadecimal digits.
    /// - Throws: `InvalidArgument` for what can never have been one.
    public static func parse(_ text: String) throws(CloudError) -> String {
        guard !text.isEmpty else { throw S3Failure.invalidArgument("Version id cannot be the empty string") }
        guard text == null || BlobID(parsing: text) != nil else { throw S3Failure.invalidArgument("Invalid version id specified") }
        return text
    }
}

/// What a writer knows of versioning before its transaction: the state that it saw, and the id of the version that it may make.
/// The transaction decides by the state that it finds.
struct VersionPlan: Sendable {
    let seen: Versioning
    let id: String

    static let unversioned = VersionPlan(seen: .off, id: VersionID.null)
}

/// The version that says that a key is deleted.
public struct DeleteMarker: Sendable, Equatable {
    public let version: String
    public let modified: Timestamp
    public let account: String
}

/// What a key, or one version of it, is.
enum PresentObject: Sendable {
    case nothing
    case marker(DeleteMarker)
    case object(ObjectRecord)
}

/// What a delete did.
struct DeleteOutcome: Sendable {
    /// The version that was deleted or, for a marker that was made, its id; `nil` in unversioned buckets.
    var version: String?
    /// A marker was made or deleted.
    var isMarker = false
    /// What is gone for good, with its bytes.
    var removed: ObjectRecord?
}
