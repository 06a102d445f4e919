import API
import Domain

/// Everything that the cluster controller knows, as a value: no clock, no await. It is soft: the cloud controller tells the zone, its
/// nodes and which instances are to run where; the nodes tell the rest; only reservations come from nowhere else, and they lapse.
///
/// What is free on a node = what it has − what its instances take. An instance takes the most of three:
/// - what the node reports of it (for all of them together at least the node's own sum),
/// - what the network claims for it: it is to run there, and the node has not reported this generation yet,
/// - what a reservation holds for it: the node's report is still no newer than when it was made.
/// So room that was promised stays promised, whichever controller restarts, from the reservation to the node's report.
struct ClusterLedger {
    /// This many polls without an answer, and a node is silent. Too low: a busy node's instances are unknown for nothing; too high:
    /// instances are placed on a dead node.
    static let missesUntilSilent = 3
    /// Too low: a burst is refused; too high: memory.
    static let mostReservations = 10_000
    static let longestReservationSeconds = 3600

    struct Node {
        var endpoint: String
        var report: NC.NodeReport?
        var instances: [String: NC.InstanceReport] = [:]
        var bundles: [NC.BundleReport] = []
        var lastSeen: Timestamp?
        var misses = 0
        var lastError = ""
        /// The newest network that the node has said it has.
        var networkGeneration = 0

        /// Heard once, or given up: what is known of it will not get better by waiting.
        var isSettled: Bool { lastSeen != nil || misses >= missesUntilSilent }
        var isUp: Bool { lastSeen != nil && misses < missesUntilSilent }
    }

    struct Reservation: Equatable {
        let minCount: Int
        let items: [PlacementItem]
        /// By instance; what was given back is gone from here.
        var held: [String: Claim]
        /// What was answered, for a repeat.
        let answer: [CC.Placement]
        let lapsesAt: Timestamp
    }

    /// Room on a node for one instance, until the node itself counts it.
    struct Claim: Equatable {
        let node: String
        let need: Room
        /// A report of this generation or a newer one says what it takes now.
        let until: Int
    }

    let zone: String
    private(set) var generation = 0
    private(set) var nodes: [String: Node] = [:]
    private(set) var reservations: [String: Reservation] = [:]
    private(set) var network: (generation: Int, content: CC.ClusterNetwork)?
    /// By instance, as the network has it.
    private var committed: [String: Claim] = [:]

    init(zone: String) { self.zone = zone }

    // MARK: From above

    /// - Throws: `.stale` for an older generation than is known; `.invalidParameter` for another zone or a node named twice.
    mutating func set(_ request: CC.SetCluster) throws(CloudError) {
        guard request.zone == zone else {
            throw CloudError(.invalidParameter("zone"), "This is the cluster controller of \(zone), not of \(request.zone)")
        }
        guard request.generation >= generation else { throw CloudError(.stale(newest: Int64(generation))) }
        guard Set(request.nodes.map(\.name)).count == request.nodes.count else {
            throw CloudError(.invalidParameter("nodes"), "A node is named twice")
        }
        var next: [String: Node] = [:]
        for node in request.nodes {
            // A node at another address is another node until it has been heard there.
            if let known = nodes[node.name], known.endpoint == node.endpoint {
                next[node.name] = known
            } else {
                next[node.name] = Node(endpoint: node.endpoint)
            }
        }
        nodes = next
        generation = request.generation
    }

    /// - Throws: `.stale` for an older generation than this controller or one of its nodes has seen.
    mutating func set(network content: CC.ClusterNetwork, generation: Int) throws(CloudError) {
        let newest = max(network?.generation ?? 0, nodes.values.map(\.networkGeneration).max() ?? 0)
        guard generation >= newest else { throw CloudError(.stale(newest: Int64(newest))) }
        network = (generation, content)
        committed = [:]
        for placed in content.instances {
            guard let id = placed.address?.instanceId, let node = placed.node, let claim = placed.claim else { continue }
            committed[id] = Claim(
                node: node,
                need: Room(cores: claim.cores ?? 0, memoryMiB: claim.memoryMiB ?? 0, diskGiB: claim.diskGiB ?? 0).clamped,
                until: claim.generation ?? 0)
        }
    }

