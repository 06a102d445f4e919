import Database
import Domain

/// What an account may hold in the object store; `nil`: as much as there is.
public struct Quota: Sendable, Equatable {
    public var bytes: Int?
    public var objects: Int?
    public var buckets: Int?
    public init(bytes: Int? = nil, objects: Int? = nil, buckets: Int? = nil) {
        self.bytes = bytes
        self.objects = objects
        self.buckets = buckets
    }
}

/// What an account's buckets hold: all versions, and the parts of running uploads.
public struct QuotaUse: Sendable, Equatable {
    public var bytes: Int
    public var objects: Int
    public var buckets: Int
}

enum QuotaStore {
    static func quotaList(_ t: Transaction) throws -> [String: Quota] {
        Dictionary(
            uniqueKeysWithValues: try t.execute("SELECT account, bytes, objects, buckets FROM walrus.quotas").map {
                let quota = Quota(
                    bytes: $0.optionalInt("bytes"), objects: $0.optionalInt("objects"), buckets: $0.optionalInt("buckets"))
                return ($0.text("account"), quota)
            })
    }

    static func quotaSet(_ t: Transaction, account: String, _ quota: Quota) throws {
        try t.execute(
            """
            INSERT INTO walrus.quotas (account, bytes, objects, buckets) VALUES ($1, $2, $3, $4)
            ON CONFLICT (account) DO UPDATE SET bytes = excluded.bytes, objects = excluded.objects, buckets = excluded.buckets
            """, .text(account), SQLValue(quota.bytes), SQLValue(quota.objects), SQLValue(quota.buckets))
    }

    static func quotaRemove(_ t: Transaction, account: String) throws {
        try t.execute("DELETE FROM walrus.quotas WHERE account = $1", .text(account))
    }

    /// Of the account's buckets, inside the transaction that makes another one.
    static func bucketLimit(_ t: Transaction, account: String) throws -> Int {
        try t.execute("SELECT buckets FROM walrus.quotas WHERE account = $1", .text(account)).first?.optionalInt("buckets")
            ?? BucketRules.bucketLimit
    }

    static func use(_ t: Transaction, account: String) throws -> QuotaUse {
        let row = try t.execute(
            """
            WITH b AS (SELECT id FROM walrus.buckets WHERE account = $1),
                o AS (SELECT COALESCE(sum(size), 0)::bigint AS bytes, count(*) FILTER (WHERE NOT marker) AS n
                    FROM walrus.objects WHERE bucket IN (SELECT id FROM b)),
                p AS (SELECT COALESCE(sum(p.size), 0)::bigint AS bytes FROM walrus.parts p JOIN walrus.uploads u ON u.number = p.upload
                    WHERE u.completed IS NULL AND u.bucket IN (SELECT id FROM b))
            SELECT o.bytes + p.bytes AS bytes, o.n AS objects, (SELECT count(*) FROM b) AS buckets FROM o, p
            """, .text(account))[0]
        return QuotaUse(bytes: row.int("bytes"), objects: row.int("objects"), buckets: row.int("buckets"))
    }
}
