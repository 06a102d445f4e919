import Database
import Domain
import Synchronization

/// The configurations of buckets as rows: one per bucket and kind, each the document as it was admitted. A change counts the bucket's
/// `config_version` up in the same transaction, so that whoever reads the bucket's row knows whether what it has parsed is still true.
enum ConfigurationStore {
    static let migration = Migration(
        20,
        """
        ALTER TABLE walrus.buckets ADD COLUMN config_version bigint NOT NULL DEFAULT 0;
        CREATE TABLE walrus.bucket_configurations (
            bucket bigint NOT NULL REFERENCES walrus.buckets (id) ON DELETE CASCADE,
            kind text NOT NULL,
            document bytea NOT NULL,
            changed bigint NOT NULL,
            PRIMARY KEY (bucket, kind)
        );
        CREATE INDEX bucket_configurations_kind ON walrus.bucket_configurations (kind, bucket);
        """)

    static func configurations(_ t: Transaction, _ bucket: Int64) throws -> (version: Int64, documents: [ConfigurationKind: [UInt8]]) {
        guard let row = try t.execute("SELECT config_version FROM walrus.buckets WHERE id = $1", SQLValue(bucket)).first else {
            throw S3Failure.noSuchBucket("")
        }
        var documents: [ConfigurationKind: [UInt8]] = [:]
        for row in try t.execute("SELECT kind, document FROM walrus.bucket_configurations WHERE bucket = $1", SQLValue(bucket)) {
            guard let kind = ConfigurationKind(rawValue: row.text("kind")) else { continue }
            documents[kind] = row.bytes("document")
        }
        return (row.int64("config_version"), documents)
    }

    private static func touch(_ t: Transaction, _ bucket: Int64) throws {
        let changed = try t.execute("UPDATE walrus.buckets SET config_version = config_version + 1 WHERE id = $1", SQLValue(bucket))
            .affected
        guard changed == 1 else { throw S3Failure.noSuchBucket("") }
    }

    static func configurationPut(_ t: Transaction, _ bucket: Int64, _ kind: ConfigurationKind, _ document: [UInt8], now: Timestamp) throws {
        // The bucket's row first: it is what two changes at once wait for.
        try touch(t, bucket)
        try t.execute(
            """
            INSERT INTO walrus.bucket_configurations (bucket, kind, document, changed) VALUES ($1, $2, $3, $4)
            ON CONFLICT (bucket, kind) DO UPDATE SET document = excluded.document, changed = excluded.changed
            """, SQLValue(bucket), .text(kind.rawValue), .bytes(document), .timestamp(now))
    }

    static func configurationDelete(_ t: Transaction, _ bucket: Int64, _ kind: ConfigurationKind) throws {
        try touch(t, bucket)
        try t.execute("DELETE FROM walrus.bucket_configurations WHERE bucket = $1 AND kind = $2", SQLValue(bucket), .text(kind.rawValue))
    }

    /// Buckets that have a configuration of this kind, by id.
    static func bucketsWith(_ t: Transaction, _ kind: ConfigurationKind, after: Int64, limit: Int) throws -> [BucketRecord] {
        try t.execute(
            """
            SELECT \(BucketStore.columns("b")) FROM walrus.buckets b JOIN walrus.bucket_configurations c ON c.bucket = b.id
            WHERE c.kind = $1 AND c.bucket > $2 ORDER BY c.bucket LIMIT $3
            """, .text(kind.rawValue), SQLValue(after), SQLValue(limit)
        ).map { BucketStore.bucket($0) }
    }
}

/// Parsed settings by bucket. The version comes with the bucket's row, which every request reads anyway: a match needs no further look.
final class ConfigurationCache: Sendable {
    /// Buckets kept. Too high: memory; too low: busy buckets are parsed again and again.
    static let limit = 10_000
    private let kept = Mutex<[Int64: (version: Int64, settings: BucketSettings)]>([:])

    func settings(_ pool: DatabasePool, bucket: Int64, version: Int64) async throws(CloudError) -> BucketSettings {
        if version == 0 { return .none }
        if let found = kept.withLock({ $0[bucket] }), found.version == version { return found.settings }
        let read = try await pool.read { try ConfigurationStore.configurations($0, bucket) }
        let settings = try BucketSettings(read.documents)
        kept.withLock { k in
            if k.count >= Self.limit { k.removeAll() }
            if let other = k[bucket], other.version > read.version { return }
            k[bucket] = (read.version, settings)
        }
        return settings
    }
}
