public import API
public import Domain
public import Wire

/// The cloud controller's commands on their way to a node. Each is passed on with its generation; what the node answers is noted, so
/// that the ledger is right before the next poll.
extension ClusterController {
    private func client(_ name: String) async throws(CloudError) -> any NCNodeActions { node(try await memory.endpoint(name)) }

    private func noted(_ name: String, _ report: NC.InstanceReport?) async -> NC.InstanceReport? {
        if let report { await memory.note(name, report) }
        return report
    }

    private func noted(_ name: String, _ report: NC.BundleReport?) async -> NC.BundleReport? {
        if let report { await memory.note(name, report) }
        return report
    }

    public func runInstance(_ request: CC.RunInstance, _ context: CallContext) async throws(CloudError) -> CC.RunInstanceResponse {
        let answer = try await client(request.node).runInstance(
            NC.RunInstance(order: request.order, generation: request.generation), context)
        return CC.RunInstanceResponse(instance: await noted(request.node, answer.instance))
    }

    public func stopInstance(_ request: CC.StopInstance, _ context: CallContext) async throws(CloudError) -> CC.StopInstanceResponse {
        let answer = try await client(request.node).stopInstance(
            NC.StopInstance(
                instanceId: request.instanceId, generation: request.generation, force: request.force, graceSeconds: request.graceSeconds),
            context)
        return CC.StopInstanceResponse(instance: await noted(request.node, answer.instance))
    }

    public func terminateInstance(
        _ request: CC.TerminateInstance, _ context: CallContext
    ) async throws(CloudError) -> CC.TerminateInstanceResponse {
        let answer = try await client(request.node).terminateInstance(
            NC.TerminateInstance(
                instanceId: request.instanceId, generation: request.generation, force: request.force, graceSeconds: request.graceSeconds),
            context)
        return CC.TerminateInstanceResponse(instance: await noted(request.node, answer.instance))
    }

    public func rebootInstance(_ request: CC.RebootInstance, _ context: CallContext) async throws(CloudError) -> CC.RebootInstanceResponse {
        let answer = try await client(request.node).rebootInstance(
            NC.RebootInstance(instanceId: request.instanceId, rebootCount: request.rebootCount), context)
        return CC.RebootInstanceResponse(instance: await noted(request.node, answer.instance))
    }

    public func getConsoleOutput(
        _ request: CC.GetConsoleOutput, _ context: CallContext
    ) async throws(CloudError) -> CC.GetConsoleOutputResponse {
        let answer = try await client(request.node).getConsoleOutput(NC.GetConsoleOutput(instanceId: request.instanceId), context)
        return CC.GetConsoleOutputResponse(instanceId: answer.instanceId, timestamp: answer.timestamp, output: answer.output)
    }

    public func attachVolume(_ request: CC.AttachVolume, _ context: CallContext) async throws(CloudError) -> CC.AttachVolumeResponse {
        let answer = try await client(request.node).attachVolume(
            NC.AttachVolume(instanceId: request.instanceId, volume: request.volume, generation: request.generation), context)
        return CC.AttachVolumeResponse(instance: await noted(request.node, answer.instance))
    }

    public func detachVolume(_ request: CC.DetachVolume, _ context: CallContext) async throws(CloudError) -> CC.DetachVolumeResponse {
        let answer = try await client(request.node).detachVolume(
            NC.DetachVolume(
                instanceId: request.instanceId, volumeId: request.volumeId, attachmentId: request.attachmentId,
                generation: request.generation, force: request.force), context)
        return CC.DetachVolumeResponse(instance: await noted(request.node, answer.instance))
    }

    public func bundleInstance(_ request: CC.BundleInstance, _ context: CallContext) async throws(CloudError) -> CC.BundleInstanceResponse {
        let answer = try await client(request.node).bundleInstance(
            NC.BundleInstance(
                taskId: request.taskId, instanceId: request.instanceId, imageName: request.imageName, recipients: request.recipients),
            context)
        return CC.BundleInstanceResponse(bundle: await noted(request.node, answer.bundle))
    }

    public func uploadBundleParts(
        _ request: CC.UploadBundleParts, _ context: CallContext
    ) async throws(CloudError) -> CC.UploadBundlePartsResponse {
        let answer = try await client(request.node).uploadBundleParts(
            NC.UploadBundleParts(taskId: request.taskId, parts: request.parts), context)
        return CC.UploadBundlePartsResponse(bundle: await noted(request.node, answer.bundle))
    }

    public func endBundle(_ request: CC.EndBundle, _ context: CallContext) async throws(CloudError) -> CC.EndBundleResponse {
        _ = try await client(request.node).endBundle(NC.EndBundle(taskId: request.taskId), context)
        return CC.EndBundleResponse()
    }
}
