import Domain
public import Workflow

/// Takes snapshots from "accepted" to "the copy is complete", and deletes those that should go. Takes no input. Sending is the
/// `TransferReconciler`'s, so that a long upload holds up no other snapshot.
public struct SnapshotReconciler: Sendable {
    private let environment: StorageEnvironment

    public init(_ environment: StorageEnvironment) { self.environment = environment }

    public func runOnce() async -> ReconcileReport {
        var report = ReconcileReport()
        do throws(CloudError) {
            for row in try await environment.store.snapshotsUnfinished() where row.isDeleted || row.state != .uploading {
                if Task.isCancelled { return report }
                report.examined += 1
                do throws(CloudError) {
                    if try await settle(row.id) { report.changed += 1 } else { report.soon = true }
                } catch {
                    report.failures.append("\(row.id): \(error.message) \(error.context)")
                }
            }
        } catch {
            report.failures.append("snapshots: \(error.message) \(error.context)")
        }
        if report.changed > 0 { environment.transfersNudge.signal() }
        return report
    }

    private func settle(_ id: SnapshotID) async throws(CloudError) -> Bool {
        try await environment.locks.hold(id.text) { () async throws(CloudError) -> Bool in
            guard let row = try await environment.store.snapshotFetch(id) else { return false }
            if row.isDeleted { return try await remove(row) }
            switch row.state {
            case .accepted: return try await start(row)
            case .capturing: return try await follow(row)
            case .uploading, .completed, .failed, .deleted: return false
            }
        }
    }

    /// Fixes the point in time. The snapshot's lock must be held.
    func start(_ row: SnapshotRecord) async throws(CloudError) -> Bool {
        try await environment.locks.hold(row.volume.text) { () async throws(CloudError) in
            try await environment.faults.point("sc.snapshot.start")
            try await environment.backend.captureStart(row.id.text, of: row.volume.text)
            try await environment.faults.point("sc.snapshot.started")
        }
        try await environment.store.snapshotRecord(row.id, from: .accepted, to: .capturing, progress: 1, now: environment.clock.now())
        return true
    }

    private func follow(_ row: SnapshotRecord) async throws(CloudError) -> Bool {
        let state = try await environment.locks.hold(row.volume.text) { () async throws(CloudError) in
            try await environment.backend.captureState(row.id.text, of: row.volume.text)
        }
        try await environment.faults.point("sc.snapshot.followed")
        let now = environment.clock.now()
        switch state {
        case .running(let percent):
            try await environment.store.snapshotRecord(
                row.id, from: .capturing, to: .capturing, progress: max(row.progress, 1 + percent * 49 / 100), now: now)
            return false
        case .done(let bytes):
            let digest = try await environment.backend.captureDigest(row.id.text)
            try await environment.store.snapshotRecord(
                row.id, from: .capturing, to: .uploading, progress: 50, sha256: digest, bytes: bytes, now: now)
        case .failed(let why):
            try await fail(row, why, now)
        case .absent:
            try await fail(row, "the copy of the volume was lost", now)
        }
        return true
    }

    private func fail(_ row: SnapshotRecord, _ why: String, _ now: Timestamp) async throws(CloudError) {
        try await environment.locks.hold(row.volume.text) { () async throws(CloudError) in
            try await environment.backend.captureDelete(row.id.text, of: row.volume.text)
        }
        try await environment.store.snapshotRecord(row.id, from: row.state, to: .failed, progress: row.progress, error: why, now: now)
        environment.volumesNudge.signal()
    }

    private func remove(_ row: SnapshotRecord) async throws(CloudError) -> Bool {
        guard row.state != .deleted else { return false }
        // A volume is being made of it: it goes after that.
        if try await environment.store.snapshotIsRead(row.id) { return false }
        try await environment.faults.point("sc.snapshot.delete")
        try await environment.locks.hold(row.volume.text) { () async throws(CloudError) in
            try await environment.backend.captureDelete(row.id.text, of: row.volume.text)
        }
        // The manifest goes with the rest, in whatever order: a reader that loses a part of it sees a wrong digest, never wrong data.
        try await environment.locks.hold(TransferReconciler.lock(row.id.text)) { () async throws(CloudError) in
            try await environment.objects.deleteAll(prefix: SnapshotManifest.prefix(row.id))
        }
        try await environment.faults.point("sc.snapshot.deleted")
        try await environment.store.snapshotRecord(
            row.id, from: row.state, to: .deleted, progress: row.progress, now: environment.clock.now())
        environment.volumesNudge.signal()
        return true
    }
}
