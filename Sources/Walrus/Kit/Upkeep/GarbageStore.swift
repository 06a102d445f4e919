import Database
import Domain

/// Blobs without an owner, and the questions that upkeep asks about blobs.
enum GarbageStore {
    static func garbageAdd(_ t: Transaction, _ blobs: [BlobID], now: Timestamp) throws {
        try t.execute(
            "INSERT INTO walrus.garbage (blob, since) SELECT b, $2 FROM unnest($1::text[]) b ON CONFLICT DO NOTHING",
            .textArray(blobs.map(\.text)), .timestamp(now))
    }

    static func garbageList(_ t: Transaction, before: Timestamp, limit: Int) throws -> [BlobID] {
        try t.execute("SELECT blob FROM walrus.garbage WHERE since <= $1 ORDER BY since LIMIT $2", .timestamp(before), SQLValue(limit))
            .compactMap { BlobID(parsing: $0.text("blob")) }
    }

    static func garbageForget(_ t: Transaction, _ blobs: [BlobID]) throws {
        try t.execute("DELETE FROM walrus.garbage WHERE blob = ANY($1)", .textArray(blobs.map(\.text)))
    }

    /// Which of these have an owner.
    static func owned(_ t: Transaction, _ blobs: [BlobID]) throws -> Set<String> {
        Set(
            try t.execute(
                """
                SELECT blob FROM walrus.objects WHERE blob = ANY($1) UNION ALL SELECT blob FROM walrus.parts WHERE blob = ANY($1)
                """, .textArray(blobs.map(\.text))
            ).map { $0.text("blob") })
    }

    static func inGarbage(_ t: Transaction, _ blobs: [BlobID]) throws -> Set<String> {
        Set(
            try t.execute("SELECT blob FROM walrus.garbage WHERE blob = ANY($1)", .textArray(blobs.map(\.text))).map { $0.text("blob") })
    }

    /// What a row says of a blob.
    struct Expected: Sendable {
        let blob: BlobID
        let size: Int
        /// MD5 of the bytes at rest, in hexadecimal.
        let etag: String
        let owner: String
    }

    /// The rows whose blob starts with these digits.
    static func expected(_ t: Transaction, prefix: String) throws -> [Expected] {
        try t.execute(
            """
            SELECT o.blob, o.size, COALESCE(o.stored_md5, o.etag) AS etag, b.name || '/' || encode(o.key, 'escape') AS owner
            FROM walrus.objects o JOIN walrus.buckets b ON b.id = o.bucket WHERE o.blob >= $1 AND o.blob < $2
            UNION ALL
            SELECT p.blob, p.size, COALESCE(p.stored_md5, p.etag), 'upload ' || p.upload || ' part ' || p.number
            FROM walrus.parts p WHERE p.blob >= $1 AND p.blob < $2
            """, .text(prefix), .text(prefix + "g")
        ).compactMap { row in
            BlobID(parsing: row.text("blob")).map {
                Expected(blob: $0, size: row.int("size"), etag: row.text("etag"), owner: row.text("owner"))
            }
        }
    }

    /// An object whose bytes are in its row.
    struct InlineObject: Sendable {
        let bucket: Int64
        let key: [UInt8]
        let version: String
        let size: Int
        let etag: String
        let bytes: [UInt8]
    }

    /// Inline objects behind another one, a page at a time: of the current objects, or of the old versions.
    /// - Parameter after: `nil`: from the beginning.
    static func inlineObjects(_ t: Transaction, live: Bool, after: InlineObject?, limit: Int) throws -> [InlineObject] {
        let from = [SQLValue(after?.bucket ?? 0), .bytes(after?.key ?? []), .text(after?.version ?? ""), SQLValue(limit)]
        // A live row is alone with its key; an old one is told from others by its version.
        let behind =
            live ? "live AND (bucket, key) > ($1, $2) AND $3::text IS NOT NULL" : "NOT live AND (bucket, key, version) > ($1, $2, $3)"
        return try t.execute(
            """
            SELECT bucket, key, version, size, COALESCE(stored_md5, etag) AS etag, inline FROM walrus.objects
            WHERE \(behind) AND inline IS NOT NULL ORDER BY bucket, key\(live ? "" : ", version") LIMIT $4
            """, parameters: from
        ).map { row in
            InlineObject(
                bucket: row.int64("bucket"), key: row.bytes("key"), version: row.text("version"), size: row.int("size"),
                etag: row.text("etag"), bytes: row.bytes("inline"))
        }
    }

    /// Multipart objects whose parts do not add up to them.
    static func brokenMultipart(_ t: Transaction) throws -> [String] {
        try t.execute(
            """
            SELECT b.name || '/' || encode(o.key, 'escape') AS owner FROM walrus.objects o JOIN walrus.buckets b ON b.id = o.bucket
                CROSS JOIN LATERAL (SELECT COALESCE(sum(p.size), 0) AS size, count(*) AS n FROM walrus.parts p WHERE p.upload = o.upload) s
            WHERE o.upload IS NOT NULL AND (o.size <> s.size OR o.part_count <> s.n)
            """
        ).map { $0.text("owner") }
    }

    /// Parts that belong to no upload and no object.
    static func ownerlessParts(_ t: Transaction) throws -> [BlobID] {
        try t.execute(
            """
            SELECT p.blob FROM walrus.parts p
            WHERE NOT EXISTS (SELECT 1 FROM walrus.uploads u WHERE u.number = p.upload AND u.completed IS NULL)
                AND NOT EXISTS (SELECT 1 FROM walrus.objects o WHERE o.upload = p.upload)
            """
        ).compactMap { BlobID(parsing: $0.text("blob")) }
    }

    static func partsForget(_ t: Transaction, _ blobs: [BlobID], now: Timestamp) throws {
        try t.execute("DELETE FROM walrus.parts WHERE blob = ANY($1)", .textArray(blobs.map(\.text)))
        try garbageAdd(t, blobs, now: now)
    }
}
