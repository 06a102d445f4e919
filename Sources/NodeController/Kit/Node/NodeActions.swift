public import API
public import Domain
import Logging
public import Wire
import Workflow

/// The node's commands, as its cluster controller gives them. Each is checked, written to the journal and answered; the work follows the
/// answer. A command older than one that was seen is refused as stale; a repeat is answered with what is known now.
public struct NodeActions: NCNodeActions {
    let environment: NodeEnvironment
    let keeper: InstanceKeeper
    let bundles: BundleKeeper
    let facts: NodeFacts

    public init(environment: NodeEnvironment, keeper: InstanceKeeper, bundles: BundleKeeper, facts: NodeFacts) {
        self.environment = environment
        self.keeper = keeper
        self.bundles = bundles
        self.facts = facts
    }

    private var journal: Journal { environment.journal }

    // MARK: Looking

    public func describeResource(_ request: NC.DescribeResource, _ context: CallContext) async throws(CloudError)
        -> NC.DescribeResourceResponse
    {
        let used = Usage(await journal.allInstances())
        let capacity = environment.settings.capacity
        let space = await environment.images.space()
        let full = await fullDisk()
        let problem = await keeper.problem() ?? full
        return NC.DescribeResourceResponse(
            node: NC.NodeReport(
                name: environment.name, version: facts.version, hypervisor: environment.hypervisor.capabilities.kind.rawValue,
                architecture: "x86_64", cores: capacity.cores, memoryMiB: capacity.memoryMiB, diskGiB: capacity.diskGiB,
                cacheMiB: space.totalMiB, cacheFreeMiB: space.freeMiB, usedCores: used.cores, usedMemoryMiB: used.memoryMiB,
                // A disk that is really full has room for nobody, whatever its instances were promised.
                usedDiskGiB: full == nil ? used.diskGiB : max(used.diskGiB, capacity.diskGiB), certificate: facts.certificatePEM,
                state: problem == nil && facts.warning == nil ? "ok" : "degraded",
                lastError: problem ?? facts.warning, startedAt: facts.startedAt,
                networkGeneration: await environment.network.appliedGeneration(), startCount: await journal.startCount))
    }

    /// What is wrong with the disk of the instances, with numbers; `nil` while there is room. Disks grow as their guests write, so it
    /// may be full (of these or of other things on the host) long before all is promised.
    private func fullDisk() async -> String? {
        let free = await environment.disks.freeBytes() >> 20
        let paused = await keeper.reports([]).filter { $0.reason == InstanceRecord.diskFull }.compactMap(\.instanceId)
        let needed = environment.settings.resumeFreeMiB
        guard free < needed || !paused.isEmpty else { return nil }
        return "The disk is full: \(free) MiB are free, \(needed) are needed"
            + (paused.isEmpty ? "" : "; standing still: \(paused.joined(separator: ", "))")
    }

    public func describeInstances(
        _ request: NC.DescribeInstances, _ context: CallContext
    ) async throws(CloudError) -> NC.DescribeInstancesResponse {
        NC.DescribeInstancesResponse(
            instances: await keeper.reports(request.instanceIds), bundles: await bundles.reports(),
            networkGeneration: await environment.network.appliedGeneration())
    }

    public func getConsoleOutput(
        _ request: NC.GetConsoleOutput, _ context: CallContext
    ) async throws(CloudError) -> NC.GetConsoleOutputResponse {
        _ = try InstanceID(parsing: request.instanceId)
        guard let record = await journal.instance(request.instanceId), !record.isTombstone else {
            throw CloudError(.notFound(.instance, id: request.instanceId))
        }
        let output = try await environment.disks.console(request.instanceId, last: Self.consoleBytes)
        return NC.GetConsoleOutputResponse(instanceId: request.instanceId, timestamp: environment.clock.now(), output: output)
    }
    /// As EC2: "the most recent 64 KB".
    static let consoleBytes = 65536

    // MARK: Instances

