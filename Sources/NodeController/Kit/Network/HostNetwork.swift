public import API
public import Daemon
public import Domain
public import Logging
public import ServiceLifecycle
public import Workflow

// A node's network on a Linux host: a bridge with isolated ports and proxy ARP, nftables, dnsmasq. Only what carries our names is
// touched: the bridge, the two tables, the addresses on the bridge; and four kernel settings that have no smaller place than the host,
// whose old values are kept for `teardown`.
//
// The whole desired network comes with each command and replaces the last one. Order within one change, so that nothing is open for a
// moment that is not in the end: firewall, addresses, DHCP, then the connections that are not allowed any more. The newest network
// is kept on disk; after a restart it is put in force again, which changes nothing where nothing has changed.

/// What a host can do for the network, as data.
public struct NetworkCapabilities: Sendable, Equatable {
    /// Revoked rules and moved addresses take effect on established connections (conntrack is there).
    public var endsConnections: Bool
    /// Addresses by DHCP.
    public var servesDHCP: Bool
    public init(endsConnections: Bool, servesDHCP: Bool) {
        self.endsConnections = endsConnections
        self.servesDHCP = servesDHCP
    }
}

public actor HostNetwork: NodeNetwork, Service {
    private let settings: NetworkSettings
    private let commands: HostCommands
    private let dhcp: DHCPServer
    private let store: NetworkStore
    private let clock: any Clock
    private let logger: Logger
    private let gate = Gate(1)
    private var current: (model: NetworkModel, state: NC.NetworkState)?
    private var generation = 0
    private var loaded = false
    /// Whether the host has all of `current`; false after a failure, so that the next look tries again.
    private var isInForce = false
    /// The last change was not carried out whole: nothing is said to be applied until one is.
    private var hasFailed = false
    private let health: HealthRegistry?

    /// - Parameter storage: keeps the newest network and the host's old kernel settings.
    public init(
        settings: NetworkSettings, storage: any JournalStorage, clock: any Clock, logger: Logger, health: HealthRegistry? = nil,
        runner: any CommandRunning = CommandRunner()
    ) {
        self.settings = settings
        commands = HostCommands(settings: settings, runner: runner)
        dhcp = DHCPServer(settings: settings, runner: runner)
        store = NetworkStore(storage: storage)
        self.clock = clock
        self.logger = logger
        self.health = health
    }

    public var capabilities: NetworkCapabilities {
        get async { NetworkCapabilities(endsConnections: await commands.canEndConnections, servesDHCP: true) }
    }

    // MARK: NodeNetwork

    public func apply(_ network: NC.NetworkState, generation newer: Int) async throws(CloudError) -> Int {
        try await alone { () async throws(CloudError) -> Int in
            try await self.load()
            return try await self.replace(network, generation: newer)
        }
    }

    public func appliedGeneration() async -> Int {
        await loadQuietly()
        return hasFailed ? 0 : generation
    }

    public func contains(instanceID: String) async -> Bool {
        await loadQuietly()
        return isInForce && current?.model.instance(instanceID) != nil
    }

    public func instanceRemoved(instanceID: String) async {
        await gate.enter()
        do throws(CloudError) {
            try await load()
            if let there = current, there.model.instance(instanceID) != nil {
                var state = there.state
                state.instances.removeAll { $0.instanceId == instanceID }
                try await putInForce(there.model.removing(instanceID), state, generation: generation)
            }
        } catch {
            // The next network will not have the instance either.
            logger.warning(
                "an instance's network could not be removed",
                metadata: ["instance": "\(instanceID)", "error": "\(DaemonFailure.text(error))"])
        }
        await gate.leave()
    }

    /// The public address that the network in force gives to a private one.
    public func publicAddress(of privateAddress: String) async -> String? {
        await loadQuietly()
        return current?.model.instances.first { $0.address.description == privateAddress }?.publicAddress?.description
    }

    // MARK: Service

    /// Puts the network of before the restart in force, and looks now and then whether the host still has it (somebody may flush the
    /// firewall, dnsmasq may die).
    public func run() async throws {
        do {
            try await cancelWhenGracefulShutdown {
                while true {
                    await self.look()
                    try await self.clock.sleep(milliseconds: 30_000)
                }
            }
        } catch is CancellationError {}
    }

    /// One look: idempotent, bounded.
    public func look() async {
        await gate.enter()
        do throws(CloudError) {
            try await load()
            if let there = current {
                let hasFirewall = try await commands.hasFirewall()
                let server = await dhcp.running()
                if !isInForce || !hasFirewall || server == nil {
                    logger.info("putting the network in force", metadata: ["generation": "\(generation)"])
                    isInForce = false
                    try await putInForce(there.model, there.state, generation: generation)
                }
            }
        } catch {
            logger.error("the network is not in force", metadata: ["error": "\(DaemonFailure.text(error))"])
        }
        await gate.leave()
    }

    // MARK: Changing the host

    private func replace(_ network: NC.NetworkState, generation newer: Int) async throws(CloudError) -> Int {
        if newer < generation { throw CloudError(.stale(newest: Int64(generation))) }
        if newer == generation && isInForce { return generation }
        let model = try NetworkModel(network)
        try await putInForce(model, network, generation: newer)
        return generation
    }

    private func putInForce(_ model: NetworkModel, _ state: NC.NetworkState, generation newer: Int) async throws(CloudError) {
        do throws(CloudError) {
            try await change(to: model, state, generation: newer)
            hasFailed = false
            health?.set("network", .ok)
        } catch {
            hasFailed = true
            health?.set("network", .degraded(DaemonFailure.text(error)))
            throw error
        }
    }

    private func change(to model: NetworkModel, _ state: NC.NetworkState, generation newer: Int) async throws(CloudError) {
        let before = isInForce ? current?.model : nil
        isInForce = false
        // Before the host changes: what was begun is finished after a crash.
        try await store.save(state, generation: newer)
        let old = current?.model
        current = (model, state)
        generation = newer
        try await commands.ensureBridge()
        let changed = try await commands.ensureHostSettings()
        if !changed.isEmpty { try await store.saveHostSettings(changed) }
        if before != model { try await commands.load(firewall: FirewallText.render(model, settings: settings)) }
        try await setAddresses(model)
        try await dhcp.ensure(model)
        await endConnections(ConnectionPlan(from: old, to: model), model)
        isInForce = true
    }

    private func setAddresses(_ model: NetworkModel) async throws(CloudError) {
        let wanted = Self.addresses(model, settings)
        let there = try await commands.addresses()
        for address in there.subtracting(wanted).sorted() { try await commands.remove(address) }
        for address in wanted.subtracting(there).sorted() { try await commands.add(address) }
    }

    static func addresses(_ model: NetworkModel, _ settings: NetworkSettings) -> Set<String> {
        Set(
            ["\(model.gateway)/\(model.network.prefixLength)", "\(settings.metadataAddress)/32"]
                + model.instances.compactMap { $0.publicAddress.map { "\($0)/32" } })
    }

    /// A connection that lives on is not worth failing the whole network: it is logged, and the rules for new ones hold already.
    private func endConnections(_ plan: ConnectionPlan, _ model: NetworkModel) async {
        do throws(CloudError) {
            for filter in plan.ended { try await commands.endConnections(filter) }
            for address in plan.examined {
                for connection in ConnectionPlan.revoked(try await commands.connections(to: address), in: model) {
                    try await commands.endConnections(connection.deletion)
                }
            }
        } catch {
            logger.warning("connections could not be ended", metadata: ["error": "\(DaemonFailure.text(error))"])
        }
    }

    // MARK: State

    /// One change at a time: an actor alone lets others in at each `await`.
    private func alone<R: Sendable>(_ body: () async throws(CloudError) -> R) async throws(CloudError) -> R {
        await gate.enter()
        do throws(CloudError) {
            let result = try await body()
            await gate.leave()
            return result
        } catch {
            await gate.leave()
            throw error
        }
    }

    private func load() async throws(CloudError) {
        if loaded { return }
        if let kept = try await store.load() {
            current = (try NetworkModel(kept.state), kept.state)
            generation = kept.generation
        }
        loaded = true
    }

    private func loadQuietly() async {
        do throws(CloudError) {
            try await alone { () async throws(CloudError) in try await self.load() }
        } catch {
            logger.error("the kept network cannot be read", metadata: ["error": "\(DaemonFailure.text(error))"])
        }
    }
}

/// `karri-nc teardown`: everything of ours leaves the host's network, and the kernel settings become what they were. May be repeated.
public enum NetworkTeardown {
    public static func run(
        settings: NetworkSettings, storage: any JournalStorage, runner: any CommandRunning = CommandRunner()
    ) async throws(CloudError) {
        let commands = HostCommands(settings: settings, runner: runner)
        try await DHCPServer(settings: settings, runner: runner).remove()
        try await commands.load(firewall: FirewallText.removal(settings))
        // The addresses go with the bridge.
        try await commands.removeBridge()
        let store = NetworkStore(storage: storage)
        try await commands.restore(try await store.hostSettings())
        try await store.clear()
    }
}
