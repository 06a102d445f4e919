public import Database
public import Domain

/// The rows of volumes and attachments, all in the caller's transaction.
public enum VolumeStore {
    // MARK: volumes

    /// - Throws: `.notFound`, also for other accounts' volumes.
    public static func fetch(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> VolumeRow {
        let rows = try tx.execute(
            "SELECT * FROM cloud.volumes WHERE id = $1 AND account_id = $2 AND finished_at IS NULL", .text(id), .text(accountID))
        guard let row = rows.first else { throw CloudError(.notFound(.volume, id: id)) }
        return volume(row)
    }

    /// - Throws: `.notFound` with the ids that are not there.
    public static func list(_ tx: Transaction, accountID: String, ids: [String]?) throws(CloudError) -> [VolumeRow] {
        let rows = try tx.execute(
            """
            SELECT * FROM cloud.volumes WHERE account_id = $1 AND finished_at IS NULL AND ($2::text[] IS NULL OR id = ANY($2))
            ORDER BY created_at, id
            """,
            .text(accountID), SQLValue(ids)
        ).map { volume($0) }
        if let ids {
            let found = Set(rows.map(\.id))
            let missing = ids.filter { !found.contains($0) }
            guard missing.isEmpty else { throw CloudError(.notFound(.volume, id: missing.joined(separator: ", "))) }
        }
        return rows
    }

    static func open(_ tx: Transaction) throws(CloudError) -> [VolumeRow] {
        try tx.execute("SELECT * FROM cloud.volumes WHERE finished_at IS NULL ORDER BY created_at, id").map { volume($0) }
    }

    static func find(_ tx: Transaction, _ id: String) throws(CloudError) -> VolumeRow? {
        try tx.execute("SELECT * FROM cloud.volumes WHERE id = $1", .text(id)).first.map { volume($0) }
    }

    static func usage(_ tx: Transaction, accountID: String) throws(CloudError) -> (volumes: Int, gib: Int) {
        let row = try tx.execute(
            "SELECT count(*) AS n, coalesce(sum(size_gib), 0) AS gib FROM cloud.volumes WHERE account_id = $1 AND finished_at IS NULL",
            .text(accountID)
        ).first
        return (row?.int("n") ?? 0, row?.int("gib") ?? 0)
    }

    static func insert(_ tx: Transaction, _ v: VolumeRow) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.volumes (id, account_id, zone, size_gib, snapshot_id, volume_type, iops, created_at, desired, generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            """,
            .text(v.id), .text(v.accountID), .text(v.zone), SQLValue(v.sizeGiB), SQLValue(v.snapshotID), .text(v.volumeType),
            SQLValue(v.iops),
            .timestamp(v.createdAt), .text(v.desired.rawValue), .integer(v.generation))
        try tx.notify(NetworkStore.channel, "volume")
    }

    static func setDeleted(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.volumes SET desired = 'deleted', generation = generation + 1
            WHERE id = $1 AND desired <> 'deleted' AND finished_at IS NULL
            """,
            .text(id))
        try tx.notify(NetworkStore.channel, "volume")
    }

