import API
import Domain
import NodeControllerKit
import Signing
import Synchronization
import TestKit
import Wire

/// One hypervisor host: what outlives its node controller.
final class SimulatedNode: Sendable {
    let name: String
    let endpoint: String
    let capacity: NodeCapacity
    let hypervisor: SimulatedHypervisor
    let images = SimulatedImages()
    let disks = SimulatedDisks()
    let records: DurableRecords
    private let obeysOldCommands: Bool
    private let wires: Wires
    private struct Alive {
        let network: SimulatedNetwork
        let journal: Journal
    }
    private let alive = Mutex<Alive?>(nil)

    init(number: Int, capacity: NodeCapacity, forgetsTombstones: Bool, obeysOldCommands: Bool, wires: Wires) {
        name = "node\(number)"
        endpoint = "10.0.0.1\(number):8775"
        self.capacity = capacity
        self.obeysOldCommands = obeysOldCommands
        self.wires = wires
        hypervisor = SimulatedHypervisor(clock: wires.clock)
        records = DurableRecords(forgetsTombstones: forgetsTombstones)
    }

    func boot(_ life: Life) async throws -> SimulatedHost.Daemon {
        let random = wires.random.fork(name)
        let deeds = Deeds(life: life, clock: wires.clock, random: random.fork("deeds"))
        life.onKill { [records] in records.crash(random.fork("crash")) }
        let storage = LifeJournal(records: records, deeds: deeds)
        let journal = Journal(storage: storage)
        for damaged in try await journal.open() { wires.trace.note("\(name): DAMAGED journal record \(damaged)") }
        let network = SimulatedNetwork(storage: storage)
        let transport = wires.network.transport(
            from: PeerIdentity(cloud: "sim", role: "nc", name: name), life: life, timeoutMilliseconds: 30_000)
        let environment = NodeEnvironment(
            name: name, hypervisor: LifeHypervisor(base: hypervisor, deeds: deeds), journal: journal,
            images: LifeImages(base: images, deeds: deeds), disks: LifeDisks(base: disks, deeds: deeds), network: network,
            storage: { SCClient(transport: transport, endpoint: $0) }, clock: life.clock(wires.clock), random: random,
            logger: wires.logger(name), settings: NodeSettings(capacity: capacity))
        let controller = NodeController(
            environment: environment, cluster: CCClient(transport: transport, endpoint: SimulatedCluster.endpoint),
            staging: SimulatedBundleStaging(), http: NoHTTP(),
            facts: NodeFacts(version: "sim", certificatePEM: try Wires.certificate.get().pem, startedAt: wires.clock.now()))
        alive.withLock { $0 = Alive(network: network, journal: journal) }
        let actions = controller.actions
        return SimulatedHost.Daemon(
            service: NC.service,
            dispatch: { [obeysOldCommands] operation, input, context async throws(CloudError) in
                let input = obeysOldCommands ? try await Unfenced.renewed(operation, input, journal) : input
                return try await NC.dispatch(operation, input, actions, context)
            },
            work: { await controller.run() })
    }

    // MARK: for the invariants

    func journaled() async -> [InstanceRecord] {
        guard let journal = alive.withLock({ $0?.journal }) else { return [] }
        return await journal.allInstances()
    }

    func networkGeneration() async -> Int { await alive.withLock { $0?.network }?.appliedGeneration() ?? 0 }
    func networkContains(_ id: String) async -> Bool { await alive.withLock { $0?.network }?.contains(instanceID: id) ?? false }
}

extension SimulatedNode {
    func domains() async -> [DomainStatus] { (try? await hypervisor.domains()) ?? [] }
    /// Machines that run, or could.
    func activeDomains() async -> [String] { await domains().filter { $0.state.isActive }.map(\.name) }
}

/// The test double without a fence: what is told it by an older command it does as if it were the newest.
private enum Unfenced {
    static func renewed(_ operation: String, _ input: Value, _ journal: Journal) async throws(CloudError) -> Value {
        guard ["RunInstance", "StopInstance", "TerminateInstance"].contains(operation) else { return input }
        var fields = try input.fields()
        let order = operation == "RunInstance" ? try fields.need("order").fields() : fields
        let known = await journal.instance(try order.text("instanceId"))?.generation ?? 0
        if try fields.integer("generation") < known { fields["generation"] = .integer(known + 1) }
        return .record(fields)
    }
}
