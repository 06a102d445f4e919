import Database
import Domain

/// The rows of objects. A name of a blob that a row loses goes to `garbage` in the same transaction.
enum ObjectStore {
    /// All but the inline bytes.
    static let describing = """
        o.key, o.size, o.etag, o.modified, o.account, o.grants, o.headers, o.metadata, o.tags, o.storage_class, \
        o.checksum_algorithm, o.checksum_type, o.checksum, o.part_count, o.blob, o.upload, o.version, o.retain_mode, o.retain_until, \
        o.legal_hold, o.marker, o.encryption, o.stored_md5
        """
    /// What a writer sets, in the order of `values`; behind bucket ($1) and key ($2).
    private static let written = [
        "size", "etag", "modified", "account", "grants", "headers", "metadata", "tags", "storage_class", "checksum_algorithm",
        "checksum_type", "checksum", "part_count", "inline", "blob", "upload", "version", "retain_mode", "retain_until", "legal_hold",
        "encryption", "stored_md5",
    ]
    private static let places = written.indices.map { "$\($0 + 3)" }.joined(separator: ", ")
    /// The bucket's row is locked against deletion, as a foreign key would.
    private static func insertion(onlyUnversioned: Bool) -> String {
        """
        INSERT INTO walrus.objects (bucket, key, \(written.joined(separator: ", ")))
        SELECT b.id, $2, \(places)
        FROM (SELECT id FROM walrus.buckets WHERE id = $1\(onlyUnversioned ? " AND versioning = 0" : "") FOR KEY SHARE) b
        ON CONFLICT (bucket, key) WHERE live DO NOTHING
        """
    }
    private static let insertion = insertion(onlyUnversioned: false)
    static let unversionedInsertion = insertion(onlyUnversioned: true)
    private static let replacement = """
        UPDATE walrus.objects SET (\(written.joined(separator: ", "))) = ROW(\(places)) WHERE bucket = $1 AND key = $2 AND live
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
            checksum: checksum(row), content: content, partCount: row.int("part_count"), version: row.text("version"), lock: lock(row),
            encryption: encryption(row), storedMD5: row.optionalText("stored_md5"))
    }

    /// What cannot be read is an encryption that nothing opens: its bytes must not go out as if they were plain.
    static func encryption(_ row: Row) -> Encryption? {
        row.optionalText("encryption").map { Encryption(stored: $0) ?? Encryption(kind: .s3, sealedKey: []) }
    }

    static func lock(_ row: Row) -> ObjectLock {
        ObjectLock(
            mode: row.optionalText("retain_mode").flatMap { ObjectLock.Mode(rawValue: $0) }, until: row.optionalTimestamp("retain_until"),
            legalHold: row.optionalBool("legal_hold"))
    }

    /// A row that may be a delete marker.
    static func present(_ row: Row, inline: [UInt8]? = nil) -> PresentObject {
        guard row.bool("marker") else { return .object(object(row, inline: inline)) }
        return .marker(DeleteMarker(version: row.text("version"), modified: row.timestamp("modified"), account: row.text("account")))
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

    /// Bucket and object in one look (two when the key has no live object in a versioned bucket, or an old version is wanted).
    /// - Parameters:
    ///   - version: `nil`: the current one.
    ///   - withBytes: also the inline bytes (not needed for HEAD).
    /// - Throws: `NoSuchBucket`.
    static func objectFetch(
        _ t: Transaction, bucket name: String, key: ObjectKey, version: String? = nil, withBytes: Bool
    ) throws -> (bucket: BucketRecord, object: ObjectRecord?, marker: DeleteMarker?) {
        let inline = withBytes ? "o.inline" : "NULL AS inline"
        let rows = try t.execute(
            """
            SELECT \(BucketStore.joined), \(describing), \(inline)
            FROM walrus.buckets b LEFT JOIN LATERAL
                (SELECT * FROM walrus.objects WHERE bucket = b.id AND key = $2 AND live OFFSET 0) o ON true WHERE b.name = $1
            """, .text(name), .bytes(key.bytes))
        guard let row = rows.first else { throw S3Failure.noSuchBucket(name) }
        let bucket = BucketStore.bucket(row, prefix: "b_")
        if !row.isNull("key"), version == nil || version == row.text("version") {
            return (bucket, object(row, inline: row.optionalBytes("inline")), nil)
        }
        guard bucket.versioning != .off else { return (bucket, nil, nil) }
        let old =
            if let version {
                try t.execute(
                    """
                    SELECT \(describing), \(inline) FROM walrus.objects o
                    WHERE o.bucket = $1 AND o.key = $2 AND o.version = $3 AND NOT o.live
                    """, SQLValue(bucket.id), .bytes(key.bytes), .text(version))
            } else {
                // Without a live row the newest of the others is the current version, which can only be a marker.
                try t.execute(
                    """
                    SELECT \(describing), \(inline) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND NOT o.live
                    ORDER BY o.sequence DESC LIMIT 1
                    """, SQLValue(bucket.id), .bytes(key.bytes))
            }
        guard let found = old.first else { return (bucket, nil, nil) }
        switch present(found, inline: found.optionalBytes("inline")) {
        case .object(let object): return (bucket, version == nil ? nil : object, nil)
        case .marker(let marker): return (bucket, nil, marker)
        case .nothing: return (bucket, nil, nil)
        }
    }

    /// Makes an object visible, in place of one that may be there.
    ///
    /// The row is locked before the conditions are looked at. Two writers of a key that is not there meet at the unique index: the second
    /// waits for the first and then sees its row. So the outcome is that of one writer after the other.
    /// - Parameter admit: looks at the object that is there now, throws to refuse.
    /// - Returns: the id of the version that was made, for `x-amz-version-id`; `nil` unless versioning is enabled.
    @discardableResult
    static func objectPut(
        _ t: Transaction, bucket: Int64, _ object: ObjectRecord, _ plan: VersionPlan = .unversioned,
        admit: (ObjectRecord?) throws -> Void
    ) throws -> String? {
        guard plan.seen == .off else { return try VersionStore.versionPut(t, bucket: bucket, object, plan, admit: admit) }
        // Each round that does not end here lost against a writer that committed in between.
        for _ in 0..<roundLimit {
            let current = try objectLock(t, bucket: bucket, key: object.key)
            // Versioning was switched on since the bucket was looked at.
            if let current, current.version != VersionID.null { break }
            try admit(current)
            if let current {
                try objectReplace(t, bucket: bucket, object)
                try discard(t, current.content, now: object.modified, keeping: object.content)
                return nil
            }
            if try objectInsert(t, bucket: bucket, object, onlyUnversioned: true) { return nil }
            if try VersionStore.versioning(t, bucket: bucket) != .off { break }
        }
        return try VersionStore.versionPut(t, bucket: bucket, object, plan, admit: admit)
    }

    /// Rounds of a writer that loses against others. Too low: refuses under contention; too high: a defect spins.
    static let roundLimit = 100
    static var roundsLost: CloudError {
        CloudError(.unavailable("The object"), "Please reduce your request rate.", context: "\(roundLimit) rounds lost on one key")
    }

    /// The live row of a key, locked.
    static func objectLock(_ t: Transaction, bucket: Int64, key: ObjectKey) throws -> ObjectRecord? {
        try t.execute(
            "SELECT \(describing) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND o.live FOR UPDATE", SQLValue(bucket),
            .bytes(key.bytes)
        ).first.map { object($0, inline: nil) }
    }

    /// The same, not locked.
    static func objectLive(_ t: Transaction, bucket: Int64, key: ObjectKey) throws -> ObjectRecord? {
        try t.execute(
            "SELECT \(describing) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND o.live", SQLValue(bucket), .bytes(key.bytes)
        ).first.map { object($0, inline: nil) }
    }

    static func parameters(_ bucket: Int64, _ o: ObjectRecord) -> [SQLValue] {
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
            SQLValue(o.checksum?.value), SQLValue(o.partCount), inline, blob, upload, .text(o.version),
            SQLValue(o.lock.mode?.rawValue), SQLValue(o.lock.until), SQLValue(o.lock.legalHold),
            SQLValue(o.encryption?.stored), SQLValue(o.storedMD5),
        ]
    }

    /// - Returns: false when there is a live row, or no such bucket (or one that is versioned, with `onlyUnversioned`).
    static func objectInsert(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, onlyUnversioned: Bool) throws -> Bool {
        try t.execute(onlyUnversioned ? unversionedInsertion : insertion, parameters: parameters(bucket, o)).affected == 1
    }

    /// Overwrites the live row.
    static func objectReplace(_ t: Transaction, bucket: Int64, _ o: ObjectRecord) throws {
        try t.execute(replacement, parameters: parameters(bucket, o))
    }

    /// Deletes an object, or a version of it, or puts a marker before its versions.
    /// - Parameters:
    ///   - version: `nil`: what DELETE without a version means in this bucket.
    ///   - account: owns a marker that is made.
    ///   - bypass: governance retention does not hold the caller.
    ///   - admit: looks at what is there now, throws to refuse.
    static func objectDelete(
        _ t: Transaction, bucket: Int64, key: ObjectKey, version: String? = nil, _ plan: VersionPlan = .unversioned, account: String,
        now: Timestamp, bypass: Bool = false, admit: (PresentObject) throws -> Void
    ) throws -> DeleteOutcome {
        if plan.seen != .off {
            return try VersionStore.versionDelete(
                t, bucket: bucket, key: key, version: version, plan, account: account, now: now, bypass: bypass, admit: admit)
        }
        let current = try objectLock(t, bucket: bucket, key: key)
        if let current, current.version != VersionID.null {
            return try VersionStore.versionDelete(
                t, bucket: bucket, key: key, version: version, plan, account: account, now: now, bypass: bypass, admit: admit)
        }
        if let version, version != VersionID.null { return DeleteOutcome(version: version) }
        try admit(current.map { .object($0) } ?? .nothing)
        guard let current else { return DeleteOutcome(version: version) }
        try current.lock.checkRemoval(now: now, bypass: bypass)
        try t.execute("DELETE FROM walrus.objects WHERE bucket = $1 AND key = $2 AND live", SQLValue(bucket), .bytes(key.bytes))
        try discard(t, current.content, now: now, keeping: nil)
        return DeleteOutcome(version: version, removed: current)
    }

    /// Changes what describes a live, unversioned object, when it is still the one with this ETag and time.
    /// - Returns: whether it was.
    static func objectDescribe(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, was: ObjectRecord) throws -> Bool {
        try t.execute(
            """
            UPDATE walrus.objects SET modified = $3, account = $4, grants = $5, headers = $6, metadata = $7, tags = $8, storage_class = $9
            WHERE bucket = $1 AND key = $2 AND live AND etag = $10 AND modified = $11 AND version = 'null'
            """, SQLValue(bucket), .bytes(o.key.bytes), .timestamp(o.modified), .text(o.account), .textArray(o.acl.stored),
            .textArray(ObjectAttributes.flat(o.attributes.headers)), .textArray(ObjectAttributes.flat(o.attributes.metadata)),
            .textArray(ObjectAttributes.flat(o.attributes.tags)), .text(o.attributes.storageClass), .text(was.etag),
            .timestamp(was.modified)
        ).affected == 1
    }

    static func objectSetACL(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, _ acl: AccessControlList) throws -> Bool {
        try change(t, bucket: bucket, o, "grants = $4", .textArray(acl.stored))
    }

    static func objectSetTags(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, _ tags: [(name: String, value: String)]) throws -> Bool {
        try change(t, bucket: bucket, o, "tags = $4", .textArray(ObjectAttributes.flat(tags)))
    }

    static func objectSetLock(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, _ lock: ObjectLock) throws -> Bool {
        try change(
            t, bucket: bucket, o, "retain_mode = $4, retain_until = $5, legal_hold = $6", SQLValue(lock.mode?.rawValue),
            SQLValue(lock.until), SQLValue(lock.legalHold))
    }

    /// Changes the row of a version, live or not.
    /// - Returns: whether it is there.
    private static func change(_ t: Transaction, bucket: Int64, _ o: ObjectRecord, _ set: String, _ values: SQLValue...) throws -> Bool {
        let parameters = [SQLValue(bucket), .bytes(o.key.bytes), .text(o.version)] + values
        // It may cease to be live between two looks, and come back between the next two.
        for condition in ["live", "NOT live", "live"] {
            let sql = "UPDATE walrus.objects SET \(set) WHERE bucket = $1 AND key = $2 AND version = $3 AND \(condition)"
            if try t.execute(sql, parameters: parameters).affected == 1 { return true }
        }
        return false
    }

    /// Hands the bytes of a row that is gone to the collector.
    static func discard(_ t: Transaction, _ content: ObjectContent, now: Timestamp, keeping: ObjectContent?) throws {
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
