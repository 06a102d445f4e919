import Database
import Domain

/// The rows of a page of versions. Live rows and the others lie in two indexes; both are read in order, and merged here.
enum VersionListStore {
    private struct Item {
        let key: [UInt8]
        let sequence: Int64
        let there: PresentObject
    }

    /// Rows that a look reads behind a common prefix. Too high: rows inside the next prefix are read in vain; too low: more looks.
    private static let firstLook = 32

    /// - Parameter afterVersion: the last version of `query.after` that was listed; `nil`: all of that key were.
    /// - Returns: at most `limit` entries.
    static func versionPage(
        _ t: Transaction, bucket: Int64, _ query: ListQuery, afterVersion: String?, limit: Int
    ) throws -> [VersionEntry] {
        var entries: [VersionEntry] = []
        var low = later(query.reach, query.prefix)
        let high = ListRange.end(ofPrefix: query.prefix)
        // The key whose versions the page before began with, and where in them it ended.
        let isInside = query.delimiter.isEmpty || low == ListRange.after(query.after)
        if let afterVersion, !query.after.isEmpty, isInside, query.after.starts(with: query.prefix) {
            entries += try rest(t, bucket: bucket, key: query.after, after: afterVersion, limit: limit)
        }
        var look = query.delimiter.isEmpty ? limit : firstLook
        var lastKey: [UInt8]?
        scan: while entries.count < limit {
            let items = try merged(t, bucket: bucket, low: low, high: high, limit: look)
            for item in items {
                if let prefix = commonPrefix(item.key, query) {
                    entries.append(.commonPrefix(prefix))
                    low = ListRange.end(ofPrefix: prefix)
                    look = firstLook
                    lastKey = nil
                    continue scan
                }
                entries.append(entry(item, isLatest: item.key != lastKey))
                lastKey = item.key
                if entries.count == limit { break scan }
            }
            guard items.count == look, let last = items.last else { break }
            // The rest of the last key's versions, and then what is behind it.
            entries += try rest(t, bucket: bucket, key: last.key, behind: last.sequence, limit: limit - entries.count)
            low = ListRange.after(last.key)
            look = limit
        }
        return entries
    }

    private static func later(_ a: [UInt8], _ b: [UInt8]) -> [UInt8] { a.lexicographicallyPrecedes(b) ? b : a }

    private static func commonPrefix(_ key: [UInt8], _ query: ListQuery) -> [UInt8]? {
        guard !query.delimiter.isEmpty else { return nil }
        let behind = ListQuery(prefix: query.prefix, delimiter: query.delimiter, after: key, maxKeys: 1).reach
        guard behind != ListRange.after(key), let last = behind.last else { return nil }
        return behind.dropLast() + [last - 1]
    }

    private static func entry(_ item: Item, isLatest: Bool) -> VersionEntry {
        switch item.there {
        case .object(let object): .object(object, isLatest: isLatest)
        case .marker(let marker): .marker(key: item.key, marker, isLatest: isLatest)
        case .nothing: preconditionFailure("a row that is nothing")
        }
    }

    /// The first rows of both kinds from `low` on, in order: by key, the live one first, then the newest first. At most `limit`.
    private static func merged(_ t: Transaction, bucket: Int64, low: [UInt8], high: [UInt8], limit: Int) throws -> [Item] {
        func rows(_ condition: String, _ order: String) throws -> [Item] {
            try t.execute(
                """
                SELECT \(ObjectStore.describing), o.sequence FROM walrus.objects o
                WHERE o.bucket = $1 AND \(condition) AND o.key >= $2 AND o.key < $3 ORDER BY \(order) LIMIT $4
                """, SQLValue(bucket), .bytes(low), .bytes(high), SQLValue(limit)
            ).map { row in
                let sequence = condition == "o.live" ? Int64.max : row.int64("sequence")
                return Item(key: row.bytes("key"), sequence: sequence, there: ObjectStore.present(row))
            }
        }
        let live = try rows("o.live", "o.key")
        let old = try rows("NOT o.live", "o.key, o.sequence DESC")
        var merged: [Item] = []
        var (a, b) = (0, 0)
        while merged.count < limit, a < live.count || b < old.count {
            let isLive = b >= old.count || (a < live.count && !old[b].key.lexicographicallyPrecedes(live[a].key))
            merged.append(isLive ? live[a] : old[b])
            if isLive { a += 1 } else { b += 1 }
        }
        return merged
    }

    /// The versions of a key that are older than the one with this sequence (`.max`: the live one).
    private static func rest(_ t: Transaction, bucket: Int64, key: [UInt8], behind: Int64, limit: Int) throws -> [VersionEntry] {
        try t.execute(
            """
            SELECT \(ObjectStore.describing), o.sequence FROM walrus.objects o
            WHERE o.bucket = $1 AND o.key = $2 AND NOT o.live AND o.sequence < $3 ORDER BY o.sequence DESC LIMIT $4
            """, SQLValue(bucket), .bytes(key), SQLValue(behind), SQLValue(limit)
        ).map { entry(Item(key: key, sequence: 0, there: ObjectStore.present($0)), isLatest: false) }
    }

    /// The versions of a key behind the one with this id. When that one is gone by now (clients delete what they have listed), its place is
    /// told by the ids of the others, which begin with the time they were made; nothing is left out.
    private static func rest(_ t: Transaction, bucket: Int64, key: [UInt8], after version: String, limit: Int) throws -> [VersionEntry] {
        let row = try t.execute(
            """
            SELECT 9223372036854775807 AS sequence FROM walrus.objects WHERE bucket = $1 AND key = $2 AND version = $3 AND live
            UNION ALL
            SELECT sequence FROM walrus.objects WHERE bucket = $1 AND key = $2 AND version = $3 AND NOT live
            """, SQLValue(bucket), .bytes(key), .text(version)
        ).first
        if let row { return try rest(t, bucket: bucket, key: key, behind: row.int64("sequence"), limit: limit) }
        let newer = try t.execute(
            """
            SELECT min(sequence) AS sequence FROM walrus.objects
            WHERE bucket = $1 AND key = $2 AND NOT live AND version > $3 AND version <> 'null' AND $3 <> 'null'
            """, SQLValue(bucket), .bytes(key), .text(version)
        ).first?.optionalInt64("sequence")
        if let newer { return try rest(t, bucket: bucket, key: key, behind: newer, limit: limit) }
        // All that were newer are gone too, so that what followed may be current by now.
        guard let live = try ObjectStore.objectLive(t, bucket: bucket, key: ObjectKey(trusted: key)) else {
            var entries = try rest(t, bucket: bucket, key: key, behind: .max, limit: limit)
            if case .marker(let key, let marker, _)? = entries.first { entries[0] = .marker(key: key, marker, isLatest: true) }
            return entries
        }
        let isBehind = version == VersionID.null || live.version == VersionID.null || live.version < version
        let latest: [VersionEntry] = isBehind ? [.object(live, isLatest: true)] : []
        return latest + (try rest(t, bucket: bucket, key: key, behind: .max, limit: limit - latest.count))
    }
}
