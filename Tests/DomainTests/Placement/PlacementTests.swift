import Domain
import Testing

@Suite struct PlacementTests {
    private func node(
        _ name: String, _ cores: Int, _ memory: Int = 8192, _ disk: Int = 100, of limit: Room? = nil, silent: Bool = false,
        degraded: Bool = false
    ) -> PlacementNode {
        let free = Room(cores: cores, memoryMiB: memory, diskGiB: disk)
        return PlacementNode(
            name: name, free: free, limit: limit ?? Room(cores: 8, memoryMiB: 8192, diskGiB: 100), isSilent: silent, isDegraded: degraded)
    }

    private func items(_ count: Int, cores: Int = 1, memory: Int = 512, disk: Int = 5) -> [PlacementItem] {
        (0..<count).map { PlacementItem(id: "i-\($0)", need: Room(cores: cores, memoryMiB: memory, diskGiB: disk)) }
    }

    private func nodes(_ outcome: PlacementPlanner.Outcome) -> [String] {
        if case .placed(let placed) = outcome { placed.map(\.node) } else { [] }
    }

    @Test func spreads() {
        #expect(nodes(PlacementPlanner.plan(items(4), minCount: 4, nodes: [node("b", 8), node("a", 8)])) == ["a", "b", "a", "b"])
        #expect(nodes(PlacementPlanner.plan(items(2), minCount: 2, nodes: [node("a", 2), node("b", 8)])) == ["b", "b"])
    }

    @Test func packs() {
        let outcome = PlacementPlanner.plan(items(3), minCount: 3, nodes: [node("a", 8), node("b", 2)], policy: .pack)
        #expect(nodes(outcome) == ["b", "b", "a"])
    }

    /// The scarcest resource counts: much memory is no help on a node without cores.
    @Test func theScarcestResourceDecides() {
        let rich = node("a", 1, 8192, 100)
        let even = node("b", 4, 4096, 50)
        #expect(nodes(PlacementPlanner.plan(items(1), minCount: 1, nodes: [rich, even])) == ["b"])
    }

    @Test func soundNodesFirst() {
        let all = [node("a", 8, degraded: true), node("b", 2)]
        #expect(nodes(PlacementPlanner.plan(items(3), minCount: 3, nodes: all)) == ["b", "b", "a"])
        #expect(nodes(PlacementPlanner.plan(items(1), minCount: 1, nodes: [node("a", 8, degraded: true)])) == ["a"])
    }

    @Test func betweenMinimumAndMaximum() {
        let outcome = PlacementPlanner.plan(items(10), minCount: 3, nodes: [node("a", 4)])
        guard case .placed(let placed) = outcome else { return #expect(Bool(false)) }
        #expect(placed.map(\.id) == ["i-0", "i-1", "i-2", "i-3"])
    }

    /// Says for each node what it lacks most, and by how much; nothing is placed.
    @Test func refusalsSayWhy() {
        let outcome = PlacementPlanner.plan(items(10), minCount: 10, nodes: [node("b", 3), node("a", 8, 1024), node("c", 8, silent: true)])
        guard case .shortage(let shortage) = outcome else { return #expect(Bool(false)) }
        #expect(
            shortage.places == [
                .init("a", .memoryMiB, asked: 5120, free: 1024, limit: 8192), .init("b", .cores, asked: 10, free: 3, limit: 8),
                .init("c (does not answer)", .nodes, asked: 1, free: 0, limit: 1),
            ])
        #expect(shortage.description.contains("b: asked 10 cores, 3 free of 8"))
    }

    /// A stopped instance has its disk on its node: there or nowhere.
    @Test func itemsThatBelongToANode() {
        let need = Room(cores: 4, memoryMiB: 512, diskGiB: 5)
        let all = [node("a", 8), node("b", 4), node("c", 8, silent: true)]
        let own = PlacementItem(id: "i-own", need: need, node: "b")
        #expect(nodes(PlacementPlanner.plan([own], minCount: 1, nodes: all)) == ["b"])
        // It comes first, wherever it stands; the answer keeps the order of the question.
        let outcome = PlacementPlanner.plan(
            [PlacementItem(id: "i-any", need: need), own], minCount: 2, nodes: [node("a", 4), node("b", 4)], policy: .pack)
        #expect(outcome == .placed([("i-any", "a"), ("i-own", "b")]))
        // Nodes where it may not go are not to blame, nor those that could take theirs.
        let both = [PlacementItem(id: "i-1", need: need, node: "a"), own, PlacementItem(id: "i-2", need: need, node: "b")]
        #expect(
            PlacementPlanner.plan(both, minCount: 3, nodes: all)
                == .shortage(Shortage(.cores, [.init("b", .cores, asked: 8, free: 4, limit: 8)])))
        guard
            case .shortage(let silent) = PlacementPlanner.plan(
                [PlacementItem(id: "i-3", need: need, node: "c")], minCount: 1, nodes: all)
        else { return #expect(Bool(false)) }
        #expect(silent.places.map(\.resource) == [.nodes])
    }

    @Test func nothingThere() {
        #expect(PlacementPlanner.plan(items(1), minCount: 1, nodes: []) == .shortage(Shortage(.nodes, [])))
        guard case .shortage(let silent) = PlacementPlanner.plan(items(1), minCount: 1, nodes: [node("a", 8, silent: true)]) else {
            return #expect(Bool(false))
        }
        #expect(silent.resource == .nodes && silent.places.count == 1)
        guard case .shortage(let over) = PlacementPlanner.plan(items(1), minCount: 1, nodes: [node("a", -2)]) else {
            return #expect(Bool(false))
        }
        #expect(over.places.first?.free == 0)
    }

    /// Whatever is asked, no node gets more than it has, every placement is of an asked item, and the minimum holds or nothing is placed.
    @Test func neverTooMuch() {
        var seed: UInt64 = 42
        func next(_ bound: Int) -> Int {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((seed >> 33) % UInt64(bound))
        }
        for round in 0..<500 {
            let nodes = (0..<next(5)).map { i in
                PlacementNode(
                    name: "n\(i)", free: Room(cores: next(16), memoryMiB: next(8192), diskGiB: next(100)),
                    limit: Room(cores: 16, memoryMiB: 8192, diskGiB: 100), isSilent: next(5) == 0, isDegraded: next(4) == 0)
            }
            let wanted = (0..<(1 + next(12))).map { i in
                PlacementItem(id: "i\(i)", need: Room(cores: 1 + next(4), memoryMiB: 128 << next(4), diskGiB: 1 + next(10)))
            }
            let minimum = 1 + next(wanted.count)
            switch PlacementPlanner.plan(wanted, minCount: minimum, nodes: nodes, policy: round % 2 == 0 ? .spread : .pack) {
            case .shortage: break
            case .placed(let placed):
                #expect(placed.count >= minimum && Set(placed.map(\.id)).count == placed.count)
                for node in nodes {
                    let used = placed.filter { $0.node == node.name }.reduce(Room.none) { sum, p in
                        sum + (wanted.first { $0.id == p.id }?.need ?? Room(cores: 1 << 20, memoryMiB: 0, diskGiB: 0))
                    }
                    #expect(node.free.holds(used) || used == .none)
                    #expect(!node.isSilent || used == .none)
                }
            }
        }
    }
}
