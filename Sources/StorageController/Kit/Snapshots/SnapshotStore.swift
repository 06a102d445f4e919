import Database
import Domain

extension StorageStore {
    /// Accepts a snapshot and reserves the room for its copy. A repeat answers what is there.
    func snapshotCreate(
        _ id: SnapshotID, of volume: VolumeID, generation: Int64, capacityGiB: Int, space: BlockSpace, place: String, now: Timestamp
    ) async throws(CloudError) -> SnapshotRecord {
        try await pool.transaction { t in
            if let row = try Self.snapshot(t, id.text) {
                try GenerationFence.check(newest: row.generation, asked: generation)
                guard !row.isDeleted else { throw CloudError(.incorrectState(.snapshot, id: id.text, state: "deleted")) }
                guard row.volume == volume else { throw CloudError(.idempotencyMismatch) }
                try t.execute("UPDATE storage.snapshots SET generation = $2 WHERE id = $1", .text(id.text), .integer(generation))
                return try Self.present(t, id)
            }
            guard let source = try Self.volume(t, volume.text), source.state != .deleted else {
                throw CloudError(.notFound(.volume, id: volume.text))
            }
            guard source.state == .available, !source.isDeleted else {
                throw CloudError(
                    .incorrectState(.volume, id: volume.text, state: source.isDeleted ? "deleting" : source.state.rawValue))
            }
            try Self.reserve(t, .snapshotGiB, askedGiB: source.sizeGiB, capacityGiB: capacityGiB, space: space, place: place)
            try t.execute(
                "INSERT INTO storage.snapshots (id, volume, size_gib, generation, state, updated) VALUES ($1, $2, $3, $4, 'accepted', $5)",
                .text(id.text), .text(volume.text), .integer(Int64(source.sizeGiB)), .integer(generation), .timestamp(now))
            return try Self.present(t, id)
        }
    }

    /// It should go; one that is not known leaves a tombstone.
    func snapshotDelete(_ id: SnapshotID, generation: Int64, now: Timestamp) async throws(CloudError) -> SnapshotRecord {
        try await pool.transaction { t in
            guard let row = try Self.snapshot(t, id.text) else {
                try t.execute(
                    """
                    INSERT INTO storage.snapshots (id, volume, size_gib, deleted, generation, state, updated)
                    VALUES ($1, $2, 0, true, $3, 'deleted', $4)
                    """, .text(id.text), .text("vol-00000000"), .integer(generation), .timestamp(now))
                return try Self.present(t, id)
            }
            try GenerationFence.check(newest: row.generation, asked: generation)
            try t.execute(
                "UPDATE storage.snapshots SET deleted = true, generation = $2, updated = $3 WHERE id = $1", .text(id.text),
                .integer(generation), .timestamp(now))
            return try Self.present(t, id)
        }
    }

    /// Goes on to the next state; nothing happens when the row is in another one by now.
    func snapshotRecord(
        _ id: SnapshotID, from: SnapshotRecord.State, to state: SnapshotRecord.State, progress: Int, error: String = "",
        sha256: String? = nil, bytes: Int? = nil, now: Timestamp
    ) async throws(CloudError) {
        try await pool.transaction { t in
            try t.execute(
                """
                UPDATE storage.snapshots SET state = $3, progress = $4, error = $5, sha256 = coalesce($6, sha256),
                    bytes = coalesce($7, bytes), updated = $8 WHERE id = $1 AND state = $2
                """, .text(id.text), .text(from.rawValue), .text(state.rawValue), .integer(Int64(progress)), .text(error),
                SQLValue(sha256), SQLValue(bytes), .timestamp(now))
        }
    }

    /// - Returns: false when the snapshot should go: stop sending.
    func snapshotPartSent(_ id: SnapshotID, parts: Int, progress: Int, now: Timestamp) async throws(CloudError) -> Bool {
        try await pool.transaction { t in
            let rows = try t.execute(
                """
                UPDATE storage.snapshots SET parts_sent = $2, progress = $3, updated = $4 WHERE id = $1 AND state = 'uploading'
                    AND NOT deleted
                """, .text(id.text), .integer(Int64(parts)), .integer(Int64(progress)), .timestamp(now))
            return rows.affected > 0
        }
    }

    func snapshotFetch(_ id: SnapshotID) async throws(CloudError) -> SnapshotRecord? {
        try await pool.read { t in try Self.snapshot(t, id.text) }
    }

    /// Those with the ids, deleted ones too; without ids all that are not deleted.
    func snapshotList(_ ids: [SnapshotID]) async throws(CloudError) -> [SnapshotRecord] {
        try await pool.read { t in
            let rows =
                ids.isEmpty
                ? try t.execute("SELECT * FROM storage.snapshots WHERE state <> 'deleted' ORDER BY id")
                : try t.execute("SELECT * FROM storage.snapshots WHERE id = ANY($1) ORDER BY id", .textArray(ids.map(\.text)))
            return try Self.records(rows)
        }
    }

    /// Those that are not what they should be.
    func snapshotsUnfinished() async throws(CloudError) -> [SnapshotRecord] {
        try await pool.read { t in
            try Self.records(
                try t.execute(
                    """
                    SELECT * FROM storage.snapshots WHERE state IN ('accepted', 'capturing', 'uploading')
                        OR (deleted AND state <> 'deleted') ORDER BY updated, id
                    """))
        }
    }

    /// Whether a volume is being made of it.
    func snapshotIsRead(_ id: SnapshotID) async throws(CloudError) -> Bool {
        try await pool.read { t in
            !(try t.execute(
                "SELECT 1 FROM storage.volumes WHERE snapshot = $1 AND state = 'creating' AND NOT deleted LIMIT 1", .text(id.text))).isEmpty
        }
    }

    static func snapshot(_ t: Transaction, _ id: String) throws(CloudError) -> SnapshotRecord? {
        try records(try t.execute("SELECT * FROM storage.snapshots WHERE id = $1", .text(id))).first
    }

    private static func present(_ t: Transaction, _ id: SnapshotID) throws(CloudError) -> SnapshotRecord {
        guard let record = try snapshot(t, id.text) else { throw .bug("the row of \(id) is gone in its own transaction") }
        return record
    }

    private static func records(_ rows: Rows) throws(CloudError) -> [SnapshotRecord] {
        var records: [SnapshotRecord] = []
        for row in rows {
            let id = row.text("id")
            guard let state = SnapshotRecord.State(rawValue: row.text("state")) else { throw .bug("\(id) is in an unknown state") }
            records.append(
                SnapshotRecord(
                    id: try SnapshotID(parsing: id), volume: try VolumeID(parsing: row.text("volume")), sizeGiB: row.int("size_gib"),
                    isDeleted: row.bool("deleted"), generation: row.int64("generation"), state: state, progress: row.int("progress"),
                    error: row.text("error"), sha256: row.optionalText("sha256"), bytes: row.optionalInt("bytes"),
                    partsSent: row.int("parts_sent")))
        }
        return records
    }
}
