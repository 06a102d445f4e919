import API
import ClusterControllerKit
import Domain
import Testing
import Wire

/// A cluster of fake nodes.
struct Cluster {
    let nodes: [String: FakeNode]
    let cloud = FakeCloud()
    let clock = StillClock()
    let controller: ClusterController
    let context = CallContext(requestID: "test")

    init(_ names: [String] = ["a", "b"]) {
        let nodes = Dictionary(names.map { ("\($0).host:8775", FakeNode($0)) }, uniquingKeysWith: { first, _ in first })
        self.nodes = Dictionary(names.compactMap { n in nodes["\(n).host:8775"].map { (n, $0) } }, uniquingKeysWith: { first, _ in first })
        controller = ClusterController(
            zone: "z", node: { nodes[$0] ?? FakeNode("nobody") }, cloud: cloud, clock: clock, random: CountingRandom())
    }

    func tell(_ generation: Int = 1, names: [String]? = nil) async throws {
        let list = (names ?? nodes.keys.sorted()).map { CC.NodeAddress(name: $0, endpoint: "\($0).host:8775") }
        _ = try await controller.setCluster(CC.SetCluster(zone: "z", generation: generation, nodes: list), context)
        // The empty network of a new cloud; refused as stale where a test has applied another.
        _ = try? await controller.applyNetwork(CC.ApplyNetwork(network: CC.ClusterNetwork(), generation: 0), context)
    }

    /// Told and heard.
    static func ready(_ names: [String] = ["a", "b"]) async throws -> Cluster {
        let cluster = Cluster(names)
        try await cluster.tell()
        await cluster.controller.pass()
        return cluster
    }

    func items(_ ids: [String], cores: Int = 2) -> [CC.ReservationItem] {
        ids.map { CC.ReservationItem(instanceId: $0, cores: cores, memoryMiB: 512, diskGiB: 5) }
    }

    func reserve(_ id: String, _ ids: [String], cores: Int = 2, minCount: Int? = nil, seconds: Int = 60) async throws -> [String: String] {
        let answer = try await controller.reserve(
            CC.Reserve(reservationId: id, minCount: minCount ?? ids.count, seconds: seconds, items: items(ids, cores: cores)), context)
        return Dictionary(answer.placements.map { ($0.instanceId ?? "", $0.node ?? "") }, uniquingKeysWith: { first, _ in first })
    }

    /// An instance that is to run, as the network has it.
    static func claimed(_ id: String, on node: String, generation: Int = 1, cores: Int = 2) -> CC.PlacedAddress {
        CC.PlacedAddress(
            node: node, address: NC.InstanceAddress(instanceId: id),
            claim: CC.Claim(generation: generation, cores: cores, memoryMiB: 512, diskGiB: 5))
    }

    func start(_ reservation: String, _ ids: [String], on node: String, cores: Int = 2) async throws {
        let items = ids.map { CC.ReservationItem(instanceId: $0, cores: cores, memoryMiB: 512, diskGiB: 5, node: node) }
        _ = try await controller.reserve(
            CC.Reserve(reservationId: reservation, minCount: ids.count, seconds: 60, items: items), context)
    }

    func free(_ node: String) async throws -> Int {
        let view = try await controller.describeNodes(CC.DescribeNodes(), context)
        return view.nodes.first { $0.name == node }?.freeCores ?? -1
    }

    func state(_ node: String) async throws -> String {
        try await controller.describeNodes(CC.DescribeNodes(), context).nodes.first { $0.name == node }?.state ?? ""
    }

    func run(_ id: String, on node: String, generation: Int = 1, cores: Int = 2) async throws -> NC.InstanceReport? {
        let order = NC.InstanceOrder(
            instanceId: id, cores: cores, memoryMiB: 512, diskGiB: 5, machine: NC.ImageSource(imageId: "emi-1"),
            macAddress: "02:00:00:00:00:01",
            privateAddress: "10.1.0.2")
        return try await controller.runInstance(CC.RunInstance(node: node, order: order, generation: generation), context).instance
    }

    func reason(_ body: () async throws -> Void) async -> CloudError.Reason? {
        do {
            try await body()
            return nil
        } catch { return (error as? CloudError)?.reason }
    }
}

