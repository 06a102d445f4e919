/// Volumes, snapshots and attachments: intent, what the storage controller and the node report, and the next step. Pure.

public enum DesiredVolume: String, Sendable, CaseIterable { case available, deleted }
public enum DesiredAttachment: String, Sendable, CaseIterable { case attached, detached }

/// What the storage controller says of a volume (`SC.VolumeState.state`).
public enum StoredVolumeState: String, Sendable, CaseIterable { case creating, available, failed, deleted }
/// What it says of a snapshot (`SC.SnapshotState.state`).
public enum StoredSnapshotState: String, Sendable, CaseIterable { case pending, completed, error, deleted }
/// What a node says of a volume of an instance (`NC.VolumeReport.state`).
public enum NodeVolumeState: String, Sendable, CaseIterable { case attaching, attached, detaching, detached, failed }

/// Source: EC2 API Reference, Volume.
public enum EC2VolumeState: String, Sendable, CaseIterable {
    case creating, available
    case inUse = "in-use"
    case deleting, deleted, error
}
/// Source: EC2 API Reference, VolumeAttachment.
public enum EC2AttachmentState: String, Sendable, CaseIterable { case attaching, attached, detaching, detached }
/// Source: EC2 API Reference, Snapshot.
public enum EC2SnapshotState: String, Sendable, CaseIterable { case pending, completed, error }

/// A state with the newest command that its holder has taken.
public struct Stamped<State: Sendable & Equatable>: Sendable, Equatable {
    public let state: State
    public let generation: Int64
    public let error: String
    public init(_ state: State, generation: Int64, error: String = "") {
        self.state = state
        self.generation = generation
        self.error = error
    }
}

/// What can be seen of a thing that another daemon holds.
public enum Sight<State: Sendable & Equatable>: Sendable, Equatable {
    /// No answer: unknown, not absent.
    case silent
    case absent
    case reported(Stamped<State>)
}

public enum VolumeStep: Sendable, Equatable {
    case settled, wait
    case create, delete
    /// The storage controller has confirmed that it is gone: close the row.
    case finish
    /// It has seen a newer generation than the row has: raise the row's beyond it.
    case overtake(Int64)
}

public enum VolumePlanner {
    public static func plan(_ desired: DesiredVolume, generation: Int64, _ sight: Sight<StoredVolumeState>) -> VolumeStep {
        switch (desired, sight) {
        case (_, .silent): return .wait
        case (.available, .absent): return .create
        case (.deleted, .absent): return .delete
        case (_, .reported(let seen)) where seen.generation > generation: return .overtake(seen.generation)
        case (.available, .reported(let seen)):
            switch seen.state {
            case .creating: return .wait
            case .available: return .settled
            // What has failed or was lost is shown as `error`; making it anew would show an empty volume as the owner's data.
            case .failed, .deleted: return .settled
            }
        case (.deleted, .reported(let seen)):
            switch seen.state {
            case .deleted: return seen.generation == generation ? .finish : .delete
            case .creating, .available, .failed: return .delete
            }
        }
    }

    /// `stored` is the last report that was recorded; `attached` says that an attachment exists that is not detached.
    public static func state(
        _ desired: DesiredVolume, _ stored: StoredVolumeState?, attached: Bool, finished: Bool
    ) -> EC2VolumeState {
        if finished { return .deleted }
        switch desired {
        case .deleted: return .deleting
        case .available:
            switch stored {
            case nil, .creating: return .creating
            case .available: return attached ? .inUse : .available
            case .failed, .deleted: return .error
            }
        }
    }
}

public enum SnapshotPlanner {
    public static func plan(_ desired: DesiredVolume, generation: Int64, _ sight: Sight<StoredSnapshotState>) -> VolumeStep {
        switch (desired, sight) {
        case (_, .silent): return .wait
        // A snapshot is a point in time: making it later than the answer would be a lie. The row is shown as `error`.
        case (.available, .absent): return .settled
        case (.deleted, .absent): return .delete
        case (_, .reported(let seen)) where seen.generation > generation: return .overtake(seen.generation)
        case (.available, .reported(let seen)):
            switch seen.state {
            case .pending: return .wait
            case .completed, .error, .deleted: return .settled
            }
        case (.deleted, .reported(let seen)):
            switch seen.state {
            case .deleted: return seen.generation == generation ? .finish : .delete
            case .pending, .completed, .error: return .delete
            }
        }
    }

