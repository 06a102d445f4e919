public import API
public import Domain

/// A node's network without a host: the same rules about generations, durability and what is refused, and answers to the question that
/// matters, who reaches whom. Given the same storage, a second one is the node after a restart.
public actor SimulatedNetwork: NodeNetwork {
    private let store: NetworkStore
    private let gate = Gate(1)
    private var current: (model: NetworkModel, state: NC.NetworkState)?
    private var generation = 0
    private var loaded = false
    private var failure: CloudError?

    public init(storage: any JournalStorage) { store = NetworkStore(storage: storage) }

    public nonisolated var capabilities: NetworkCapabilities { NetworkCapabilities(endsConnections: true, servesDHCP: false) }

    /// Until called with `nil`, `apply` fails with this and changes nothing.
    public func fail(with error: CloudError?) { failure = error }

    public func apply(_ network: NC.NetworkState, generation newer: Int) async throws(CloudError) -> Int {
        try await alone { () async throws(CloudError) -> Int in try await self.replace(network, newer) }
    }

    private func replace(_ network: NC.NetworkState, _ newer: Int) async throws(CloudError) -> Int {
        try await load()
        if let failure { throw failure }
        if newer < generation { throw CloudError(.stale(newest: Int64(generation))) }
        if newer == generation && current != nil { return generation }
        let model = try NetworkModel(network)
        try await store.save(network, generation: newer)
        current = (model, network)
        generation = newer
        return newer
    }

    public func appliedGeneration() async -> Int {
        try? await load()
        return generation
    }

    public func contains(instanceID: String) async -> Bool {
        try? await load()
        return current?.model.instance(instanceID) != nil
    }

    public func instanceRemoved(instanceID: String) async {
        try? await load()
        guard let there = current, there.model.instance(instanceID) != nil else { return }
        var state = there.state
        state.instances.removeAll { $0.instanceId == instanceID }
        current = (there.model.removing(instanceID), state)
        try? await store.save(state, generation: generation)
    }

    public func publicAddress(of privateAddress: String) async -> String? {
        try? await load()
        return current?.model.instances.first { $0.address.description == privateAddress }?.publicAddress?.description
    }

    /// Whether a TCP connection from this address (private, or outside) to the instance's private or public address is let in.
    public func reaches(from source: String, to destination: String, port: Int) async -> Bool {
        try? await load()
        guard let model = current?.model, let from = IPv4Address(parsing: source), let to = IPv4Address(parsing: destination),
            let instance = model.instances.first(where: { $0.address == to || $0.publicAddress == to })
        else { return false }
        return model.allows(Probe(kind: .tcp(port: port), source: from), to: instance)
    }

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
}