    // MARK: From below

    struct Change: Equatable {
        /// It was silent, or never heard before, or has restarted; or instances changed: worth a look.
        var isNews: Bool
    }

    mutating func heard(
        _ name: String, endpoint: String, _ report: NC.NodeReport, _ instances: NC.DescribeInstancesResponse, at now: Timestamp
    ) -> Change {
        guard var node = nodes[name], node.endpoint == endpoint else { return Change(isNews: false) }
        let before = node
        node.report = report
        node.instances = Dictionary(
            instances.instances.compactMap { r in r.instanceId.map { ($0, r) } }, uniquingKeysWith: { first, _ in first })
        node.bundles = instances.bundles
        node.lastSeen = now
        node.misses = 0
        node.lastError = ""
        node.networkGeneration = instances.networkGeneration ?? report.networkGeneration ?? 0
        nodes[name] = node
        return Change(
            isNews: !before.isUp || before.report?.startCount != report.startCount || before.instances != node.instances
                || before.bundles != node.bundles)
    }

    /// - Returns: whether the node has become silent by this.
    mutating func missed(_ name: String, endpoint: String, _ error: String) -> Bool {
        guard var node = nodes[name], node.endpoint == endpoint else { return false }
        let wasUp = node.isUp
        node.misses += 1
        node.lastError = error
        nodes[name] = node
        return wasUp && !node.isUp
    }

    /// What a node answered to a command is newer than its last report.
    mutating func note(_ name: String, _ report: NC.InstanceReport) {
        guard let id = report.instanceId else { return }
        nodes[name]?.instances[id] = report
    }

    mutating func note(_ name: String, _ bundle: NC.BundleReport) {
        guard var node = nodes[name] else { return }
        node.bundles.removeAll { $0.taskId == bundle.taskId }
        node.bundles.append(bundle)
        nodes[name] = node
    }

    mutating func confirmed(_ name: String, networkGeneration: Int) {
        guard let node = nodes[name] else { return }
        nodes[name]?.networkGeneration = max(node.networkGeneration, networkGeneration)
    }

    // MARK: Room

    /// What is still to be learned after a start before anything can be promised; `nil`: nothing.
    var unlearned: String? {
        if generation == 0 { return "it has not been told its nodes yet" }
        let waiting = nodes.filter { !$0.value.isSettled }.keys.sorted()
        if !waiting.isEmpty { return "it has not heard yet: \(waiting.joined(separator: ", "))" }
        return network == nil ? "it has not been told which instances there are" : nil
    }