    static func record(
        _ tx: Transaction, id: String, generation: Int64, _ seen: Stamped<StoredVolumeState>, now: Timestamp
    ) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.volumes SET observed_state = $3, observed_generation = $4, observed_error = $5, observed_at = $6
            WHERE id = $1 AND generation = $2 AND observed_generation <= $4
            """,
            .text(id), .integer(generation), .text(seen.state.rawValue), .integer(seen.generation), .text(seen.error), .timestamp(now))
    }

    static func overtake(_ tx: Transaction, id: String, generation: Int64, newest: Int64) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.volumes SET generation = $3 WHERE id = $1 AND generation = $2", .text(id), .integer(generation),
            .integer(newest + 1))
    }

    /// - Returns: whether this call closed the row.
    @discardableResult
    static func finish(_ tx: Transaction, id: String, generation: Int64, now: Timestamp) throws(CloudError) -> Bool {
        try tx.execute(
            "UPDATE cloud.volumes SET finished_at = $3 WHERE id = $1 AND generation = $2 AND finished_at IS NULL", .text(id),
            .integer(generation),
            .timestamp(now)
        ).affected == 1
    }

    /// A volume that was refused before anyone could see it.
    static func remove(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.volumes WHERE id = $1", .text(id))
    }

    // MARK: attachments

    /// Attachments that are not over.
    public static func attachments(_ tx: Transaction, volumeIDs: [String]) throws(CloudError) -> [AttachmentRow] {
        try tx.execute(
            "SELECT * FROM cloud.attachments WHERE volume_id = ANY($1) AND finished_at IS NULL ORDER BY attached_at, id",
            .textArray(volumeIDs)
        ).compactMap { attachment($0) }
    }

    public static func attachments(_ tx: Transaction, instanceIDs: [String]) throws(CloudError) -> [AttachmentRow] {
        try tx.execute(
            "SELECT * FROM cloud.attachments WHERE instance_id = ANY($1) AND finished_at IS NULL ORDER BY device_letter",
            .textArray(instanceIDs)
        ).compactMap { attachment($0) }
    }

    static func openAttachments(_ tx: Transaction) throws(CloudError) -> [AttachmentRow] {
        try tx.execute("SELECT * FROM cloud.attachments WHERE finished_at IS NULL ORDER BY attached_at, id").compactMap { attachment($0) }
    }

    /// Nodes fence a volume's commands by volume, not by attachment: a new attachment begins above all earlier ones.
    static func firstGeneration(_ tx: Transaction, volumeID: String) throws(CloudError) -> Int64 {
        try tx.execute(
            "SELECT coalesce(max(greatest(generation, observed_generation)), 0) + 1 AS g FROM cloud.attachments WHERE volume_id = $1",
            .text(volumeID)
        ).first?.int64("g") ?? 1
    }

    static func insert(_ tx: Transaction, _ a: AttachmentRow) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.attachments (id, volume_id, instance_id, account_id, device, device_letter, delete_on_termination,
                attached_at, desired,
                generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            """,
            .text(a.id), .text(a.volumeID), .text(a.instanceID), .text(a.accountID), .text(a.device.text), .text(String(a.device.letter)),
            .boolean(a.deleteOnTermination), .timestamp(a.attachedAt), .text(a.desired.rawValue), .integer(a.generation))
        try tx.notify(NetworkStore.channel, "instance")
    }

    /// `force` raises the generation again: the first, gentle order may hang in the guest for ever.
    static func setDetached(_ tx: Transaction, id: String, force: Bool, error: String = "") throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.attachments SET desired = 'detached', force = $2, generation = greatest(generation, observed_generation) + 1,
                observed_error = CASE WHEN $3 = '' THEN observed_error ELSE $3 END
            WHERE id = $1 AND finished_at IS NULL AND (desired <> 'detached' OR ($2 AND NOT force))
            """,
            .text(id), .boolean(force), .text(error))
        try tx.notify(NetworkStore.channel, "instance")
    }

    static func record(
        _ tx: Transaction, attachment id: String, generation: Int64, _ seen: Stamped<NodeVolumeState>, now: Timestamp
    ) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.attachments SET observed_state = $3, observed_generation = $4, observed_error = $5, observed_at = $6
            WHERE id = $1 AND generation = $2 AND observed_generation <= $4
            """,
            .text(id), .integer(generation), .text(seen.state.rawValue), .integer(seen.generation), .text(seen.error), .timestamp(now))
    }

    static func overtake(_ tx: Transaction, attachment id: String, generation: Int64, newest: Int64) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.attachments SET generation = $3 WHERE id = $1 AND generation = $2", .text(id), .integer(generation),
            .integer(newest + 1)
        )
    }

    static func finish(_ tx: Transaction, attachment id: String, generation: Int64, now: Timestamp) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.attachments SET finished_at = $3 WHERE id = $1 AND generation = $2 AND finished_at IS NULL", .text(id),
            .integer(generation), .timestamp(now))
        try tx.notify(NetworkStore.channel, "volume")
    }

    /// Its node has confirmed that nothing of the instance is left, exports included: its volumes are free, or go with it.
    static func instanceEnded(_ tx: Transaction, instanceID: String, now: Timestamp) throws(CloudError) {
        for a in try attachments(tx, instanceIDs: [instanceID]) {
            try tx.execute("UPDATE cloud.attachments SET finished_at = $2 WHERE id = $1", .text(a.id), .timestamp(now))
            if a.deleteOnTermination { try setDeleted(tx, id: a.volumeID) }
        }
        try tx.notify(NetworkStore.channel, "volume")
    }

    /// Rows that nobody can ask for any more.
    static func forget(_ tx: Transaction, before moment: Timestamp) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.attachments WHERE finished_at < $1", .timestamp(moment))
        try tx.execute("DELETE FROM cloud.volumes WHERE finished_at < $1", .timestamp(moment))
        try tx.execute("DELETE FROM cloud.snapshots WHERE finished_at < $1", .timestamp(moment))
    }

    // MARK: rows

    private static func volume(_ r: Row) -> VolumeRow {
        var v = VolumeRow(
            id: r.text("id"), accountID: r.text("account_id"), zone: r.text("zone"), sizeGiB: r.int("size_gib"),
            snapshotID: r.optionalText("snapshot_id"), volumeType: r.text("volume_type"), iops: r.optionalInt("iops"),
            createdAt: r.timestamp("created_at"))
        v.desired = DesiredVolume(rawValue: r.text("desired")) ?? .available
        v.generation = r.int64("generation")
        if let state = r.optionalText("observed_state").flatMap({ StoredVolumeState(rawValue: $0) }) {
            v.stored = Stamped(state, generation: r.int64("observed_generation"), error: r.text("observed_error"))
        }
        v.finishedAt = r.optionalTimestamp("finished_at")
        return v
    }

    private static func attachment(_ r: Row) -> AttachmentRow? {
        guard let device = try? DeviceName(parsing: r.text("device")) else { return nil }
        var a = AttachmentRow(
            id: r.text("id"), volumeID: r.text("volume_id"), instanceID: r.text("instance_id"), accountID: r.text("account_id"),
            device: device,
            deleteOnTermination: r.bool("delete_on_termination"), attachedAt: r.timestamp("attached_at"))
        a.desired = DesiredAttachment(rawValue: r.text("desired")) ?? .attached
        a.generation = r.int64("generation")
        a.force = r.bool("force")
        if let state = r.optionalText("observed_state").flatMap({ NodeVolumeState(rawValue: $0) }) {
            a.seen = Stamped(state, generation: r.int64("observed_generation"), error: r.text("observed_error"))
        }
        a.finishedAt = r.optionalTimestamp("finished_at")
        return a
    }
}
