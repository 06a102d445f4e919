public import Daemon
public import Domain

/// Where snapshots are kept: objects by key. Walrus in a cloud, memory in tests.
public protocol SnapshotObjects: Sendable {
    func put(_ key: String, _ bytes: [UInt8]) async throws(CloudError)
    /// `nil` when there is none.
    func get(_ key: String) async throws(CloudError) -> [UInt8]?
    /// Deletes all objects whose key begins so.
    func deleteAll(prefix: String) async throws(CloudError)
}

/// Objects in one bucket of Walrus, made at the first use.
public struct BucketSnapshotObjects: SnapshotObjects {
    private let client: S3Client
    private let bucket: String

    public init(client: S3Client, bucket: String = "karri-snapshots") {
        self.client = client
        self.bucket = bucket
    }

    public func put(_ key: String, _ bytes: [UInt8]) async throws(CloudError) {
        do throws(CloudError) { _ = try await client.put(bucket, key, .bytes(bytes)) } catch {
            guard case .notFound(.bucket, _) = error.reason else { throw error }
            try await client.createBucket(bucket)
            _ = try await client.put(bucket, key, .bytes(bytes))
        }
    }

    public func get(_ key: String) async throws(CloudError) -> [UInt8]? {
        do throws(CloudError) { return try await client.get(bucket, key, limit: SnapshotManifest.partBytes + 1024) } catch {
            if case .notFound = error.reason { return nil }
            throw error
        }
    }

    public func deleteAll(prefix: String) async throws(CloudError) {
        let found: [(key: String, size: Int)]
        do throws(CloudError) { found = try await client.list(bucket, prefix: prefix) } catch {
            if case .notFound = error.reason { return }
            throw error
        }
        for object in found { try await client.delete(bucket, object.key) }
    }
}

/// What a snapshot consists of, stored beside its parts. It is written last: without it there is no snapshot.
///
///     <snap>/manifest.json     this
///     <snap>/000000, 000001 …  a compressed qcow2 image, cut into parts of 16 MiB
struct SnapshotManifest: Sendable, Equatable {
    /// Too low: many objects; too high: memory, and more to send again after an interruption.
    static let partBytes = 16 << 20

    let snapshot: String
    let volume: String
    let sizeGiB: Int
    let bytes: Int
    let sha256: String

    static func prefix(_ id: SnapshotID) -> String { "\(id.text)/" }
    static func key(_ id: SnapshotID) -> String { prefix(id) + "manifest.json" }
    static func key(_ id: SnapshotID, part: Int) -> String {
        let digits = String(part)
        return prefix(id) + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    }
    static func parts(_ bytes: Int) -> Int { (bytes + partBytes - 1) / partBytes }

    var json: String {
        JSONValue.object([
            .init("version", 1), .init("snapshot", .string(snapshot)), .init("volume", .string(volume)),
            .init("sizeGiB", .integer(sizeGiB)),
            .init("bytes", .integer(bytes)), .init("partBytes", .integer(Self.partBytes)), .init("sha256", .string(sha256)),
        ]).encoded
    }

    init(_ record: SnapshotRecord, bytes: Int, sha256: String) {
        snapshot = record.id.text
        volume = record.volume.text
        sizeGiB = record.sizeGiB
        self.bytes = bytes
        self.sha256 = sha256
    }

    /// - Throws: `.named("SnapshotDamaged")`.
    init(_ text: [UInt8], for id: SnapshotID) throws(CloudError) {
        guard let json = try? JSONValue(parsing: text, maxBytes: 65_536), json["version"]?.integer == 1,
            json["snapshot"]?.text == id.text, let volume = json["volume"]?.text, let sizeGiB = json["sizeGiB"]?.integer,
            let bytes = json["bytes"]?.integer, json["partBytes"]?.integer == Self.partBytes, let sha256 = json["sha256"]?.text,
            sha256.utf8.count == 64, bytes > 0, VolumeOrder.sizes.contains(sizeGiB)
        else { throw .snapshotDamaged("its manifest is not valid") }
        snapshot = id.text
        self.volume = volume
        self.sizeGiB = sizeGiB
        self.bytes = bytes
        self.sha256 = sha256
    }
}
