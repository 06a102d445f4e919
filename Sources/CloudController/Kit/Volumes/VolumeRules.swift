import API
import Database
import Domain
import Workflow

/// CreateVolume, parsed.
struct VolumeOrder: Sendable {
    let zone: String?
    let sizeGiB: Int?
    let snapshotID: String?
    let volumeType: String
    let iops: Int?
    let tags: [ResourceTag]
    let clientToken: String
    let requestHash: String

    init(_ r: EC2.CreateVolume) throws(CloudError) {
        zone = r.availabilityZone.flatMap { $0.isEmpty ? nil : $0 }
        snapshotID = try r.snapshotId.flatMap { $0.isEmpty ? nil : $0 }.map { text throws(CloudError) in try SnapshotID(parsing: text).text
        }
        sizeGiB = r.size
        guard sizeGiB != nil || snapshotID != nil else { throw CloudError(.missingParameter("Size or SnapshotId")) }
        if r.encrypted == true { throw Self.unsupported("Encrypted volumes") }
        if r.multiAttachEnabled == true { throw Self.unsupported("Volumes that attach to several instances") }
        volumeType = r.volumeType ?? "standard"
        if r.iops != nil, !["io1", "io2", "gp3"].contains(volumeType) {
            throw CloudError(.invalidCombination("The parameter iops is not supported for \(volumeType) volumes."))
        }
        iops = r.iops
        tags = try TagRules.onCreate(r.tagSpecifications, of: [.volume])[.volume] ?? []
        clientToken = r.clientToken ?? ""
        var hashed = r
        hashed.dryRun = nil
        requestHash = ClientTokenStore.hash(hashed.wireValue)
    }

    private static func unsupported(_ what: String) -> CloudError {
        CloudError(.named(code: "UnsupportedOperation", status: 400), "\(what) are not supported by this cloud.")
    }
}

/// The rules of volumes, attachments and snapshots.
struct VolumeRules: Sendable {
    let cloud: CloudServices

