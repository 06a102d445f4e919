import API
import Database
import Domain
import Workflow

/// Carries every open bundle task on by as many steps as can be done now. Works on what one round of `ClusterObserver` saw.
struct BundleReconciler: Sendable {
    private let cloud: CloudServices
    private let log: SagaEventStore
    private let pace = UploadPace()

    init(_ cloud: CloudServices) {
        self.cloud = cloud
        log = SagaEventStore(pool: cloud.pool, clock: cloud.clock)
    }

    func pass(_ zones: [String: ZoneSight]) async -> ReconcileReport {
        var report = ReconcileReport()
        do throws(CloudError) {
            let tasks = try await cloud.pool.read { tx in
                try BundleTaskStore.open(tx).map { (task: $0, instance: try InstanceStore.find(tx, $0.instanceID)) }
            }
            report.examined = tasks.count
            for (task, instance) in tasks {
                do throws(CloudError) {
                    try await carryOn(task, instance, zones)
                    report.changed += 1
                } catch {
                    // Waiting for a node is no failure of the pass.
                    if case .unavailable = error.reason { continue }
                    report.failures.append("\(task.id): \(error.message) \(error.context)")
                }
            }
        } catch {
            report.failures.append("bundles: \(error.message) \(error.context)")
        }
        return report
    }

    private func carryOn(_ task: BundleTask, _ instance: InstanceRow?, _ zones: [String: ZoneSight]) async throws(CloudError) {
        let now = cloud.clock.now()
        guard let instance, instance.finishedAt == nil else {
            return try await finish(task, nil, image: "", code: "Client.InstanceTerminated", message: "The instance has ended.", now)
        }
        guard let zone = zones[instance.zone], let client = zone.client, let seen = zone.bundles[instance.node] else { return }
        let node = seen[task.id]
        try await note(task, node, now)
        let context = BundleSaga.Context(cloud: cloud, task: task, instance: instance, client: client, report: node, pace: pace)
        let outcome = try await BundleSaga.saga.run(task.id, context: context, log: log, faults: cloud.faults)
        switch outcome {
        case .completed(let facts):
            try await finish(task, instance, image: facts["imageId"] ?? "", code: "", message: "", now)
        case .undone(_, let message):
            try await finish(
                task, instance, image: "", code: task.cancelled ? "Client.Cancelled" : "Server.InternalError", message: message, now)
        }
    }

    private func note(_ task: BundleTask, _ report: NC.BundleReport?, _ now: Timestamp) async throws(CloudError) {
        guard !task.cancelled, let report else { return }
        let state: BundleTaskState
        switch report.state {
        case "bundling": state = .bundling
        case "ready", "uploading", "uploaded": state = .storing
        default: return
        }
        let uploaded = report.parts.count { $0.uploaded == true }
        // The first half is bundling, the second is storing.
        let progress =
            state == .bundling ? (report.progress ?? 0) / 2 : 50 + (report.parts.isEmpty ? 0 : 49 * uploaded / report.parts.count)
        guard state != task.state || progress != task.progress else { return }
        try await cloud.pool.transaction { tx in try BundleTaskStore.setProgress(tx, id: task.id, state, progress: progress, now: now) }
    }

    private func finish(
        _ task: BundleTask, _ instance: InstanceRow?, image: String, code: String, message: String, _ now: Timestamp
    ) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            guard
                try BundleTaskStore.finish(tx, id: task.id, imageID: image, errorCode: code, errorMessage: message, now: now)
            else { return }
            try AuditStore.record(
                tx, at: now, accountID: task.accountID, action: "BundleInstance", resource: "\(task.id) \(task.instanceID) \(image)",
                detail: code.isEmpty ? "complete" : "\(code): \(message)")
            guard task.forShutdown, let instance else { return }
            if code.isEmpty {
                try InstanceStore.setSave(tx, id: instance.id, .saved)
            } else {
                try InstanceStore.keepAfterFailedSave(tx, id: instance.id, message: "Server.SaveOnShutdownFailed: \(message)")
            }
        }
    }
}
