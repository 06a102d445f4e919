public import Database
public import Domain

/// The rows of snapshots, all in the caller's transaction.
public enum SnapshotStore {
    /// - Throws: `.notFound`, also for other accounts' snapshots.
    public static func fetch(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> SnapshotRow {
        let rows = try tx.execute(
            "SELECT * FROM cloud.snapshots WHERE id = $1 AND account_id = $2 AND finished_at IS NULL AND desired = 'available'", .text(id),
            .text(accountID))
        guard let row = rows.first else { throw CloudError(.notFound(.snapshot, id: id)) }
        return snapshot(row)
    }

    /// One that the account may make volumes of: its own, or one that it was given.
    /// - Throws: `.notFound`.
    static func fetchRestorable(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> SnapshotRow {
        guard let row = try list(tx, accountID: accountID, ids: [id]).first else { throw CloudError(.notFound(.snapshot, id: id)) }
        return row
    }

    /// Those of the account, and those that it may make volumes of. A deleted snapshot is gone for clients at once; the bytes go later.
    public static func list(_ tx: Transaction, accountID: String, ids: [String]?) throws(CloudError) -> [SnapshotRow] {
        let rows = try tx.execute(
            """
            SELECT * FROM cloud.snapshots s WHERE finished_at IS NULL AND desired = 'available'
                AND (account_id = $1 OR EXISTS (
                    SELECT 1 FROM cloud.snapshot_permissions p WHERE p.snapshot_id = s.id AND p.value IN ($1, 'all')))
                AND ($2::text[] IS NULL OR id = ANY($2))
            ORDER BY created_at, id
            """,
            .text(accountID), SQLValue(ids)
        ).map { snapshot($0) }
        if let ids {
            let found = Set(rows.map(\.id))
            let missing = ids.filter { !found.contains($0) }
            guard missing.isEmpty else { throw CloudError(.notFound(.snapshot, id: missing.joined(separator: ", "))) }
        }
        return rows
    }

    static func open(_ tx: Transaction) throws(CloudError) -> [SnapshotRow] {
        try tx.execute("SELECT * FROM cloud.snapshots WHERE finished_at IS NULL ORDER BY created_at, id").map { snapshot($0) }
    }

    static func count(_ tx: Transaction, accountID: String) throws(CloudError) -> Int {
        try tx.execute(
            "SELECT count(*) AS n FROM cloud.snapshots WHERE account_id = $1 AND finished_at IS NULL AND desired = 'available'",
            .text(accountID)
        ).first?.int("n") ?? 0
    }

    /// Volumes that are still being made of it.
    static func volumesInTheMaking(_ tx: Transaction, id: String) throws(CloudError) -> [String] {
        try tx.execute(
            """
            SELECT id FROM cloud.volumes WHERE snapshot_id = $1 AND finished_at IS NULL AND desired = 'available'
                AND (observed_state IS NULL OR observed_state = 'creating') ORDER BY id
            """,
            .text(id)
        ).map { $0.text("id") }
    }

    static func insert(_ tx: Transaction, _ s: SnapshotRow) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.snapshots (id, account_id, zone, volume_id, size_gib, description, created_at, desired, generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            .text(s.id), .text(s.accountID), .text(s.zone), .text(s.volumeID), SQLValue(s.sizeGiB), .text(s.description),
            .timestamp(s.createdAt),
            .text(s.desired.rawValue), .integer(s.generation))
    }

    static func setDeleted(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.snapshots SET desired = 'deleted', generation = generation + 1
            WHERE id = $1 AND desired <> 'deleted' AND finished_at IS NULL
            """,
            .text(id))
        try tx.notify(NetworkStore.channel, "volume")
    }

    static func record(
        _ tx: Transaction, id: String, generation: Int64, _ seen: Stamped<StoredSnapshotState>, progress: Int, now: Timestamp
    ) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.snapshots SET observed_state = $3, observed_generation = $4, observed_error = $5, observed_at = $6, progress = $7
            WHERE id = $1 AND generation = $2 AND observed_generation <= $4
            """,
            .text(id), .integer(generation), .text(seen.state.rawValue), .integer(seen.generation), .text(seen.error), .timestamp(now),
            SQLValue(progress))
    }

    static func overtake(_ tx: Transaction, id: String, generation: Int64, newest: Int64) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.snapshots SET generation = $3 WHERE id = $1 AND generation = $2", .text(id), .integer(generation),
            .integer(newest + 1))
    }

    static func finish(_ tx: Transaction, id: String, generation: Int64, now: Timestamp) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.snapshots SET finished_at = $3 WHERE id = $1 AND generation = $2 AND finished_at IS NULL", .text(id),
            .integer(generation), .timestamp(now))
    }

    private static func snapshot(_ r: Row) -> SnapshotRow {
        var s = SnapshotRow(
            id: r.text("id"), accountID: r.text("account_id"), zone: r.text("zone"), volumeID: r.text("volume_id"),
            sizeGiB: r.int("size_gib"),
            description: r.text("description"), createdAt: r.timestamp("created_at"))
        s.desired = DesiredVolume(rawValue: r.text("desired")) ?? .available
        s.generation = r.int64("generation")
        if let state = r.optionalText("observed_state").flatMap({ StoredSnapshotState(rawValue: $0) }) {
            s.stored = Stamped(state, generation: r.int64("observed_generation"), error: r.text("observed_error"))
        }
        s.progress = r.int("progress")
        s.finishedAt = r.optionalTimestamp("finished_at")
        return s
    }
}
