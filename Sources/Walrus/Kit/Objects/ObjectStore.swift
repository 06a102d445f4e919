import Database
import Domain

/// The rows of objects. A name of a blob that a row loses goes to `garbage` in the same transaction.
enum ObjectStore {
    /// All but the inline bytes.
    static let describing = """
        o.key, o.size, o.etag, o.modified, o.account, o.grants, o.headers, o.metadata, o.tags, o.storage_class, \
        o.checksum_algorithm, o.checksum_type, o.checksum, o.part_count, o.blob, o.upload
        """

    static func object(_ row: Row, inline: [UInt8]?) -> ObjectRecord {
        let content: ObjectContent =
            if let upload = row.optionalInt64("upload") {
                .parts(upload: upload)
            } else if let blob = row.optionalText("blob").flatMap({ BlobID(parsing: $0) }) {
                .blob(blob)
            } else {
                .inline(inline ?? [])
            }
        return ObjectRecord(
            key: ObjectKey(trusted: row.bytes("key")), size: row.int("size"), etag: row.text("etag"), modified: row.timestamp("modified"),
            account: row.text("account"), acl: AccessControlList(stored: row.textArray("grants")), attributes: attributes(row),
            checksum: checksum(row), content: content, partCount: row.int("part_count"))
    }

    static func attributes(_ row: Row) -> ObjectAttributes {
        ObjectAttributes(
            headers: ObjectAttributes.pairs(row.textArray("headers")), metadata: ObjectAttributes.pairs(row.textArray("metadata")),
            tags: ObjectAttributes.pairs(row.textArray("tags")), storageClass: row.text("storage_class"))
    }

    static func checksum(_ row: Row) -> StoredChecksum? {
        guard let algorithm = row.optionalText("checksum_algorithm").flatMap({ ChecksumAlgorithm(rawValue: $0) }),
            let type = row.optionalText("checksum_type").flatMap({ ChecksumType(rawValue: $0) }), let value = row.optionalText("checksum")
        else { return nil }
        return StoredChecksum(algorithm, type, value)
    }

    /// Bucket and object in one look.
    /// - Parameter withBytes: also the inline bytes (not needed for HEAD).
    /// - Throws: `NoSuchBucket`.
    static func objectFetch(
        _ t: Transaction, bucket name: String, key: ObjectKey, withBytes: Bool
    ) throws -> (bucket: BucketRecord, object: ObjectRecord?) {
        let rows = try t.execute(
            """
            SELECT b.id AS b_id, b.name AS b_name, b.account AS b_account, b.region AS b_region, b.created AS b_created,
                b.grants AS b_grants, b.tags AS b_tags, \(describing), \(withBytes ? "o.inline" : "NULL AS inline")
            FROM walrus.buckets b LEFT JOIN walrus.objects o ON o.bucket = b.id AND o.key = $2 WHERE b.name = $1
            """, .text(name), .bytes(key.bytes))
        guard let row = rows.first else { throw S3Failure.noSuchBucket(name) }
        let bucket = BucketRecord(
            id: row.int64("b_id"), name: row.text("b_name"), account: row.text("b_account"), region: row.text("b_region"),
            created: row.timestamp("b_created"), acl: AccessControlList(stored: row.textArray("b_grants")),
            tags: ObjectAttributes.pairs(row.textArray("b_tags")))
        return (bucket, row.isNull("key") ? nil : object(row, inline: row.optionalBytes("inline")))
    }

    /// Makes an object visible, in place of one that may be there.
    ///
    /// The row is locked before the conditions are looked at. Two writers of a key that is not there meet at the primary key: the second
    /// waits for the first and then sees its row. So the outcome is that of one writer after the other.
    /// - Parameter admit: looks at the ETag that is there now, throws to refuse.
    static func objectPut(
        _ t: Transaction, bucket: Int64, _ object: ObjectRecord, admit: (ObjectRecord?) throws -> Void
    ) throws {
        // Each round that does not end here lost against a writer that committed in between.
        for _ in 0..<100 {
            let current = try objectLock(t, bucket: bucket, key: object.key)
            try admit(current)
            if let current {
                try objectUpdate(t, bucket: bucket, object)
                try discard(t, current.content, now: object.modified, keeping: object.content)
                return
            }
            if try objectInsert(t, bucket: bucket, object) { return }
        }
        throw CloudError(.unavailable("The object"), "Please reduce your request rate.", context: "100 rounds lost on one key")
    }

    static func objectLock(_ t: Transaction, bucket: Int64, key: ObjectKey) throws -> ObjectRecord? {
        try t.execute(
            "SELECT \(describing) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 FOR UPDATE", SQLValue(bucket), .bytes(key.bytes)
        ).first.map { object($0, inline: nil) }
    }

