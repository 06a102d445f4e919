import API
import Domain
import Synchronization
import Wire
import Workflow

@testable import CloudControllerKit

/// A clock that stands until it is moved.
final class CoreClock: Workflow.Clock {
    private let moment = Mutex(Timestamp(seconds: 1_790_000_000))
    func now() -> Timestamp { moment.withLock { $0 } }
    func monotonic() -> Int64 { now().milliseconds * 1_000_000 }
    func sleep(milliseconds: Int) async throws { advance(Double(milliseconds) / 1000) }
    func advance(_ seconds: Double) { moment.withLock { $0 = $0.adding(milliseconds: Int64(seconds * 1000)) } }
}

/// One zone below the controller: a cluster controller with its nodes and a storage controller, as far as their vocabulary says what
/// they do. Generations are kept as the real ones keep them. `work()` lets one round of their own work pass.
final class CoreZone: CCClusterActions, SCStorageActions {
    struct Node: Sendable {
        var cores, memoryMiB, diskGiB: Int
        var isSilent = false
        var instances: [String: NC.InstanceReport] = [:]
        var orders: [String: NC.InstanceOrder] = [:]
        var bundles: [String: NC.BundleReport] = [:]
    }
    struct State: Sendable {
        var generation = 0
        var nodes: [String: Node] = [:]
        var network: CC.ClusterNetwork?
        var networkGeneration = 0
        var reserved: [String: [(id: String, node: String)]] = [:]
        var volumes: [String: SC.VolumeState] = [:]
        var snapshots: [String: SC.SnapshotState] = [:]
        var storageFreeGiB = 100
        var calls: [String] = []
        /// Images that do not boot.
        var failing: Set<String> = []
        var isDown = false
        /// What a finished bundle looks like, and where its parts go; nil: uploads hang.
        var bundle: NC.BundleReport?
        var upload: (@Sendable (String) -> Void)?
    }
    let state = Mutex(State())
    let certificate: String

    init(certificate: String) { self.certificate = certificate }

    func note(_ call: String) throws(CloudError) {
        let down = state.withLock { s in
            s.calls.append(call)
            return s.isDown
        }
        if down { throw CloudError(.unavailable("The cluster controller")) }
    }

    /// What the nodes and the storage controller do by themselves.
    func work() {
        state.withLock { s in
            for (name, node) in s.nodes {
                for (id, var report) in node.instances {
                    switch (report.desired, report.state) {
                    case ("running", "pending"):
                        let fails = node.orders[id].map { s.failing.contains($0.machine.imageId) } ?? false
                        report.state = fails ? "failed" : "running"
                        report.reason = fails ? "the kernel is no kernel" : ""
                        report.volumes = (node.orders[id]?.volumes ?? []).map {
                            NC.VolumeReport(
                                volumeId: $0.volumeId, attachmentId: $0.attachmentId, device: $0.device, state: "attached", generation: 1)
                        }
                    case ("stopped", "stopping"), ("stopped", "running"): report.state = "stopped"
                    case ("terminated", let state) where state != "terminated": report.state = "terminated"
                    default: break
                    }
                    for i in report.volumes.indices {
                        if report.volumes[i].state == "attaching" { report.volumes[i].state = "attached" }
                        if report.volumes[i].state == "detaching" { report.volumes[i].state = "detached" }
                    }
                    s.nodes[name]?.instances[id] = report
                }
                for (id, var bundle) in node.bundles where bundle.state == "bundling" {
                    if let made = s.bundle {
                        let (task, instance) = (bundle.taskId, bundle.instanceId)
                        bundle = made
                        (bundle.taskId, bundle.instanceId) = (task, instance)
                    }
                    bundle.state = "ready"
                    s.nodes[name]?.bundles[id] = bundle
                }
            }
            for (id, volume) in s.volumes where volume.state == "creating" { s.volumes[id]?.state = "available" }
            for (id, snapshot) in s.snapshots where snapshot.state == "pending" {
                s.snapshots[id]?.state = "completed"
                s.snapshots[id]?.progress = 100
            }
        }
    }

    func setInstance(_ id: String, _ change: @Sendable (inout NC.InstanceReport) -> Void) {
        state.withLock { s in
            for name in s.nodes.keys where s.nodes[name]?.instances[id] != nil { change(&s.nodes[name]!.instances[id]!) }
        }
    }
    var calls: [String] { state.withLock { $0.calls } }
    func count(_ call: String) -> Int { calls.filter { $0 == call }.count }

    // MARK: cluster

    func setCluster(_ r: CC.SetCluster, _ c: CallContext) async throws(CloudError) -> CC.SetClusterResponse {
        try note("SetCluster")
        state.withLock { $0.generation = r.generation }
        return CC.SetClusterResponse(generation: r.generation)
    }

