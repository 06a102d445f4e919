import Database
import Domain

/// Who beside the owner may make volumes of a snapshot.
enum SnapshotPermissionStore {
    static let everyone = "all"

    static func list(_ tx: Transaction, id: String) throws(CloudError) -> [String] {
        try tx.execute("SELECT value FROM cloud.snapshot_permissions WHERE snapshot_id = $1 ORDER BY value", .text(id)).map {
            $0.text("value")
        }
    }

    static func add(_ tx: Transaction, id: String, _ value: String) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.snapshot_permissions (snapshot_id, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", .text(id), .text(value))
    }

    static func remove(_ tx: Transaction, id: String, _ value: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.snapshot_permissions WHERE snapshot_id = $1 AND value = $2", .text(id), .text(value))
    }

    static func removeAll(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.snapshot_permissions WHERE snapshot_id = $1", .text(id))
    }
}
