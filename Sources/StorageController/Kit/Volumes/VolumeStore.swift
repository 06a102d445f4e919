import Database
import Domain

extension StorageStore {
    /// Accepts an order: reserves the space and writes the row down. A repeat answers what is there.
    func volumeCreate(
        _ order: VolumeOrder, capacityGiB: Int, space: BlockSpace, place: String, now: Timestamp
    ) async throws(CloudError) -> VolumeRecord {
        try await pool.transaction { t in
            if let row = try Self.volume(t, order.id.text) {
                try GenerationFence.check(newest: row.generation, asked: order.generation)
                guard !row.isDeleted else { throw CloudError(.incorrectState(.volume, id: order.id.text, state: "deleted")) }
                guard row.sizeGiB == order.sizeGiB, row.snapshot == order.snapshot else { throw CloudError(.idempotencyMismatch) }
                try t.execute(
                    "UPDATE storage.volumes SET generation = $2 WHERE id = $1", .text(order.id.text), .integer(order.generation))
                return try Self.present(t, order.id)
            }
            if let snapshot = order.snapshot, let source = try Self.snapshot(t, snapshot.text) {
                guard source.state == .completed, !source.isDeleted else {
                    throw CloudError(.incorrectState(.snapshot, id: snapshot.text, state: source.publicState))
                }
                guard order.sizeGiB >= source.sizeGiB else {
                    throw CloudError(
                        .invalidParameter("sizeGiB"),
                        "The volume (\(order.sizeGiB) GiB) is smaller than its snapshot (\(source.sizeGiB) GiB)")
                }
            }
            try Self.reserve(t, .volumeGiB, askedGiB: order.sizeGiB, capacityGiB: capacityGiB, space: space, place: place)
            try t.execute(
                "INSERT INTO storage.volumes (id, size_gib, snapshot, generation, state, updated) VALUES ($1, $2, $3, $4, 'creating', $5)",
                .text(order.id.text), .integer(Int64(order.sizeGiB)), SQLValue(order.snapshot?.text), .integer(order.generation),
                .timestamp(now))
            return try Self.present(t, order.id)
        }
    }

    /// It should go. One that is not known leaves a tombstone: a `CreateVolume` that was overtaken must not bring it to life.
    func volumeDelete(_ id: VolumeID, generation: Int64, now: Timestamp) async throws(CloudError) -> VolumeRecord {
        try await pool.transaction { t in
            guard let row = try Self.volume(t, id.text) else {
                try t.execute(
                    """
                    INSERT INTO storage.volumes (id, size_gib, deleted, generation, state, updated) VALUES ($1, 0, true, $2, 'deleted', $3)
                    """, .text(id.text), .integer(generation), .timestamp(now))
                return try Self.present(t, id)
            }
            try GenerationFence.check(newest: row.generation, asked: generation)
            if let attachment = row.attachments.first, !row.isDeleted {
                throw CloudError(.inUse(.volume, id: id.text, by: attachment))
            }
            try t.execute(
                "UPDATE storage.volumes SET deleted = true, generation = $2, updated = $3 WHERE id = $1", .text(id.text),
                .integer(generation), .timestamp(now))
            return try Self.present(t, id)
        }
    }

    /// What the world has come to. Nothing changes when the row went on meanwhile.
    func volumeRecord(
        _ id: VolumeID, from: VolumeRecord.State, to state: VolumeRecord.State, error: String = "", now: Timestamp
    ) async throws(CloudError) {
        try await pool.transaction { t in
            try t.execute(
                "UPDATE storage.volumes SET state = $3, error = $4, updated = $5 WHERE id = $1 AND state = $2", .text(id.text),
                .text(from.rawValue), .text(state.rawValue), .text(error), .timestamp(now))
        }
    }

    func volumeFetch(_ id: VolumeID) async throws(CloudError) -> VolumeRecord? {
        try await pool.read { t in try Self.volume(t, id.text) }
    }

    /// Those with the ids, deleted ones too; without ids all that are not deleted.
    func volumeList(_ ids: [VolumeID]) async throws(CloudError) -> [VolumeRecord] {
        try await pool.read { t in
            let rows =
                ids.isEmpty
                ? try t.execute("SELECT * FROM storage.volumes WHERE state <> 'deleted' ORDER BY id")
                : try t.execute("SELECT * FROM storage.volumes WHERE id = ANY($1) ORDER BY id", .textArray(ids.map(\.text)))
            return try Self.records(t, rows)
        }
    }

    /// Those that are not what they should be.
    func volumesUnfinished() async throws(CloudError) -> [VolumeRecord] {
        try await pool.read { t in
            try Self.records(
                t,
                try t.execute(
                    "SELECT * FROM storage.volumes WHERE state = 'creating' OR (deleted AND state <> 'deleted') ORDER BY updated, id"))
        }
    }

    // MARK: exports