    /// An item without a node goes where there is room. One with a node has its disk there: it goes there or nowhere, may be named by
    /// several reservations (each start of a stopped instance makes one), and takes only what is not counted for it already.
    ///
    /// - Throws: `.unavailable` until the cluster is known and each node was heard once or given up, and when the node of an item does not
    ///   answer; `.capacity`; `.duplicate`; `.idempotencyMismatch`; `.invalidParameter`.
    mutating func reserve(_ request: CC.Reserve, policy: PlacementPolicy, now: Timestamp) throws(CloudError) -> [CC.Placement] {
        expire(now)
        let items = try Self.items(request)
        if let known = reservations[request.reservationId] {
            guard known.items == items, known.minCount == request.minCount else { throw CloudError(.idempotencyMismatch) }
            return known.answer
        }
        if let unlearned { throw CloudError(.unavailable("The cluster controller of \(zone)"), context: unlearned) }
        guard reservations.count < Self.mostReservations else {
            throw CloudError(.unavailable("The cluster controller of \(zone)"), context: "\(reservations.count) reservations are open")
        }
        for reservation in reservations.values {
            if let twice = items.first(where: { item in reservation.held[item.id].map { $0.node != item.node } ?? false }) {
                throw CloudError(.duplicate(.instance, name: twice.id), context: "another reservation holds \(twice.id)")
            }
        }
        let claims = claims()
        let open = try items.map { item throws(CloudError) in
            guard let name = item.node else { return item }
            guard let node = nodes[name], node.isUp else {
                throw CloudError(.unavailable("The node of \(item.id)"), context: "node \(name): \(nodes[name]?.lastError ?? "unknown")")
            }
            let counted = (claims[name]?[item.id] ?? .none).union(node.instances[item.id].map(Self.room) ?? .none)
            return PlacementItem(id: item.id, need: (item.need - counted).clamped, node: name)
        }
        switch PlacementPlanner.plan(open, minCount: request.minCount, nodes: placementNodes(claims), policy: policy) {
        case .shortage(let shortage): throw CloudError(.capacity(shortage))
        case .placed(let placed):
            let answer = placed.map { CC.Placement(instanceId: $0.id, node: $0.node) }
            let seconds = min(max(request.seconds, 1), Self.longestReservationSeconds)
            let needs = Dictionary(items.map { ($0.id, $0.need) }, uniquingKeysWith: { first, _ in first })
            var held: [String: Claim] = [:]
            for (id, node) in placed {
                held[id] = Claim(
                    node: node, need: needs[id] ?? .none, until: (nodes[node]?.instances[id].map { $0.generation ?? 0 } ?? -1) + 1)
            }
            reservations[request.reservationId] = Reservation(
                minCount: request.minCount, items: items, held: held, answer: answer, lapsesAt: now.adding(seconds: Int64(seconds)))
            return answer
        }
    }

    private static func items(_ request: CC.Reserve) throws(CloudError) -> [PlacementItem] {
        guard !request.items.isEmpty, request.items.count <= 1000, (1...request.items.count).contains(request.minCount) else {
            throw CloudError(.invalidParameter("minCount"), "A reservation has 1 to 1000 items, and minCount is at most their number")
        }
        guard Set(request.items.map(\.instanceId)).count == request.items.count else {
            throw CloudError(.invalidParameter("items"), "An instance is named twice")
        }
        for item in request.items {
            guard item.cores >= 0, item.memoryMiB >= 0, item.diskGiB >= 0, item.cores < 1 << 20, item.memoryMiB < 1 << 40,
                item.diskGiB < 1 << 40
            else { throw CloudError(.invalidParameter("items"), "\(item.instanceId) asks for an impossible amount") }
        }
        return request.items.map {
            PlacementItem(id: $0.instanceId, need: Room(cores: $0.cores, memoryMiB: $0.memoryMiB, diskGiB: $0.diskGiB), node: $0.node)
        }
    }

    /// All of a reservation, or some of its instances. One that is not known has been given back already.
    mutating func release(_ id: String, instanceIDs: [String]) {
        guard !instanceIDs.isEmpty else {
            reservations[id] = nil
            return
        }
        for instance in instanceIDs { reservations[id]?.held[instance] = nil }
        if reservations[id]?.held.isEmpty == true { reservations[id] = nil }
    }

    mutating func expire(_ now: Timestamp) {
        for (id, reservation) in reservations {
            let held = reservation.held.filter { nodes[$0.value.node] != nil }
            if held.isEmpty || now >= reservation.lapsesAt { reservations[id] = nil } else { reservations[id]?.held = held }
        }
    }

    /// What an instance takes, as its node reports it.
    private static func room(_ report: NC.InstanceReport) -> Room {
        let room = Room(cores: report.cores ?? 0, memoryMiB: report.memoryMiB ?? 0, diskGiB: report.diskGiB ?? 0)
        switch NodeInstanceState(rawValue: report.state ?? "") {
        case .terminated: return .none
        // It has ended, and its node still has the order to run it: it will run again, or the order will be withdrawn.
        case .stopped, .crashed, .failed:
            return report.desired == "running" ? room : Room(cores: 0, memoryMiB: 0, diskGiB: room.diskGiB)
        // A state that is not known here is taken to use what it says.
        case .pending, .running, .paused, .stopping, .terminating, nil: return room
        }
    }

