import API
import Domain

/// Everything that the cluster controller knows, as a value: no clock, no await. It is soft: the cloud controller tells the zone and its
/// nodes, the nodes tell the rest; only reservations come from nowhere else, and they lapse.
///
/// What is free on a node = what it has − what its instances take (the node's own sum, or that of its reports if that is more) −
/// reservations whose instance the node has not reported yet. A reservation lapses at its time, except for an instance that is in the
/// network already: that one has been committed, and its room is kept until the node reports it (else a node that is silent for a
/// minute would lose what was promised on it).
struct ClusterLedger {
    /// This many polls without an answer, and a node is silent. Too low: a busy node's instances are unknown for nothing; too high:
    /// instances are placed on a dead node.
    static let missesUntilSilent = 3
    /// After a restart of this controller, or the silence of a node, reservations wait this long for what the network has on the node and
    /// the node has not reported: accepted instances whose reservation went with the restart, of a size that is not known here. Too low:
    /// their room is promised twice; too high: one instance that cannot be delivered holds up all launches.
    static let unseenSeconds: Int64 = 120
    /// Too low: a burst is refused; too high: memory.
    static let mostReservations = 10_000
    static let longestReservationSeconds = 3600

    struct Node {
        var endpoint: String
        var report: NC.NodeReport?
        var instances: [String: NC.InstanceReport] = [:]
        var bundles: [NC.BundleReport] = []
        var lastSeen: Timestamp?
        /// Since when it has answered without a silence.
        var heardSince: Timestamp?
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
        /// Instance → node; what was given back or lapsed is gone from here.
        var held: [String: String]
        /// What was answered, for a repeat.
        let answer: [CC.Placement]
        let lapsesAt: Timestamp
    }

    let zone: String
    private(set) var generation = 0
    private(set) var nodes: [String: Node] = [:]
    private(set) var reservations: [String: Reservation] = [:]
    private(set) var network: (generation: Int, content: CC.ClusterNetwork)?
    /// Instance → node, as the network has it.
    private var committed: [String: String] = [:]

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
        committed = Dictionary(
            content.instances.compactMap { placed in placed.address?.instanceId.flatMap { id in placed.node.map { (id, $0) } } },
            uniquingKeysWith: { first, _ in first })
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
        if !before.isUp { node.heardSince = now }
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

    /// - Throws: `.unavailable` until the cluster is known and each node was heard once or given up; `.capacity`;
    ///   `.idempotencyMismatch`; `.invalidParameter`.
    mutating func reserve(_ request: CC.Reserve, policy: PlacementPolicy, now: Timestamp) throws(CloudError) -> [CC.Placement] {
        expire(now)
        let items = try Self.items(request)
        if let known = reservations[request.reservationId] {
            guard known.items == items, known.minCount == request.minCount else { throw CloudError(.idempotencyMismatch) }
            return known.answer
        }
        guard generation > 0 else {
            throw CloudError(.unavailable("The cluster controller of \(zone)"), context: "it has not been told its nodes yet")
        }
        let waiting = nodes.filter { !$0.value.isSettled }.keys.sorted()
        guard waiting.isEmpty else {
            throw CloudError(
                .unavailable("The cluster controller of \(zone)"), context: "it has not heard yet: \(waiting.joined(separator: ", "))")
        }
        guard network != nil else {
            throw CloudError(
                .unavailable("The cluster controller of \(zone)"), context: "it has not been told which instances there are")
        }
        let unseen = unseen(now)
        guard unseen.isEmpty else {
            throw CloudError(
                .unavailable("The cluster controller of \(zone)"),
                context: "accepted, and not yet reported by their nodes: \(unseen.prefix(10).joined(separator: ", "))")
        }
        guard reservations.count < Self.mostReservations else {
            throw CloudError(.unavailable("The cluster controller of \(zone)"), context: "\(reservations.count) reservations are open")
        }
        let taken = Set(reservations.values.flatMap(\.held.keys))
        if let twice = items.first(where: { taken.contains($0.id) }) {
            throw CloudError(.duplicate(.instance, name: twice.id), context: "another reservation holds \(twice.id)")
        }
        switch PlacementPlanner.plan(items, minCount: request.minCount, nodes: placementNodes(), policy: policy) {
        case .shortage(let shortage): throw CloudError(.capacity(shortage))
        case .placed(let placed):
            let answer = placed.map { CC.Placement(instanceId: $0.id, node: $0.node) }
            let seconds = min(max(request.seconds, 1), Self.longestReservationSeconds)
            reservations[request.reservationId] = Reservation(
                minCount: request.minCount, items: items,
                held: Dictionary(placed.map { ($0.id, $0.node) }, uniquingKeysWith: { first, _ in first }), answer: answer,
                lapsesAt: now.adding(seconds: Int64(seconds)))
            return answer
        }
    }