    private static func parameters(_ bucket: Int64, _ o: ObjectRecord) -> [SQLValue] {
        var inline: SQLValue = .null
        var blob: SQLValue = .null
        var upload: SQLValue = .null
        switch o.content {
        case .inline(let bytes): inline = .bytes(bytes)
        case .blob(let id): blob = .text(id.text)
        case .parts(let number): upload = .integer(number)
        }
        return [
            SQLValue(bucket), .bytes(o.key.bytes), SQLValue(o.size), .text(o.etag), .timestamp(o.modified), .text(o.account),
            .textArray(o.acl.stored), .textArray(ObjectAttributes.flat(o.attributes.headers)),
            .textArray(ObjectAttributes.flat(o.attributes.metadata)), .textArray(ObjectAttributes.flat(o.attributes.tags)),
            .text(o.attributes.storageClass), SQLValue(o.checksum?.algorithm.rawValue), SQLValue(o.checksum?.type.rawValue),
            SQLValue(o.checksum?.value), SQLValue(o.partCount), inline, blob, upload,
        ]
    }

    private static func objectInsert(_ t: Transaction, bucket: Int64, _ o: ObjectRecord) throws -> Bool {
        do throws(CloudError) {
            return try t.execute(
                """
                INSERT INTO walrus.objects (bucket, key, size, etag, modified, account, grants, headers, metadata, tags, storage_class,
                    checksum_algorithm, checksum_type, checksum, part_count, inline, blob, upload)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
                ON CONFLICT (bucket, key) DO NOTHING
                """, parameters: parameters(bucket, o)
            ).affected == 1
        } catch {
            // The bucket was deleted after this request had found it.
            throw error.isForeignKeyViolation ? S3Failure.noSuchBucket("") : error
        }
    }

    private static func objectUpdate(_ t: Transaction, bucket: Int64, _ o: ObjectRecord) throws {
        try t.execute(
            """
            UPDATE walrus.objects SET size = $3, etag = $4, modified = $5, account = $6, grants = $7, headers = $8, metadata = $9,
                tags = $10, storage_class = $11, checksum_algorithm = $12, checksum_type = $13, checksum = $14, part_count = $15,
                inline = $16, blob = $17, upload = $18
            WHERE bucket = $1 AND key = $2
            """, parameters: parameters(bucket, o))
    }

    /// - Returns: what was deleted, or `nil` when there was nothing.
    static func objectDelete(
        _ t: Transaction, bucket: Int64, key: ObjectKey, now: Timestamp, admit: (ObjectRecord?) throws -> Void
    ) throws -> ObjectRecord? {
        let current = try objectLock(t, bucket: bucket, key: key)
        try admit(current)
        guard let current else { return nil }
        try t.execute("DELETE FROM walrus.objects WHERE bucket = $1 AND key = $2", SQLValue(bucket), .bytes(key.bytes))
        try discard(t, current.content, now: now, keeping: nil)
        return current
    }

    /// Changes what describes an object, when it is still the one with this ETag and time.
    /// - Returns: whether it was.
    static func objectDescribe(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, was: ObjectRecord) throws -> Bool {
        try t.execute(
            """
            UPDATE walrus.objects SET modified = $3, account = $4, grants = $5, headers = $6, metadata = $7, tags = $8, storage_class = $9
            WHERE bucket = $1 AND key = $2 AND etag = $10 AND modified = $11
            """, SQLValue(bucket), .bytes(o.key.bytes), .timestamp(o.modified), .text(o.account), .textArray(o.acl.stored),
            .textArray(ObjectAttributes.flat(o.attributes.headers)), .textArray(ObjectAttributes.flat(o.attributes.metadata)),
            .textArray(ObjectAttributes.flat(o.attributes.tags)), .text(o.attributes.storageClass), .text(was.etag),
            .timestamp(was.modified)
        ).affected == 1
    }

    static func objectSetACL(_ t: Transaction, bucket: Int64, key: ObjectKey, _ acl: AccessControlList) throws -> Bool {
        try t.execute(
            "UPDATE walrus.objects SET grants = $3 WHERE bucket = $1 AND key = $2", SQLValue(bucket), .bytes(key.bytes),
            .textArray(acl.stored)
        ).affected == 1
    }

    static func objectSetTags(_ t: Transaction, bucket: Int64, key: ObjectKey, _ tags: [(name: String, value: String)]) throws -> Bool {
        try t.execute(
            "UPDATE walrus.objects SET tags = $3 WHERE bucket = $1 AND key = $2", SQLValue(bucket), .bytes(key.bytes),
            .textArray(ObjectAttributes.flat(tags))
        ).affected == 1
    }

    /// Hands the bytes of a row that is gone to the collector.
    private static func discard(_ t: Transaction, _ content: ObjectContent, now: Timestamp, keeping: ObjectContent?) throws {
        if content == keeping { return }
        switch content {
        case .inline: return
        case .blob(let blob): try GarbageStore.garbageAdd(t, [blob], now: now)
        case .parts(let upload):
            try t.execute(
                """
                WITH gone AS (DELETE FROM walrus.parts WHERE upload = $1 RETURNING blob)
                INSERT INTO walrus.garbage (blob, since) SELECT blob, $2 FROM gone
                """, SQLValue(upload), .timestamp(now))
        }
    }

    /// The parts of a multipart object that a range touches, in order.
    static func objectParts(_ t: Transaction, upload: Int64, offset: Int, length: Int) throws -> [PartRecord] {
        try t.execute(
            """
            SELECT \(UploadStore.partColumns) FROM walrus.parts
            WHERE upload = $1 AND start < $2 AND start + size > $3 ORDER BY number
            """, SQLValue(upload), SQLValue(offset + length), SQLValue(offset)
        ).map(UploadStore.part)
    }
}
