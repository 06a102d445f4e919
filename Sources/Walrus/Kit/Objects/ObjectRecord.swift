public import Domain

/// A key: its bytes as the client sent them, decoded. UTF-8 always; ordered by bytes.
public struct ObjectKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    /// Source: S3 User Guide, "Naming Amazon S3 objects".
    public static let lengthLimit = 1024

    /// - Throws: `KeyTooLongError`; `InvalidURI` when it is not UTF-8.
    public init(_ bytes: [UInt8]) throws(CloudError) {
        guard bytes.count <= Self.lengthLimit else { throw S3Failure.keyTooLong(bytes.count, limit: Self.lengthLimit) }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw S3Failure.invalidURI() }
        self.bytes = bytes
    }

    init(trusted bytes: [UInt8]) { self.bytes = bytes }

    public var text: String { String(decoding: bytes, as: UTF8.self) }
    public var description: String { text }
    public static func < (a: Self, b: Self) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}

/// What describes an object beside its bytes.
public struct ObjectAttributes: Sendable, Equatable {
    /// The standard headers that S3 keeps (`content-type`, `cache-control`, …), lower-case names, in a fixed order.
    public var headers: [(name: String, value: String)]
    /// `x-amz-meta-…`, lower-case names without the prefix.
    public var metadata: [(name: String, value: String)]
    public var tags: [(name: String, value: String)]
    public var storageClass: String

    public init(
        headers: [(name: String, value: String)] = [], metadata: [(name: String, value: String)] = [],
        tags: [(name: String, value: String)] = [], storageClass: String = "STANDARD"
    ) {
        self.headers = headers
        self.metadata = metadata
        self.tags = tags
        self.storageClass = storageClass
    }

    public static func == (a: Self, b: Self) -> Bool {
        flat(a.headers) == flat(b.headers) && flat(a.metadata) == flat(b.metadata) && flat(a.tags) == flat(b.tags)
            && a.storageClass == b.storageClass
    }

    /// Pairs as one list, as the database keeps them.
    static func flat(_ pairs: [(name: String, value: String)]) -> [String] { pairs.flatMap { [$0.name, $0.value] } }
    static func pairs(_ flat: [String]) -> [(name: String, value: String)] {
        stride(from: 0, to: flat.count - 1, by: 2).map { (flat[$0], flat[$0 + 1]) }
    }
}

/// Where the bytes of an object are.
public enum ObjectContent: Sendable, Equatable {
    /// In the row itself: small objects are one durable commit.
    case inline([UInt8])
    case blob(BlobID)
    /// In the parts of this completed upload, in the order of their numbers.
    case parts(upload: Int64)
}

public struct ObjectRecord: Sendable, Equatable {
    public var key: ObjectKey
    public var size: Int
    /// Without quotes.
    public var etag: String
    public var modified: Timestamp
    /// The owner's account id.
    public var account: String
    public var acl: AccessControlList
    public var attributes: ObjectAttributes
    public var checksum: StoredChecksum?
    public var content: ObjectContent
    /// Of a multipart object; 0 otherwise.
    public var partCount: Int = 0
    public var version: String = VersionID.null
    public var lock = ObjectLock()
    /// `nil`: the bytes stand as they are.
    public var encryption: Encryption?
    /// MD5 of the bytes at rest, hexadecimal, where `etag` is that of others.
    public var storedMD5: String?
}

/// One part of an upload, or of the object that the upload became.
public struct PartRecord: Sendable, Equatable {
    public var number: Int
    public var blob: BlobID
    public var size: Int
    /// MD5 in hexadecimal: the part's ETag.
    public var etag: String
    public var modified: Timestamp
    public var checksum: StoredChecksum?
    /// Where the part begins in the object; 0 while the upload runs.
    public var start: Int = 0
    /// As of an object.
    public var storedMD5: String?
}
