import Database
import Domain
import Signing
import Synchronization

/// The blobs that are not served, because their bytes are not those that were stored: a clear error instead of wrong bytes.
///
/// Kept in `walrus.quarantine` and here; one process owns the store, so that no other changes it meanwhile.
final class Quarantine: Sendable {
    private let held = Mutex<Set<String>>([])
    private let count = Atomic<Int>(0)
    private let checksInline = Atomic<Bool>(false)

    func load(_ pool: DatabasePool) async throws(CloudError) { set(try await pool.read { try ScrubStore.quarantineList($0) }) }

    func set(_ blobs: [String]) {
        let names = Set(blobs)
        held.withLock { $0 = names }
        count.store(names.count, ordering: .releasing)
        checksInline.store(names.contains(ScrubStore.inlineMark), ordering: .releasing)
    }

    func add(_ pool: DatabasePool, _ blob: String, problem: String, now: Timestamp) async throws(CloudError) {
        // First here: the next read is refused even when the database is slow.
        set(held.withLock { Array($0) } + [blob])
        try await pool.transaction(isolation: .readCommitted) { try ScrubStore.quarantineAdd($0, blob, problem: problem, now: now) }
    }

    /// Bytes that are right again (brought back from a backup), or gone.
    func release(_ pool: DatabasePool, _ blobs: [String]) async throws(CloudError) {
        try await pool.transaction(isolation: .readCommitted) { try ScrubStore.quarantineRemove($0, blobs) }
        set(held.withLock { $0.subtracting(blobs) }.sorted())
    }

    var size: Int { count.load(ordering: .acquiring) }
    var blobs: Set<String> { held.withLock { $0 } }
    func holds(_ blob: BlobID) -> Bool { size > 0 && held.withLock { $0.contains(blob.text) } }

    /// Bytes in rows are checked at each read from the moment on that damage was seen in any of them, which says that the database's disk
    /// is not to be trusted.
    /// - Parameter md5: of the bytes at rest, hexadecimal.
    func checkInline(_ bytes: [UInt8], md5: String) throws(CloudError) {
        guard checksInline.load(ordering: .acquiring), Hex.encode(Digest.md5(bytes)) != md5 else { return }
        throw Self.refusal
    }

    static var refusal: CloudError {
        S3Failure.named(
            "ObjectQuarantined", 500,
            "The stored bytes of this object do not match their checksum, so they are not served. Delete the object, or have it restored.")
    }
}

/// Refuses to open what is in quarantine.
struct GuardedBytes: ObjectBytes {
    let inner: any ObjectBytes
    let quarantine: Quarantine

    func open(_ id: BlobID) async throws(CloudError) -> (any OpenBlob)? {
        if quarantine.holds(id) { throw Quarantine.refusal }
        return try await inner.open(id)
    }

    func capacity() async throws(CloudError) -> BytesCapacity { try await inner.capacity() }
    func create(_ id: BlobID) async throws(CloudError) -> any BlobWriter { try await inner.create(id) }
    func settle(_ id: BlobID) async throws(CloudError) { try await inner.settle(id) }
    func remove(_ ids: [BlobID]) async throws(CloudError) { try await inner.remove(ids) }
    func incoming() async throws(CloudError) -> [(id: BlobID, ageMilliseconds: Int)] { try await inner.incoming() }
    func settled(prefix: String) async throws(CloudError) -> [(id: BlobID, size: Int)] { try await inner.settled(prefix: prefix) }
}
