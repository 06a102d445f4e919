import API
import Database
import Domain
public import Workflow

/// Makes the storage controllers' volumes and snapshots match their rows. Takes no input.
public struct StorageReconciler: Sendable {
    private let cloud: CloudServices
    public init(_ cloud: CloudServices) { self.cloud = cloud }

    /// After so long a snapshot that the storage controller has never heard of was never asked for: this controller died within the
    /// call. Too low: a call under way is taken for a dead one; too high: the owner believes in it for longer.
    static let snapshotGraceSeconds = 120.0

    public func pass() async -> ReconcileReport {
        let now = cloud.clock.now()
        var report = ReconcileReport()
        do throws(CloudError) {
            let (volumes, snapshots, components) = try await cloud.pool.read { tx in
                (try VolumeStore.open(tx), try SnapshotStore.open(tx), try ComponentStore.all(tx))
            }
            report.examined = volumes.count + snapshots.count
            guard report.examined > 0 else { return report }
            for controller in components where controller.role == .sc {
                let client = cloud.cluster.storageClient(controller)
                do throws(CloudError) {
                    let zoneVolumes = volumes.filter { $0.zone == controller.zone }
                    if !zoneVolumes.isEmpty { try await reconcile(zoneVolumes, client, now, &report) }
                    let zoneSnapshots = snapshots.filter { $0.zone == controller.zone }
                    if !zoneSnapshots.isEmpty { try await reconcile(zoneSnapshots, client, now, &report) }
                } catch {
                    report.failures.append("storage of \(controller.zone): \(error.message) \(error.context)")
                }
            }
        } catch {
            report.failures.append("storage: \(error.message) \(error.context)")
        }
        return report
    }

    private func reconcile(
        _ rows: [VolumeRow], _ client: any SCStorageActions, _ now: Timestamp, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let answer = try await client.describeVolumes(SC.DescribeVolumes(), cloud.callContext())
        let states = Dictionary(answer.volumes.compactMap { v in v.volumeId.map { ($0, v) } }, uniquingKeysWith: { first, _ in first })
        for row in rows {
            let sight: Sight<StoredVolumeState> = states[row.id].map { .reported($0.stamped) } ?? .absent
            if case .reported(let seen) = sight, seen != row.stored { try await note(row, seen, now) }
            // Refused for good: it is shown as `error`, and not tried again behind its owner's back.
            if sight == .absent, row.desired == .available, row.stored?.state == .failed { continue }
            do throws(CloudError) {
                switch VolumePlanner.plan(row.desired, generation: row.generation, sight) {
                case .settled, .wait: continue
                case .create: try await create(row, client, now)
                case .delete: try await delete(row, client, now)
                case .finish: _ = try await cloud.pool.transaction { tx in try Self.close(tx, row, now) }
                case .overtake(let newest):
                    try await cloud.pool.transaction { tx in
                        try VolumeStore.overtake(tx, id: row.id, generation: row.generation, newest: newest)
                    }
                }
                report.changed += 1
            } catch {
                report.failures.append("\(row.id): \(error.message) \(error.context)")
            }
        }
    }

    private func note(_ row: VolumeRow, _ seen: Stamped<StoredVolumeState>, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in try VolumeStore.record(tx, id: row.id, generation: row.generation, seen, now: now) }
    }

    private func create(_ row: VolumeRow, _ client: any SCStorageActions, _ now: Timestamp) async throws(CloudError) {
        do throws(CloudError) {
            let answer = try await client.createVolume(
                SC.CreateVolume(volumeId: row.id, sizeGiB: row.sizeGiB, snapshotId: row.snapshotID, generation: Int(row.generation)),
                cloud.callContext())
            if let volume = answer.volume { try await note(row, volume.stamped, now) }
        } catch {
            switch error.reason {
            case .unavailable, .bug, .stale: throw error
            default: try await note(row, Stamped(.failed, generation: row.generation, error: error.message), now)
            }
        }
    }

    private func delete(_ row: VolumeRow, _ client: any SCStorageActions, _ now: Timestamp) async throws(CloudError) {
        let answer = try await client.deleteVolume(
            SC.DeleteVolume(volumeId: row.id, generation: Int(row.generation)), cloud.callContext())
        if answer.volume?.state == StoredVolumeState.deleted.rawValue {
            _ = try await cloud.pool.transaction { tx in try Self.close(tx, row, now) }
        }
    }

    private static func close(_ tx: Transaction, _ row: VolumeRow, _ now: Timestamp) throws(CloudError) {
        guard try VolumeStore.finish(tx, id: row.id, generation: row.generation, now: now) else { return }
        try TagStore.deleteAll(tx, row.id)
    }

    private func reconcile(
        _ rows: [SnapshotRow], _ client: any SCStorageActions, _ now: Timestamp, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let answer = try await client.describeSnapshots(SC.DescribeSnapshots(), cloud.callContext())
        let states = Dictionary(answer.snapshots.compactMap { s in s.snapshotId.map { ($0, s) } }, uniquingKeysWith: { first, _ in first })
        for row in rows {
            let state = states[row.id]
            let sight: Sight<StoredSnapshotState> = state.map { .reported($0.stamped) } ?? .absent
            do throws(CloudError) {
                if state == nil, row.stored == nil, row.desired == .available, now.seconds(since: row.createdAt) > Self.snapshotGraceSeconds
                {
                    let lost = Stamped(
                        StoredSnapshotState.error, generation: row.generation, error: "The snapshot was not taken; make it again")
                    try await cloud.pool.transaction { tx in
                        try SnapshotStore.record(tx, id: row.id, generation: row.generation, lost, progress: 0, now: now)
                    }
                }
                if let state, state.stamped != row.stored || (state.progress ?? 0) != row.progress {
                    let seen = state.stamped
                    let progress = state.progress ?? 0
                    try await cloud.pool.transaction { tx in
                        try SnapshotStore.record(tx, id: row.id, generation: row.generation, seen, progress: progress, now: now)
                    }
                }
                switch SnapshotPlanner.plan(row.desired, generation: row.generation, sight) {
                case .settled, .wait, .create: continue
                case .delete:
                    let answer = try await client.deleteSnapshot(
                        SC.DeleteSnapshot(snapshotId: row.id, generation: Int(row.generation)), cloud.callContext())
                    if answer.snapshot?.state == StoredSnapshotState.deleted.rawValue { try await finish(row, now) }
                case .finish: try await finish(row, now)
                case .overtake(let newest):
                    try await cloud.pool.transaction { tx in
                        try SnapshotStore.overtake(tx, id: row.id, generation: row.generation, newest: newest)
                    }
                }
                report.changed += 1
            } catch {
                report.failures.append("\(row.id): \(error.message) \(error.context)")
            }
        }
    }

    private func finish(_ row: SnapshotRow, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            try SnapshotStore.finish(tx, id: row.id, generation: row.generation, now: now)
            try TagStore.deleteAll(tx, row.id)
        }
    }
}

extension SC.VolumeState {
    /// A state that this controller does not know is work in progress.
    var stamped: Stamped<StoredVolumeState> {
        Stamped(StoredVolumeState(rawValue: state ?? "") ?? .creating, generation: Int64(generation ?? 0), error: error ?? "")
    }
}

extension SC.SnapshotState {
    var stamped: Stamped<StoredSnapshotState> {
        Stamped(StoredSnapshotState(rawValue: state ?? "") ?? .pending, generation: Int64(generation ?? 0), error: error ?? "")
    }
}
