import Database
import Domain

/// What the lifecycle looks at: pages of a bucket by key, each along an index, with the columns that rules ask for.
enum LifecycleStore {
    struct Version: Sendable {
        let key: ObjectKey
        let version: String
        let isMarker: Bool
        let size: Int
        let etag: String
        let modified: Timestamp
        let tags: [(name: String, value: String)]
        let storageClass: String
        /// When the next newer version came; `nil`: this is the current one.
        var replaced: Timestamp?
        /// Of noncurrent versions: 1 is the newest of them.
        var rank = 0
        /// Of a current marker: there is nothing else under the key.
        var isAlone = false
    }

    /// The first key behind all with a prefix; `nil`: there is no end.
    private static func end(_ prefix: [UInt8]) -> [UInt8] {
        var end = prefix
        // UTF-8 text has no byte 255, so the last byte can always be counted up.
        guard let last = end.popLast() else { return [0xff] }
        end.append(last + 1)
        return end
    }

    private static func version(_ row: Row) -> Version {
        Version(
            key: ObjectKey(trusted: row.bytes("key")), version: row.text("version"), isMarker: row.bool("marker"), size: row.int("size"),
            etag: row.text("etag"), modified: row.timestamp("modified"), tags: ObjectAttributes.pairs(row.textArray("tags")),
            storageClass: row.text("storage_class"))
    }

    /// Current objects with a prefix behind a key, no younger than `before`.
    /// - Returns: at most `limit`, and the last key that was looked at; `nil`: the end was reached.
    static func currentPage(
        _ t: Transaction, bucket: Int64, prefix: [UInt8], after: [UInt8]?, before: Timestamp, limit: Int
    ) throws -> (versions: [Version], last: [UInt8]?) {
        // The window first, by key alone, so that a page costs the same whether many or none are old enough.
        let rows = try t.execute(
            """
            SELECT key, version, marker, size, etag, modified, tags, storage_class FROM walrus.objects
            WHERE bucket = $1 AND live AND key >= $2 AND key > $3 AND key < $4 ORDER BY key LIMIT $5
            """, SQLValue(bucket), .bytes(prefix), .bytes(after ?? []), .bytes(end(prefix)), SQLValue(limit))
        let all = rows.map(version)
        return (all.filter { $0.modified <= before }, all.count == limit ? all.last?.key.bytes : nil)
    }

    /// What is not live (old versions, and markers) under the next keys.
    static func oldPage(
        _ t: Transaction, bucket: Int64, prefix: [UInt8], after: [UInt8]?, keys: Int
    ) throws -> (versions: [Version], last: [UInt8]?) {
        let found = try t.execute(
            """
            SELECT DISTINCT key FROM walrus.objects
            WHERE bucket = $1 AND NOT live AND key >= $2 AND key > $3 AND key < $4 ORDER BY key LIMIT $5
            """, SQLValue(bucket), .bytes(prefix), .bytes(after ?? []), .bytes(end(prefix)), SQLValue(keys)
        ).map { $0.bytes("key") }
        guard let first = found.first, let last = found.last else { return ([], nil) }
        let rows = try t.execute(
            """
            SELECT o.key, o.version, o.marker, o.size, o.etag, o.modified, o.tags, o.storage_class, l.modified AS live_modified
            FROM walrus.objects o LEFT JOIN walrus.objects l ON l.bucket = o.bucket AND l.key = o.key AND l.live
            WHERE o.bucket = $1 AND NOT o.live AND o.key >= $2 AND o.key <= $3 ORDER BY o.key, o.sequence DESC
            """, SQLValue(bucket), .bytes(first), .bytes(last))
        var versions: [Version] = []
        var newer: Timestamp?
        var rank = 0
        var key: ObjectKey?
        for row in rows {
            var item = version(row)
            if item.key != key {
                key = item.key
                newer = row.optionalTimestamp("live_modified")
                rank = 0
            } else if let current = versions.indices.last, versions[current].replaced == nil {
                versions[current].isAlone = false
            }
            item.replaced = newer
            if newer != nil { rank += 1 } else { item.isAlone = true }
            item.rank = rank
            newer = item.modified
            versions.append(item)
        }
        return (versions, found.count == keys ? last : nil)
    }

    /// - Returns: whether the object is still that one.
    static func setStorageClass(_ t: Transaction, bucket: Int64, _ v: Version, _ storageClass: String) throws -> Bool {
        var changed = 0
        for condition in ["live", "NOT live"] where changed == 0 {
            changed = try t.execute(
                """
                UPDATE walrus.objects SET storage_class = $5
                WHERE bucket = $1 AND key = $2 AND version = $3 AND modified = $4 AND \(condition)
                """, SQLValue(bucket), .bytes(v.key.bytes), .text(v.version), .timestamp(v.modified), .text(storageClass)
            ).affected
        }
        return changed == 1
    }

    /// Uploads that began before a time.
    static func oldUploads(
        _ t: Transaction, bucket: Int64, prefix: [UInt8], before: Timestamp, limit: Int
    ) throws -> [(key: ObjectKey, id: String)] {
        try t.execute(
            """
            SELECT key, id FROM walrus.uploads
            WHERE bucket = $1 AND completed IS NULL AND key >= $2 AND key < $3 AND created <= $4 ORDER BY key, id LIMIT $5
            """, SQLValue(bucket), .bytes(prefix), .bytes(end(prefix)), .timestamp(before), SQLValue(limit)
        ).map { (ObjectKey(trusted: $0.bytes("key")), $0.text("id")) }
    }
}