    /// Instances that have been accepted, are on their way to a node that answers, and have no reservation here.
    private func unseen(_ now: Timestamp) -> [String] {
        guard !committed.isEmpty else { return [] }
        var held: [String: String] = [:]
        for reservation in reservations.values { held.merge(reservation.held) { first, _ in first } }
        return committed.compactMap { id, name in
            guard let node = nodes[name], node.isUp, node.instances[id] == nil, held[id] != name, let since = node.heardSince,
                now < since.adding(seconds: Self.unseenSeconds)
            else { return nil }
            return id
        }.sorted()
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
            PlacementItem(id: $0.instanceId, need: Room(cores: $0.cores, memoryMiB: $0.memoryMiB, diskGiB: $0.diskGiB))
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
            var held = reservation.held
            for (instance, name) in reservation.held {
                // What the node reports is counted there from now on.
                let isReported = nodes[name]?.instances[instance] != nil
                let hasLapsed = now >= reservation.lapsesAt && committed[instance] != name
                if nodes[name] == nil || hasLapsed || (isReported && now >= reservation.lapsesAt) { held[instance] = nil }
            }
            if held.isEmpty { reservations[id] = nil } else if held != reservation.held { reservations[id]?.held = held }
        }
    }

    func used(_ name: String) -> Room {
        guard let node = nodes[name] else { return .none }
        var sum = Room.none
        for report in node.instances.values {
            let room = Room(cores: report.cores ?? 0, memoryMiB: report.memoryMiB ?? 0, diskGiB: report.diskGiB ?? 0)
            switch NodeInstanceState(rawValue: report.state ?? "") {
            case .terminated: break
            // It has ended, and its node still has the order to run it: it will run again, or the order will be withdrawn.
            case .stopped, .crashed, .failed: if report.desired == "running" { sum += room } else { sum.diskGiB += room.diskGiB }
            // A state that is not known here is taken to use what it says.
            case .pending, .running, .paused, .stopping, .terminating, nil: sum += room
            }
        }
        let own = Room(
            cores: node.report?.usedCores ?? 0, memoryMiB: node.report?.usedMemoryMiB ?? 0, diskGiB: node.report?.usedDiskGiB ?? 0)
        return sum.union(own)
    }

    func reserved(_ name: String) -> Room {
        var sum = Room.none
        let reported = nodes[name]?.instances ?? [:]
        for reservation in reservations.values {
            for item in reservation.items where reservation.held[item.id] == name && reported[item.id] == nil { sum += item.need }
        }
        return sum
    }

    func limit(_ name: String) -> Room {
        let report = nodes[name]?.report
        return Room(cores: report?.cores ?? 0, memoryMiB: report?.memoryMiB ?? 0, diskGiB: report?.diskGiB ?? 0)
    }

    func free(_ name: String) -> Room { (limit(name) - used(name) - reserved(name)).clamped }

    private func placementNodes() -> [PlacementNode] {
        nodes.map { name, node in
            PlacementNode(
                name: name, free: free(name), limit: limit(name), isSilent: !node.isUp, isDegraded: node.report?.state == "degraded")
        }
    }

    // MARK: Views

    func views() -> [CC.NodeView] {
        nodes.keys.sorted().map { name in
            let node = nodes[name] ?? Node(endpoint: "")
            let free = free(name)
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
