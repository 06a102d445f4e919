public import Workflow
import Domain

/// Makes volumes and their exports what their rows say. Takes no input: restart, nudge and timer are one path. After a restart it finds the
/// daemons that kept running (by their sockets) and leaves alone what is right.
///
/// A daemon for a volume that has no row is left alone: somebody's data may depend on it, and we do not know whose. It is reported.
public struct VolumeReconciler: Sendable {
    private let environment: StorageEnvironment

    public init(_ environment: StorageEnvironment) { self.environment = environment }

    public func runOnce() async -> ReconcileReport {
        var report = ReconcileReport()
        do throws(CloudError) {
            for row in try await environment.store.volumesUnfinished() where row.isDeleted || row.snapshot == nil {
                if Task.isCancelled { return report }
                await step(row.id.text, &report) { () async throws(CloudError) in try await settle(row.id) }
            }
            try await applyExports(&report)
        } catch {
            report.failures.append("volumes: \(error.message) \(error.context)")
        }
        return report
    }

    private func settle(_ id: VolumeID) async throws(CloudError) -> Bool {
        try await environment.locks.hold(id.text) { () async throws(CloudError) -> Bool in
            // Read again under the lock: it may have gone on since the list was made.
            guard let row = try await environment.store.volumeFetch(id) else { return false }
            switch (row.isDeleted, row.state) {
            case (true, .deleted), (false, .available), (false, .failed), (false, .deleted): return false
            case (false, .creating):
                guard row.snapshot == nil else { return false }
                try await environment.faults.point("sc.volume.create")
                try await environment.backend.volumeCreate(id.text, bytes: row.bytes)
                try await environment.faults.point("sc.volume.created")
                try await environment.store.volumeRecord(id, from: .creating, to: .available, now: environment.clock.now())
            case (true, _):
                try await environment.faults.point("sc.volume.delete")
                do throws(CloudError) {
                    try await environment.locks.hold(TransferReconciler.lock(id.text)) { () async throws(CloudError) in
                        try await environment.backend.volumeDelete(id.text)
                        try await environment.backend.restoreAbandon(id.text)
                    }
                } catch {
                    // A snapshot is still being taken from it: later.
                    if case .inUse = error.reason { return false }
                    throw error
                }
                try await environment.faults.point("sc.volume.deleted")
                try await environment.store.volumeRecord(id, from: row.state, to: .deleted, now: environment.clock.now())
            }
            return true
        }
    }

    private func applyExports(_ report: inout ReconcileReport) async throws(CloudError) {
        var ids = try await environment.store.exportedVolumes()
        for name in try await environment.backend.runningVolumes() {
            guard let id = try? VolumeID(parsing: name), !ids.contains(id) else { continue }
            ids.append(id)
        }
        for id in ids {
            if Task.isCancelled { return }
            await step(id.text, &report) { () async throws(CloudError) in
                try await environment.locks.hold(id.text) { () async throws(CloudError) -> Bool in
                    guard let row = try await environment.store.volumeFetch(id) else {
                        throw CloudError(.unavailable("The volume"), context: "a daemon runs for \(id), which is not known here")
                    }
                    if row.state == .deleted { return false }
                    _ = try await environment.backend.exportsApply(id.text, try await environment.store.exportGrants(id))
                    return false
                }
            }
        }
    }

    /// One resource's failure does not stop the others.
    private func step(
        _ name: String, _ report: inout ReconcileReport, _ body: () async throws(CloudError) -> Bool
    ) async {
        report.examined += 1
        do throws(CloudError) {
            if try await body() { report.changed += 1 }
        } catch {
            report.failures.append("\(name): \(error.message) \(error.context)")
        }
    }
}
