public import API
import Database
public import Domain

extension EC2Actions: EC2VolumesActions {
    private var volumes: VolumeRules { VolumeRules(cloud: cloud) }

    public func createVolume(_ request: EC2.CreateVolume, _ op: OperationContext) async throws(CloudError) -> EC2.CreateVolumeResponse {
        let order = try VolumeOrder(request)
        let (row, tags) = try await volumes.create(order, dryRun: request.dryRun, op)
        return EC2.CreateVolumeResponse(
            volumeId: row.id, size: row.sizeGiB, snapshotId: row.snapshotID ?? "", availabilityZone: row.zone,
            state: row.state(attached: false).rawValue, createTime: row.createdAt, tags: tags.map(\.wire), volumeType: row.volumeType,
            iops: row.iops,
            encrypted: false, multiAttachEnabled: false)
    }

    public func deleteVolume(_ request: EC2.DeleteVolume, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteVolumeResponse {
        let id = try VolumeID(parsing: request.volumeId).text
        try await cloud.pool.transaction { tx in
            let row = try VolumeStore.fetch(tx, id: id, accountID: op.accountID)
            if let attachment = try VolumeStore.attachments(tx, volumeIDs: [id]).first {
                throw CloudError(
                    .inUse(.volume, id: id, by: attachment.instanceID), "Volume \(id) is currently attached to \(attachment.instanceID)")
            }
            try op.endDryRun(request.dryRun)
            guard row.desired != .deleted else { return }
            try VolumeStore.setDeleted(tx, id: id)
            try AuditStore.record(tx, op, action: "DeleteVolume", resource: id)
        }
        return EC2.DeleteVolumeResponse(result: true)
    }

    public func describeVolumes(
        _ request: EC2.DescribeVolumes, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVolumesResponse {
        for id in request.volumeIds { _ = try VolumeID(parsing: id) }
        guard request.volumeIds.isEmpty || request.maxResults == nil else {
            throw CloudError(.invalidCombination("The parameter volumeSet cannot be used with the parameter maxResults"))
        }
        let filters = try Filters(request.filters, known: VolumeView.filters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let views = try await cloud.pool.read { tx in
            let rows = try VolumeStore.list(tx, accountID: op.accountID, ids: request.volumeIds.isEmpty ? nil : request.volumeIds)
            let ids = rows.map(\.id)
            let attachments = Dictionary(grouping: try VolumeStore.attachments(tx, volumeIDs: ids), by: \.volumeID)
            let tags = try TagStore.tags(tx, ids)
            return rows.map { VolumeView(row: $0, attachments: attachments[$0.id] ?? [], tags: tags[$0.id] ?? []) }
        }
        let matching = views.filter { view in filters.match(tags: view.tags.byKey) { view.values($0) } }
        let (page, next) = paging.page(matching, by: \.sortKey)
        return EC2.DescribeVolumesResponse(volumes: page.map(\.wire), nextToken: next)
    }

    public func attachVolume(_ request: EC2.AttachVolume, _ op: OperationContext) async throws(CloudError) -> EC2.AttachVolumeResponse {
        let row = try await volumes.attach(
            volume: try VolumeID(parsing: request.volumeId).text, instance: try InstanceID(parsing: request.instanceId).text,
            device: try DeviceName(parsing: request.device), dryRun: request.dryRun, op)
        return EC2.AttachVolumeResponse(
            volumeId: row.volumeID, instanceId: row.instanceID, device: row.device.text, state: row.state.rawValue,
            attachTime: row.attachedAt)
    }

    public func detachVolume(_ request: EC2.DetachVolume, _ op: OperationContext) async throws(CloudError) -> EC2.DetachVolumeResponse {
        let volume = try VolumeID(parsing: request.volumeId).text
        let instance = try request.instanceId.map { text throws(CloudError) in try InstanceID(parsing: text).text }
        let row = try await volumes.detach(
            volume: volume, instance: instance, device: request.device, force: request.force == true, dryRun: request.dryRun, op)
        return EC2.DetachVolumeResponse(
            volumeId: row.volumeID, instanceId: row.instanceID, device: row.device.text, state: row.state.rawValue,
            attachTime: row.attachedAt)
    }
}

/// A volume as EC2 shows it.
struct VolumeView: Sendable {
    let row: VolumeRow
    let attachments: [AttachmentRow]
    let tags: [ResourceTag]

    var sortKey: String { timeKey(row.createdAt) + row.id }
    private var state: EC2VolumeState { row.state(attached: !attachments.isEmpty) }

    var wire: EC2.Volume {
        EC2.Volume(
            volumeId: row.id, size: row.sizeGiB, snapshotId: row.snapshotID ?? "", availabilityZone: row.zone, state: state.rawValue,
            createTime: row.createdAt,
            attachments: attachments.map {
                EC2.VolumeAttachment(
                    volumeId: $0.volumeID, instanceId: $0.instanceID, device: $0.device.text, state: $0.state.rawValue,
                    attachTime: $0.attachedAt,
                    deleteOnTermination: $0.deleteOnTermination)
            }, tags: tags.map(\.wire), volumeType: row.volumeType, iops: row.iops, encrypted: false, multiAttachEnabled: false)
    }

    /// Source: EC2 API Reference, DescribeVolumes.
    static let filters: Set<String> = [
        "attachment.attach-time", "attachment.delete-on-termination", "attachment.device", "attachment.instance-id", "attachment.status",
        "availability-zone", "create-time", "encrypted", "multi-attach-enabled", "size", "snapshot-id", "status", "tag", "volume-id",
        "volume-type",
    ]

    func values(_ name: String) -> [String] {
        switch name {
        case "attachment.attach-time": attachments.map(\.attachedAt.iso8601)
        case "attachment.delete-on-termination": attachments.map { String($0.deleteOnTermination) }
        case "attachment.device": attachments.map(\.device.text)
        case "attachment.instance-id": attachments.map(\.instanceID)
        case "attachment.status": attachments.map(\.state.rawValue)
        case "availability-zone": [row.zone]
        case "create-time": [row.createdAt.iso8601, row.createdAt.iso8601Seconds]
        case "encrypted", "multi-attach-enabled": ["false"]
        case "size": [String(row.sizeGiB)]
        case "snapshot-id": row.snapshotID.map { [$0] } ?? []
        case "status": [state.rawValue]
        case "volume-id": [row.id]
        case "volume-type": [row.volumeType]
        default: []
        }
    }
}

/// A moment as text whose order is the order of time.
func timeKey(_ moment: Timestamp) -> String {
    let text = String(moment.milliseconds)
    return String(repeating: "0", count: max(0, 15 - text.utf8.count)) + text
}