    func used(_ name: String) -> Room {
        guard let node = nodes[name] else { return .none }
        let own = Room(
            cores: node.report?.usedCores ?? 0, memoryMiB: node.report?.usedMemoryMiB ?? 0, diskGiB: node.report?.usedDiskGiB ?? 0)
        return node.instances.values.reduce(Room.none) { $0 + Self.room($1) }.union(own)
    }

    /// By node and instance: what is promised and not yet counted by the node.
    private func claims() -> [String: [String: Room]] {
        var all: [String: [String: Room]] = [:]
        func add(_ id: String, _ claim: Claim) {
            if let report = nodes[claim.node]?.instances[id], (report.generation ?? 0) >= claim.until { return }
            all[claim.node, default: [:]][id] = (all[claim.node]?[id] ?? .none).union(claim.need)
        }
        for (id, claim) in committed { add(id, claim) }
        for reservation in reservations.values {
            for (id, claim) in reservation.held { add(id, claim) }
        }
        return all
    }

    /// - Parameter claims: those on this node.
    private func free(_ name: String, _ claims: [String: Room]) -> Room {
        var free = limit(name) - used(name)
        for (id, need) in claims { free -= (need - (nodes[name]?.instances[id].map(Self.room) ?? .none)).clamped }
        return free.clamped
    }

    func limit(_ name: String) -> Room {
        let report = nodes[name]?.report
        return Room(cores: report?.cores ?? 0, memoryMiB: report?.memoryMiB ?? 0, diskGiB: report?.diskGiB ?? 0)
    }

    private func placementNodes(_ claims: [String: [String: Room]]) -> [PlacementNode] {
        nodes.map { name, node in
            PlacementNode(
                name: name, free: free(name, claims[name] ?? [:]), limit: limit(name), isSilent: !node.isUp,
                isDegraded: node.report?.state == "degraded")
        }
    }

    // MARK: Views

    func views() -> [CC.NodeView] {
        let claims = claims()
        return nodes.keys.sorted().map { name in
            let node = nodes[name] ?? Node(endpoint: "")
            let free = free(name, claims[name] ?? [:])
            return CC.NodeView(
                name: name, endpoint: node.endpoint, state: node.isUp ? "up" : "unknown", lastSeen: node.lastSeen, report: node.report,
                freeCores: free.cores, freeMemoryMiB: free.memoryMiB, freeDiskGiB: free.diskGiB,
                lastError: node.lastError.isEmpty ? nil : node.lastError)
        }
    }

    func instances() -> [CC.NodeInstances] {
        nodes.keys.sorted().map { name in
            let node = nodes[name] ?? Node(endpoint: "")
            return CC.NodeInstances(
                node: name, state: node.isUp ? "up" : "unknown", observedAt: node.lastSeen,
                instances: node.instances.keys.sorted().compactMap { node.instances[$0] }, bundles: node.bundles)
        }
    }

    /// The slice that a node has to have, when it has an older one or none.
    func dueSlice(_ name: String) -> (generation: Int, slice: NC.NetworkState)? {
        guard let network, let node = nodes[name], node.networkGeneration < network.generation else { return nil }
        let hosts = nodes.mapValues { NetworkSlice.host(of: $0.endpoint) }
        return (network.generation, NetworkSlice.slice(of: network.content, for: name, hosts: hosts))
    }

    /// Nodes that have not confirmed this network.
    func pendingNodes() -> [String] {
        guard let network else { return [] }
        return nodes.filter { $0.value.networkGeneration < network.generation }.keys.sorted()
    }
}
