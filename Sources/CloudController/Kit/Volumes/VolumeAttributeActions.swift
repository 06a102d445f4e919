public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2VolumeAttributesActions {
    public func describeVolumeStatus(
        _ request: EC2.DescribeVolumeStatus, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVolumeStatusResponse {
        for id in request.volumeIds { _ = try VolumeID(parsing: id) }
        let filters = try Filters(
            request.filters,
            known: ["availability-zone", "volume-status.details-name", "volume-status.details-status", "volume-status.status"])
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let ids = request.volumeIds.isEmpty ? nil : request.volumeIds
        let rows = try await cloud.pool.read { tx in try VolumeStore.list(tx, accountID: op.accountID, ids: ids) }
        let found = rows.map { row in (row, Self.status(row)) }.filter { row, status in
            filters.match { name in
                switch name {
                case "availability-zone": [row.zone]
                case "volume-status.details-name": status.details.compactMap(\.name)
                case "volume-status.details-status": status.details.compactMap(\.status)
                default: one(status.status)
                }
            }
        }
        let page = paging.page(found) { timeKey($0.0.createdAt) + $0.0.id }
        return EC2.DescribeVolumeStatusResponse(
            nextToken: page.nextToken,
            volumeStatuses: page.items.map { row, status in
                EC2.VolumeStatusItem(availabilityZone: row.zone, volumeId: row.id, volumeStatus: status)
            })
    }

    /// `ok` when the storage controller has it, `impaired` when it says that it failed; before it has said anything nobody knows.
    private static func status(_ row: VolumeRow) -> EC2.VolumeStatusInfo {
        switch row.stored?.state {
        case .available: EC2.VolumeStatusInfo(details: [EC2.VolumeStatusDetails(name: "io-enabled", status: "passed")], status: "ok")
        case .failed: EC2.VolumeStatusInfo(details: [EC2.VolumeStatusDetails(name: "io-enabled", status: "failed")], status: "impaired")
        default: EC2.VolumeStatusInfo(details: [], status: "insufficient-data")
        }
    }

    public func describeVolumeAttribute(
        _ request: EC2.DescribeVolumeAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVolumeAttributeResponse {
        let row = try await volume(request.volumeId, op)
        try op.endDryRun(request.dryRun)
        var answer = EC2.DescribeVolumeAttributeResponse(volumeId: row.id)
        if request.attribute == "autoEnableIO" { answer.autoEnableIO = EC2.AttributeBooleanValue(value: false) }
        return answer
    }

    public func modifyVolumeAttribute(
        _ request: EC2.ModifyVolumeAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyVolumeAttributeResponse {
        guard let value = request.autoEnableIO?.value else { throw CloudError(.missingParameter("AutoEnableIO")) }
        _ = try await volume(request.volumeId, op)
        try op.endDryRun(request.dryRun)
        guard !value else { throw VpcRules.unsupported("Input and output of volumes are never switched off by this cloud, nor on again.") }
        return EC2.ModifyVolumeAttributeResponse(result: true)
    }

    public func modifyVolume(_ request: EC2.ModifyVolume, _ op: OperationContext) async throws(CloudError) -> EC2.ModifyVolumeResponse {
        let row = try await volume(request.volumeId, op)
        let size = request.size ?? row.sizeGiB
        guard size >= row.sizeGiB else {
            throw CloudError(
                .invalidParameter("Size"), "New size cannot be smaller than existing size: \(size) GiB, and the volume has \(row.sizeGiB)")
        }
        guard size == row.sizeGiB, request.volumeType ?? row.volumeType == row.volumeType, request.iops == nil || request.iops == row.iops
        else {
            throw VpcRules.unsupported(
                "Volumes of this cloud keep the size, type and IOPS that they were made with: make a snapshot, and a larger volume of it.")
        }
        try op.endDryRun(request.dryRun)
        // As on EC2 a change to what is so already is refused: nothing would be there to wait for.
        throw CloudError(.invalidParameter("VolumeId"), "The volume \(row.id) is already so; nothing is modified.")
    }

    public func describeVolumesModifications(
        _ request: EC2.DescribeVolumesModifications, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVolumesModificationsResponse {
        _ = try Filters(
            request.filters,
            known: [
                "modification-state", "original-iops", "original-size", "original-volume-type", "originalMultiAttachEnabled", "start-time",
                "target-iops", "target-size", "target-volume-type", "targetMultiAttachEnabled", "volume-id",
            ])
        _ = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        for id in request.volumeIds { _ = try await volume(id, op) }
        if let id = request.volumeIds.first {
            throw CloudError(
                .named(code: "InvalidVolumeModification.NotFound", status: 400), "Modification for volume '\(id)' does not exist.")
        }
        try op.endDryRun(request.dryRun)
        return EC2.DescribeVolumesModificationsResponse()
    }

    private func volume(_ text: String, _ op: OperationContext) async throws(CloudError) -> VolumeRow {
        let id = try VolumeID(parsing: text).text
        return try await cloud.pool.read { tx in try VolumeStore.fetch(tx, id: id, accountID: op.accountID) }
    }

    // MARK: snapshots

    public func describeSnapshotAttribute(
        _ request: EC2.DescribeSnapshotAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSnapshotAttributeResponse {
        let id = try SnapshotID(parsing: request.snapshotId).text
        let values = try await cloud.pool.read { tx in
            _ = try SnapshotStore.fetch(tx, id: id, accountID: op.accountID)
            return try SnapshotPermissionStore.list(tx, id: id)
        }
        try op.endDryRun(request.dryRun)
        var answer = EC2.DescribeSnapshotAttributeResponse(snapshotId: id)
        if request.attribute == "createVolumePermission" {
            answer.createVolumePermissions = values.map {
                $0 == SnapshotPermissionStore.everyone ? EC2.CreateVolumePermission(group: $0) : EC2.CreateVolumePermission(userId: $0)
            }
        }
        return answer
    }

    public func modifySnapshotAttribute(
        _ request: EC2.ModifySnapshotAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifySnapshotAttributeResponse {
        let id = try SnapshotID(parsing: request.snapshotId).text
        var add = request.createVolumePermission?.add ?? []
        var remove = request.createVolumePermission?.remove ?? []
        let flat =
            request.userIds.map { EC2.CreateVolumePermission(userId: $0) }
            + request.groupNames.map { EC2.CreateVolumePermission(group: $0) }
        if !flat.isEmpty {
            switch request.operationType {
            case "add": add += flat
            case "remove": remove += flat
            default: throw CloudError(.missingParameter("OperationType"))
            }
        }
        guard !add.isEmpty || !remove.isEmpty else { throw CloudError(.missingParameter("CreateVolumePermission")) }
        let (added, removed) = (try Self.names(add), try Self.names(remove))
        try await cloud.pool.transaction { tx in
            _ = try SnapshotStore.fetch(tx, id: id, accountID: op.accountID)
            for name in added { try SnapshotPermissionStore.add(tx, id: id, name) }
            for name in removed { try SnapshotPermissionStore.remove(tx, id: id, name) }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "ModifySnapshotAttribute", resource: id,
                detail: "add \(added.joined(separator: " ")) remove \(removed.joined(separator: " "))")
        }
        return EC2.ModifySnapshotAttributeResponse(result: true)
    }

    public func resetSnapshotAttribute(
        _ request: EC2.ResetSnapshotAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ResetSnapshotAttributeResponse {
        let id = try SnapshotID(parsing: request.snapshotId).text
        try await cloud.pool.transaction { tx in
            _ = try SnapshotStore.fetch(tx, id: id, accountID: op.accountID)
            try SnapshotPermissionStore.removeAll(tx, id: id)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ResetSnapshotAttribute", resource: id, detail: request.attribute)
        }
        return EC2.ResetSnapshotAttributeResponse(result: true)
    }

    private static func names(_ permissions: [EC2.CreateVolumePermission]) throws(CloudError) -> [String] {
        var out: [String] = []
        for permission in permissions {
            switch (permission.userId, permission.group) {
            case (.some(let user), nil):
                try ImageRules.checkAccount(user)
                out.append(user)
            case (nil, .some(SnapshotPermissionStore.everyone)): out.append(SnapshotPermissionStore.everyone)
            case (nil, .some(let group)):
                throw CloudError(.invalidParameter("Group"), "The only group is all, not '\(group.prefix(40))'")
            default: throw CloudError(.invalidCombination("A permission names a UserId or a Group"))
            }
        }
        return out
    }

    // MARK: addresses

    public func describeAddressesAttribute(
        _ request: EC2.DescribeAddressesAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeAddressesAttributeResponse {
        for id in request.allocationIds { _ = try AddressAllocationID(parsing: id) }
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let all = try await cloud.pool.read { tx in try AddressStore.list(tx, accountID: op.accountID) }
        if let id = request.allocationIds.first(where: { id in !all.contains { $0.allocationID.text == id } }) {
            throw CloudError(.notFound(.address, id: id), "The allocation ID '\(id)' does not exist")
        }
        let found = all.filter { request.allocationIds.isEmpty || request.allocationIds.contains($0.allocationID.text) }
        let page = paging.page(found.sorted { $0.allocationID < $1.allocationID }) { $0.allocationID.text }
        return EC2.DescribeAddressesAttributeResponse(
            addresses: page.items.map {
                EC2.AddressAttribute(publicIp: $0.address.description, allocationId: $0.allocationID.text)
            }, nextToken: page.nextToken)
    }
}
