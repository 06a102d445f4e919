public import API
public import Domain
public import Wire
import Workflow

/// The messages of the Storage Controller (`Definitions/sc/storage.json`). Thin: parse, one step of the store, the answer; what takes
/// time is done by the reconcilers, which are nudged. Two answers wait for the world: `ExportVolume` (the node connects at once) and
/// `CreateSnapshot` (the point in time is that of the answer).
public struct StorageController: SCStorageActions {
    private let environment: StorageEnvironment

    public init(_ environment: StorageEnvironment) { self.environment = environment }

    private var place: String { "zone \(environment.zone)" }

    // MARK: volumes

    public func createVolume(_ request: SC.CreateVolume, _ context: CallContext) async throws(CloudError) -> SC.CreateVolumeResponse {
        let order = try VolumeOrder(request)
        let record = try await environment.store.volumeCreate(
            order, capacityGiB: environment.capacityGiB, space: try await environment.backend.space(), place: place,
            now: environment.clock.now())
        (order.snapshot == nil ? environment.volumesNudge : environment.transfersNudge).signal()
        return SC.CreateVolumeResponse(volume: record.wire)
    }

    public func deleteVolume(_ request: SC.DeleteVolume, _ context: CallContext) async throws(CloudError) -> SC.DeleteVolumeResponse {
        let id = try VolumeID(parsing: request.volumeId)
        let record = try await environment.store.volumeDelete(id, generation: Int64(request.generation), now: environment.clock.now())
        environment.volumesNudge.signal()
        return SC.DeleteVolumeResponse(volume: record.wire)
    }

    public func describeVolumes(
        _ request: SC.DescribeVolumes, _ context: CallContext
    ) async throws(CloudError) -> SC.DescribeVolumesResponse {
        var ids: [VolumeID] = []
        for text in request.volumeIds { ids.append(try VolumeID(parsing: text)) }
        return SC.DescribeVolumesResponse(volumes: try await environment.store.volumeList(ids).map(\.wire))
    }

    // MARK: snapshots

    public func createSnapshot(
        _ request: SC.CreateSnapshot, _ context: CallContext
    ) async throws(CloudError) -> SC.CreateSnapshotResponse {
        let id = try SnapshotID(parsing: request.snapshotId)
        let volume = try VolumeID(parsing: request.volumeId)
        let space = try await environment.backend.space()
        return try await environment.locks.hold(id.text) { () async throws(CloudError) in
            let record = try await environment.store.snapshotCreate(
                id, of: volume, generation: Int64(request.generation), capacityGiB: environment.capacityGiB, space: space, place: place,
                now: environment.clock.now())
            // Accepted before, but nobody was told: the point in time is that of this answer.
            if record.state == .accepted { _ = try await SnapshotReconciler(environment).start(record) }
            environment.snapshotsNudge.signal()
            return SC.CreateSnapshotResponse(snapshot: try await environment.store.snapshotFetch(id)?.wire ?? record.wire)
        }
    }

    public func deleteSnapshot(
        _ request: SC.DeleteSnapshot, _ context: CallContext
    ) async throws(CloudError) -> SC.DeleteSnapshotResponse {
        let id = try SnapshotID(parsing: request.snapshotId)
        let record = try await environment.store.snapshotDelete(id, generation: Int64(request.generation), now: environment.clock.now())
        environment.snapshotsNudge.signal()
        return SC.DeleteSnapshotResponse(snapshot: record.wire)
    }

    public func describeSnapshots(
        _ request: SC.DescribeSnapshots, _ context: CallContext
    ) async throws(CloudError) -> SC.DescribeSnapshotsResponse {
        var ids: [SnapshotID] = []
        for text in request.snapshotIds { ids.append(try SnapshotID(parsing: text)) }
        return SC.DescribeSnapshotsResponse(snapshots: try await environment.store.snapshotList(ids).map(\.wire))
    }

    // MARK: exports

    public func exportVolume(_ request: SC.ExportVolume, _ context: CallContext) async throws(CloudError) -> SC.ExportVolumeResponse {
        let id = try VolumeID(parsing: request.volumeId)
        let attachment = try AttachmentID(parsing: request.attachmentId)
        // Only this node's certificate may connect.
        let node = Self.commonName(context.caller)
        let secret = Hex.encode(environment.random.bytes(16))
        return try await environment.locks.hold(id.text) { () async throws(CloudError) in
            let grants = try await environment.store.exportCreate(
                volume: id, attachment: attachment, node: node, secret: secret, now: environment.clock.now())
            try await environment.faults.point("sc.export.recorded")
            let address: ExportAddress?
            do throws(CloudError) { address = try await environment.backend.exportsApply(id.text, grants) } catch {
                // Refused for good (no port): nothing must remain that the reconciler would bring to life later.
                if case .capacity = error.reason { try await environment.store.exportForget(attachment: attachment) }
                throw error
            }
            guard let address, let grant = grants.first(where: { $0.attachment == attachment.text }) else {
                throw .bug("\(attachment) was exported and is not there")
            }
            guard let bytes = try await environment.backend.volumeBytes(id.text) else { throw CloudError(.notFound(.volume, id: id.text)) }
            return SC.ExportVolumeResponse(
                export: SC.VolumeExport(
                    host: address.host, port: address.port, exportName: grant.secretName, tlsHostname: environment.tlsHostname,
                    sizeBytes: bytes))
        }
    }

    public func unexportVolume(
        _ request: SC.UnexportVolume, _ context: CallContext
    ) async throws(CloudError) -> SC.UnexportVolumeResponse {
        let id = try VolumeID(parsing: request.volumeId)
        let attachment = try AttachmentID(parsing: request.attachmentId)
        let node = context.caller?.role == "nc" ? Self.commonName(context.caller) : nil
        try await environment.locks.hold(id.text) { () async throws(CloudError) in
            try await environment.store.exportRevoke(volume: id, attachment: attachment, node: node, now: environment.clock.now())
            try await environment.faults.point("sc.export.revoked")
            _ = try await environment.backend.exportsApply(id.text, try await environment.store.exportGrants(id))
        }
        environment.volumesNudge.signal()
        return SC.UnexportVolumeResponse()
    }

    /// The subject that `karri-clc register` gives to a host's certificate (`CloudFolder.issue`): "nc node-1".
    private static func commonName(_ caller: PeerIdentity?) -> String { caller.map { "\($0.role) \($0.name)" } ?? "" }

    // MARK: capacity

    public func describeCapacity(
        _ request: SC.DescribeCapacity, _ context: CallContext
    ) async throws(CloudError) -> SC.DescribeCapacityResponse {
        let space = try await environment.backend.space()
        let (taken, volumes, snapshots) = try await environment.store.capacity()
        let promised = max(0, taken * StorageStore.gibibyte - space.used)
        let onDisk = max(0, space.free - promised) / StorageStore.gibibyte
        return SC.DescribeCapacityResponse(
            totalGiB: environment.capacityGiB, freeGiB: max(0, min(environment.capacityGiB - taken, onDisk)), volumes: volumes,
            snapshots: snapshots, backend: environment.backend.capabilities.name)
    }
}
