import API
import Domain
import Synchronization
import Wire
import Workflow

/// A node with the node controller's manners: it keeps generations, refuses older ones, and can be unplugged.
actor FakeNode: NCNodeActions {
    let name: String
    var cores = 8
    var degraded = false
    var isUnplugged = false
    var instances: [String: NC.InstanceReport] = [:]
    var bundles: [String: NC.BundleReport] = [:]
    var network: NC.NetworkState?
    var networkGeneration = 0
    var networkCalls = 0
    var polls = 0
    /// Says that it is another node.
    var alias: String?
    var lastContext = ""

    init(_ name: String) { self.name = name }

    func set(unplugged: Bool) { isUnplugged = unplugged }
    func set(alias: String?) { self.alias = alias }
    func set(_ report: NC.InstanceReport) { instances[report.instanceId ?? ""] = report }
    func restart(networkGeneration: Int = 0) {
        self.networkGeneration = networkGeneration
        network = nil
    }

    private func plugged() throws(CloudError) {
        if isUnplugged { throw CloudError(.unavailable("The node \(name)"), context: "unplugged") }
    }

    func describeResource(_ request: NC.DescribeResource, _ context: CallContext) async throws(CloudError) -> NC.DescribeResourceResponse {
        polls += 1
        try plugged()
        return NC.DescribeResourceResponse(
            node: NC.NodeReport(
                name: alias ?? name, cores: cores, memoryMiB: 8192, diskGiB: 100, usedCores: 0, usedMemoryMiB: 0, usedDiskGiB: 0,
                state: degraded ? "degraded" : "ok", networkGeneration: networkGeneration, startCount: 1))
    }

    func describeInstances(_ request: NC.DescribeInstances, _ context: CallContext) async throws(CloudError) -> NC.DescribeInstancesResponse
    {
        try plugged()
        return NC.DescribeInstancesResponse(
            instances: instances.values.sorted { ($0.instanceId ?? "") < ($1.instanceId ?? "") }, bundles: Array(bundles.values),
            networkGeneration: networkGeneration)
    }

    func runInstance(_ request: NC.RunInstance, _ context: CallContext) async throws(CloudError) -> NC.RunInstanceResponse {
        try plugged()
        lastContext = context.requestID
        let order = request.order
        if let known = instances[order.instanceId], let newest = known.generation, newest > request.generation {
            throw CloudError(.stale(newest: Int64(newest)))
        }
        let report = NC.InstanceReport(
            instanceId: order.instanceId, state: "pending", desired: "running", generation: request.generation, cores: order.cores,
            memoryMiB: order.memoryMiB, diskGiB: order.diskGiB)
        instances[order.instanceId] = report
        return NC.RunInstanceResponse(instance: report)
    }

    private func change(_ id: String, _ state: String, _ generation: Int?) throws(CloudError) -> NC.InstanceReport {
        try plugged()
        guard var report = instances[id] else { throw CloudError(.notFound(.instance, id: id)) }
        report.state = state
        // What a node is told last is what it wants: each of these states has the name of its wish.
        report.desired = state
        report.generation = generation ?? report.generation
        instances[id] = report
        return report
    }

    func stopInstance(_ request: NC.StopInstance, _ context: CallContext) async throws(CloudError) -> NC.StopInstanceResponse {
        NC.StopInstanceResponse(instance: try change(request.instanceId, "stopped", request.generation))
    }
    func terminateInstance(_ request: NC.TerminateInstance, _ context: CallContext) async throws(CloudError) -> NC.TerminateInstanceResponse
    {
        NC.TerminateInstanceResponse(instance: try change(request.instanceId, "terminated", request.generation))
    }
    func rebootInstance(_ request: NC.RebootInstance, _ context: CallContext) async throws(CloudError) -> NC.RebootInstanceResponse {
        NC.RebootInstanceResponse(instance: try change(request.instanceId, "running", nil))
    }
    func getConsoleOutput(_ request: NC.GetConsoleOutput, _ context: CallContext) async throws(CloudError) -> NC.GetConsoleOutputResponse {
        try plugged()
        return NC.GetConsoleOutputResponse(instanceId: request.instanceId, timestamp: Timestamp(seconds: 1), output: Array("boot".utf8))
    }
    func attachVolume(_ request: NC.AttachVolume, _ context: CallContext) async throws(CloudError) -> NC.AttachVolumeResponse {
        NC.AttachVolumeResponse(instance: try change(request.instanceId, "running", request.generation))
    }
    func detachVolume(_ request: NC.DetachVolume, _ context: CallContext) async throws(CloudError) -> NC.DetachVolumeResponse {
        NC.DetachVolumeResponse(instance: try change(request.instanceId, "running", request.generation))
    }
    func applyNetwork(_ request: NC.ApplyNetwork, _ context: CallContext) async throws(CloudError) -> NC.ApplyNetworkResponse {
        try plugged()
        networkCalls += 1
        guard request.generation >= networkGeneration else { throw CloudError(.stale(newest: Int64(networkGeneration))) }
        networkGeneration = request.generation
        network = request.network
        return NC.ApplyNetworkResponse(generation: networkGeneration)
    }
    func bundleInstance(_ request: NC.BundleInstance, _ context: CallContext) async throws(CloudError) -> NC.BundleInstanceResponse {
        try plugged()
        let report = NC.BundleReport(taskId: request.taskId, instanceId: request.instanceId, state: "bundling")
        bundles[request.taskId] = report
        return NC.BundleInstanceResponse(bundle: report)
    }
    func uploadBundleParts(_ request: NC.UploadBundleParts, _ context: CallContext) async throws(CloudError) -> NC.UploadBundlePartsResponse
    {
        try plugged()
        let report = NC.BundleReport(taskId: request.taskId, state: "uploading")
        bundles[request.taskId] = report
        return NC.UploadBundlePartsResponse(bundle: report)
    }
    func endBundle(_ request: NC.EndBundle, _ context: CallContext) async throws(CloudError) -> NC.EndBundleResponse {
        try plugged()
        bundles[request.taskId] = nil
        return NC.EndBundleResponse()
    }
}

/// Writes down what it is told.
final class FakeCloud: CLCCloudActions {
    private let heard = Mutex<[CLC.Nudge]>([])
    var nudges: [CLC.Nudge] { heard.withLock { $0 } }
    func forget() { heard.withLock { $0 = [] } }
    func nudge(_ request: CLC.Nudge, _ context: CallContext) async throws(CloudError) -> CLC.NudgeResponse {
        heard.withLock { $0.append(request) }
        return CLC.NudgeResponse()
    }
}

/// Time that stands still until it is moved; sleeping is yielding.
final class StillClock: Workflow.Clock {
    private let time = Mutex<Int64>(1_795_359_600_000)
    func now() -> Timestamp { Timestamp(milliseconds: time.withLock { $0 }) }
    func monotonic() -> Int64 { time.withLock { $0 } * 1_000_000 }
    func move(seconds: Int64) { time.withLock { $0 += seconds * 1000 } }
    func sleep(milliseconds: Int) async throws {
        try Task.checkCancellation()
        await Task.yield()
        time.withLock { $0 += Int64(milliseconds) }
    }
}

struct CountingRandom: Workflow.Random {
    func bytes(_ count: Int) -> [UInt8] { [UInt8](repeating: 7, count: count) }
    func below(_ bound: Int) -> Int { 0 }
}
