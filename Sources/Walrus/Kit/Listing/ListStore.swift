import Database
import Domain

/// Bounds of keys, as bytes.
enum ListRange {
    /// The first byte string behind all keys that start with `prefix`. UTF-8 never holds 255, so the last byte can be raised.
    static func end(ofPrefix prefix: [UInt8]) -> [UInt8] {
        guard let last = prefix.last else { return [0xff] }
        return prefix.dropLast() + [last + 1]
    }

    /// The first possible key behind `key`.
    static func after(_ key: [UInt8]) -> [UInt8] { key + [0] }
}

/// One entry of a list.
struct ListEntry: Sendable {
    enum Kind: Sendable {
        case commonPrefix
        case object(size: Int, etag: String, modified: Timestamp, account: String, storageClass: String, checksum: (String, String)?)
    }
    let key: [UInt8]
    let kind: Kind
}

enum ListStore {
    /// A page of a bucket: entries from `reach` on, at most `limit`. The work is done by `walrus.page` (see `SchemaStore`).
    static func listPage(
        _ t: Transaction, bucket: Int64, prefix: [UInt8], delimiter: [UInt8], reach: [UInt8], limit: Int
    ) throws -> [ListEntry] {
        try t.execute(
            "SELECT * FROM walrus.page($1, $2, $3, $4, $5)", SQLValue(bucket), .bytes(prefix), .bytes(delimiter), .bytes(reach),
            SQLValue(limit)
        ).map { row in
            if row.bool("is_prefix") { return ListEntry(key: row.bytes("entry"), kind: .commonPrefix) }
            var checksum: (String, String)?
            if let algorithm = row.optionalText("checksum_algorithm"), let type = row.optionalText("checksum_type") {
                checksum = (algorithm, type)
            }
            return ListEntry(
                key: row.bytes("entry"),
                kind: .object(
                    size: row.int("size"), etag: row.text("etag"), modified: row.timestamp("modified"), account: row.text("account"),
                    storageClass: row.text("storage_class"), checksum: checksum))
        }
    }
}