    func describeNodes(_ r: CC.DescribeNodes, _ c: CallContext) async throws(CloudError) -> CC.DescribeNodesResponse {
        try note("DescribeNodes")
        return state.withLock { s in
            CC.DescribeNodesResponse(
                generation: s.generation,
                nodes: s.nodes.map { name, node in
                    let used = node.instances.values.filter { $0.desired == "running" }
                    return CC.NodeView(
                        name: name, endpoint: "\(name):8775", state: node.isSilent ? "unknown" : "up",
                        report: NC.NodeReport(
                            name: name, hypervisor: "simulated", cores: node.cores, memoryMiB: node.memoryMiB, diskGiB: node.diskGiB,
                            certificate: certificate),
                        freeCores: node.cores - used.reduce(0) { $0 + ($1.cores ?? 0) },
                        freeMemoryMiB: node.memoryMiB - used.reduce(0) { $0 + ($1.memoryMiB ?? 0) }, freeDiskGiB: node.diskGiB)
                }, networkGeneration: s.network == nil ? nil : s.networkGeneration)
        }
    }

    func describeInstances(_ r: CC.DescribeInstances, _ c: CallContext) async throws(CloudError) -> CC.DescribeInstancesResponse {
        try note("DescribeInstances")
        return state.withLock { s in
            CC.DescribeInstancesResponse(
                nodes: s.nodes.map { name, node in
                    CC.NodeInstances(
                        node: name, state: node.isSilent ? "unknown" : "up", instances: Array(node.instances.values),
                        bundles: Array(node.bundles.values))
                })
        }
    }

    func reserve(_ r: CC.Reserve, _ c: CallContext) async throws(CloudError) -> CC.ReserveResponse {
        try note("Reserve")
        let answer = state.withLock { s -> Result<[(id: String, node: String)], CloudError> in
            var free = s.nodes.mapValues { node in
                let live = node.instances.values.filter { $0.state != "terminated" && $0.desired != "stopped" }
                return (node.cores - live.reduce(0) { $0 + ($1.cores ?? 0) }, node.cores)
            }
            var placed: [(id: String, node: String)] = []
            for item in r.items {
                let wanted = free.keys.sorted().filter { item.node ?? $0 == $0 }
                guard let name = wanted.first(where: { free[$0]!.0 >= item.cores }) else { break }
                free[name]!.0 -= item.cores
                placed.append((item.instanceId, name))
            }
            guard placed.count >= r.minCount else {
                let places = s.nodes.keys.sorted().map {
                    Shortage.Place("node \($0)", .cores, asked: r.items[0].cores, free: free[$0]!.0, limit: free[$0]!.1)
                }
                return .failure(CloudError(.capacity(Shortage(.cores, places))))
            }
            s.reserved[r.reservationId] = placed
            return .success(placed)
        }
        return CC.ReserveResponse(placements: try answer.get().map { CC.Placement(instanceId: $0.id, node: $0.node) })
    }

    func release(_ r: CC.Release, _ c: CallContext) async throws(CloudError) -> CC.ReleaseResponse {
        try note("Release")
        state.withLock { s in
            if r.instanceIds.isEmpty { s.reserved[r.reservationId] = nil }
            s.reserved[r.reservationId]?.removeAll { r.instanceIds.contains($0.id) }
        }
        return CC.ReleaseResponse()
    }

    /// One command on an instance, behind the generation fence.
    private func command(
        _ name: String, _ node: String, _ id: String, _ generation: Int, make: Bool = false, _ change: (inout NC.InstanceReport) -> Void
    ) throws(CloudError) -> NC.InstanceReport {
        try note(name)
        let answer = state.withLock { s -> Result<NC.InstanceReport, CloudError> in
            guard s.nodes[node] != nil, s.nodes[node]?.isSilent == false else { return .failure(CloudError(.unavailable("The node"))) }
            var report = s.nodes[node]!.instances[id]
            if report == nil {
                guard make else { return .failure(CloudError(.notFound(.instance, id: id))) }
                report = NC.InstanceReport(instanceId: id, generation: 0, rebootCount: 0)
            }
            var known = report!
            if known.generation! > generation { return .failure(CloudError(.stale(newest: Int64(known.generation!)))) }
            if known.generation! < generation {
                change(&known)
                known.generation = generation
            }
            s.nodes[node]!.instances[id] = known
            return .success(known)
        }
        return try answer.get()
    }