@Suite struct LedgerTests {
    @Test func reservationsTakeRoomOnce() async throws {
        let cluster = try await Cluster.ready()
        let placed = try await cluster.reserve("r-1", ["i-1", "i-2"])
        #expect(placed == ["i-1": "a", "i-2": "b"])
        #expect(try await cluster.free("a") == 6)
        #expect(try await cluster.reserve("r-1", ["i-1", "i-2"]) == placed, "a repeat has the same answer")
        #expect(try await cluster.free("a") == 6)
        #expect(await cluster.reason { _ = try await cluster.reserve("r-1", ["i-1"]) } == .idempotencyMismatch)
        #expect(await cluster.reason { _ = try await cluster.reserve("r-2", ["i-2"]) } == .duplicate(.instance, name: "i-2"))
    }

    /// Reserved, then running and answered, then reported: the room is taken exactly once all the time.
    @Test func theHandOverFromReservationToReport() async throws {
        let cluster = try await Cluster.ready(["a"])
        _ = try await cluster.reserve("r-1", ["i-1"])
        #expect(try await cluster.free("a") == 6)
        _ = try await cluster.run("i-1", on: "a")
        #expect(try await cluster.free("a") == 6)
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 6)
        cluster.clock.move(seconds: 61)
        #expect(try await cluster.free("a") == 6)
        let node = try #require(cluster.nodes["a"])
        await node.set(NC.InstanceReport(instanceId: "i-1", state: "stopped", cores: 2, memoryMiB: 512, diskGiB: 5))
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 8, "a stopped instance has its disk only")
        let view = try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).nodes[0]
        #expect(view.freeDiskGiB == 95 && view.freeMemoryMiB == 8192)
        await node.set(NC.InstanceReport(instanceId: "i-1", state: "terminated", cores: 2, memoryMiB: 512, diskGiB: 5))
        await cluster.controller.pass()
        #expect(try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).nodes[0].freeDiskGiB == 100)
    }

    @Test func reservationsLapse() async throws {
        let cluster = try await Cluster.ready(["a"])
        _ = try await cluster.reserve("r-1", ["i-1"], seconds: 60)
        cluster.clock.move(seconds: 59)
        #expect(try await cluster.free("a") == 6)
        cluster.clock.move(seconds: 1)
        #expect(try await cluster.free("a") == 8)
        #expect(try await cluster.reserve("r-1", ["i-9"]) == ["i-9": "a"], "the id may be used again")
    }

    /// An instance that is in the network was committed: its room is kept until its node reports it.
    @Test func committedInstancesKeepTheirRoom() async throws {
        let cluster = try await Cluster.ready(["a"])
        _ = try await cluster.reserve("r-1", ["i-1", "i-2"], seconds: 60)
        let network = CC.ClusterNetwork(instances: [Cluster.claimed("i-1", on: "a")])
        _ = try await cluster.controller.applyNetwork(CC.ApplyNetwork(network: network, generation: 1), cluster.context)
        #expect(try await cluster.free("a") == 4, "once, though the reservation holds it too")
        cluster.clock.move(seconds: 600)
        #expect(try await cluster.free("a") == 6)
        _ = try await cluster.controller.applyNetwork(CC.ApplyNetwork(network: CC.ClusterNetwork(), generation: 2), cluster.context)
        #expect(try await cluster.free("a") == 8)
    }

    @Test func release() async throws {
        let cluster = try await Cluster.ready(["a"])
        _ = try await cluster.reserve("r-1", ["i-1", "i-2", "i-3"])
        _ = try await cluster.controller.release(CC.Release(reservationId: "r-1", instanceIds: ["i-2", "i-9"]), cluster.context)
        #expect(try await cluster.free("a") == 4)
        _ = try await cluster.controller.release(CC.Release(reservationId: "r-1"), cluster.context)
        _ = try await cluster.controller.release(CC.Release(reservationId: "r-1"), cluster.context)
        _ = try await cluster.controller.release(CC.Release(reservationId: "r-unknown"), cluster.context)
        #expect(try await cluster.free("a") == 8)
    }

    @Test func exhaustion() async throws {
        let cluster = try await Cluster.ready()
        _ = try await cluster.reserve("r-1", ["i-1", "i-2", "i-3"], cores: 4)
        let reason = await cluster.reason { _ = try await cluster.reserve("r-2", ["i-4", "i-5"], cores: 4) }
        guard case .capacity(let shortage) = reason else { return #expect(Bool(false)) }
        #expect(shortage.resource == .cores)
        #expect(shortage.places == [.init("a", .cores, asked: 8, free: 0, limit: 8), .init("b", .cores, asked: 8, free: 4, limit: 8)])
        #expect(try await cluster.free("b") == 4, "a refusal takes nothing")
        #expect(try await cluster.reserve("r-3", ["i-4", "i-5"], cores: 4, minCount: 1) == ["i-4": "b"])
    }

    /// A stopped instance that is started takes its cores and memory from the reservation on; its disk it has.
    @Test func startsReserve() async throws {
        let cluster = try await Cluster.ready()
        let a = try #require(cluster.nodes["a"])
        func stopped(_ id: String) -> NC.InstanceReport {
            NC.InstanceReport(instanceId: id, state: "stopped", desired: "stopped", generation: 2, cores: 4, memoryMiB: 512, diskGiB: 90)
        }
        await a.set(stopped("i-1"))
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 8)
        _ = try await cluster.controller.reserve(
            CC.Reserve(
                reservationId: "r-1", minCount: 1, seconds: 60,
                items: [CC.ReservationItem(instanceId: "i-1", cores: 4, memoryMiB: 512, diskGiB: 90, node: "a")]), cluster.context)
        #expect(try await cluster.free("a") == 4)
        // The same again, by another call: counted once, and each is given back on its own.
        try await cluster.start("r-2", ["i-1"], on: "a", cores: 4)
        #expect(try await cluster.free("a") == 4)
        _ = try await cluster.controller.release(CC.Release(reservationId: "r-1"), cluster.context)
        #expect(try await cluster.free("a") == 4)
        // What is held is not promised to another.
        let refused = await cluster.reason { try await cluster.start("r-3", ["i-2", "i-3"], on: "a", cores: 4) }
        guard case .capacity(let shortage) = refused else { return #expect(Bool(false)) }
        #expect(shortage.places == [.init("a", .cores, asked: 8, free: 4, limit: 8)], "b is not to blame")
        // A poll that still says stopped changes nothing; the node's answer to the new command does.
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 4)
        _ = try await cluster.run("i-1", on: "a", generation: 3, cores: 4)
        #expect(try await cluster.free("a") == 4)
        await a.set(
            NC.InstanceReport(
                instanceId: "i-1", state: "stopped", desired: "stopped", generation: 4, cores: 4, memoryMiB: 512, diskGiB: 90))
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 8, "the reservation has been used, and counts no more")
    }

    /// The promise of a start outlives the controller's memory: the network says that it is to run.
    @Test func startsAreCountedAfterARestart() async throws {
        let cluster = try await Cluster.ready(["a"])
        let a = try #require(cluster.nodes["a"])
        await a.set(
            NC.InstanceReport(
                instanceId: "i-1", state: "stopped", desired: "stopped", generation: 2, cores: 2, memoryMiB: 512, diskGiB: 5))
        await cluster.controller.pass()
        let network = CC.ClusterNetwork(instances: [Cluster.claimed("i-1", on: "a", generation: 3)])
        _ = try await cluster.controller.applyNetwork(CC.ApplyNetwork(network: network, generation: 1), cluster.context)
        #expect(try await cluster.free("a") == 6)
        try await cluster.start("r-1", ["i-1"], on: "a")
        #expect(try await cluster.free("a") == 6)
        let view = try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).nodes[0]
        #expect(view.freeDiskGiB == 95, "the disk it has is not taken twice")
    }

    @Test func startsOnANodeThatIsSilent() async throws {
        let cluster = try await Cluster.ready()
        await cluster.nodes["b"]?.set(unplugged: true)
        for _ in 0..<3 { await cluster.controller.pass() }
        #expect(await cluster.reason { try await cluster.start("r-1", ["i-1"], on: "b") } == .unavailable("The node of i-1"))
        #expect(await cluster.reason { try await cluster.start("r-1", ["i-1"], on: "x") } == .unavailable("The node of i-1"))
        #expect(try await cluster.free("a") == 8)
        _ = try await cluster.reserve("r-2", ["i-1"])
        let twice = await cluster.reason { try await cluster.start("r-3", ["i-1"], on: "b") }
        #expect(twice == .duplicate(.instance, name: "i-1"))
    }

    @Test func badReservations() async throws {
        let cluster = try await Cluster.ready()
        for (ids, minimum) in [([], 1), (["i-1"], 0), (["i-1"], 2), (["i-1", "i-1"], 1)] as [([String], Int)] {
            let reason = await cluster.reason { _ = try await cluster.reserve("r", ids, minCount: minimum) }
            if case .invalidParameter = reason {} else { Issue.record("\(ids) \(minimum): \(String(describing: reason))") }
        }
        let reason = await cluster.reason { _ = try await cluster.reserve("r", ["i-1"], cores: -1) }
        if case .invalidParameter = reason {} else { Issue.record("negative cores") }
    }
}

