import Database
import Domain

/// What writers do in buckets that are or were versioned. Every change of a key's versions holds a lock of that key until the transaction
/// ends, because a key whose current version is a marker has no live row that could be locked.
///
/// What always holds: a live row is the newest version of its key; without one the newest version is a marker. An old version's
/// `sequence` is taken when it ceases to be live, so that sequences are in the order in which the versions were made.
enum VersionStore {
    /// `pg_advisory_xact_lock`'s number for a key: FNV-1a over bucket and key. Two keys with one number merely wait for each other.
    private static func number(bucket: Int64, key: ObjectKey) -> Int64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        withUnsafeBytes(of: bucket.littleEndian) { $0.forEach(mix) }
        key.bytes.forEach(mix)
        return Int64(bitPattern: hash)
    }

    static func keyLock(_ t: Transaction, bucket: Int64, key: ObjectKey) throws {
        try t.execute("SELECT pg_advisory_xact_lock($1)::text AS locked", SQLValue(number(bucket: bucket, key: key)))
    }

    /// The bucket's state, which stays what it is until the end of the transaction.
    /// - Throws: `NoSuchBucket`.
    static func versioning(_ t: Transaction, bucket: Int64) throws -> Versioning {
        guard let row = try t.execute("SELECT versioning FROM walrus.buckets WHERE id = $1 FOR SHARE", SQLValue(bucket)).first else {
            throw S3Failure.noSuchBucket("")
        }
        return Versioning(rawValue: row.int("versioning")) ?? .off
    }

    /// - Returns: false when Object Lock needs the versioning that the bucket has.
    static func bucketSetVersioning(_ t: Transaction, _ bucket: Int64, _ state: Versioning) throws -> Bool {
        try t.execute(
            "UPDATE walrus.buckets SET versioning = $2 WHERE id = $1 AND ($2 = 1 OR NOT lock_enabled)", SQLValue(bucket),
            SQLValue(state.rawValue)
        ).affected == 1
    }

    /// Switches Object Lock on.
    /// - Returns: false when versioning is not enabled.
    static func bucketSetLock(_ t: Transaction, _ bucket: Int64, _ lock: BucketLock) throws -> Bool {
        try t.execute(
            """
            UPDATE walrus.buckets SET lock_enabled = true, lock_mode = $2, lock_days = $3, lock_years = $4 WHERE id = $1 AND versioning = 1
            """, SQLValue(bucket), SQLValue(lock.mode?.rawValue), SQLValue(lock.days), SQLValue(lock.years)
        ).affected == 1
    }

    /// A new bucket with Object Lock, which keeps versions.
    static func bucketStartLocked(_ t: Transaction, _ bucket: Int64) throws {
        try t.execute("UPDATE walrus.buckets SET lock_enabled = true, versioning = 1 WHERE id = $1", SQLValue(bucket))
    }

    /// The lock of a version as it is now; `nil`: the version is gone. With the key locked.
    static func versionLock(_ t: Transaction, bucket: Int64, _ o: ObjectRecord) throws -> ObjectLock? {
        try t.execute(
            """
            SELECT retain_mode, retain_until, legal_hold FROM walrus.objects
            WHERE bucket = $1 AND key = $2 AND version = $3 AND live
            UNION ALL
            SELECT retain_mode, retain_until, legal_hold FROM walrus.objects
            WHERE bucket = $1 AND key = $2 AND version = $3 AND NOT live
            """, SQLValue(bucket), .bytes(o.key.bytes), .text(o.version)
        ).first.map(ObjectStore.lock)
    }

    static func versionPut(
        _ t: Transaction, bucket: Int64, _ object: ObjectRecord, _ plan: VersionPlan, admit: (ObjectRecord?) throws -> Void
    ) throws -> String? {
        try keyLock(t, bucket: bucket, key: object.key)
        let state = try versioning(t, bucket: bucket)
        var new = object
        new.version = state == .enabled ? plan.id : VersionID.null
        // Only a writer that still takes the bucket for an unversioned one can come between.
        for _ in 0..<ObjectStore.roundLimit {
            let current = try ObjectStore.objectLock(t, bucket: bucket, key: object.key)
            try admit(current)
            if let current, current.version == new.version {
                try ObjectStore.objectReplace(t, bucket: bucket, new)
                try ObjectStore.discard(t, current.content, now: object.modified, keeping: object.content)
                return nil
            }
            if current != nil { try retire(t, bucket: bucket, key: object.key) }
            if new.version == VersionID.null { try dropOldNull(t, bucket: bucket, key: object.key, now: object.modified) }
            if try ObjectStore.objectInsert(t, bucket: bucket, new, onlyUnversioned: false) { return state == .enabled ? new.version : nil }
        }
        throw ObjectStore.roundsLost
    }

    static func versionDelete(
        _ t: Transaction, bucket: Int64, key: ObjectKey, version: String?, _ plan: VersionPlan, account: String, now: Timestamp,
        bypass: Bool,
        admit: (PresentObject) throws -> Void
    ) throws -> DeleteOutcome {
        try keyLock(t, bucket: bucket, key: key)
        let state = try versioning(t, bucket: bucket)
        let current = try ObjectStore.objectLock(t, bucket: bucket, key: key)
        guard let version else {
            try admit(try current.map { .object($0) } ?? newest(t, bucket: bucket, key: key))
            return try putMarker(t, bucket: bucket, key: key, over: current, state, plan, account: account, now: now)
        }
        if let current, current.version == version {
            try admit(.object(current))
            try current.lock.checkRemoval(now: now, bypass: bypass)
            try t.execute("DELETE FROM walrus.objects WHERE bucket = $1 AND key = $2 AND live", SQLValue(bucket), .bytes(key.bytes))
            try ObjectStore.discard(t, current.content, now: now, keeping: nil)
            try promote(t, bucket: bucket, key: key)
            return DeleteOutcome(version: version, removed: current)
        }
        let row = try t.execute(
            "SELECT \(ObjectStore.describing) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND o.version = $3 AND NOT o.live",
            SQLValue(bucket), .bytes(key.bytes), .text(version)
        ).first
        guard let row else { return DeleteOutcome(version: version) }
        var outcome = DeleteOutcome(version: version)
        let there = ObjectStore.present(row)
        try admit(there)
        switch there {
        case .nothing: return outcome
        case .marker: outcome.isMarker = true
        case .object(let old):
            try old.lock.checkRemoval(now: now, bypass: bypass)
            try ObjectStore.discard(t, old.content, now: now, keeping: nil)
            outcome.removed = old
        }
        try t.execute(
            "DELETE FROM walrus.objects WHERE bucket = $1 AND key = $2 AND version = $3 AND NOT live", SQLValue(bucket), .bytes(key.bytes),
            .text(version))
        if current == nil { try promote(t, bucket: bucket, key: key) }
        return outcome
    }

    /// DELETE without a version: what is current stays as an old version (or goes, when it is the null version of a bucket whose
    /// versioning is suspended), and a marker is the newest.
    private static func putMarker(
        _ t: Transaction, bucket: Int64, key: ObjectKey, over current: ObjectRecord?, _ state: Versioning, _ plan: VersionPlan,
        account: String, now: Timestamp
    ) throws -> DeleteOutcome {
        var outcome = DeleteOutcome(version: state == .enabled ? plan.id : VersionID.null, isMarker: true)
        if let current {
            if state != .enabled, current.version == VersionID.null {
                try current.lock.checkRemoval(now: now, bypass: false)
                try t.execute("DELETE FROM walrus.objects WHERE bucket = $1 AND key = $2 AND live", SQLValue(bucket), .bytes(key.bytes))
                try ObjectStore.discard(t, current.content, now: now, keeping: nil)
                outcome.removed = current
            } else {
                try retire(t, bucket: bucket, key: key)
            }
        }
        if state != .enabled { try dropOldNull(t, bucket: bucket, key: key, now: now) }
        try t.execute(
            """
            INSERT INTO walrus.objects (bucket, key, size, etag, modified, account, grants, headers, metadata, version, sequence, live,
                marker)
            VALUES ($1, $2, 0, '', $3, $4, '{}', '{}', '{}', $5, nextval('walrus.version_sequence'), false, true)
            """, SQLValue(bucket), .bytes(key.bytes), .timestamp(now), .text(account), .text(outcome.version ?? VersionID.null))
        return outcome
    }

    /// The newest version that is not live.
    private static func newest(_ t: Transaction, bucket: Int64, key: ObjectKey) throws -> PresentObject {
        try t.execute(
            """
            SELECT \(ObjectStore.describing) FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND NOT o.live
            ORDER BY o.sequence DESC LIMIT 1
            """, SQLValue(bucket), .bytes(key.bytes)
        ).first.map { ObjectStore.present($0) } ?? .nothing
    }

    /// The live row becomes an old version.
    private static func retire(_ t: Transaction, bucket: Int64, key: ObjectKey) throws {
        try t.execute(
            "UPDATE walrus.objects SET live = false, sequence = nextval('walrus.version_sequence') WHERE bucket = $1 AND key = $2 AND live",
            SQLValue(bucket), .bytes(key.bytes))
    }

    /// There is one null version: the one that is written now.
    private static func dropOldNull(_ t: Transaction, bucket: Int64, key: ObjectKey, now: Timestamp) throws {
        let gone = try t.execute(
            """
            DELETE FROM walrus.objects o WHERE o.bucket = $1 AND o.key = $2 AND o.version = 'null' AND NOT o.live
            RETURNING \(ObjectStore.describing)
            """, SQLValue(bucket), .bytes(key.bytes))
        for row in gone {
            if case .object(let old) = ObjectStore.present(row) { try ObjectStore.discard(t, old.content, now: now, keeping: nil) }
        }
    }

    /// Without a live row: the newest version is current again, unless it is a marker.
    private static func promote(_ t: Transaction, bucket: Int64, key: ObjectKey) throws {
        try t.execute(
            """
            UPDATE walrus.objects SET live = true WHERE bucket = $1 AND key = $2 AND NOT live AND NOT marker AND sequence =
                (SELECT sequence FROM walrus.objects WHERE bucket = $1 AND key = $2 AND NOT live ORDER BY sequence DESC LIMIT 1)
            """, SQLValue(bucket), .bytes(key.bytes))
    }
}
