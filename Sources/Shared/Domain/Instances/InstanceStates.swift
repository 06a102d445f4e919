/// The states of an instance, seen from three sides: what the owner wants (a row of the controller), what the node reports
/// (from libvirt), and what an EC2 client is shown, which is derived from the first two and stored nowhere.

/// What the owner wants. `terminated` is final.
public enum DesiredInstance: String, Sendable, CaseIterable {
    case running, stopped, terminated
}

/// What a node says of an instance (`NC.InstanceReport.state`).
public enum NodeInstanceState: String, Sendable, CaseIterable {
    /// Accepted; the node is fetching the image or making the disk, network or domain.
    case pending
    case running
    /// The hypervisor holds it, for example because the node's disk is full. Nothing is lost.
    case paused
    case stopping
    /// No domain; disk and definition stay.
    case stopped
    case crashed
    case terminating
    /// Nothing of it is left but a tombstone that refuses older commands.
    case terminated
    /// The node could not do what this generation asked.
    case failed
}

/// What EC2 shows. Source: EC2 API Reference, InstanceState (the codes are its low byte).
public enum EC2InstanceState: String, Sendable, CaseIterable {
    case pending, running
    case shuttingDown = "shutting-down"
    case terminated, stopping, stopped

    public var code: Int {
        switch self {
        case .pending: 0
        case .running: 16
        case .shuttingDown: 32
        case .terminated: 48
        case .stopping: 64
        case .stopped: 80
        }
    }
}

/// What happens when the guest shuts itself down, or the owner says so.
public enum ShutdownBehaviour: String, Sendable {
    case stop, terminate
}

/// What the node last said of one instance.
public struct InstanceFacts: Sendable, Equatable {
    public let state: NodeInstanceState
    /// The newest command that the node has taken.
    public let generation: Int64
    public let rebootCount: Int
    /// Why it is failed, paused or stopped; `guest` when the guest shut itself down.
    public let reason: String
    public init(_ state: NodeInstanceState, generation: Int64, rebootCount: Int = 0, reason: String = "") {
        self.state = state
        self.generation = generation
        self.rebootCount = rebootCount
        self.reason = reason
    }
    public static let guestShutdown = "guest"
}

/// What the controller can see of one instance now.
public enum InstanceSight: Sendable, Equatable {
    /// The node does not answer, or the cluster controller does not: unknown, not absent.
    case silent
    /// The node is no part of the cloud any more: an operator took it away.
    case nodeGone
    /// The node answers and has never heard of it (or has forgotten its tombstone).
    case absent
    case reported(InstanceFacts)
}

/// The tag `karri:save-on-shutdown` and how far its work is.
public enum SaveProgress: String, Sendable {
    /// Nothing to save.
    case none
    /// The disk is to be saved before the instance goes.
    case wanted
    /// The bundle saga runs.
    case saving
    /// The disk is in Walrus and registered.
    case saved
    /// Given up; the instance stays, stopped, with its disk.
    case failed
}

/// One row's intent, as the planner needs it.
public struct InstanceIntent: Sendable, Equatable {
    public var desired: DesiredInstance
    /// Grows with each change of intent; every command carries it, and a node refuses older ones.
    public var generation: Int64
    public var rebootCount: Int
    /// How often in a row the node failed to start it, or lost it.
    public var attempts: Int
    public var onGuestShutdown: ShutdownBehaviour
    public var save: SaveProgress
    public var force: Bool

    public init(
        _ desired: DesiredInstance, generation: Int64, rebootCount: Int = 0, attempts: Int = 0,
        onGuestShutdown: ShutdownBehaviour = .terminate, save: SaveProgress = .none, force: Bool = false
    ) {
        self.desired = desired
        self.generation = generation
        self.rebootCount = rebootCount
        self.attempts = attempts
        self.onGuestShutdown = onGuestShutdown
        self.save = save
        self.force = force
    }
}
