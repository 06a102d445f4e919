public import API
public import Daemon
public import Domain
import Logging
public import ServiceLifecycle
import Signing
import Wire
import Workflow

/// The composition of a node: everything made in one readable order, from the configuration and the network that the caller made.
public struct NodeController: Sendable {
    public let actions: NodeActions
    public let keeper: InstanceKeeper
    private let bundles: BundleKeeper
    private let nudger: CloudNudger
    private let environment: NodeEnvironment
    private let upkeep: @Sendable () async -> Void

    /// For a daemon: real hypervisor, files, processes.
    public static func open(
        _ configuration: NodeConfiguration, identity: HostIdentity, runtime: DaemonRuntime, network: any NodeNetwork
    ) async throws(CloudError) -> NodeController {
        let (clock, random, logger) = (runtime.clock, runtime.random, runtime.logger)
        guard identity.identity.role == "nc", identity.identity.name == configuration.name else {
            throw CloudError(
                .invalidParameter("name"),
                "Certificate is for \(identity.identity.role)/\(identity.identity.name), the configuration says nc/\(configuration.name)"
            )
        }
        let runner = CommandRunner()
        let data = configuration.dataFolder
        try await BlockingPool.run { () throws(CloudError) in try FileSystem.makeFolder(data) }

        var warning: String?
        let kind: HypervisorKind
        if let fixed = configuration.hypervisor {
            kind = fixed
        } else {
            let result = try await HypervisorProbe(runner: runner).run(folder: data + "/probe")
            kind = result.kind
            warning = result.warning
            if let warning {
                logger.warning("\(warning)")
            } else {
                logger.notice("hypervisor probed", metadata: ["kind": "\(kind.rawValue)"])
            }
        }
        let hypervisor = LibvirtHypervisor(uri: configuration.libvirtURI, kind: kind)

        let journal = Journal(storage: FileJournalStorage(root: data + "/journal"))
        for damaged in try await journal.open() { logger.error("a journal record cannot be read", metadata: ["record": "\(damaged)"]) }

        // Image addresses and part uploads: Walrus, with whatever certificate the cloud's CA gave it.
        let http = HTTPClient(tls: ClientTLS(ca: configuration.ca), connectionsPerHost: 8)
        let cache = ImageCache(
            folder: data + "/cache", limitMiB: configuration.cacheMiB, fetcher: ImageFetcher(http: http, key: identity.key, clock: clock),
            runner: runner, clock: clock, logger: logger, place: configuration.name,
            inUse: { Set(await journal.allInstances().flatMap(\.cacheKeys).map { $0.lowercased() }) })
        try await cache.open()
        let disks = FileInstanceDisks(root: data + "/instances", runner: runner)

        let transport = InternalTransport(identity: identity, clock: clock, random: random)
        var settings = NodeSettings(capacity: try configuration.capacity())
        settings.bridge = configuration.bridge
        settings.mtu = configuration.mtu
        settings.graphics = configuration.vnc
        settings.xenMode = configuration.xenMode
        settings.maxConcurrentStarts = configuration.maxConcurrentStarts
        settings.pollMilliseconds = configuration.pollSeconds * 1000
        settings.graceSeconds = configuration.graceSeconds
        settings.volumeTLS = configuration.volumeTLS
        var environment = NodeEnvironment(
            name: configuration.name, hypervisor: hypervisor, journal: journal, images: cache, disks: disks, network: network,
            storage: { SCClient(transport: transport, endpoint: $0) }, clock: clock, random: random, logger: logger, settings: settings)
        environment.health = { [health = runtime.health] problem in
            health.set("hypervisor", problem.map { .degraded($0) } ?? .ok)
        }
        let staging = FileBundleStaging(root: data + "/bundles", place: configuration.name, runner: runner, random: random)
        var node = NodeController(
            environment: environment, cluster: CCClient(transport: transport, endpoint: configuration.clusterEndpoint), staging: staging,
            http: http,
            facts: NodeFacts(
                version: KarriVersion.text, certificatePEM: identity.certificate.pem, startedAt: clock.now(), warning: warning))
        node = NodeController(node) { await disks.trimConsoles() }
        return node
    }

    /// From parts: for simulations and tests.
    public init(
        environment: NodeEnvironment, cluster: any CCClusterActions, staging: any BundleStaging, http: any HTTPRequesting, facts: NodeFacts
    ) {
        let nudger = CloudNudger(
            cluster: cluster, node: environment.name, clock: environment.clock, random: environment.random, logger: environment.logger)
        self.environment = environment
        self.nudger = nudger
        keeper = InstanceKeeper(environment: environment) { nudger.tell($0) }
        bundles = BundleKeeper(environment: environment, staging: staging, http: http) { nudger.tell($0) }
        actions = NodeActions(environment: environment, keeper: keeper, bundles: bundles, facts: facts)
        upkeep = {}
    }

    private init(_ other: NodeController, upkeep: @escaping @Sendable () async -> Void) {
        actions = other.actions
        keeper = other.keeper
        bundles = other.bundles
        nudger = other.nudger
        environment = other.environment
        self.upkeep = upkeep
    }

    /// Everything that the node does by itself. Returns when the task is cancelled; what was under way goes on where it was when it
    /// is run again on the same journal.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keeper.run() }
            group.addTask { await self.bundles.run() }
            group.addTask { await self.nudger.run() }
            group.addTask { await self.keepHouse() }
        }
    }

    /// Between two looks for old tombstones and large consoles.
    private static let houseMilliseconds = 60_000

    private func keepHouse() async {
        while !Task.isCancelled {
            await upkeep()
            do throws(CloudError) { try await environment.journal.expire(now: environment.clock.now()) } catch {
                environment.logger.warning("old tombstones could not be removed", metadata: ["error": "\(error.context)"])
            }
            do { try await environment.clock.sleep(milliseconds: Self.houseMilliseconds) } catch { return }
        }
    }

    /// The listener for the cluster controller, and the node's own work.
    public func services(_ configuration: NodeConfiguration, identity: HostIdentity, runtime: DaemonRuntime) -> [any Service] {
        let actions = actions
        let listener = InternalListener(
            address: configuration.listenAddress, port: configuration.port, identity: identity, service: NC.service,
            allowedRoles: ["*": ["cc"]],
            runtime: runtime
        ) { operation, input, context async throws(CloudError) in try await NC.dispatch(operation, input, actions, context) }
        return [BackgroundService(work: run), listener]
    }
}

/// Work that goes on until the daemon stops.
public struct BackgroundService: Service {
    private let work: @Sendable () async -> Void
    public init(work: @escaping @Sendable () async -> Void) { self.work = work }

    public func run() async throws {
        // A graceful stop cancels the work.
        await cancelWhenGracefulShutdown { await work() }
    }
}
