import API
import Domain

/// What the node's instances take of it. A stopped instance holds its disk, not its cores and memory.
struct Usage: Equatable {
    var cores = 0
    var memoryMiB = 0
    var diskGiB = 0

    init(_ records: [InstanceRecord], without id: String? = nil) {
        for record in records where !record.isTombstone && record.instanceID != id {
            guard let order = record.order else { continue }
            diskGiB += order.diskGiB
            // Until a machine that is being stopped is off, it has its memory; the record alone cannot tell, so it counts only as
            // wanted: the cluster controller, which plans, knows what is observed.
            if record.desired == .running || record.desired == .terminated {
                cores += order.cores
                memoryMiB += order.memoryMiB
            }
        }
    }
}

/// Checks of commands, pure.
enum InstanceRules {
    /// Virtio disks `vdb` … `vdz`; the PCI bus of `pc` has room for about as many.
    static let maxVolumes = 25

    static func check(_ order: NC.InstanceOrder) throws(CloudError) {
        guard (1...255).contains(order.cores) else { throw CloudError(.invalidParameter("cores")) }
        guard (1...(64 << 20)).contains(order.memoryMiB) else { throw CloudError(.invalidParameter("memoryMiB")) }
        guard (1...(1 << 20)).contains(order.diskGiB) else { throw CloudError(.invalidParameter("diskGiB")) }
        guard isMAC(order.macAddress) else { throw CloudError(.invalidParameter("macAddress")) }
        guard isIPv4(order.privateAddress) else { throw CloudError(.invalidParameter("privateAddress")) }
        for source in [order.machine, order.kernel, order.ramdisk] {
            if let source { try check(source) }
        }
    }

    static func check(_ source: NC.ImageSource) throws(CloudError) {
        // The key becomes a file name.
        guard let key = source.cacheKey, (8...128).contains(key.utf8.count), Hex.decode(key) != nil else {
            throw CloudError(.invalidParameter("cacheKey"))
        }
        guard ["bundle", "raw", "qcow2"].contains(source.format) else { throw CloudError(.invalidParameter("format")) }
        guard !source.parts.isEmpty else { throw CloudError(.missingParameter("parts")) }
    }

    private static func isMAC(_ text: String) -> Bool {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 6 && parts.allSatisfy { $0.utf8.count == 2 && Hex.decode($0) != nil }
    }
    private static func isIPv4(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil && $0.utf8.count <= 3 }
    }

    static func grace(_ asked: Int?, _ settings: NodeSettings) throws(CloudError) -> Int {
        guard let asked else { return settings.graceSeconds }
        guard (0...3600).contains(asked) else { throw CloudError(.invalidParameter("graceSeconds")) }
        return asked
    }

    /// The cluster controller reserved before it asked; this holds it to what the node has.
    /// - Throws: `.capacity` with what was asked, what is free and what there is.
    static func admit(
        _ order: NC.InstanceOrder, beside records: [InstanceRecord], capacity: NodeCapacity, node: String
    ) throws(CloudError) {
        let used = Usage(records, without: order.instanceId)
        func need(_ resource: Shortage.Resource, _ asked: Int, _ used: Int, _ limit: Int) throws(CloudError) {
            guard used + asked <= limit else {
                throw CloudError(
                    .capacity(Shortage(resource, [.init("node \(node)", resource, asked: asked, free: max(0, limit - used), limit: limit)]))
                )
            }
        }
        try need(.cores, order.cores, used.cores, capacity.cores)
        try need(.memoryMiB, order.memoryMiB, used.memoryMiB, capacity.memoryMiB)
        try need(.diskGiB, order.diskGiB, used.diskGiB, capacity.diskGiB)
    }

    /// Adds an attachment to a record. One that is older than what is known of the volume is stale; a repeat changes nothing.
    static func addVolume(_ order: NC.VolumeOrder, to record: inout InstanceRecord, generation: Int) throws(CloudError) {
        if let known = record.volumes.first(where: { $0.order.volumeId == order.volumeId }) {
            if known.generation > generation { throw CloudError(.stale(newest: Int64(known.generation))) }
            if known.order.attachmentId == order.attachmentId {
                // A detach that came first has the last word.
                if known.state == .detached || known.state == .detaching || known.generation == generation { return }
            } else if known.state != .detached, known.state != .failed {
                throw CloudError(.inUse(.volume, id: order.volumeId, by: known.order.attachmentId))
            }
        }
        try add([order], &record, generation)
    }

    /// Adds the attachments that a start names. Their generations are not the instance's: what is known keeps its own, so that the next
    /// command for the attachment is not taken for an old one.
    static func addVolumesOfStart(_ orders: [NC.VolumeOrder], to record: inout InstanceRecord) throws(CloudError) {
        let new = orders.filter { order in
            guard let known = record.volumes.first(where: { $0.order.volumeId == order.volumeId }) else { return true }
            if known.order.attachmentId == order.attachmentId { return known.state == .failed }
            return known.state == .detached || known.state == .failed
        }
        try add(new, &record, nil)
    }

    /// - Parameter generation: `nil`: that of the volume's record before, or none.
    private static func add(_ orders: [NC.VolumeOrder], _ record: inout InstanceRecord, _ generation: Int?) throws(CloudError) {
        for order in orders {
            _ = try VolumeID(parsing: order.volumeId)
            _ = try AttachmentID(parsing: order.attachmentId)
            let before = record.volumes.first { $0.order.volumeId == order.volumeId }
            if var same = before, same.order.attachmentId == order.attachmentId, same.state == .attached || same.state == .attaching {
                same.generation = generation ?? same.generation
                record.volumes = record.volumes.map { $0.order.volumeId == order.volumeId ? same : $0 }
                continue
            }
            record.volumes.removeAll { $0.order.volumeId == order.volumeId }
            let live = record.volumes.filter { !$0.isGone }
            guard live.count < maxVolumes, let target = InstanceNames.diskTarget(for: order.device, taken: Set(live.map(\.target))) else {
                throw CloudError(.limitExceeded(.volumes, asked: live.count + 1, limit: maxVolumes))
            }
            record.volumes.append(
                VolumeRecord(order: order, generation: generation ?? before?.generation ?? 0, state: .attaching, target: target))
        }
    }
}
