public import API
import Domain
public import Logging
public import Workflow

/// Everything that the node's parts work with, put together once by `NodeController` (or by a test).
public struct NodeEnvironment: Sendable {
    public var name: String
    public var hypervisor: any Hypervisor
    public var journal: Journal
    public var images: any ImageStore
    public var disks: any InstanceDisks
    public var network: any NodeNetwork
    /// The client of the storage controller at this `host:port`.
    public var storage: @Sendable (_ endpoint: String) -> any SCStorageActions
    public var clock: any Clock
    public var random: any Random
    public var faults: any Faults
    public var logger: Logger
    public var settings: NodeSettings
    /// Told after each look: what is wrong with the hypervisor, `nil` when it answers.
    public var health: @Sendable (String?) -> Void = { _ in }

    public init(
        name: String, hypervisor: any Hypervisor, journal: Journal, images: any ImageStore, disks: any InstanceDisks,
        network: any NodeNetwork, storage: @escaping @Sendable (String) -> any SCStorageActions, clock: any Clock, random: any Random,
        faults: any Faults = NoFaults(), logger: Logger, settings: NodeSettings
    ) {
        self.name = name
        self.hypervisor = hypervisor
        self.journal = journal
        self.images = images
        self.disks = disks
        self.network = network
        self.storage = storage
        self.clock = clock
        self.random = random
        self.faults = faults
        self.logger = logger
        self.settings = settings
    }
}

/// Numbers and names of the node's configuration that instances depend on.
public struct NodeSettings: Sendable {
    public var capacity: NodeCapacity
    public var bridge = "karri0"
    public var mtu = 1500
    public var graphics = false
    public var xenMode = DomainSpecification.XenMode.pvh
    /// Domains that are started at the same time. Too high: the host's disk and cores are shared by all and each boots slower; too low: a
    /// large launch waits in a row.
    public var maxConcurrentStarts = 2
    /// Between one look at everything and the next, when no event says that something happened.
    public var pollMilliseconds = 5000
    /// How long a guest may take to shut down when the command does not say.
    public var graceSeconds = 30
    /// Tries of a launch before the instance is reported failed. Too high: the user waits long for an error; too low: a storage
    /// controller that is being restarted fails a launch.
    public var launchAttempts = 6
    /// Volume connections by TLS. Off only in tests without certificates.
    public var volumeTLS = true
    /// A guest that stands still because the disk was full goes on when this much is free.
    public var resumeFreeMiB = 64

    public init(capacity: NodeCapacity) { self.capacity = capacity }
}

/// What the node has for guests.
public struct NodeCapacity: Sendable, Equatable {
    public var cores: Int
    public var memoryMiB: Int
    public var diskGiB: Int
    public init(cores: Int, memoryMiB: Int, diskGiB: Int) {
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.diskGiB = diskGiB
    }
}