    public static func state(_ stored: StoredSnapshotState?) -> EC2SnapshotState {
        switch stored {
        case nil, .pending: .pending
        case .completed: .completed
        case .error, .deleted: .error
        }
    }
}

/// Where an attachment's instance is, as far as it matters to its volumes.
public enum AttachmentHost: Sendable, Equatable {
    /// Placed on a node and running there.
    case running
    /// Not running, but its definition is on the node: the volume is attached at the next start.
    case stopped
    /// Ended, and the node has confirmed it.
    case ended
}

public enum AttachmentStep: Sendable, Equatable {
    case settled, wait
    case attach
    case detach(force: Bool)
    /// The hypervisor has let go of it, or its instance has ended: close the row, the volume is free.
    case finish
    /// It cannot be attached: `desired` becomes detached, with this reason.
    case giveUp(String)
    case overtake(Int64)
}

public enum AttachmentPlanner {
    public static func plan(
        _ desired: DesiredAttachment, generation: Int64, force: Bool, host: AttachmentHost, _ sight: Sight<NodeVolumeState>
    ) -> AttachmentStep {
        if host == .ended { return .finish }
        switch (desired, sight) {
        case (_, .silent): return .wait
        case (.attached, .absent): return host == .running ? .attach : .wait
        case (.detached, .absent): return .detach(force: force)
        case (.detached, .reported(let seen)) where seen.generation > generation: return .overtake(seen.generation)
        case (.attached, .reported(let seen)):
            // Newer is as good: the order that starts an instance names its volumes and stamps them with the instance's generation.
            guard seen.generation >= generation else { return host == .running ? .attach : .wait }
            switch seen.state {
            case .attaching: return .wait
            case .attached: return .settled
            case .failed: return .giveUp(seen.error)
            // It is let go of without our asking: the instance was stopped, or the node restarted. The order that starts the
            // instance names its volumes.
            case .detaching, .detached: return host == .running ? .attach : .wait
            }
        case (.detached, .reported(let seen)):
            guard seen.generation == generation else { return .detach(force: force) }
            switch seen.state {
            case .detached: return .finish
            case .attached, .attaching, .detaching: return .wait
            case .failed: return .detach(force: force)
            }
        }
    }

    public static func state(_ desired: DesiredAttachment, _ seen: NodeVolumeState?, finished: Bool) -> EC2AttachmentState {
        if finished { return .detached }
        switch desired {
        case .detached: return .detaching
        case .attached: return seen == .attached ? .attached : .attaching
        }
    }
}

/// Names of disks. Clients write `/dev/sdf`, `sdf`, `/dev/vdf`, `xvdf`; the guest's kernel names them as its driver does.
/// Source: EC2 User Guide, "Device names on Linux instances".
public struct DeviceName: Sendable, Hashable, CustomStringConvertible {
    /// As the client wrote it: what DescribeVolumes answers.
    public let text: String
    /// `b` … `z`: `a` is the root disk.
    public let letter: Character

    /// - Throws: `.invalidParameter("Device")`.
    public init(parsing text: String) throws(CloudError) {
        var rest = text[...]
        if rest.hasPrefix("/dev/") { rest = rest.dropFirst(5) }
        for prefix in ["xvd", "sd", "vd", "hd"] where rest.hasPrefix(prefix) {
            rest = rest.dropFirst(prefix.count)
            guard let letter = rest.first, rest.count == 1, letter >= "b", letter <= "z" else { break }
            self.text = text
            self.letter = letter
            return
        }
        throw CloudError(
            .invalidParameter("Device"),
            "Value (\(text.prefix(40))) for parameter device is invalid. It is not a valid device name (/dev/sdb … /dev/sdz)."
        )
    }
    public var description: String { text }
}
