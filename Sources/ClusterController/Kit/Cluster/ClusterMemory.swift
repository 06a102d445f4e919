import API
import Domain
import Workflow

/// The ledger behind an actor: every question and every change is one step, none waits for anything.
actor ClusterMemory {
    private var ledger: ClusterLedger
    private let policy: PlacementPolicy
    /// What nodes asked to have looked at, until it was told upwards.
    private var nudged: [String: Set<String>] = [:]
    private var nudges: [String: Nudge] = [:]
    private var watched: Set<String> = []

    init(zone: String, policy: PlacementPolicy) {
        ledger = ClusterLedger(zone: zone)
        self.policy = policy
    }

    var generation: Int { ledger.generation }
    var nodes: [(name: String, endpoint: String)] { ledger.nodes.map { ($0.key, $0.value.endpoint) }.sorted { $0.0 < $1.0 } }

    func set(_ request: CC.SetCluster) throws(CloudError) {
        try ledger.set(request)
        nudges = nudges.filter { ledger.nodes[$0.key] != nil }
        nudged = nudged.filter { ledger.nodes[$0.key] != nil }
    }

    func set(network: CC.ClusterNetwork, generation: Int) throws(CloudError) { try ledger.set(network: network, generation: generation) }

    func reserve(_ request: CC.Reserve, now: Timestamp) throws(CloudError) -> [CC.Placement] {
        try ledger.reserve(request, policy: policy, now: now)
    }

    var unlearned: String? { ledger.unlearned }
    var networkGeneration: Int? { ledger.network?.generation }

    func release(_ id: String, instanceIDs: [String]) { ledger.release(id, instanceIDs: instanceIDs) }

    func views(now: Timestamp) -> (generation: Int, nodes: [CC.NodeView]) {
        ledger.expire(now)
        return (ledger.generation, ledger.views())
    }

    func instances() -> [CC.NodeInstances] { ledger.instances() }
    func pendingNodes() -> [String] { ledger.pendingNodes() }
    func dueSlice(_ name: String) -> (generation: Int, slice: NC.NetworkState)? { ledger.dueSlice(name) }

    /// Where a node that answers is.
    /// - Throws: `.notFound(.node)`; `.unavailable` when it is silent.
    func endpoint(_ name: String) throws(CloudError) -> String {
        guard let node = ledger.nodes[name] else { throw CloudError(.notFound(.node, id: name)) }
        guard node.isUp else {
            throw CloudError(.unavailable("The node \(name)"), context: node.lastError.isEmpty ? "it was not heard yet" : node.lastError)
        }
        return node.endpoint
    }

    func heard(
        _ name: String, endpoint: String, _ report: NC.NodeReport, _ instances: NC.DescribeInstancesResponse, at now: Timestamp
    ) -> Bool { ledger.heard(name, endpoint: endpoint, report, instances, at: now).isNews }

    func missed(_ name: String, endpoint: String, _ error: String) -> Bool { ledger.missed(name, endpoint: endpoint, error) }
    func note(_ name: String, _ report: NC.InstanceReport) { ledger.note(name, report) }
    func note(_ name: String, _ bundle: NC.BundleReport) { ledger.note(name, bundle) }
    func confirmed(_ name: String, networkGeneration: Int) { ledger.confirmed(name, networkGeneration: networkGeneration) }
    func isUp(_ name: String) -> Bool { ledger.nodes[name]?.isUp ?? false }

    // MARK: Nudges and watches

    /// - Returns: false for a node that is not of this cluster.
    func nudge(_ name: String, ids: [String]) -> Bool {
        guard ledger.nodes[name] != nil else { return false }
        nudged[name, default: []].formUnion(ids.prefix(1000))
        nudge(of: name).signal()
        return true
    }

    func takeNudged(_ name: String) -> [String] { (nudged.removeValue(forKey: name) ?? []).sorted() }

    func nudge(of name: String) -> Nudge {
        if let known = nudges[name] { return known }
        let new = Nudge()
        nudges[name] = new
        return new
    }

    /// Nodes that nobody watches yet; they count as watched from now on.
    func takeUnwatched() -> [(name: String, endpoint: String)] {
        let new = nodes.filter { !watched.contains(Self.key($0.name, $0.endpoint)) }
        for node in new { watched.insert(Self.key(node.name, node.endpoint)) }
        return new
    }

    /// Whether the watch of a node goes on. When it does not, it is no longer watched.
    func isWatched(_ name: String, _ endpoint: String) -> Bool {
        if ledger.nodes[name]?.endpoint == endpoint { return true }
        watched.remove(Self.key(name, endpoint))
        return false
    }

    func forgetWatches() { watched = [] }

    private static func key(_ name: String, _ endpoint: String) -> String { "\(name) \(endpoint)" }
}
