import Database
import Domain
import Synchronization

/// The short ways to objects: what one statement can answer goes without a transaction around it, together with what others ask at the same
/// time (`DatabasePool.query`, `DatabasePool.shared`). Everything that needs a second look takes the ordinary way.
extension ObjectStore {
    /// `OFFSET 0` keeps the object's part by itself, with the bucket's id as a given: a plan for a join, made while the table was empty,
    /// looked for the key alone and went through the whole index once it was full.
    private static func lookup(withBytes: Bool) -> String {
        """
        SELECT b.id AS b_id, b.xmin::text AS b_revision, \(BucketStore.joined.replacing("b.id AS b_id, ", with: "")), \(describing), \
        \(withBytes ? "o.inline" : "NULL::bytea AS inline")
        FROM walrus.buckets b LEFT JOIN LATERAL
            (SELECT * FROM walrus.objects WHERE bucket = b.id AND key = $2 AND live OFFSET 0) o ON true WHERE b.name = $1
        """
    }
    private static let lookup = lookup(withBytes: false)
    private static let lookupWithBytes = lookup(withBytes: true)

    /// As `objectFetch` in a transaction.
    static func objectFetch(
        _ pool: DatabasePool, _ buckets: BucketMemory, bucket name: String, key: ObjectKey, version: String?, withBytes: Bool
    ) async throws(CloudError) -> (bucket: BucketRecord, object: ObjectRecord?, marker: DeleteMarker?) {
        if version == nil {
            let rows = try await pool.query(withBytes ? lookupWithBytes : lookup, .text(name), .bytes(key.bytes))
            guard let row = rows.first else { throw S3Failure.noSuchBucket(name) }
            let bucket = buckets.bucket(row)
            if !row.isNull("key") { return (bucket, object(row, inline: row.optionalBytes("inline")), nil) }
            if bucket.versioning == .off { return (bucket, nil, nil) }
        }
        return try await pool.read { try objectFetch($0, bucket: name, key: key, version: version, withBytes: withBytes) }
    }

    /// Makes an object visible under a key that is free, in a bucket without versioning, with a commit that it shares with others.
    /// - Returns: false when the key is not free any more, or the bucket is another one now: nothing has happened.
    static func objectInsertAlone(_ pool: DatabasePool, bucket: Int64, _ object: ObjectRecord) async throws(CloudError) -> Bool {
        try await pool.shared(unversionedInsertion, order: object.key.bytes, parameters(bucket, object)).affected == 1
    }
}

/// Buckets' rows as they were read last. A row is known again by the transaction that wrote it (`xmin`), which the database says with each
/// answer: so nothing here can be out of date, and the columns need not be read again for each request.
final class BucketMemory: Sendable {
    /// Too high: memory; too low: servers of many buckets read their rows again.
    private static let limit = 4096
    private let known = Mutex<[Int64: (revision: String, bucket: BucketRecord)]>([:])

    func bucket(_ row: Row) -> BucketRecord {
        let (id, revision) = (row.int64("b_id"), row.text("b_revision"))
        if let there = known.withLock({ $0[id] }), there.revision == revision { return there.bucket }
        let bucket = BucketStore.bucket(row, prefix: "b_")
        known.withLock { known in
            if known.count >= Self.limit { known = [:] }
            known[id] = (revision, bucket)
        }
        return bucket
    }
}
