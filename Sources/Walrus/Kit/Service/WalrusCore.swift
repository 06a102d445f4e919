import Database
import Domain
import Logging
import Synchronization
import Workflow

/// What every action needs. Made once, in `WalrusService`.
struct WalrusCore: Sendable {
    let pool: DatabasePool
    let bytes: any ObjectBytes
    let intake: Intake
    let directory: any RequesterDirectory
    let leases: BlobLeases
    let bucketMemory = BucketMemory()
    let clock: any Clock
    let random: any Random
    let logger: Logger
    /// The region that buckets are in.
    let region: String
    /// Of virtual-hosted style; empty: none.
    let domain: String
    let configurations = ConfigurationCache()
    var newBuckets = NewBucketDefaults()
    var keys = KeyRing.none
    /// Where the destinations of notifications are, by ARN.
    var webhooks: [String: String] = [:]
    /// Of buckets that are served as web sites; empty: none.
    var websiteDomain = ""
    let accessLog = AccessLogBuffer()
    var quarantine = Quarantine()
    /// `nil`: accounts have none (tests of parts).
    var quotas: QuotaLedger?

    func owner(_ accountID: String) async throws(CloudError) -> OwnerNames { try await directory.owner(accountID: accountID) }

    /// The accounts that an ACL names, by canonical id. Those that do not exist are left out.
    func grantees(_ acl: AccessControlList) async throws(CloudError) -> [String: OwnerNames] {
        var names: [String: OwnerNames] = [:]
        for grant in acl.grants {
            guard case .canonicalUser(let id) = grant.grantee, names[id] == nil else { continue }
            names[id] = try await directory.owner(canonicalID: id)
        }
        return names
    }

    /// - Throws: `InvalidArgument` for a grant to an account that does not exist.
    func checkGrantees(_ acl: AccessControlList) async throws(CloudError) {
        let names = try await grantees(acl)
        for grant in acl.grants {
            if case .canonicalUser(let id) = grant.grantee, names[id] == nil { throw S3Failure.invalidArgument("Invalid id") }
        }
    }

    func bucket(_ r: S3Request) async throws(CloudError) -> BucketRecord {
        let name = try r.bucketName()
        guard let found = try await pool.read({ try BucketStore.bucketFetch($0, name) }) else { throw S3Failure.noSuchBucket(name) }
        let bucket = try await configured(found)
        r.trace.bucket = bucket
        try expectedOwner(r, bucket)
        return bucket
    }

    /// With its configurations; `nil`: there is none.
    func bucket(named name: String) async throws(CloudError) -> BucketRecord? {
        guard let found = try await pool.read({ try BucketStore.bucketFetch($0, name) }) else { return nil }
        return try await configured(found)
    }

    /// - Parameter version: `nil`: the current one.
    func object(
        _ r: S3Request, version: String? = nil, withBytes: Bool
    ) async throws(CloudError) -> (bucket: BucketRecord, object: ObjectRecord?, marker: DeleteMarker?) {
        let name = try r.bucketName()
        let key = try r.key()
        var found = try await ObjectStore.objectFetch(
            pool, bucketMemory, bucket: name, key: key, version: version, withBytes: withBytes)
        found.bucket = try await configured(found.bucket)
        r.trace.bucket = found.bucket
        try expectedOwner(r, found.bucket)
        return found
    }

    /// The bucket with its configurations. Every bucket that rights are decided on goes through here.
    func configured(_ bucket: BucketRecord) async throws(CloudError) -> BucketRecord {
        var bucket = bucket
        bucket.settings = try await configurations.settings(pool, bucket: bucket.id, version: bucket.configVersion)
        return bucket
    }

    /// `x-amz-expected-bucket-owner`: the client's protection against a bucket that has changed hands.
    private func expectedOwner(_ r: S3Request, _ bucket: BucketRecord) throws(CloudError) {
        if let expected = r.header("x-amz-expected-bucket-owner"), expected != bucket.account {
            throw S3Failure.accessDenied("the bucket belongs to \(bucket.account), not \(expected)")
        }
    }

    /// What a writer in this bucket brings into its transaction.
    func plan(_ bucket: BucketRecord) -> VersionPlan {
        VersionPlan(seen: bucket.versioning, id: VersionID.make(now: clock.now(), random: random.bytes(10)))
    }

    /// After the commit: takes a blob out of the incoming area. A failure is not the client's: the bytes are safe where they are.
    func settle(_ content: ObjectContent) async {
        if case .blob(let id) = content { await settle(id) }
    }

    func settle(_ id: BlobID) async {
        do { try await bytes.settle(id) } catch {
            logger.warning("a blob stays in incoming", metadata: ["blob": "\(id)", "error": "\(error.context)"])
        }
    }

    /// Makes an object visible under a key that is free, with a commit that it shares with others.
    /// - Returns: false when it is not free any more: nothing has happened, and `commit` decides.
    func commitNew(_ object: ObjectRecord, bucket: Int64) async throws(CloudError) -> Bool {
        do throws(CloudError) {
            guard try await ObjectStore.objectInsertAlone(pool, bucket: bucket, object) else { return false }
            await settle(object.content)
            return true
        } catch {
            await discard(object.content, after: error)
            throw error
        }
    }

    /// Runs a commit that makes `content` visible. When the transaction did not happen the blob goes; when nobody knows whether it happened
    /// (the connection broke during COMMIT) it stays in the incoming area, where upkeep looks for its row.
    func commit<R: Sendable>(
        _ content: ObjectContent?, _ body: @escaping @Sendable (Transaction) throws -> R
    ) async throws(CloudError) -> R {
        do {
            let result = try await pool.transaction(isolation: .readCommitted, body)
            if let content { await settle(content) }
            return result
        } catch {
            await discard(content, after: error)
            throw error
        }
    }

    private func discard(_ content: ObjectContent?, after error: CloudError) async {
        if case .unavailable = error.reason { return }
        guard case .blob(let id)? = content else { return }
        do { try await bytes.remove([id]) } catch {
            logger.warning("a refused blob stays in incoming", metadata: ["blob": "\(id)", "error": "\(error.context)"])
        }
    }
}

/// Blobs that are being read piece by piece: the collector leaves them alone. (A single open file needs no lease, the system keeps it.)
final class BlobLeases: Sendable {
    private let held = Mutex<[String: Int]>([:])

    func take(_ blobs: [BlobID]) -> BlobLease {
        held.withLock { h in for blob in blobs { h[blob.text, default: 0] += 1 } }
        return BlobLease(self, blobs)
    }

    func isHeld(_ blob: BlobID) -> Bool { held.withLock { $0[blob.text] != nil } }

    fileprivate func release(_ blobs: [BlobID]) {
        held.withLock { h in
            for blob in blobs {
                if let n = h[blob.text], n > 1 { h[blob.text] = n - 1 } else { h[blob.text] = nil }
            }
        }
    }
}

/// Held as long as this object lives.
final class BlobLease: Sendable {
    private let leases: BlobLeases
    private let blobs: [BlobID]

    fileprivate init(_ leases: BlobLeases, _ blobs: [BlobID]) {
        self.leases = leases
        self.blobs = blobs
    }

    deinit { leases.release(blobs) }
}