    /// The attachment's export, made if there is none. - Returns: all exports of the volume.
    func exportCreate(
        volume: VolumeID, attachment: AttachmentID, node: String, secret: String, now: Timestamp
    ) async throws(CloudError) -> [ExportGrant] {
        try await pool.transaction { t in
            guard let row = try Self.volume(t, volume.text), row.state != .deleted else {
                throw CloudError(.notFound(.volume, id: volume.text))
            }
            guard row.state == .available, !row.isDeleted else {
                throw CloudError(.incorrectState(.volume, id: volume.text, state: row.isDeleted ? "deleting" : row.state.rawValue))
            }
            if let known = try t.execute("SELECT * FROM storage.exports WHERE attachment = $1", .text(attachment.text)).first {
                // A credential is for one attachment and one node, and does not come back.
                guard !known.bool("revoked") else {
                    throw CloudError(.incorrectState(.attachment, id: attachment.text, state: "detached"))
                }
                guard known.text("volume") == volume.text, known.text("node") == node else {
                    throw CloudError(.forbidden(action: "sc:ExportVolume"), context: "\(attachment) belongs to \(known.text("node"))")
                }
            } else {
                try t.execute(
                    "INSERT INTO storage.exports (attachment, volume, secret, node, updated) VALUES ($1, $2, $3, $4, $5)",
                    .text(attachment.text), .text(volume.text), .text(secret), .text(node), .timestamp(now))
            }
            return try Self.grants(t, volume.text)
        }
    }

    /// Nothing was exported after all: the attachment may try again.
    func exportForget(attachment: AttachmentID) async throws(CloudError) {
        try await pool.transaction { t in
            try t.execute("DELETE FROM storage.exports WHERE attachment = $1 AND NOT revoked", .text(attachment.text))
        }
    }

    /// - Parameter node: who asks; `nil`: one that may end all exports.
    func exportRevoke(
        volume: VolumeID, attachment: AttachmentID, node: String?, now: Timestamp
    ) async throws(CloudError) {
        try await pool.transaction { t in
            if let known = try t.execute("SELECT * FROM storage.exports WHERE attachment = $1", .text(attachment.text)).first {
                guard known.text("volume") == volume.text, node == nil || known.text("node") == node else {
                    throw CloudError(.forbidden(action: "sc:UnexportVolume"), context: "\(attachment) belongs to \(known.text("node"))")
                }
                try t.execute(
                    "UPDATE storage.exports SET revoked = true, updated = $2 WHERE attachment = $1 AND NOT revoked",
                    .text(attachment.text), .timestamp(now))
            } else {
                // An export that was overtaken by its own end.
                try t.execute(
                    "INSERT INTO storage.exports (attachment, volume, secret, node, revoked, updated) VALUES ($1, $2, '', $3, true, $4)",
                    .text(attachment.text), .text(volume.text), .text(node ?? ""), .timestamp(now))
            }
        }
    }

    func exportGrants(_ volume: VolumeID) async throws(CloudError) -> [ExportGrant] {
        try await pool.read { t in try Self.grants(t, volume.text) }
    }

    /// Volumes that have exports.
    func exportedVolumes() async throws(CloudError) -> [VolumeID] {
        try await pool.read { t in
            let rows = try t.execute("SELECT DISTINCT volume FROM storage.exports WHERE NOT revoked ORDER BY volume")
            var ids: [VolumeID] = []
            for row in rows { ids.append(try VolumeID(parsing: row.text("volume"))) }
            return ids
        }
    }

    // MARK: rows

    static func grants(_ t: Transaction, _ volume: String) throws(CloudError) -> [ExportGrant] {
        try t.execute("SELECT * FROM storage.exports WHERE volume = $1 AND NOT revoked ORDER BY attachment", .text(volume)).map {
            ExportGrant(attachment: $0.text("attachment"), secretName: $0.text("secret"), node: $0.text("node"))
        }
    }

    static func volume(_ t: Transaction, _ id: String) throws(CloudError) -> VolumeRecord? {
        try records(t, try t.execute("SELECT * FROM storage.volumes WHERE id = $1", .text(id))).first
    }

    private static func present(_ t: Transaction, _ id: VolumeID) throws(CloudError) -> VolumeRecord {
        guard let record = try volume(t, id.text) else { throw .bug("the row of \(id) is gone in its own transaction") }
        return record
    }

    private static func records(_ t: Transaction, _ rows: Rows) throws(CloudError) -> [VolumeRecord] {
        let exports = try t.execute(
            "SELECT attachment, volume FROM storage.exports WHERE volume = ANY($1) AND NOT revoked ORDER BY attachment",
            .textArray(rows.map { $0.text("id") }))
        var attachments: [String: [String]] = [:]
        for export in exports { attachments[export.text("volume"), default: []].append(export.text("attachment")) }
        var records: [VolumeRecord] = []
        for row in rows {
            let id = row.text("id")
            guard let state = VolumeRecord.State(rawValue: row.text("state")) else { throw .bug("\(id) is in an unknown state") }
            let snapshot: SnapshotID? = if let text = row.optionalText("snapshot") { try SnapshotID(parsing: text) } else { nil }
            records.append(
                VolumeRecord(
                    id: try VolumeID(parsing: id), sizeGiB: row.int("size_gib"), snapshot: snapshot, isDeleted: row.bool("deleted"),
                    generation: row.int64("generation"), state: state, error: row.text("error"), attachments: attachments[id] ?? []))
        }
        return records
    }
}