@Suite struct NodeStateTests {
    private let unavailable = CloudError.Reason.unavailable("The cluster controller of z")

    /// After a restart nothing is known, and nothing is promised.
    @Test func untilEveryNodeWasHeardThereIsNoRoom() async throws {
        let cluster = Cluster()
        let view = try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context)
        #expect(view.generation == 0 && view.nodes.isEmpty)
        #expect(await cluster.reason { _ = try await cluster.reserve("r", ["i-1"]) } == unavailable)
        try await cluster.tell(7)
        #expect(try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).generation == 7)
        #expect(await cluster.reason { _ = try await cluster.reserve("r", ["i-1"]) } == unavailable)
        await cluster.nodes["b"]?.set(unplugged: true)
        await cluster.controller.pass()
        #expect(await cluster.reason { _ = try await cluster.reserve("r", ["i-1"]) } == unavailable)
        await cluster.controller.pass()
        await cluster.controller.pass()
        #expect(try await cluster.reserve("r", ["i-1"]) == ["i-1": "a"], "b was given up")
    }

    /// A launch that comes just after a start waits a moment for what is missing.
    @Test func aReservationWaitsForTheFirstLook() async throws {
        let cluster = Cluster()
        let began = cluster.clock.now()
        async let placed = cluster.reserve("r", ["i-1"])
        while cluster.clock.now() == began { await Task.yield() }
        try await cluster.tell()
        await cluster.controller.pass()
        #expect(try await placed.count == 1)
    }

    /// After a restart, accepted instances that no node has reported yet have no reservation: the network says what they take.
    @Test func acceptedInstancesKeepTheirRoom() async throws {
        let cluster = try await Cluster.ready(["a"])
        let network = CC.ClusterNetwork(instances: [Cluster.claimed("i-1", on: "a", cores: 6)])
        _ = try await cluster.controller.applyNetwork(CC.ApplyNetwork(network: network, generation: 1), cluster.context)
        guard case .capacity = await cluster.reason({ _ = try await cluster.reserve("r", ["i-2"], cores: 4) }) else {
            return #expect(Bool(false))
        }
        #expect(try await cluster.reserve("r", ["i-2"]).count == 1)
        _ = try await cluster.run("i-1", on: "a", cores: 6)
        #expect(try await cluster.free("a") == 0)
        // What the node says of this generation counts, though the network still claims.
        await cluster.nodes["a"]?.set(
            NC.InstanceReport(instanceId: "i-1", state: "terminated", generation: 2, cores: 6, memoryMiB: 512, diskGiB: 5))
        await cluster.controller.pass()
        #expect(try await cluster.free("a") == 6)
    }

    /// It asks to be told at once, not on the cloud controller's period.
    @Test func aStartAsksToBeTold() async throws {
        let cluster = Cluster()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await cluster.controller.run() }
            while cluster.cloud.nudges.isEmpty { await Task.yield() }
            group.cancelAll()
        }
        #expect(cluster.cloud.nudges.map(\.zone) == ["z"] && cluster.cloud.nudges.first?.node == nil)
        let view = try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context)
        #expect(view.networkGeneration == nil)
        try await cluster.tell()
        #expect(try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).networkGeneration == 0)
    }

    /// A silent node is unknown, not empty: what it had is still shown, and nothing is placed on it or sent to it.
    @Test func silence() async throws {
        let cluster = try await Cluster.ready()
        let b = try #require(cluster.nodes["b"])
        await b.set(NC.InstanceReport(instanceId: "i-7", state: "running", cores: 2, memoryMiB: 512, diskGiB: 5))
        await cluster.controller.pass()
        await b.set(unplugged: true)
        cluster.cloud.forget()
        for _ in 0..<2 { await cluster.controller.pass() }
        #expect(try await cluster.state("b") == "up")
        await cluster.controller.pass()
        #expect(try await cluster.state("b") == "unknown")
        #expect(cluster.cloud.nudges.map(\.node) == ["b"], "the cloud hears of it at once, and once")
        let seen = try await cluster.controller.describeInstances(CC.DescribeInstances(), cluster.context).nodes
        #expect(seen.map(\.state) == ["up", "unknown"] && seen[1].instances.map(\.instanceId) == ["i-7"])
        #expect(await cluster.reason { _ = try await cluster.run("i-8", on: "b") } == .unavailable("The node b"))
        let reason = await cluster.reason { _ = try await cluster.reserve("r", ["i-1", "i-2"], cores: 8) }
        guard case .capacity(let shortage) = reason else { return #expect(Bool(false)) }
        #expect(shortage.description.contains("b (does not answer)"))
        await b.set(unplugged: false)
        cluster.cloud.forget()
        await cluster.controller.pass()
        #expect(try await cluster.state("b") == "up")
        #expect(cluster.cloud.nudges.map(\.node) == ["b"])
    }

    @Test func anotherNodeAtTheAddress() async throws {
        let cluster = Cluster()
        try await cluster.tell()
        await cluster.nodes["b"]?.set(alias: "c")
        for _ in 0..<3 { await cluster.controller.pass() }
        #expect(try await cluster.state("b") == "unknown")
        #expect(
            try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).nodes[1].lastError?.contains("the node c")
                == true)
    }

    @Test func theClusterChanges() async throws {
        let cluster = try await Cluster.ready(["a", "b", "c"])
        _ = try await cluster.reserve("r-1", ["i-1", "i-2", "i-3"])
        try await cluster.tell(5, names: ["a", "b"])
        #expect(try await cluster.controller.describeNodes(CC.DescribeNodes(), cluster.context).nodes.compactMap(\.name) == ["a", "b"])
        #expect(await cluster.reason { try await cluster.tell(4) } == .stale(newest: 5))
        try await cluster.tell(5, names: ["a", "b"])
        try await cluster.tell(6)
        #expect(try await cluster.free("c") == 0, "a node that comes back has to be heard again")
        await cluster.controller.pass()
        #expect(try await cluster.free("c") == 8, "the reservation on it went with it")
        let zone = await cluster.reason {
            _ = try await cluster.controller.setCluster(CC.SetCluster(zone: "other", generation: 9), cluster.context)
        }
        #expect(zone == .invalidParameter("zone"))
        let twice = [CC.NodeAddress(name: "a", endpoint: "x:1"), CC.NodeAddress(name: "a", endpoint: "y:1")]
        let doubled = await cluster.reason {
            _ = try await cluster.controller.setCluster(CC.SetCluster(zone: "z", generation: 9, nodes: twice), cluster.context)
        }
        #expect(doubled == .invalidParameter("nodes"))
    }

    @Test func commandsAreForwarded() async throws {
        let cluster = try await Cluster.ready()
        #expect(try await cluster.run("i-1", on: "a", generation: 4)?.generation == 4)
        #expect(await cluster.nodes["a"]?.lastContext == "test", "the request's id goes along")
        #expect(await cluster.reason { _ = try await cluster.run("i-1", on: "a", generation: 3) } == .stale(newest: 4))
        #expect(await cluster.reason { _ = try await cluster.run("i-1", on: "x") } == .notFound(.node, id: "x"))
        let controller = cluster.controller
        let context = cluster.context
        let stopped = try await controller.stopInstance(CC.StopInstance(node: "a", instanceId: "i-1", generation: 5), context)
        #expect(stopped.instance?.state == "stopped" && stopped.instance?.generation == 5)
        #expect(try await cluster.free("a") == 8, "what the node answered counts at once")
        _ = try await controller.rebootInstance(CC.RebootInstance(node: "a", instanceId: "i-1", rebootCount: 1), context)
        let volume = NC.VolumeOrder(volumeId: "vol-1", attachmentId: "attach-1", device: "/dev/sdf", storage: "sc:8776")
        _ = try await controller.attachVolume(CC.AttachVolume(node: "a", instanceId: "i-1", volume: volume, generation: 6), context)
        let detached = try await controller.detachVolume(
            CC.DetachVolume(node: "a", instanceId: "i-1", volumeId: "vol-1", attachmentId: "attach-1", generation: 7), context)
        #expect(detached.instance?.generation == 7)
        let console = try await controller.getConsoleOutput(CC.GetConsoleOutput(node: "a", instanceId: "i-1"), context)
        #expect(console.output.map { String(decoding: $0, as: UTF8.self) } == "boot")
        _ = try await controller.bundleInstance(CC.BundleInstance(node: "a", taskId: "bun-1", instanceId: "i-1", imageName: "x"), context)
        let upload = try await controller.uploadBundleParts(CC.UploadBundleParts(node: "a", taskId: "bun-1"), context)
        #expect(upload.bundle?.state == "uploading")
        let seen = try await controller.describeInstances(CC.DescribeInstances(), context).nodes[0]
        #expect(seen.bundles.map(\.state) == ["uploading"])
        _ = try await controller.endBundle(CC.EndBundle(node: "a", taskId: "bun-1"), context)
        let ended = try await controller.terminateInstance(CC.TerminateInstance(node: "a", instanceId: "i-1", generation: 8), context)
        #expect(ended.instance?.state == "terminated")
        let missing = await cluster.reason {
            _ = try await controller.stopInstance(CC.StopInstance(node: "a", instanceId: "i-2", generation: 1), context)
        }
        #expect(missing == .notFound(.instance, id: "i-2"))
    }

    @Test func nudgesGoUpwardsAfterALook() async throws {
        let cluster = try await Cluster.ready()
        await cluster.controller.pass()
        cluster.cloud.forget()
        _ = try await cluster.controller.nudge(CC.Nudge(node: "a", ids: ["i-2", "i-1"]), cluster.context)
        _ = try await cluster.controller.nudge(CC.Nudge(node: "a", ids: ["i-1"]), cluster.context)
        #expect(cluster.cloud.nudges.isEmpty)
        await cluster.controller.pass()
        #expect(cluster.cloud.nudges.map(\.ids) == [["i-1", "i-2"]] && cluster.cloud.nudges.first?.zone == "z")
        await cluster.controller.pass()
        #expect(cluster.cloud.nudges.count == 1)
        #expect(
            await cluster.reason { _ = try await cluster.controller.nudge(CC.Nudge(node: "x"), cluster.context) }
                == .notFound(.node, id: "x"))
        let other = CallContext(requestID: "t", caller: PeerIdentity(cloud: "c", role: "nc", name: "b"))
        #expect(
            await cluster.reason { _ = try await cluster.controller.nudge(CC.Nudge(node: "a"), other) } == .forbidden(action: "CC:Nudge"))
    }

    /// The background work: new nodes are watched, changes are told, gone nodes are left alone.
    @Test func watching() async throws {
        let cluster = Cluster()
        let a = try #require(cluster.nodes["a"])
        let b = try #require(cluster.nodes["b"])
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await cluster.controller.run() }
            try? await cluster.tell(1, names: ["a"])
            while await a.polls < 3 { await Task.yield() }
            #expect(await b.polls == 0)
            try? await cluster.tell(2, names: ["b"])
            while await b.polls < 3 { await Task.yield() }
            let polls = await a.polls
            let more = await b.polls
            while await b.polls < more + 5 { await Task.yield() }
            #expect(await a.polls <= polls + 1)
            group.cancelAll()
        }
        #expect(try await cluster.state("b") == "up")
    }
}
