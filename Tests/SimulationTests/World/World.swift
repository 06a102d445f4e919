import Database
import Domain
import NodeControllerKit
import Synchronization
import TestKit
import Workflow

/// A whole cloud: machines, wires, time. Everything that happens in it follows from the seed.
final class World: Sendable {
    struct Plan: Sendable {
        var nodes = 2
        /// See `DurableRecords`.
        var forgetsTombstones = false
        /// See `Unfenced`.
        var obeysOldCommands = false
        var weather = LossyNetwork.Weather.storm
    }

    let seed: UInt64
    let clock = VirtualClock()
    let random: SeededRandom
    let trace: Trace
    let network: LossyNetwork
    let wires: Wires
    let nodes: [SimulatedNode]
    let cluster: SimulatedCluster
    let storage: SimulatedStorage
    let cloud: SimulatedCloud
    let nodeHosts: [SimulatedHost]
    let clusterHost, storageHost, cloudHost: SimulatedHost
    /// For looking, never for changing.
    let inspector: DatabasePool
    /// What was seen to be wrong while it happened.
    private let found = Mutex<[String]>([])

    init(seed: UInt64, plan: Plan, database: String) {
        self.seed = seed
        random = SeededRandom(seed: seed)
        trace = Trace(clock: clock)
        network = LossyNetwork(clock: clock, random: random.fork("network"), trace: trace)
        let wires = Wires(clock: clock, random: random.fork("wires"), network: network, trace: trace, database: database)
        self.wires = wires
        nodes = (1...plan.nodes).map {
            SimulatedNode(
                number: $0, capacity: NodeCapacity(cores: 6, memoryMiB: 4096, diskGiB: 40), forgetsTombstones: plan.forgetsTombstones,
                obeysOldCommands: plan.obeysOldCommands, wires: wires)
        }
        let cluster = SimulatedCluster(wires: wires)
        let storage = SimulatedStorage(wires: wires)
        let cloud = SimulatedCloud(wires: wires)
        (self.cluster, self.storage, self.cloud) = (cluster, storage, cloud)
        let (network, trace) = (network, trace)
        nodeHosts = nodes.map { node in
            SimulatedHost(role: "nc", name: node.name, endpoint: node.endpoint, network: network, trace: trace) { try await node.boot($0) }
        }
        clusterHost = SimulatedHost(
            role: "cc", name: SimulatedCluster.name, endpoint: SimulatedCluster.endpoint, network: network, trace: trace
        ) { try await cluster.boot($0) }
        storageHost = SimulatedHost(
            role: "sc", name: SimulatedStorage.name, endpoint: SimulatedStorage.endpoint, network: network, trace: trace
        ) { try await storage.boot($0) }
        cloudHost = SimulatedHost(
            role: "clc", name: SimulatedCloud.name, endpoint: SimulatedCloud.endpoint, network: network, trace: trace
        ) { try await cloud.boot($0) }
        inspector = DatabasePool(inlineForSimulation: database, name: "sim-inspector")
    }

    var hosts: [SimulatedHost] { nodeHosts + [clusterHost, storageHost, cloudHost] }

    func complain(_ what: String) {
        let isNew = found.withLock { all in
            if all.contains(what) { return false }
            all.append(what)
            return true
        }
        if isNew { trace.note("VIOLATION \(what)") }
    }
    var complaints: [String] { found.withLock { $0 } }

    func sleep(_ milliseconds: Int) async { try? await clock.sleep(milliseconds: milliseconds) }

    /// Runs the cloud for as long as `body` takes.
    func live<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
        defer { inspector.close() }
        try await SimulatedCloud.register(wires.database, nodes: nodes.map { ($0.name, $0.endpoint) })
        return try await withThrowingTaskGroup(of: R?.self) { group in
            group.addTask {
                await self.network.run()
                return nil
            }
            for node in nodes {
                group.addTask {
                    await node.hypervisor.run()
                    return nil
                }
            }
            for host in hosts {
                group.addTask {
                    await host.run()
                    return nil
                }
            }
            group.addTask { try await body() }
            defer { group.cancelAll() }
            for try await result in group {
                if let result {
                    for host in hosts { host.life?.kill() }
                    return result
                }
            }
            throw CancellationError()
        }
    }
}
