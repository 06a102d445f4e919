public import Domain

/// One hypervisor host, behind the smallest protocol that a node needs (`ARCHITECTURE.md` §7).
///
/// The life of a domain here: defined (shut off) → running ⇄ paused → shut off → undefined. The node's own rules (when to start, what to
/// repeat, what is an error) are not here: `InstancePlan` has them. What may race: every call may meet a guest that shuts itself down
/// at that moment, so "not running" and "not there" are answers, not failures, where the caller wanted just that.
///
/// Deliberately not done: no call waits for the guest. `shutdown`, `reboot` and `detachDisk` ask; the events and `domain(named:)` tell.
public protocol Hypervisor: Sendable {
    var capabilities: HypervisorCapabilities { get }

    /// Defines the domain, or replaces the definition of one that is shut off. Repeating is harmless.
    func define(_ domain: DomainSpecification) async throws(CloudError)
    /// Starts a defined domain. Does nothing when it runs already.
    func start(_ name: String) async throws(CloudError)
    /// Asks the guest by ACPI to shut down. Does nothing when it does not run.
    func shutdown(_ name: String) async throws(CloudError)
    /// Ends the domain at once. Does nothing when it does not run or is not there.
    func destroy(_ name: String) async throws(CloudError)
    /// Removes the definition. Does nothing when there is none; a running domain is refused (`.incorrectState`).
    func undefine(_ name: String) async throws(CloudError)
    /// Asks the guest by ACPI to restart. `HypervisorEvent.rebooted` comes when it has.
    func reboot(_ name: String) async throws(CloudError)
    /// The reset button: restarts the machine without asking the guest.
    func reset(_ name: String) async throws(CloudError)
    func pause(_ name: String) async throws(CloudError)
    func resume(_ name: String) async throws(CloudError)

    /// Every domain of the host, ours or not.
    func domains() async throws(CloudError) -> [DomainStatus]
    /// `nil` when there is no such domain.
    func domain(named name: String) async throws(CloudError) -> DomainStatus?

    /// Gives a running domain one more disk. A disk with this serial already there: nothing is done.
    func attachDisk(_ disk: NetworkDisk, to name: String) async throws(CloudError)
    /// Asks the guest to let go of the disk with this serial. The device is gone only when `domain(named:)` does not list it any more
    /// (libvirt: `VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED`; its own success answer means nothing). Does nothing when it is not there.
    func detachDisk(serial: String, from name: String) async throws(CloudError)

    /// A new subscription: everything from now on. The stream ends when the hypervisor object is closed or the task is cancelled.
    func events() -> AsyncStream<HypervisorEvent>
    /// Is the hypervisor there? Connects again if it was lost.
    func check() async throws(CloudError)
}

/// What a hypervisor can do, as data.
public struct HypervisorCapabilities: Sendable, Equatable {
    public var kind: HypervisorKind
    /// Network disks (NBD with TLS) can come and go while the guest runs.
    public var volumeHotplug: Bool
    /// A full disk pauses the guest instead of giving it an I/O error.
    public var pausesWhenDiskIsFull: Bool
    /// The serial console is written to a file that the node names.
    public var consoleFile: Bool
    public var pause: Bool

    public init(kind: HypervisorKind, volumeHotplug: Bool, pausesWhenDiskIsFull: Bool, consoleFile: Bool, pause: Bool) {
        self.kind = kind
        self.volumeHotplug = volumeHotplug
        self.pausesWhenDiskIsFull = pausesWhenDiskIsFull
        self.consoleFile = consoleFile
        self.pause = pause
    }

    /// What libvirt's drivers do. libxl refuses network disks other than RBD ("Unsupported network block protocol"), and has no
    /// error policy.
    public static func libvirt(_ kind: HypervisorKind) -> HypervisorCapabilities {
        switch kind {
        case .kvm, .qemu, .simulated:
            HypervisorCapabilities(kind: kind, volumeHotplug: true, pausesWhenDiskIsFull: true, consoleFile: true, pause: true)
        case .xen: HypervisorCapabilities(kind: kind, volumeHotplug: false, pausesWhenDiskIsFull: false, consoleFile: false, pause: true)
        }
    }
}

public enum HypervisorKind: String, Sendable, CaseIterable {
    case kvm, qemu, xen, simulated
}

/// A domain as the hypervisor sees it.
public struct DomainStatus: Sendable, Equatable {
    public var name: String
    public var uuid: String
    /// From the metadata that Karri wrote into the definition; `nil` for a domain that somebody else made.
    public var instanceID: String?
    public var state: DomainState
    public var cores: Int
    public var memoryMiB: Int
    /// Serials of the disks that the (running) machine has now.
    public var diskSerials: [String]

    public init(
        name: String, uuid: String, instanceID: String?, state: DomainState, cores: Int, memoryMiB: Int, diskSerials: [String]
    ) {
        self.name = name
        self.uuid = uuid
        self.instanceID = instanceID
        self.state = state
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.diskSerials = diskSerials
    }
}

public enum DomainState: Sendable, Equatable {
    case running
    /// The machine stands still, and can go on.
    case paused(PauseReason)
    /// The guest is on its way down.
    case shuttingDown
    case shutOff(ShutOffReason)

    public enum PauseReason: String, Sendable {
        case user, ioError, starting, other
    }
    public enum ShutOffReason: String, Sendable {
        /// The guest (or an ACPI request) shut it down.
        case shutdown
        /// By force: `destroy`.
        case destroyed
        /// The hypervisor's process died, or the guest crashed.
        case crashed
        /// It did not start.
        case failed
        /// Defined and not started since, or the host was restarted.
        case unknown
    }
    public var isActive: Bool {
        switch self {
        case .running, .paused, .shuttingDown: true
        case .shutOff: false
        }
    }
}

public enum HypervisorEvent: Sendable, Equatable {
    /// Something about its state changed: look.
    case lifecycle(name: String)
    case rebooted(name: String)
    case deviceRemoved(name: String)
    /// A disk had an error; `reason` is libvirt's word (`enospc`).
    case ioError(name: String, reason: String)
    /// The connection was lost and is there again: everything may have changed.
    case reconnected
    case disconnected

    public var domainName: String? {
        switch self {
        case .lifecycle(let name), .rebooted(let name), .deviceRemoved(let name), .ioError(let name, _): name
        case .reconnected, .disconnected: nil
        }
    }
}
