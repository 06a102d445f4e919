public import Domain

public struct BucketRecord: Sendable, Equatable {
    public let id: Int64
    public let name: String
    /// The owner's account id.
    public let account: String
    public let region: String
    public let created: Timestamp
    public var acl: AccessControlList
    public var tags: [(name: String, value: String)]
    public var versioning: Versioning = .off
    /// Object Lock is on, and this is its default; `nil`: off.
    public var lock: BucketLock?
    /// Changes with every change of a configuration; 0: there never was one.
    public var configVersion: Int64 = 0
    /// Its configurations; `nil` until `WalrusCore` has looked at them. Rights cannot be decided without.
    var settings: BucketSettings?

    func loaded() throws(CloudError) -> BucketSettings {
        if let settings { return settings }
        throw .bug("the configurations of bucket \(name) were not looked at")
    }

    /// A version's id as answers tell it: not in buckets that were never versioned.
    func shown(_ version: String) -> String? { versioning == .off ? nil : version }

    public static func == (a: Self, b: Self) -> Bool {
        a.id == b.id && a.name == b.name && a.account == b.account && a.region == b.region && a.created == b.created && a.acl == b.acl
            && a.versioning == b.versioning && a.lock == b.lock && ObjectAttributes.flat(a.tags) == ObjectAttributes.flat(b.tags)
    }
}

public enum BucketRules {
    /// What one account may have. Source: S3's quota before 2024; more makes ListBuckets, which had no pages, slow.
    public static let bucketLimit = 1000

    /// Source: S3 User Guide, "General purpose bucket naming rules". `services` is ours: it would hide the Eucalyptus paths
    /// `/services/Walrus` and `/services/objectstorage`.
    /// - Throws: `InvalidBucketName`.
    public static func checkName(_ name: String) throws(CloudError) {
        let bytes = Array(name.utf8)
        func isLetterOrDigit(_ b: UInt8) -> Bool { (b >= 0x61 && b <= 0x7a) || (b >= 0x30 && b <= 0x39) }
        var valid =
            (3...63).contains(bytes.count) && bytes.allSatisfy { isLetterOrDigit($0) || $0 == 0x2d || $0 == 0x2e }
            && isLetterOrDigit(bytes[0]) && isLetterOrDigit(bytes[bytes.count - 1])
        if valid {
            valid =
                !name.utf8Contains("..") && !name.utf8Contains(".-") && !name.utf8Contains("-.") && !looksLikeIPv4(name)
                && !["xn--", "sthree-", "amzn-s3-demo-"].contains { name.hasPrefix($0) }
                && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].contains { name.hasSuffix($0) } && name != "services"
        }
        guard valid else {
            throw S3Failure.named("InvalidBucketName", 400, "The specified bucket is not valid.", context: name)
        }
    }

    private static func looksLikeIPv4(_ name: String) -> Bool {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { !$0.isEmpty && $0.count <= 3 && $0.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } }
    }
}

extension String {
    func utf8Contains(_ other: String) -> Bool {
        let needle = Array(other.utf8)
        let hay = Array(utf8)
        guard !needle.isEmpty, hay.count >= needle.count else { return needle.isEmpty }
        return (0...hay.count - needle.count).contains { hay[$0..<$0 + needle.count].elementsEqual(needle) }
    }
}
