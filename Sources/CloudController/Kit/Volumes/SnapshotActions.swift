public import API
import Database
public import Domain

extension EC2Actions: EC2SnapshotsActions {
    public func createSnapshot(_ request: EC2.CreateSnapshot, _ op: OperationContext) async throws(CloudError) -> EC2.CreateSnapshotResponse
    {
        let id = try VolumeID(parsing: request.volumeId).text
        let description = request.description ?? ""
        guard description.unicodeScalars.count <= 255 else {
            throw CloudError(.invalidParameter("Description"), "A description has at most 255 characters")
        }
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.snapshot])[.snapshot] ?? []
        let row = try await VolumeRules(cloud: cloud).snapshot(volume: id, description: description, tags: tags, dryRun: request.dryRun, op)
        let shown = SnapshotView(row: row, tags: tags).wire
        return EC2.CreateSnapshotResponse(
            snapshotId: shown.snapshotId, volumeId: shown.volumeId, state: shown.state, startTime: shown.startTime,
            progress: shown.progress,
            ownerId: shown.ownerId, volumeSize: shown.volumeSize, description: shown.description, ownerAlias: nil, tags: shown.tags,
            encrypted: false, stateMessage: nil)
    }

    public func deleteSnapshot(_ request: EC2.DeleteSnapshot, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteSnapshotResponse
    {
        let id = try SnapshotID(parsing: request.snapshotId).text
        try await cloud.pool.transaction { tx in
            _ = try SnapshotStore.fetch(tx, id: id, accountID: op.accountID)
            if let volume = try SnapshotStore.volumesInTheMaking(tx, id: id).first {
                throw CloudError(
                    .inUse(.snapshot, id: id, by: volume), "The snapshot \(id) is currently in use by \(volume), which is being made of it")
            }
            try op.endDryRun(request.dryRun)
            try SnapshotStore.setDeleted(tx, id: id)
            try TagStore.deleteAll(tx, id)
            try AuditStore.record(tx, op, action: "DeleteSnapshot", resource: id)
        }
        return EC2.DeleteSnapshotResponse(result: true)
    }

    public func describeSnapshots(
        _ request: EC2.DescribeSnapshots, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSnapshotsResponse {
        for id in request.snapshotIds { _ = try SnapshotID(parsing: id) }
        guard request.snapshotIds.isEmpty || request.maxResults == nil else {
            throw CloudError(.invalidCombination("The parameter snapshotSet cannot be used with the parameter maxResults"))
        }
        let filters = try Filters(request.filters, known: SnapshotView.filters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let views = try await cloud.pool.read { tx in
            let rows = try SnapshotStore.list(tx, accountID: op.accountID, ids: request.snapshotIds.isEmpty ? nil : request.snapshotIds)
            let tags = try TagStore.tags(tx, rows.filter { $0.accountID == op.accountID }.map(\.id))
            return rows.map { SnapshotView(row: $0, tags: tags[$0.id] ?? []) }
        }
        let matching = views.filter { view in
            let owner = request.ownerIds.isEmpty || request.ownerIds.contains("self") || request.ownerIds.contains(view.row.accountID)
            let restorable =
                request.restorableByUserIds.isEmpty || request.restorableByUserIds.contains("self")
                || request.restorableByUserIds.contains(view.row.accountID)
            return owner && restorable && filters.match(tags: view.tags.byKey) { view.values($0) }
        }
        let (page, next) = paging.page(matching, by: \.sortKey)
        return EC2.DescribeSnapshotsResponse(snapshots: page.map(\.wire), nextToken: next)
    }
}

/// A snapshot as EC2 shows it.
struct SnapshotView: Sendable {
    let row: SnapshotRow
    let tags: [ResourceTag]

    var sortKey: String { timeKey(row.createdAt) + row.id }

    /// EC2 writes the percent sign. A completed one is complete whatever was last counted.
    private var progress: String { "\(row.state == .completed ? 100 : min(99, max(0, row.progress)))%" }

    var wire: EC2.Snapshot {
        EC2.Snapshot(
            snapshotId: row.id, volumeId: row.volumeID, state: row.state.rawValue, startTime: row.createdAt, progress: progress,
            ownerId: row.accountID, volumeSize: row.sizeGiB, description: row.description, tags: tags.map(\.wire), encrypted: false,
            stateMessage: row.state == .error ? row.stored?.error : nil)
    }

    /// Source: EC2 API Reference, DescribeSnapshots.
    static let filters: Set<String> = [
        "description", "encrypted", "owner-alias", "owner-id", "progress", "snapshot-id", "start-time", "status", "tag", "volume-id",
        "volume-size",
    ]

    func values(_ name: String) -> [String] {
        switch name {
        case "description": [row.description]
        case "encrypted": ["false"]
        case "owner-id": [row.accountID]
        case "progress": [progress]
        case "snapshot-id": [row.id]
        case "start-time": [row.createdAt.iso8601, row.createdAt.iso8601Seconds]
        case "status": [row.state.rawValue]
        case "volume-id": [row.volumeID]
        case "volume-size": [String(row.sizeGiB)]
        default: []
        }
    }
}
