import Database
import Domain

/// An image's end: when it is found no more, and whether it may be deregistered.
enum ImageProtectionStore {
    static func setDeprecation(_ tx: Transaction, id: String, _ at: Timestamp?) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.images SET deprecate_at = $2 WHERE id = $1", .text(id), SQLValue(at.map { Int($0.milliseconds) }))
    }

    static func setProtected(_ tx: Transaction, id: String, _ on: Bool) throws(CloudError) {
        try tx.execute("UPDATE cloud.images SET deregistration_protected = $2 WHERE id = $1", .text(id), .boolean(on))
    }
}