    func runInstance(_ r: CC.RunInstance, _ c: CallContext) async throws(CloudError) -> CC.RunInstanceResponse {
        let order = r.order
        state.withLock { $0.nodes[r.node]?.orders[order.instanceId] = order }
        let report = try command("RunInstance", r.node, order.instanceId, r.generation, make: true) {
            $0.state = "pending"
            $0.desired = "running"
            $0.reason = ""
            $0.cores = order.cores
            $0.memoryMiB = order.memoryMiB
            $0.diskGiB = order.diskGiB
        }
        return CC.RunInstanceResponse(instance: report)
    }

    func stopInstance(_ r: CC.StopInstance, _ c: CallContext) async throws(CloudError) -> CC.StopInstanceResponse {
        CC.StopInstanceResponse(
            instance: try command("StopInstance", r.node, r.instanceId, r.generation) {
                $0.desired = "stopped"
                $0.state = $0.state == "stopped" ? "stopped" : "stopping"
            })
    }

    func terminateInstance(_ r: CC.TerminateInstance, _ c: CallContext) async throws(CloudError) -> CC.TerminateInstanceResponse {
        CC.TerminateInstanceResponse(
            instance: try command("TerminateInstance", r.node, r.instanceId, r.generation, make: true) {
                $0.state = "terminating"
                $0.desired = "terminated"
            })
    }

    func rebootInstance(_ r: CC.RebootInstance, _ c: CallContext) async throws(CloudError) -> CC.RebootInstanceResponse {
        try note("RebootInstance")
        setInstance(r.instanceId) { $0.rebootCount = max($0.rebootCount ?? 0, r.rebootCount) }
        return CC.RebootInstanceResponse(instance: state.withLock { $0.nodes[r.node]?.instances[r.instanceId] })
    }

    func getConsoleOutput(_ r: CC.GetConsoleOutput, _ c: CallContext) async throws(CloudError) -> CC.GetConsoleOutputResponse {
        try note("GetConsoleOutput")
        return CC.GetConsoleOutputResponse(instanceId: r.instanceId, timestamp: Timestamp(seconds: 1), output: Array("login:".utf8))
    }

    func attachVolume(_ r: CC.AttachVolume, _ c: CallContext) async throws(CloudError) -> CC.AttachVolumeResponse {
        try note("AttachVolume")
        setInstance(r.instanceId) { report in
            report.volumes.removeAll { $0.volumeId == r.volume.volumeId }
            report.volumes.append(
                NC.VolumeReport(
                    volumeId: r.volume.volumeId, attachmentId: r.volume.attachmentId, device: r.volume.device, state: "attaching",
                    generation: r.generation))
        }
        return CC.AttachVolumeResponse(instance: state.withLock { $0.nodes[r.node]?.instances[r.instanceId] })
    }

    func detachVolume(_ r: CC.DetachVolume, _ c: CallContext) async throws(CloudError) -> CC.DetachVolumeResponse {
        try note("DetachVolume")
        setInstance(r.instanceId) { report in
            for i in report.volumes.indices where report.volumes[i].volumeId == r.volumeId {
                report.volumes[i].state = "detaching"
                report.volumes[i].generation = r.generation
            }
        }
        return CC.DetachVolumeResponse(instance: state.withLock { $0.nodes[r.node]?.instances[r.instanceId] })
    }

    func applyNetwork(_ r: CC.ApplyNetwork, _ c: CallContext) async throws(CloudError) -> CC.ApplyNetworkResponse {
        try note("ApplyNetwork")
        state.withLock { s in
            s.network = r.network
            s.networkGeneration = r.generation
        }
        return CC.ApplyNetworkResponse(generation: r.generation)
    }

    func bundleInstance(_ r: CC.BundleInstance, _ c: CallContext) async throws(CloudError) -> CC.BundleInstanceResponse {
        try note("BundleInstance")
        let report = NC.BundleReport(taskId: r.taskId, instanceId: r.instanceId, state: "bundling")
        state.withLock { s in
            if s.nodes[r.node]?.bundles[r.taskId] == nil { s.nodes[r.node]?.bundles[r.taskId] = report }
        }
        return CC.BundleInstanceResponse(bundle: state.withLock { $0.nodes[r.node]?.bundles[r.taskId] })
    }

    func uploadBundleParts(_ r: CC.UploadBundleParts, _ c: CallContext) async throws(CloudError) -> CC.UploadBundlePartsResponse {
        try note("UploadBundleParts")
        guard let upload = state.withLock({ $0.upload }) else { throw CloudError(.unavailable("The node")) }
        for part in r.parts { upload(part.url ?? "") }
        state.withLock { s in
            for part in r.parts { s.nodes[r.node]?.bundles[r.taskId]?.parts[part.index ?? 0].uploaded = true }
            if s.nodes[r.node]?.bundles[r.taskId]?.parts.allSatisfy({ $0.uploaded == true }) == true {
                s.nodes[r.node]?.bundles[r.taskId]?.state = "uploaded"
            } else {
                s.nodes[r.node]?.bundles[r.taskId]?.state = "uploading"
            }
        }
        return CC.UploadBundlePartsResponse(bundle: state.withLock { $0.nodes[r.node]?.bundles[r.taskId] })
    }

