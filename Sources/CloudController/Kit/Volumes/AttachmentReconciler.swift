import API
import Database
import Domain
import Workflow

/// Makes the nodes' attachments match their rows. Works on what one round of `ClusterObserver` saw.
struct AttachmentReconciler: Sendable {
    private let cloud: CloudServices
    init(_ cloud: CloudServices) { self.cloud = cloud }

    private struct Item: Sendable {
        let row: AttachmentRow
        let instance: InstanceRow?
        let volume: VolumeRow?
    }

    func pass(_ zones: [String: ZoneSight]) async -> ReconcileReport {
        let now = cloud.clock.now()
        var report = ReconcileReport()
        let items: [Item]
        let storage: [String: String]
        do throws(CloudError) {
            (items, storage) = try await cloud.pool.read { tx in
                let items = try VolumeStore.openAttachments(tx).map {
                    Item(row: $0, instance: try InstanceStore.find(tx, $0.instanceID), volume: try VolumeStore.find(tx, $0.volumeID))
                }
                let controllers = try ComponentStore.all(tx).filter { $0.role == .sc }
                return (items, Dictionary(controllers.map { ($0.zone, $0.endpoint) }, uniquingKeysWith: { first, _ in first }))
            }
        } catch {
            return ReconcileReport(failures: ["attachments: \(error.message) \(error.context)"])
        }
        report.examined = items.count
        for item in items {
            do throws(CloudError) {
                if try await step(item, zones, storage, now) { report.changed += 1 }
            } catch {
                report.failures.append("\(item.row.volumeID) at \(item.row.instanceID): \(error.message) \(error.context)")
            }
        }
        return report
    }

    /// - Returns: whether anything was done.
    private func step(
        _ item: Item, _ zones: [String: ZoneSight], _ storage: [String: String], _ now: Timestamp
    ) async throws(CloudError) -> Bool {
        let row = item.row
        guard let instance = item.instance, instance.finishedAt == nil else {
            try await finish(row, now)
            return true
        }
        let zone = zones[instance.zone]
        let sight =
            zone?.sight(ofVolume: row.volumeID, attachment: row.id, instance: instance.id, node: instance.node) ?? .silent
        if case .reported(let seen) = sight, seen != row.seen { try await note(row, seen, now) }
        let host: AttachmentHost
        switch (instance.desired, instance.facts?.state) {
        case (.running, .running), (.running, .paused): host = .running
        default: host = .stopped
        }
        // The instance's end takes care of its volumes: asking for a detach of a guest that is going only races with it.
        if instance.desired == .terminated, instance.save != .saving, row.desired == .attached { return false }
        switch AttachmentPlanner.plan(row.desired, generation: row.generation, force: row.force, host: host, sight) {
        case .settled, .wait: return false
        case .attach:
            guard item.volume?.stored?.state == .available, let endpoint = storage[instance.zone] else { return false }
            guard let client = zone?.client else { throw CloudError(.unavailable("The cluster controller")) }
            do throws(CloudError) {
                let answer = try await client.attachVolume(
                    CC.AttachVolume(
                        node: instance.node, instanceId: instance.id,
                        volume: NC.VolumeOrder(
                            volumeId: row.volumeID, attachmentId: row.id, device: row.device.text, storage: endpoint,
                            sizeGiB: item.volume?.sizeGiB),
                        generation: Int(row.generation)), cloud.callContext())
                try await take(answer.instance, row, now)
            } catch {
                switch error.reason {
                case .unavailable, .bug: throw error
                case .stale(let newest): try await overtake(row, newest)
                default: try await giveUp(row, error.message, now)
                }
            }
        case .detach(let force):
            guard let client = zone?.client else { throw CloudError(.unavailable("The cluster controller")) }
            do throws(CloudError) {
                let answer = try await client.detachVolume(
                    CC.DetachVolume(
                        node: instance.node, instanceId: instance.id, volumeId: row.volumeID, attachmentId: row.id,
                        generation: Int(row.generation), force: force), cloud.callContext())
                try await take(answer.instance, row, now)
            } catch {
                guard case .stale(let newest) = error.reason else { throw error }
                try await overtake(row, newest)
            }
        case .finish: try await finish(row, now)
        case .giveUp(let reason): try await giveUp(row, reason, now)
        case .overtake(let newest): try await overtake(row, newest)
        }
        return true
    }

    /// The reply holds the instance's volumes: a detach that is done at once need not wait for the next round.
    private func take(_ report: NC.InstanceReport?, _ row: AttachmentRow, _ now: Timestamp) async throws(CloudError) {
        guard let volume = report?.volumes.first(where: { $0.volumeId == row.volumeID && $0.attachmentId == row.id }) else { return }
        let seen = Stamped(
            NodeVolumeState(rawValue: volume.state ?? "") ?? .failed, generation: Int64(volume.generation ?? 0), error: volume.error ?? "")
        if seen != row.seen { try await note(row, seen, now) }
        if row.desired == .detached, seen.state == .detached, seen.generation == row.generation { try await finish(row, now) }
    }

    private func note(_ row: AttachmentRow, _ seen: Stamped<NodeVolumeState>, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            try VolumeStore.record(tx, attachment: row.id, generation: row.generation, seen, now: now)
        }
    }

    private func overtake(_ row: AttachmentRow, _ newest: Int64) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            try VolumeStore.overtake(tx, attachment: row.id, generation: row.generation, newest: newest)
        }
    }

    private func finish(_ row: AttachmentRow, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            try VolumeStore.finish(tx, attachment: row.id, generation: row.generation, now: now)
            try AuditStore.record(
                tx, at: now, accountID: row.accountID, action: "VolumeDetached", resource: "\(row.volumeID) \(row.instanceID)",
                detail: row.device.text)
        }
    }

    private func giveUp(_ row: AttachmentRow, _ reason: String, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            try VolumeStore.setDetached(tx, id: row.id, force: false, error: reason)
            try AuditStore.record(
                tx, at: now, accountID: row.accountID, action: "AttachFailed", resource: "\(row.volumeID) \(row.instanceID)", detail: reason
            )
        }
    }
}
