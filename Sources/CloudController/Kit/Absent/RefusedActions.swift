public import API
import Database
public import Domain
import Workflow

// What asks for something that this cloud cannot do, each with the checks that EC2 makes before it would do it, and its error.

extension EC2Actions {
    public func enableFastSnapshotRestores(
        _ request: EC2.EnableFastSnapshotRestores, _ op: OperationContext
    ) async throws(CloudError) -> EC2.EnableFastSnapshotRestoresResponse {
        guard !request.availabilityZones.isEmpty else { throw CloudError(.missingParameter("AvailabilityZone")) }
        var ids: [String] = []
        for text in request.sourceSnapshotIds { ids.append(try SnapshotID(parsing: text).text) }
        let (wanted, settings) = (ids, cloud.settings)
        let zones = try await cloud.pool.read { tx in
            for id in wanted { _ = try SnapshotStore.fetch(tx, id: id, accountID: op.accountID) }
            return try VpcStore.zones(tx, settings)
        }
        for zone in request.availabilityZones where !zones.contains(zone) { throw SubnetRules.unknownZone(zone) }
        try op.endDryRun(request.dryRun)
        let error = EC2.EnableFastSnapshotRestoreStateError(
            code: "UnsupportedOperation", message: "Fast snapshot restore is not supported by this cloud.")
        return EC2.EnableFastSnapshotRestoresResponse(
            unsuccessful: ids.map { id in
                EC2.EnableFastSnapshotRestoreErrorItem(
                    snapshotId: id,
                    fastSnapshotRestoreStateErrors: request.availabilityZones.map {
                        EC2.EnableFastSnapshotRestoreStateErrorItem(availabilityZone: $0, error: error)
                    })
            })
    }

    public func enableFastLaunch(
        _ request: EC2.EnableFastLaunch, _ op: OperationContext
    ) async throws(CloudError) -> EC2.EnableFastLaunchResponse {
        _ = try await cloud.pool.read { tx in try ImageStore.launchImage(tx, id: request.imageId, accountID: op.accountID) }
        try op.endDryRun(request.dryRun)
        throw InstanceAttributeChange.notHere("Fast launch")
    }

    public func lockSnapshot(_ request: EC2.LockSnapshot, _ op: OperationContext) async throws(CloudError) -> EC2.LockSnapshotResponse {
        let id = try SnapshotID(parsing: request.snapshotId).text
        _ = try await cloud.pool.read { tx in try SnapshotStore.fetch(tx, id: id, accountID: op.accountID) }
        try op.endDryRun(request.dryRun)
        throw InstanceAttributeChange.notHere("Locking snapshots")
    }
}