    func endBundle(_ r: CC.EndBundle, _ c: CallContext) async throws(CloudError) -> CC.EndBundleResponse {
        try note("EndBundle")
        state.withLock { s in s.nodes[r.node]?.bundles[r.taskId] = nil }
        return CC.EndBundleResponse()
    }

    func nudge(_ r: CC.Nudge, _ c: CallContext) async throws(CloudError) -> CC.NudgeResponse { CC.NudgeResponse() }

    // MARK: storage

    func createVolume(_ r: SC.CreateVolume, _ c: CallContext) async throws(CloudError) -> SC.CreateVolumeResponse {
        try note("CreateVolume")
        let free = state.withLock { $0.storageFreeGiB }
        guard r.sizeGiB <= free else {
            throw CloudError(
                .capacity(Shortage(.volumeGiB, [.init("storage of karri-1a", .volumeGiB, asked: r.sizeGiB, free: free, limit: 100)])))
        }
        let volume = state.withLock { s -> SC.VolumeState in
            if let known = s.volumes[r.volumeId] { return known }
            let made = SC.VolumeState(volumeId: r.volumeId, state: "creating", sizeGiB: r.sizeGiB, generation: r.generation)
            s.volumes[r.volumeId] = made
            s.storageFreeGiB -= r.sizeGiB
            return made
        }
        return SC.CreateVolumeResponse(volume: volume)
    }

    func deleteVolume(_ r: SC.DeleteVolume, _ c: CallContext) async throws(CloudError) -> SC.DeleteVolumeResponse {
        try note("DeleteVolume")
        let volume = SC.VolumeState(volumeId: r.volumeId, state: "deleted", generation: r.generation)
        state.withLock { $0.volumes[r.volumeId] = volume }
        return SC.DeleteVolumeResponse(volume: volume)
    }

    func describeVolumes(_ r: SC.DescribeVolumes, _ c: CallContext) async throws(CloudError) -> SC.DescribeVolumesResponse {
        try note("DescribeVolumes")
        return SC.DescribeVolumesResponse(volumes: state.withLock { Array($0.volumes.values) })
    }

    func createSnapshot(_ r: SC.CreateSnapshot, _ c: CallContext) async throws(CloudError) -> SC.CreateSnapshotResponse {
        try note("CreateSnapshot")
        let snapshot = SC.SnapshotState(
            snapshotId: r.snapshotId, volumeId: r.volumeId, state: "pending", progress: 10, sizeGiB: 1, generation: r.generation)
        state.withLock { $0.snapshots[r.snapshotId] = snapshot }
        return SC.CreateSnapshotResponse(snapshot: snapshot)
    }

    func deleteSnapshot(_ r: SC.DeleteSnapshot, _ c: CallContext) async throws(CloudError) -> SC.DeleteSnapshotResponse {
        try note("DeleteSnapshot")
        let snapshot = SC.SnapshotState(snapshotId: r.snapshotId, state: "deleted", generation: r.generation)
        state.withLock { $0.snapshots[r.snapshotId] = snapshot }
        return SC.DeleteSnapshotResponse(snapshot: snapshot)
    }

    func describeSnapshots(_ r: SC.DescribeSnapshots, _ c: CallContext) async throws(CloudError) -> SC.DescribeSnapshotsResponse {
        try note("DescribeSnapshots")
        return SC.DescribeSnapshotsResponse(snapshots: state.withLock { Array($0.snapshots.values) })
    }

    func exportVolume(_ r: SC.ExportVolume, _ c: CallContext) async throws(CloudError) -> SC.ExportVolumeResponse { throw .bug("not ours") }
    func unexportVolume(_ r: SC.UnexportVolume, _ c: CallContext) async throws(CloudError) -> SC.UnexportVolumeResponse {
        throw .bug("not ours")
    }
    func describeCapacity(_ r: SC.DescribeCapacity, _ c: CallContext) async throws(CloudError) -> SC.DescribeCapacityResponse {
        SC.DescribeCapacityResponse()
    }
}

/// Calls go through the value trees, as over the wire.
struct CoreTransport: MessageTransport {
    let zone: CoreZone
    func call(
        _ service: ServiceDefinition, _ operation: Wire.Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value {
        switch service.name {
        case "CC": try await CC.dispatch(operation.name, input, zone, context)
        case "SC": try await SC.dispatch(operation.name, input, zone, context)
        default: throw CloudError(.unavailable(service.name))
        }
    }
}