    public func runInstance(_ request: NC.RunInstance, _ context: CallContext) async throws(CloudError) -> NC.RunInstanceResponse {
        let order = request.order
        let id = try InstanceID(parsing: order.instanceId).text
        try InstanceRules.check(order)
        let generation = request.generation
        let all = await journal.allInstances()
        let (capacity, name, now) = (environment.settings.capacity, environment.name, environment.clock.now())
        let full = await fullDisk()
        let record = try await journal.update(id) { record throws(CloudError) in
            if var known = record, known.order != nil || known.generation >= generation {
                if known.generation > generation { throw CloudError(.stale(newest: Int64(known.generation))) }
                if known.generation == generation {
                    // A repeat. If the image is still to be fetched, its newer addresses may be the only ones that are still valid.
                    if known.desired == .running, known.startedGeneration < generation, known.failure.isEmpty { known.order = order }
                    record = known
                    return
                }
                if known.desired == .terminated { throw CloudError(.incorrectState(.instance, id: id, state: "terminated")) }
                try InstanceRules.admit(order, beside: all, capacity: capacity, node: name)
                known.desired = .running
                known.generation = generation
                known.order = order
                known.failure = ""
                known.ending = ""
                known.force = false
                known.trace = []
                known.rebootCount = max(known.rebootCount, order.rebootCount ?? 0)
                try InstanceRules.addVolumesOfStart(order.volumes, to: &known)
                known.note("accepted", at: now)
                record = known
                return
            }
            try InstanceRules.admit(order, beside: all, capacity: capacity, node: name)
            if let full {
                throw CloudError(
                    .capacity(
                        Shortage(.diskGiB, [.init("node \(name)", .diskGiB, asked: order.diskGiB, free: 0, limit: capacity.diskGiB)])),
                    "node \(name): \(full)")
            }
            var new = InstanceRecord(instanceID: id, desired: .running, generation: generation, order: order)
            // What is known of attachments stays known: a detach that came first has the last word.
            new.volumes = record?.volumes ?? []
            new.rebootCount = order.rebootCount ?? 0
            new.rebootsDone = new.rebootCount
            try InstanceRules.addVolumesOfStart(order.volumes, to: &new)
            new.note("accepted", at: now)
            record = new
        }
        return NC.RunInstanceResponse(instance: try await answer(record, context))
    }

