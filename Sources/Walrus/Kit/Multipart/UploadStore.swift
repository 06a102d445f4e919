import Database
import Domain

/// A multipart upload.
struct UploadRecord: Sendable {
    var number: Int64
    /// What clients know it by.
    var id: String
    var bucket: Int64
    var key: ObjectKey
    /// The future owner's account.
    var account: String
    /// ARN of who started it.
    var initiator: String
    var created: Timestamp
    var acl: AccessControlList
    var attributes: ObjectAttributes
    var checksum: (algorithm: ChecksumAlgorithm, type: ChecksumType)?
    var completed: Timestamp?
    var completedETag: String?
    var completedChecksum: String?
    var completedVersion: String?
    var lock = ObjectLock()
    var encryption: Encryption?
}

enum UploadStore {
    static let columns = """
        number, id, bucket, key, account, initiator, created, grants, headers, metadata, tags, storage_class, checksum_algorithm, \
        checksum_type, completed, completed_etag, completed_checksum, completed_version, \
        retain_mode, retain_until, legal_hold, encryption
        """
    static let partColumns = "number, blob, size, etag, modified, checksum_algorithm, checksum, start, stored_md5"

    static func upload(_ row: Row) -> UploadRecord {
        var checksum: (ChecksumAlgorithm, ChecksumType)?
        if let algorithm = row.optionalText("checksum_algorithm").flatMap({ ChecksumAlgorithm(rawValue: $0) }),
            let type = row.optionalText("checksum_type").flatMap({ ChecksumType(rawValue: $0) })
        {
            checksum = (algorithm, type)
        }
        return UploadRecord(
            number: row.int64("number"), id: row.text("id"), bucket: row.int64("bucket"), key: ObjectKey(trusted: row.bytes("key")),
            account: row.text("account"), initiator: row.text("initiator"), created: row.timestamp("created"),
            acl: AccessControlList(stored: row.textArray("grants")), attributes: ObjectStore.attributes(row), checksum: checksum,
            completed: row.optionalTimestamp("completed"), completedETag: row.optionalText("completed_etag"),
            completedChecksum: row.optionalText("completed_checksum"),
            completedVersion: row.optionalText("completed_version"), lock: ObjectStore.lock(row),
            encryption: ObjectStore.encryption(row))
    }

    static func part(_ row: Row) -> PartRecord {
        var checksum: StoredChecksum?
        if let algorithm = row.optionalText("checksum_algorithm").flatMap({ ChecksumAlgorithm(rawValue: $0) }),
            let value = row.optionalText("checksum")
        {
            checksum = StoredChecksum(algorithm, .fullObject, value)
        }
        guard let blob = BlobID(parsing: row.text("blob")) else { preconditionFailure("walrus.parts holds a name that is no blob id") }
        return PartRecord(
            number: row.int("number"), blob: blob, size: row.int("size"), etag: row.text("etag"), modified: row.timestamp("modified"),
            checksum: checksum, start: row.int("start"), storedMD5: row.optionalText("stored_md5"))
    }

    static func uploadCreate(_ t: Transaction, _ u: UploadRecord) throws {
        do throws(CloudError) {
            try t.execute(
                """
                INSERT INTO walrus.uploads (id, bucket, key, account, initiator, created, grants, headers, metadata, tags, storage_class,
                    checksum_algorithm, checksum_type, retain_mode, retain_until, legal_hold, encryption)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                """, .text(u.id), SQLValue(u.bucket), .bytes(u.key.bytes), .text(u.account), .text(u.initiator), .timestamp(u.created),
                .textArray(u.acl.stored), .textArray(ObjectAttributes.flat(u.attributes.headers)),
                .textArray(ObjectAttributes.flat(u.attributes.metadata)), .textArray(ObjectAttributes.flat(u.attributes.tags)),
                .text(u.attributes.storageClass), SQLValue(u.checksum?.algorithm.rawValue), SQLValue(u.checksum?.type.rawValue),
                SQLValue(u.lock.mode?.rawValue), SQLValue(u.lock.until), SQLValue(u.lock.legalHold),
                SQLValue(u.encryption?.stored))
        } catch {
            throw error.isForeignKeyViolation ? S3Failure.noSuchBucket("") : error
        }
    }

    enum Lock: String { case none = "", share = " FOR SHARE", update = " FOR UPDATE" }

    /// The upload with this id, of this bucket and key (S3 checks all three). Completed ones too.
    static func uploadFetch(_ t: Transaction, id: String, bucket: Int64, key: ObjectKey, lock: Lock = .none) throws -> UploadRecord? {
        try t.execute(
            "SELECT \(columns) FROM walrus.uploads WHERE id = $1 AND bucket = $2 AND key = $3\(lock.rawValue)", .text(id), SQLValue(bucket),
            .bytes(key.bytes)
        ).first.map(upload)
    }

