/// What an instance takes of a node, or a node has.
public struct Room: Sendable, Equatable {
    public var cores, memoryMiB, diskGiB: Int
    public init(cores: Int, memoryMiB: Int, diskGiB: Int) {
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.diskGiB = diskGiB
    }
    public static let none = Room(cores: 0, memoryMiB: 0, diskGiB: 0)

    public static func + (a: Room, b: Room) -> Room {
        Room(cores: a.cores + b.cores, memoryMiB: a.memoryMiB + b.memoryMiB, diskGiB: a.diskGiB + b.diskGiB)
    }
    public static func - (a: Room, b: Room) -> Room {
        Room(cores: a.cores - b.cores, memoryMiB: a.memoryMiB - b.memoryMiB, diskGiB: a.diskGiB - b.diskGiB)
    }
    public static func += (a: inout Room, b: Room) { a = a + b }
    public static func -= (a: inout Room, b: Room) { a = a - b }

    /// The larger of each.
    public func union(_ other: Room) -> Room {
        Room(
            cores: max(cores, other.cores), memoryMiB: max(memoryMiB, other.memoryMiB), diskGiB: max(diskGiB, other.diskGiB))
    }
    /// Nothing below zero: a node may have promised more than it has (it was made smaller).
    public var clamped: Room { union(.none) }
    public func holds(_ need: Room) -> Bool { cores >= need.cores && memoryMiB >= need.memoryMiB && diskGiB >= need.diskGiB }

    /// Each resource with what there is of it, in the order in which messages name them.
    var parts: [(resource: Shortage.Resource, amount: Int)] {
        [(.cores, cores), (.memoryMiB, memoryMiB), (.diskGiB, diskGiB)]
    }
}

/// A node as the planner sees it.
public struct PlacementNode: Sendable, Equatable {
    public let name: String
    /// What is left after instances and reservations.
    public let free: Room
    /// What it has for guests in all.
    public let limit: Room
    /// It does not answer: nothing is placed on it, and the refusal says so.
    public let isSilent: Bool
    /// It complains of something: used only when no sound node has room.
    public let isDegraded: Bool

    public init(name: String, free: Room, limit: Room, isSilent: Bool = false, isDegraded: Bool = false) {
        self.name = name
        self.free = free
        self.limit = limit
        self.isSilent = isSilent
        self.isDegraded = isDegraded
    }
}

/// One instance to be placed.
public struct PlacementItem: Sendable, Equatable {
    public let id: String
    public let need: Room
    /// It has its disk there, and runs there or nowhere; `nil`: any node.
    public let node: String?
    public init(id: String, need: Room, node: String? = nil) {
        self.id = id
        self.need = need
        self.node = node
    }
}

public enum PlacementPolicy: String, Sendable, CaseIterable {
    /// The node with the most left afterwards, so that load and the loss of a node spread. The default.
    case spread
    /// The node with the least left afterwards, so that large instances still find a whole node.
    case pack
}

/// Decides which node takes which instance. Pure: no clock, no randomness; the same question has the same answer.
public enum PlacementPlanner {
    public enum Outcome: Sendable, Equatable {
        /// At least `minCount` of the items, in their order, each with its node.
        case placed([(id: String, node: String)])
        /// Fewer than `minCount` fit: nothing is placed.
        case shortage(Shortage)

        public static func == (a: Outcome, b: Outcome) -> Bool {
            switch (a, b) {
            case (.placed(let x), .placed(let y)): x.elementsEqual(y, by: { $0 == $1 })
            case (.shortage(let x), .shortage(let y)): x == y
            case (.placed, .shortage), (.shortage, .placed): false
            }
        }
    }

    /// Items are placed in their order, those that belong to a node first, each on the best node that has room for it. "Left" is the
    /// scarcest resource's share of the node: a node with all its memory and no core left is a full one. Equal nodes go by name.
    ///
    /// - Parameter minCount: 1...items.count.
    public static func plan(
        _ items: [PlacementItem], minCount: Int, nodes: [PlacementNode], policy: PlacementPolicy = .spread
    ) -> Outcome {
        let usable = nodes.filter { !$0.isSilent }.sorted { $0.name < $1.name }
        var free = usable.map(\.free)
        var found: [Int: String] = [:]
        for position in items.indices.filter({ items[$0].node != nil }) + items.indices.filter({ items[$0].node == nil }) {
            let item = items[position]
            var best: (index: Int, isDegraded: Bool, left: Double)?
            for (i, node) in usable.enumerated() where free[i].holds(item.need) && (item.node ?? node.name) == node.name {
                let left = share(free[i] - item.need, of: node.limit)
                guard let current = best else {
                    best = (i, node.isDegraded, left)
                    continue
                }
                let better =
                    node.isDegraded != current.isDegraded
                    ? current.isDegraded : policy == .spread ? left > current.left : left < current.left
                if better { best = (i, node.isDegraded, left) }
            }
            guard let best else { continue }
            free[best.index] -= item.need
            found[position] = usable[best.index].name
        }
        let placed = items.enumerated().compactMap { position, item in found[position].map { (id: item.id, node: $0) } }
        guard placed.count >= minCount, !placed.isEmpty else {
            return .shortage(shortage(Array(items.prefix(max(minCount, 1))), nodes.sorted { $0.name < $1.name }))
        }
        return .placed(placed)
    }

    private static func share(_ left: Room, of limit: Room) -> Double {
        zip(left.parts, limit.parts).map { left, limit in limit.amount > 0 ? Double(left.amount) / Double(limit.amount) : 0 }.min() ?? 0
    }

    /// For each node the resource of which it could take the fewest of the items, with what all of them that may go there need
    /// together: "asked 10 cores, 4 free of 16". A node that could take them all is not listed (it is not to blame), nor one where none
    /// of them may go; a silent one is.
    private static func shortage(_ items: [PlacementItem], _ nodes: [PlacementNode]) -> Shortage {
        var places: [Shortage.Place] = []
        for node in nodes {
            let candidates = items.filter { ($0.node ?? node.name) == node.name }
            if candidates.isEmpty { continue }
            let need = candidates.reduce(Room.none) { $0 + $1.need }
            if node.isSilent {
                places.append(Shortage.Place("\(node.name) (does not answer)", .nodes, asked: 1, free: 0, limit: 1))
                continue
            }
            var worst: (resource: Shortage.Resource, asked: Int, free: Int, limit: Int, share: Double)?
            for ((part, free), limit) in zip(zip(need.parts, node.free.parts), node.limit.parts) where part.amount > 0 {
                let share = Double(max(free.amount, 0)) / Double(part.amount)
                if worst.map({ share < $0.share }) ?? true {
                    worst = (part.resource, part.amount, max(free.amount, 0), limit.amount, share)
                }
            }
            if let worst, worst.share < 1 {
                places.append(Shortage.Place(node.name, worst.resource, asked: worst.asked, free: worst.free, limit: worst.limit))
            }
        }
        let answering = places.filter { $0.resource != .nodes }
        // What most nodes lack is what the refusal is about.
        let counts = Dictionary(answering.map { ($0.resource, 1) }, uniquingKeysWith: +)
        let resource = answering.max { (counts[$0.resource] ?? 0) < (counts[$1.resource] ?? 0) }?.resource ?? .nodes
        return Shortage(resource, places)
    }
}