    public func stopInstance(_ request: NC.StopInstance, _ context: CallContext) async throws(CloudError) -> NC.StopInstanceResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        let generation = request.generation
        let (force, grace) = (request.force ?? false, try InstanceRules.grace(request.graceSeconds, environment.settings))
        let record = try await journal.update(id) { record throws(CloudError) in
            guard var known = record else {
                // Stopped before the order to run it came, which from now on is stale; the next start brings an order of its own.
                record = InstanceRecord(instanceID: id, desired: .stopped, generation: generation, order: nil)
                return
            }
            if known.generation > generation { throw CloudError(.stale(newest: Int64(known.generation))) }
            if known.generation == generation { return }
            if known.desired == .terminated { throw CloudError(.incorrectState(.instance, id: id, state: "terminated")) }
            known.desired = .stopped
            known.generation = generation
            known.force = force
            known.graceSeconds = grace
            known.failure = ""
            known.ending = ""
            record = known
        }
        return NC.StopInstanceResponse(instance: try await answer(record, context))
    }

    public func terminateInstance(
        _ request: NC.TerminateInstance, _ context: CallContext
    ) async throws(CloudError) -> NC.TerminateInstanceResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        let generation = request.generation
        let (force, grace) = (request.force ?? false, try InstanceRules.grace(request.graceSeconds, environment.settings))
        // A domain of that name may be there without a record (a damaged journal): the command names it, so it is known from now on.
        let record = try await journal.update(id) { record throws(CloudError) in
            var known = record ?? InstanceRecord(instanceID: id, desired: .terminated, generation: generation, order: nil)
            if known.generation > generation { throw CloudError(.stale(newest: Int64(known.generation))) }
            if known.desired != .terminated || known.generation < generation, known.endedAt == nil {
                known.desired = .terminated
                known.force = known.force || force
                known.graceSeconds = grace
                known.failure = ""
            }
            known.generation = generation
            record = known
        }
        return NC.TerminateInstanceResponse(instance: try await answer(record, context))
    }

    public func rebootInstance(_ request: NC.RebootInstance, _ context: CallContext) async throws(CloudError) -> NC.RebootInstanceResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        let count = request.rebootCount
        let record = try await journal.update(id) { record throws(CloudError) in
            guard var known = record else { throw CloudError(.notFound(.instance, id: id)) }
            guard known.desired == .running else {
                throw CloudError(.incorrectState(.instance, id: id, state: known.desired.rawValue))
            }
            known.rebootCount = max(known.rebootCount, count)
            record = known
        }
        return NC.RebootInstanceResponse(instance: try await answer(record, context))
    }

    // MARK: Volumes

    public func attachVolume(_ request: NC.AttachVolume, _ context: CallContext) async throws(CloudError) -> NC.AttachVolumeResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        _ = try VolumeID(parsing: request.volume.volumeId)
        let (order, generation) = (request.volume, request.generation)
        guard environment.hypervisor.capabilities.volumeHotplug else {
            throw CloudError(
                .named(code: "UnsupportedHypervisor", status: 400),
                "The hypervisor \(environment.hypervisor.capabilities.kind.rawValue) of this node has no network volumes")
        }
        let record = try await journal.update(id) { record throws(CloudError) in
            guard var known = record, known.desired != .terminated else { throw CloudError(.notFound(.instance, id: id)) }
            try InstanceRules.addVolume(order, to: &known, generation: generation)
            record = known
        }
        return NC.AttachVolumeResponse(instance: try await answer(record, context))
    }

    public func detachVolume(_ request: NC.DetachVolume, _ context: CallContext) async throws(CloudError) -> NC.DetachVolumeResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        let now = environment.clock.now()
        let (volumeID, attachmentID, generation, force) = (
            request.volumeId, request.attachmentId, request.generation, request.force ?? false
        )
        let record = try await journal.update(id) { record throws(CloudError) in
            guard var known = record else { throw CloudError(.notFound(.instance, id: id)) }
            guard let i = known.volumes.firstIndex(where: { $0.order.volumeId == volumeID }) else {
                // Never heard of: a tombstone, so that an attach that is still on its way comes too late.
                var gone = VolumeRecord(
                    order: NC.VolumeOrder(volumeId: volumeID, attachmentId: attachmentID, device: "", storage: ""), generation: generation,
                    state: .detached, target: "")
                gone.detachedAt = now
                known.volumes.append(gone)
                record = known
                return
            }
            var volume = known.volumes[i]
            if volume.generation > generation { throw CloudError(.stale(newest: Int64(volume.generation))) }
            volume.generation = generation
            if volume.order.attachmentId == attachmentID, volume.state != .detached {
                volume.state = .detaching
                volume.force = volume.force || force
                volume.error = ""
            } else if volume.order.attachmentId != attachmentID, volume.state != .detached {
                throw CloudError(.notFound(.attachment, id: attachmentID))
            }
            known.volumes[i] = volume
            record = known
        }
        return NC.DetachVolumeResponse(instance: try await answer(record, context))
    }

    // MARK: Network

    public func applyNetwork(_ request: NC.ApplyNetwork, _ context: CallContext) async throws(CloudError) -> NC.ApplyNetworkResponse {
        let generation = try await environment.network.apply(request.network, generation: request.generation)
        await keeper.networkChanged()
        return NC.ApplyNetworkResponse(generation: generation)
    }

    // MARK: Bundles

    public func bundleInstance(_ request: NC.BundleInstance, _ context: CallContext) async throws(CloudError) -> NC.BundleInstanceResponse {
        NC.BundleInstanceResponse(bundle: try await bundles.begin(request))
    }

    public func uploadBundleParts(
        _ request: NC.UploadBundleParts, _ context: CallContext
    ) async throws(CloudError) -> NC.UploadBundlePartsResponse {
        NC.UploadBundlePartsResponse(bundle: try await bundles.upload(request))
    }

    public func endBundle(_ request: NC.EndBundle, _ context: CallContext) async throws(CloudError) -> NC.EndBundleResponse {
        try await bundles.end(request.taskId)
        return NC.EndBundleResponse()
    }

    // MARK: -

    private func answer(_ record: InstanceRecord?, _ context: CallContext) async throws(CloudError) -> NC.InstanceReport {
        guard let record else { throw CloudError.bug("a command left no record") }
        environment.logger.info(
            "command accepted",
            metadata: [
                "instance": "\(record.instanceID)", "desired": "\(record.desired.rawValue)", "generation": "\(record.generation)",
                "request": "\(context.requestID)",
            ])
        await keeper.commandAccepted(record)
        return await keeper.report(record)
    }
}

/// What is true of the node for as long as the process runs.
public struct NodeFacts: Sendable {
    public var version: String
    public var certificatePEM: String
    public var startedAt: Timestamp
    /// Something that works, but not as it should (no KVM).
    public var warning: String?

    public init(version: String, certificatePEM: String, startedAt: Timestamp, warning: String? = nil) {
        self.version = version
        self.certificatePEM = certificatePEM
        self.startedAt = startedAt
        self.warning = warning
    }
}
