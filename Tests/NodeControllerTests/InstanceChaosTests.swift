import API
import Domain
import NodeControllerKit
import Testing
import Wire
import Workflow

/// Commands in any order, repeated and late, a node that is killed at any of its marked places, guests that crash and shut down: in the end
/// the world is what the newest commands say, nothing runs that should not, and nothing is left behind.
@Suite struct InstanceChaosTests {
    private struct Dice {
        var state: UInt64
        mutating func roll(_ n: Int) -> Int {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return Int((z ^ (z >> 31)) >> 1) % n
        }
    }
    private static let places = [
        "instance.launch.image", "instance.launch.disk", "instance.launch.defined", "instance.launch.started", "instance.remove.undefined",
        "instance.remove.files", "volume.attach.exported", "volume.attach.plugged", "volume.detach.unexported", "nowhere",
    ]
    private enum Command {
        case run(String, Int)
        case stop(String, Int)
        case terminate(String, Int)
        case attach(String, Int)
        case detach(String, Int)
    }
    private static let ids = ["i-00000001", "i-00000002", "i-00000003"]

    private static func send(_ command: Command, _ world: NodeWorld) async {
        // Refusals (stale, wrong state) are part of the game; the end is what counts.
        switch command {
        case .run(let id, let g): _ = try? await world.run(id, generation: g)
        case .stop(let id, let g):
            _ = try? await world.actions.stopInstance(NC.StopInstance(instanceId: id, generation: g, graceSeconds: 5), world.context)
        case .terminate(let id, let g):
            _ = try? await world.actions.terminateInstance(
                NC.TerminateInstance(instanceId: id, generation: g, graceSeconds: 5), world.context)
        case .attach(let id, let g):
            _ = try? await world.actions.attachVolume(
                NC.AttachVolume(instanceId: id, volume: volume(id), generation: g), world.context)
        case .detach(let id, let g):
            let v = volume(id)
            _ = try? await world.actions.detachVolume(
                NC.DetachVolume(instanceId: id, volumeId: v.volumeId, attachmentId: v.attachmentId, generation: g), world.context)
        }
    }
    private static func volume(_ id: String) -> NC.VolumeOrder { NodeWorld.volume(Int(String(id.last ?? "1")) ?? 1) }

    @Test(arguments: 0..<150)
    func theNewestCommandsWin(_ seed: Int) async throws {
        var dice = Dice(state: UInt64(seed))
        let world = NodeWorld()
        var generations: [String: Int] = [:]
        var volumeGenerations: [String: Int] = [:]
        var wanted: [String: String] = [:]
        var attached: [String: Bool] = [:]
        var sent: [Command] = []

        for _ in 0..<5 {
            let fault = FaultAt(Self.places[dice.roll(Self.places.count)], occurrence: 1 + dice.roll(2))
            let steps = 2 + dice.roll(4)
            try await world.life(faults: fault, attempts: 1_000_000) {
                try await world.connect(Self.ids, generation: 1)
                for _ in 0..<steps {
                    let id = Self.ids[dice.roll(3)]
                    let next = (generations[id] ?? 0) + 1
                    var command: Command?
                    switch dice.roll(8) {
                    case 0, 1, 2: if wanted[id] != "terminated" { (command, wanted[id]) = (.run(id, next), "running") }
                    case 3: if wanted[id] == "running" { (command, wanted[id]) = (.stop(id, next), "stopped") }
                    case 4: if wanted[id] != nil, dice.roll(3) == 0 { (command, wanted[id]) = (.terminate(id, next), "terminated") }
                    case 5:
                        if wanted[id] == "running", attached[id] == nil {
                            volumeGenerations[id] = 1
                            attached[id] = true
                            sent.append(.attach(id, 1))
                        }
                    case 6:
                        if attached[id] == true {
                            volumeGenerations[id] = 2
                            attached[id] = false
                            sent.append(.detach(id, 2))
                        }
                    default:
                        if dice.roll(2) == 0 { world.hypervisor.crash(id) } else { world.hypervisor.guestShutsDown(id) }
                    }
                    if let command {
                        generations[id] = next
                        sent.append(command)
                    }
                    if let last = sent.last { await Self.send(last, world) }
                    // What was long on its way.
                    if !sent.isEmpty, dice.roll(3) == 0 { await Self.send(sent[dice.roll(sent.count)], world) }
                    try await world.pass(seconds: dice.roll(3))
                }
            }
            if dice.roll(6) == 0 { world.hypervisor.restartHost() }
        }

        // Calm: the cloud says once more what it wants, with new generations where something had ended by itself, until it is so.
        try await world.life {
            try await world.connect(Self.ids, generation: 2)
            for id in Self.ids {
                guard let want = wanted[id] else { continue }
                let next = (generations[id] ?? 0) + 1
                switch want {
                case "running": await Self.send(.run(id, next), world)
                case "stopped": await Self.send(.stop(id, next), world)
                default: await Self.send(.terminate(id, next), world)
                }
                if let isAttached = attached[id], want != "terminated" {
                    await Self.send(isAttached ? .attach(id, 3) : .detach(id, 3), world)
                }
                try await world.until(300, "seed \(seed): \(id) is not \(want)") { try await world.state(id) == want }
                if let isAttached = attached[id], want != "terminated" {
                    let state = isAttached ? "attached" : "detached"
                    try await world.until(300, "seed \(seed): the volume of \(id) is not \(state)") {
                        try await world.volume(id, Self.volume(id).volumeId)?.state == state
                    }
                }
            }
            // Late packets change nothing.
            for command in sent { await Self.send(command, world) }
            try await world.pass(seconds: 10)
            for id in Self.ids {
                guard let want = wanted[id] else { continue }
                #expect(try await world.state(id) == want, "seed \(seed)")
                let domain = try await world.hypervisor.domain(named: id)
                #expect((domain?.state == .running) == (want == "running"), "seed \(seed)")
                if want == "terminated" { #expect(domain == nil, "seed \(seed)") }
                if want == "running", attached[id] == true {
                    #expect(domain?.diskSerials.contains(Self.volume(id).volumeId) == true, "seed \(seed)")
                }
            }
            let there = Self.ids.filter { wanted[$0] == "running" || wanted[$0] == "stopped" }
            #expect(Set(world.disks.instances).isSubset(of: there), "seed \(seed): files of nobody")
            for export in world.storage.exports {
                #expect(
                    there.contains { attached[$0] == true && export.hasPrefix(Self.volume($0).volumeId) }, "seed \(seed): \(export) leaked")
            }
        }
    }
}
