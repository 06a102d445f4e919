import Database
import Domain

/// The rows of buckets. Each function is one statement or a few, inside the caller's transaction.
enum BucketStore {
    private static let names = [
        "id", "name", "account", "region", "created", "grants", "tags", "versioning", "lock_enabled", "lock_mode", "lock_days",
        "lock_years",
        "config_version",
    ]

    /// All columns, under their own names.
    /// - Parameter alias: of the table in the statement.
    static func columns(_ alias: String) -> String { names.map { "\(alias).\($0)" }.joined(separator: ", ") }

    /// All columns of `b`, under names that begin with `b_`: for rows that hold a bucket beside something else.
    static let joined = names.map { "b.\($0) AS b_\($0)" }.joined(separator: ", ")

    /// - Parameter prefix: of the columns' names: "" or "b_" (see `joined`).
    static func bucket(_ row: Row, prefix p: String = "") -> BucketRecord {
        var lock: BucketLock?
        if row.bool(p + "lock_enabled") {
            lock = BucketLock(
                mode: row.optionalText(p + "lock_mode").flatMap { ObjectLock.Mode(rawValue: $0) }, days: row.optionalInt(p + "lock_days"),
                years: row.optionalInt(p + "lock_years"))
        }
        return BucketRecord(
            id: row.int64(p + "id"), name: row.text(p + "name"), account: row.text(p + "account"), region: row.text(p + "region"),
            created: row.timestamp(p + "created"), acl: AccessControlList(stored: row.textArray(p + "grants")),
            tags: ObjectAttributes.pairs(row.textArray(p + "tags")),
            versioning: Versioning(rawValue: row.int(p + "versioning")) ?? .off, lock: lock, configVersion: row.int64(p + "config_version"))
    }

    static func bucketFetch(_ t: Transaction, _ name: String) throws -> BucketRecord? {
        try t.execute("SELECT \(columns("b")) FROM walrus.buckets b WHERE name = $1", .text(name)).first.map { bucket($0) }
    }

    /// - Returns: the bucket, and whether this call made it; a bucket of that name that was there before is returned as it is.
    static func bucketCreate(
        _ t: Transaction, name: String, account: String, region: String, now: Timestamp, acl: AccessControlList
    ) throws -> (bucket: BucketRecord, made: Bool) {
        if let bucket = try bucketFetch(t, name) { return (bucket, false) }
        let count = try t.execute("SELECT count(*) AS n FROM walrus.buckets WHERE account = $1", .text(account))[0].int("n")
        let limit = try QuotaStore.bucketLimit(t, account: account)
        guard count < limit else { throw CloudError(.limitExceeded(.buckets, asked: count + 1, limit: limit)) }
        let rows = try t.execute(
            """
            INSERT INTO walrus.buckets AS b (name, account, region, created, grants) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (name) DO NOTHING RETURNING \(columns("b"))
            """, .text(name), .text(account), .text(region), .timestamp(now), .textArray(acl.stored))
        if let row = rows.first { return (bucket(row), true) }
        guard let other = try bucketFetch(t, name) else { throw CloudError.bug("bucket \(name) is there and is not") }
        return (other, false)
    }

    static func bucketSetACL(_ t: Transaction, _ id: Int64, _ acl: AccessControlList) throws {
        try t.execute("UPDATE walrus.buckets SET grants = $2 WHERE id = $1", SQLValue(id), .textArray(acl.stored))
    }

    static func bucketSetTags(_ t: Transaction, _ id: Int64, _ tags: [(name: String, value: String)]) throws {
        try t.execute("UPDATE walrus.buckets SET tags = $2 WHERE id = $1", SQLValue(id), .textArray(ObjectAttributes.flat(tags)))
    }

    /// Deletes an empty bucket, with the uploads that run in it. The row lock keeps new objects out until the end of the transaction.
    /// - Throws: `NoSuchBucket`, `BucketNotEmpty`.
    static func bucketDelete(_ t: Transaction, name: String, now: Timestamp) throws {
        guard let row = try t.execute("SELECT id FROM walrus.buckets WHERE name = $1 FOR UPDATE", .text(name)).first else {
            throw S3Failure.noSuchBucket(name)
        }
        let id = SQLValue(row.int64("id"))
        let live = try t.execute("SELECT 1 AS one FROM walrus.objects WHERE bucket = $1 AND live LIMIT 1", id)
        guard live.isEmpty else { throw S3Failure.named("BucketNotEmpty", 409, "The bucket you tried to delete is not empty") }
        let old = try t.execute("SELECT 1 AS one FROM walrus.objects WHERE bucket = $1 AND NOT live LIMIT 1", id)
        guard old.isEmpty else {
            throw S3Failure.named(
                "BucketNotEmpty", 409, "The bucket you tried to delete is not empty. You must delete all versions in the bucket.")
        }
        try t.execute(
            """
            WITH gone AS (DELETE FROM walrus.parts p USING walrus.uploads u
                WHERE u.bucket = $1 AND u.completed IS NULL AND p.upload = u.number RETURNING p.blob)
            INSERT INTO walrus.garbage (blob, since) SELECT blob, $2 FROM gone
            """, id, .timestamp(now))
        try t.execute("DELETE FROM walrus.uploads WHERE bucket = $1", id)
        try t.execute("DELETE FROM walrus.buckets WHERE id = $1", id)
    }

    /// The buckets of an account, in order of names.
    static func bucketList(_ t: Transaction, account: String, prefix: String, after: String, limit: Int) throws -> [BucketRecord] {
        try t.execute(
            """
            SELECT \(columns("b")) FROM walrus.buckets b WHERE account = $1 AND name > $2 AND starts_with(name, $3) ORDER BY name LIMIT $4
            """, .text(account), .text(after), .text(prefix), SQLValue(limit)
        ).map { bucket($0) }
    }
}