    /// A page of the running uploads of a bucket, behind (key, id), by prefix.
    static func uploadList(
        _ t: Transaction, bucket: Int64, prefix: [UInt8], afterKey: [UInt8], afterID: String?, limit: Int
    ) throws -> [UploadRecord] {
        // Without an id marker every upload of the marker's key is behind the page.
        try t.execute(
            """
            SELECT \(columns) FROM walrus.uploads
            WHERE bucket = $1 AND completed IS NULL AND key >= $2 AND key < $3 AND (key > $4 OR (key = $4 AND id > $5))
            ORDER BY key, id LIMIT $6
            """, SQLValue(bucket), .bytes(max(prefix, afterKey)), .bytes(ListRange.end(ofPrefix: prefix)), .bytes(afterKey),
            .text(afterID ?? "\u{10FFFF}"), SQLValue(limit)
        ).map(upload)
    }

    private static func max(_ a: [UInt8], _ b: [UInt8]) -> [UInt8] { a.lexicographicallyPrecedes(b) ? b : a }

    /// Stores a part of a running upload, in place of one with this number.
    static func partPut(_ t: Transaction, upload: Int64, _ p: PartRecord) throws {
        let old = try t.execute(
            "SELECT blob FROM walrus.parts WHERE upload = $1 AND number = $2 FOR UPDATE", SQLValue(upload), SQLValue(p.number)
        ).first?.text("blob")
        try t.execute(
            """
            INSERT INTO walrus.parts (upload, number, blob, size, etag, modified, checksum_algorithm, checksum, stored_md5)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (upload, number) DO UPDATE SET blob = excluded.blob, size = excluded.size, etag = excluded.etag,
                modified = excluded.modified, checksum_algorithm = excluded.checksum_algorithm, checksum = excluded.checksum,
                stored_md5 = excluded.stored_md5
            """, SQLValue(upload), SQLValue(p.number), .text(p.blob.text), SQLValue(p.size), .text(p.etag), .timestamp(p.modified),
            SQLValue(p.checksum?.algorithm.rawValue), SQLValue(p.checksum?.value), SQLValue(p.storedMD5))
        if let old = old.flatMap({ BlobID(parsing: $0) }) { try GarbageStore.garbageAdd(t, [old], now: p.modified) }
    }

    static func partList(_ t: Transaction, upload: Int64, after: Int = 0, limit: Int = 10_001) throws -> [PartRecord] {
        try t.execute(
            "SELECT \(partColumns) FROM walrus.parts WHERE upload = $1 AND number > $2 ORDER BY number LIMIT $3", SQLValue(upload),
            SQLValue(after), SQLValue(limit)
        ).map(part)
    }

    /// Turns the chosen parts into those of an object: each gets its place, the others go to the collector. No byte is copied.
    static func uploadComplete(
        _ t: Transaction, _ upload: UploadRecord, parts: [PartRecord], etag: String, checksum: String?, version: String?,
        now: Timestamp
    ) throws {
        let numbers = SQLValue.textArray(parts.map { String($0.number) })
        try t.execute(
            """
            WITH gone AS (DELETE FROM walrus.parts WHERE upload = $1 AND NOT (number = ANY($2::text[]::integer[])) RETURNING blob)
            INSERT INTO walrus.garbage (blob, since) SELECT blob, $3 FROM gone
            """, SQLValue(upload.number), numbers, .timestamp(now))
        try t.execute(
            """
            UPDATE walrus.parts p SET start = s.start
            FROM (SELECT number, sum(size) OVER (ORDER BY number) - size AS start FROM walrus.parts WHERE upload = $1) s
            WHERE p.upload = $1 AND p.number = s.number
            """, SQLValue(upload.number))
        try t.execute(
            """
            UPDATE walrus.uploads SET completed = $2, completed_etag = $3, completed_checksum = $4, completed_version = $5
            WHERE number = $1
            """,
            SQLValue(upload.number), .timestamp(now), .text(etag), SQLValue(checksum), SQLValue(version))
    }

    /// Forgets a running upload and its parts.
    static func uploadAbort(_ t: Transaction, _ upload: UploadRecord, now: Timestamp) throws {
        try t.execute(
            """
            WITH gone AS (DELETE FROM walrus.parts WHERE upload = $1 RETURNING blob)
            INSERT INTO walrus.garbage (blob, since) SELECT blob, $2 FROM gone
            """, SQLValue(upload.number), .timestamp(now))
        try t.execute("DELETE FROM walrus.uploads WHERE number = $1", SQLValue(upload.number))
    }

    /// Completed uploads are kept for repeated Completes only.
    static func uploadForgetCompleted(_ t: Transaction, before: Timestamp) throws -> Int {
        try t.execute("DELETE FROM walrus.uploads WHERE completed < $1", .timestamp(before)).affected
    }
}