    /// Quota, zone and snapshot are checked, the row is written, and the storage controller is asked at once, so that a shortage is this
    /// call's answer. If it does not answer, the row stays and the reconciler asks again.
    func create(_ order: VolumeOrder, dryRun: Bool?, _ op: OperationContext) async throws(CloudError) -> (VolumeRow, [ResourceTag]) {
        let settings = cloud.settings
        let id = VolumeID(random: cloud.random.bytes(9)).text
        let (row, tags, isNew) = try await cloud.pool.transaction { tx -> (VolumeRow, [ResourceTag], Bool) in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "CreateVolume", token: order.clientToken, requestHash: order.requestHash)
            {
                guard let row = try VolumeStore.find(tx, seen) else { throw CloudError(.notFound(.volume, id: seen)) }
                return (row, try TagStore.tags(tx, [seen])[seen] ?? [], false)
            }
            let zones = Set(try ComponentStore.all(tx).filter { $0.role == .sc }.map(\.zone))
            var size = order.sizeGiB
            var zone = order.zone
            if let snapshotID = order.snapshotID {
                let snapshot = try SnapshotStore.fetchRestorable(tx, id: snapshotID, accountID: op.accountID)
                guard snapshot.state == .completed else {
                    throw CloudError(
                        .incorrectState(.snapshot, id: snapshotID, state: snapshot.state.rawValue),
                        "Snapshot '\(snapshotID)' is not 'completed'.")
                }
                if let asked = size, asked < snapshot.sizeGiB {
                    throw CloudError(
                        .invalidParameter("Size"),
                        "Volume of \(asked) GiB is smaller than snapshot '\(snapshotID)' (\(snapshot.sizeGiB) GiB)")
                }
                size = size ?? snapshot.sizeGiB
                zone = zone ?? snapshot.zone
            }
            guard let chosen = zone ?? (zones.contains(settings.zone) ? settings.zone : zones.sorted().first), zones.contains(chosen) else {
                throw CloudError(
                    .named(code: "InvalidZone.NotFound", status: 400),
                    "The zone '\((zone ?? settings.zone).prefix(60))' does not exist or has no storage.")
            }
            let usage = try VolumeStore.usage(tx, accountID: op.accountID)
            let quotas = try settings.quotas(tx, accountID: op.accountID)
            guard usage.volumes < quotas.volumes else {
                throw CloudError(.limitExceeded(.volumes, asked: usage.volumes + 1, limit: quotas.volumes))
            }
            guard let size, size >= 1 else { throw CloudError(.invalidParameter("Size")) }
            guard usage.gib + size <= quotas.volumeGiB else {
                throw CloudError(.limitExceeded(.volumeGiB, asked: usage.gib + size, limit: quotas.volumeGiB))
            }
            try op.endDryRun(dryRun)
            let row = VolumeRow(
                id: id, accountID: op.accountID, zone: chosen, sizeGiB: size, snapshotID: order.snapshotID, volumeType: order.volumeType,
                iops: order.iops, createdAt: op.now)
            try VolumeStore.insert(tx, row)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: id, type: .volume, order.tags)
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "CreateVolume", token: order.clientToken, requestHash: order.requestHash, result: id,
                now: op.now)
            try AuditStore.record(tx, op, action: "CreateVolume", resource: id, detail: "\(size) GiB \(chosen) \(order.snapshotID ?? "")")
            return (row, order.tags, true)
        }
        if isNew { try await ask(row, order, op) }
        return (row, tags)
    }

    private func ask(_ row: VolumeRow, _ order: VolumeOrder, _ op: OperationContext) async throws(CloudError) {
        do throws(CloudError) {
            try await cloud.faults.point("volume.committed")
            let (client, _) = try await cloud.cluster.storage(zone: row.zone)
            let answer = try await client.createVolume(
                SC.CreateVolume(volumeId: row.id, sizeGiB: row.sizeGiB, snapshotId: row.snapshotID, generation: Int(row.generation)),
                cloud.callContext(op.requestID))
            if let volume = answer.volume {
                let seen = volume.stamped
                try await cloud.pool.transaction { tx in
                    try VolumeStore.record(tx, id: row.id, generation: row.generation, seen, now: op.now)
                }
            }
        } catch {
            switch error.reason {
            case .unavailable, .bug: return
            default:
                // Refused: nobody has seen the volume, and nothing of it is left.
                try await cloud.pool.transaction { tx in
                    try VolumeStore.remove(tx, id: row.id)
                    try TagStore.deleteAll(tx, row.id)
                    try ClientTokenStore.forget(tx, accountID: op.accountID, action: "CreateVolume", token: order.clientToken)
                }
                throw error
            }
        }
    }

    func attach(
        volume id: String, instance instanceID: String, device: DeviceName, dryRun: Bool?, _ op: OperationContext
    ) async throws(CloudError) -> AttachmentRow {
        let attachmentID = AttachmentID(random: cloud.random.bytes(9)).text
        return try await cloud.pool.transaction { tx in
            let volume = try VolumeStore.fetch(tx, id: id, accountID: op.accountID)
            let instance = try InstanceStore.fetch(tx, id: instanceID, accountID: op.accountID, now: op.now)
            if let other = try VolumeStore.attachments(tx, volumeIDs: [id]).first {
                throw CloudError(.inUse(.volume, id: id, by: other.instanceID), "\(id) is already attached to an instance")
            }
            let state = volume.state(attached: false)
            guard state == .available else {
                throw CloudError(
                    .incorrectState(.volume, id: id, state: state.rawValue), "Volume '\(id)' is not 'available': it is '\(state.rawValue)'."
                )
            }
            guard instance.state == .running || instance.state == .stopped || instance.state == .pending else {
                throw CloudError(
                    .incorrectState(.instance, id: instanceID, state: instance.state.rawValue),
                    "Instance '\(instanceID)' is not 'running': it is '\(instance.state.rawValue)'.")
            }
            guard volume.zone == instance.zone else {
                throw CloudError(
                    .named(code: "InvalidVolume.ZoneMismatch", status: 400),
                    "The volume '\(id)' is not in the same availability zone as instance '\(instanceID)'")
            }
            if try VolumeStore.attachments(tx, instanceIDs: [instanceID]).contains(where: { $0.device.letter == device.letter }) {
                throw CloudError(
                    .invalidParameter("Device"),
                    "Invalid value '\(device)' for unixDevice. Attachment point \(device) is already in use")
            }
            try op.endDryRun(dryRun)
            var row = AttachmentRow(
                id: attachmentID, volumeID: id, instanceID: instanceID, accountID: op.accountID, device: device, attachedAt: op.now)
            row.generation = try VolumeStore.firstGeneration(tx, volumeID: id)
            try VolumeStore.insert(tx, row)
            try AuditStore.record(tx, op, action: "AttachVolume", resource: "\(id) \(instanceID)", detail: device.text)
            return row
        }
    }

    func detach(
        volume id: String, instance: String?, device: String?, force: Bool, dryRun: Bool?, _ op: OperationContext
    ) async throws(CloudError) -> AttachmentRow {
        try await cloud.pool.transaction { tx in
            let volume = try VolumeStore.fetch(tx, id: id, accountID: op.accountID)
            guard let row = try VolumeStore.attachments(tx, volumeIDs: [id]).first else {
                let state = volume.state(attached: false).rawValue
                throw CloudError(
                    .incorrectState(.volume, id: id, state: state), "Volume '\(id)' is in the '\(state)' state: it is not attached.")
            }
            if let instance, instance != row.instanceID { throw Self.notAttached(id, "instance '\(instance)'") }
            if let device, !device.isEmpty {
                guard try DeviceName(parsing: device).letter == row.device.letter else { throw Self.notAttached(id, "device '\(device)'") }
            }
            try op.endDryRun(dryRun)
            if row.desired == .attached || (force && !row.force) {
                try VolumeStore.setDetached(tx, id: row.id, force: force)
                try AuditStore.record(
                    tx, op, action: "DetachVolume", resource: "\(id) \(row.instanceID)", detail: force ? "force" : row.device.text)
            }
            var shown = row
            shown.desired = .detached
            return shown
        }
    }

    private static func notAttached(_ id: String, _ what: String) -> CloudError {
        CloudError(.named(code: "InvalidAttachment.NotFound", status: 400), "The volume '\(id)' is not attached to \(what).")
    }

    /// A point in time at the answer: the storage controller is asked within the call, and when it cannot take the snapshot now, there
    /// is none.
    func snapshot(
        volume id: String, description: String, tags: [ResourceTag], dryRun: Bool?, _ op: OperationContext
    ) async throws(CloudError) -> SnapshotRow {
        let snapshotID = SnapshotID(random: cloud.random.bytes(9)).text
        let settings = cloud.settings
        let row = try await cloud.pool.transaction { tx in
            let volume = try VolumeStore.fetch(tx, id: id, accountID: op.accountID)
            let state = volume.state(attached: false)
            guard state == .available else {
                throw CloudError(
                    .incorrectState(.volume, id: id, state: state.rawValue), "Volume '\(id)' is not 'available': it is '\(state.rawValue)'."
                )
            }
            let count = try SnapshotStore.count(tx, accountID: op.accountID)
            let limit = try settings.quotas(tx, accountID: op.accountID).snapshots
            guard count < limit else { throw CloudError(.limitExceeded(.snapshots, asked: count + 1, limit: limit)) }
            try op.endDryRun(dryRun)
            let row = SnapshotRow(
                id: snapshotID, accountID: op.accountID, zone: volume.zone, volumeID: id, sizeGiB: volume.sizeGiB, description: description,
                createdAt: op.now)
            try SnapshotStore.insert(tx, row)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: snapshotID, type: .snapshot, tags)
            try AuditStore.record(tx, op, action: "CreateSnapshot", resource: snapshotID, detail: id)
            return row
        }
        do throws(CloudError) {
            try await cloud.faults.point("snapshot.committed")
            let (client, _) = try await cloud.cluster.storage(zone: row.zone)
            let answer = try await client.createSnapshot(
                SC.CreateSnapshot(snapshotId: row.id, volumeId: row.volumeID, generation: Int(row.generation)),
                cloud.callContext(op.requestID))
            guard let state = answer.snapshot else { return row }
            let (seen, progress) = (state.stamped, state.progress ?? 0)
            try await cloud.pool.transaction { tx in
                try SnapshotStore.record(tx, id: row.id, generation: row.generation, seen, progress: progress, now: op.now)
            }
            return row
        } catch {
            // It may or may not have been taken: the row is withdrawn, and the reconciler deletes what there is.
            try await cloud.pool.transaction { tx in
                try SnapshotStore.setDeleted(tx, id: row.id)
                try TagStore.deleteAll(tx, row.id)
            }
            throw error
        }
    }
}
