import API
import Domain

/// The next thing to do for one attachment, from the record and the domain alone.
enum VolumeStep: Equatable {
    case nothing
    /// Ask the storage controller for the export and give the domain the disk.
    case attach
    /// The disk is there, the journal does not say so yet.
    case noteAttached
    /// The machine is off: there is nothing to plug; the next start brings the disk along.
    case noteAttachedForNextStart
    /// Force: the export goes first, so that the old guest can write no more.
    case fence
    /// Ask the guest to let go.
    case detach
    /// The hypervisor says that the device is gone: revoke the export, then note it.
    case finish
}

enum VolumePlan {
    /// Between two requests to let go: a guest that was booting does not hear the first one.
    static let askAgainSeconds: Int64 = 5

    static func next(_ volume: VolumeRecord, _ domain: DomainStatus?) -> VolumeStep {
        let active = domain?.state.isActive ?? false
        let plugged = domain?.diskSerials.contains(volume.order.volumeId) ?? false
        switch volume.state {
        case .detached, .failed, .attached: return .nothing
        case .attaching:
            if active { return plugged ? .noteAttached : .attach }
            return .noteAttachedForNextStart
        case .detaching:
            if volume.force, !volume.fenced { return .fence }
            return active && plugged ? .detach : .finish
        }
    }

    static func hasWork(_ record: InstanceRecord) -> Bool {
        record.volumes.contains { $0.state == .attaching || $0.state == .detaching }
    }
}
