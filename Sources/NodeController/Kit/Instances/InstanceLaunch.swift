import API
import Domain
import Logging
import Workflow

/// From an order to a running domain, and from a domain to nothing. Every step finds what an earlier try has left.
extension InstanceKeeper {
    /// - Returns: when to look again; `nil` when the start is done.
    func launch(_ record: InstanceRecord) async throws(CloudError) -> Timestamp? {
        guard let order = record.order else { throw CloudError.bug("instance \(record.instanceID) is to run and has no order") }
        let id = record.instanceID
        let e = environment

        let images = try await fetchImages(order)
        try await e.faults.point("instance.launch.image")
        try await note(id, "image", record.generation)

        let root = try await e.disks.root(id, over: images.machine, diskGiB: order.diskGiB)
        try await e.faults.point("instance.launch.disk")
        try await note(id, "disk", record.generation)

        // The domain's first packet must meet its filters. Whoever applies a network wakes us; the time is for a wake that was lost.
        guard await e.network.contains(instanceID: id) else { return e.clock.now().adding(milliseconds: 1000) }
        try await note(id, "network", record.generation)

        // A newer command may have come while the image was on its way.
        guard let current = await e.journal.instance(id), current.generation == record.generation, current.desired == .running else {
            return nil
        }
        let volumes = try await exportsForStart(current)

        let specification = DomainSpecification(
            instanceID: id, accountID: order.accountId ?? "", kind: e.hypervisor.capabilities.kind, cores: order.cores,
            memoryMiB: order.memoryMiB, boot: images.kernel.map { .direct(kernel: $0.path, ramdisk: images.ramdisk?.path) } ?? .disk,
            root: root,
            interface: .init(
                macAddress: order.macAddress, tap: InstanceNames.tap(id), bridge: e.settings.bridge, mtu: e.settings.mtu),
            consolePath: e.disks.consolePath(id), graphics: e.settings.graphics, volumes: volumes, xenMode: e.settings.xenMode)
        await starts.enter()
        do throws(CloudError) {
            try await startDomain(specification, record.generation)
            await starts.leave()
        } catch {
            await starts.leave()
            throw error
        }
        saw(id, try await e.hypervisor.domain(named: id))
        return nil
    }

    private func startDomain(_ specification: DomainSpecification, _ generation: Int) async throws(CloudError) {
        let (e, id) = (environment, specification.instanceID)
        // While it waited for its turn it may have been ended.
        guard let current = await e.journal.instance(id), current.generation == generation, current.desired == .running else { return }
        try await e.hypervisor.define(specification)
        try await e.faults.point("instance.launch.defined")
        try await e.hypervisor.start(id)
        try await e.faults.point("instance.launch.started")
        try await noteStarted(id, generation)
    }

    private struct Images: Sendable {
        var machine: CachedImage
        var kernel: CachedImage?
        var ramdisk: CachedImage?
    }

    /// All of them at once; the cache fetches each once for the whole node.
    private nonisolated func fetchImages(_ order: NC.InstanceOrder) async throws(CloudError) -> Images {
        let store = environment.images
        let sources = [("machine", order.machine), ("kernel", order.kernel), ("ramdisk", order.ramdisk)]
        var found: [String: CachedImage] = [:]
        do {
            try await withThrowingTaskGroup(of: (String, CachedImage).self) { group in
                for (role, source) in sources {
                    guard let source else { continue }
                    group.addTask { (role, try await store.image(source)) }
                }
                for try await (role, image) in group { found[role] = image }
            }
        } catch let error as CloudError {
            throw error
        } catch is CancellationError {
            throw CloudError(.unavailable("The image"), context: "cancelled")
        } catch { throw CloudError.bug("fetching images: \(error)") }
        guard let machine = found["machine"] else { throw CloudError.bug("no machine image for \(order.instanceId)") }
        return Images(machine: machine, kernel: found["kernel"], ramdisk: found["ramdisk"])
    }

    private func note(_ id: String, _ step: String, _ generation: Int) async throws(CloudError) {
        guard let record = await environment.journal.instance(id), !record.trace.contains(where: { $0.step == step }) else { return }
        let now = environment.clock.now()
        try await environment.journal.update(id) { record in
            if record?.generation == generation { record?.note(step, at: now) }
        }
    }

    // MARK: Leaving

    /// The domain is shut off or not there: the rest of the instance goes. The tombstone comes last, so that a kill anywhere here
    /// only means that all of it is done again.
    func remove(_ record: InstanceRecord) async throws(CloudError) {
        let id = record.instanceID
        let e = environment
        try await e.hypervisor.undefine(id)
        try await e.faults.point("instance.remove.undefined")
        try await e.disks.remove(id)
        for volume in record.volumes where !volume.isGone { try await unexport(volume) }
        try await e.faults.point("instance.remove.files")
        await e.network.instanceRemoved(instanceID: id)
        let now = e.clock.now()
        try await e.journal.update(id) { record in
            guard var changed = record, changed.desired == .terminated else { return }
            for i in changed.volumes.indices where !changed.volumes[i].isGone {
                changed.volumes[i].state = .detached
                changed.volumes[i].detachedAt = now
                changed.volumes[i].export = nil
            }
            changed.endedAt = now
            // The order holds user data and addresses; a tombstone needs only its generation.
            changed.order?.metadata = nil
            record = changed
        }
        shutdownAsked[id] = nil
        e.logger.info("an instance is gone from the node", metadata: ["instance": "\(id)"])
    }
}
