import Domain
import NodeControllerKit
import TestKit

/// One seed: a storm, then fair weather, then the rules.
enum Simulation {
    struct Verdict: Sendable {
        let seed: UInt64
        /// Empty: all is well.
        let broken: [String]
        let trace: [String]
        let digest: UInt64
        let calls: Int
        let bytes: Int
        let seconds: Int64
    }

    /// How long everything may take to settle, in the cloud's own time. The longest single wait is a launch that found the storage controller
    /// away (six tries, 30 s each at most) after attempts of the cloud controller (60 s each).
    static let settleSeconds = 600

    /// - Parameter replays: in the end every command that was ever sent is sent once more, in another order.
    static func run(seed: UInt64, plan: World.Plan? = nil, steps: Int? = nil, replays: Bool = true, template: String) throws -> Verdict {
        let random = SeededRandom(seed: seed &* 0x9E37_79B9 &+ 1)
        var chosen = plan ?? World.Plan()
        if plan == nil { chosen.nodes = 1 + random.below(3) }
        let count = steps ?? (15 + random.below(45))
        let world = World(seed: seed, plan: chosen, database: try TransientPostgres.database(template: template))
        let weather = chosen.weather
        let broken = try outcome(world) {
            try await world.live {
                let storm = Storm(world, steps: count)
                let rules = Invariants(world: world, expectations: storm.expectations)
                return await withTaskGroup(of: [String]?.self) { group in
                    group.addTask {
                        await Watch(world: world).run()
                        return nil
                    }
                    group.addTask {
                        // The cloud comes up first.
                        await world.sleep(8000)
                        await storm.blow(weather)
                        world.trace.note("the storm is over")
                        return await settled(world, rules, replays: replays)
                    }
                    var result: [String] = []
                    for await one in group {
                        if let one {
                            result = one
                            break
                        }
                    }
                    group.cancelAll()
                    return world.complaints + result
                }
            }
        }
        let traffic = world.network.traffic
        return Verdict(
            seed: seed, broken: broken, trace: world.trace.all, digest: world.trace.digest, calls: traffic.calls, bytes: traffic.bytes,
            seconds: world.clock.elapsed / 1000)
    }

    private static func outcome(_ world: World, _ body: @escaping @Sendable () async throws -> [String]) throws -> [String] {
        do {
            return try SeededExecutor.run(seed: world.seed, clock: world.clock, body)
        } catch let failure as SeededExecutor.Failure {
            return world.complaints + ["\(failure)"]
        }
    }

    private static func settled(_ world: World, _ rules: Invariants, replays: Bool) async -> [String] {
        var broken = await quiet(world, rules)
        guard broken.isEmpty, replays else { return broken }
        // What is still on its way comes late. Then every controller is killed at once: what must be remembered is on disks.
        await world.sleep(60_000)
        for host in world.hosts { host.kill() }
        await world.sleep(1000)
        for host in world.hosts { host.start() }
        await world.sleep(30_000)
        let before = world.nodes.map(\.hypervisor.calls.count)
        let count = world.network.replay(withinMilliseconds: 20_000)
        world.trace.note("\(count) old messages come again")
        // Reservations that were made again lapse after a minute; what else was changed must be made good, or better never have been.
        await world.sleep(90_000)
        broken = await rules.broken()
        for (node, before) in zip(world.nodes, before) {
            for call in node.hypervisor.calls.dropFirst(before) { broken.append("old messages made \(node.name) \(call)") }
        }
        return broken
    }

    /// Waits until no rule is broken. - Returns: those that stay broken.
    private static func quiet(_ world: World, _ rules: Invariants) async -> [String] {
        var broken: [String] = []
        for _ in 0..<(settleSeconds / 5) {
            await world.sleep(5000)
            broken = await rules.broken()
            if broken.isEmpty { return [] }
        }
        return broken
    }
}
