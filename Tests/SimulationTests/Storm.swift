import API
import CloudControllerKit
import Domain
import NodeControllerKit
import TestKit

/// What happens to the cloud, told by the seed: clients' calls, guests that do as they like, kills, cut wires, power failures.
struct Storm: Sendable {
    let world: World
    let client: Client
    let expectations: Expectations
    let random: SeededRandom
    let steps: Int

    init(_ world: World, steps: Int) {
        self.world = world
        self.steps = steps
        random = world.random.fork("storm")
        client = Client(world: world, random: random.fork("client"))
        expectations = Expectations()
    }

    private enum Event: CaseIterable {
        case run, runMany, repeatRun, terminate, stop, start, reboot, guestShutsDown, guestCrashes
        case createVolume, attach, detach, deleteVolume, group, rule
        case killNode, killCluster, killStorage, killCloud, cutNode, cutCluster, cutStorage, powerFailure

        var weight: Int {
            switch self {
            case .run: 12
            case .runMany: 5
            case .repeatRun: 5
            case .terminate: 10
            case .stop, .start: 7
            case .reboot: 3
            case .guestShutsDown: 4
            case .guestCrashes: 2
            case .createVolume: 6
            case .attach: 10
            case .detach: 6
            case .deleteVolume: 3
            case .group, .rule: 2
            case .killNode: 6
            case .killCluster, .killStorage, .killCloud: 4
            case .cutNode: 3
            case .cutCluster, .cutStorage: 2
            case .powerFailure: 1
            }
        }
    }

    private func next() -> Event {
        var left = random.below(Event.allCases.reduce(0) { $0 + $1.weight })
        for event in Event.allCases {
            if left < event.weight { return event }
            left -= event.weight
        }
        return .run
    }

    /// Ends when all calls have their answers, which the last of them get in fair weather.
    func blow(_ weather: LossyNetwork.Weather) async {
        world.network.weather = weather
        await withDiscardingTaskGroup { group in
            for _ in 0..<steps {
                await world.sleep(random.below(1500))
                let event = next()
                group.addTask { await happen(event) }
            }
            await world.sleep(2000)
            world.network.weather = .fair
            world.network.mendAll()
            for host in world.hosts { host.start() }
        }
        // What was cut or killed last is mended by now; whatever came later than that is mended here.
        world.network.mendAll()
        for host in world.hosts { host.start() }
    }

    private func happen(_ event: Event) async {
        switch event {
        case .run: await launch(1...1)
        case .runMany:
            let least = random.number(in: 1...2)
            await launch(least...(least + random.below(3)))
        case .repeatRun:
            if let launch = random.pick(expectations.now.launches) { await run(launch) }
        case .terminate: await terminate()
        case .stop: await stop()
        case .start: await start()
        case .reboot: await reboot()
        case .guestShutsDown, .guestCrashes: await guest(crashes: event == .guestCrashes)
        case .createVolume: await createVolume()
        case .attach: await attach()
        case .detach: await detach()
        case .deleteVolume: await deleteVolume()
        case .group: await createGroup()
        case .rule: await addRule()
        case .killNode: await killed(random.pick(world.nodeHosts))
        case .killCluster: await killed(world.clusterHost)
        case .killStorage: await killed(world.storageHost)
        case .killCloud: await killed(world.cloudHost)
        case .cutNode: await cut(random.pick(world.nodes)?.name ?? "", SimulatedCluster.name)
        case .cutCluster: await cut(SimulatedCluster.name, SimulatedCloud.name)
        case .cutStorage:
            await cut(SimulatedStorage.name, random.pick(world.nodes.map(\.name) + [SimulatedCloud.name]) ?? "")
        case .powerFailure: await powerFailure()
        }
    }

    // MARK: instances

    private func launch(_ count: ClosedRange<Int>) async {
        let launch = Expectations.Launch(
            token: "token-\(random.below(1 << 40))", count: count,
            type: random.pick(["t1.micro", "m1.small", "m1.medium", "m1.large"]) ?? "m1.small", ids: nil)
        expectations.with { $0.launches.append(launch) }
        await run(launch)
    }

    private func run(_ launch: Expectations.Launch) async {
        let request = EC2.RunInstances(
            imageId: SimulatedCloud.imageID, minCount: launch.count.lowerBound, maxCount: launch.count.upperBound,
            instanceType: launch.type,
            instanceInitiatedShutdownBehavior: ["1", "2", "3"].contains(launch.token.suffix(1)) ? "stop" : "terminate",
            clientToken: launch.token)
        let outcome = await client.call("run \(launch.count) \(launch.type) \(launch.token)") {
            (actions, op) async throws(CloudError) -> [String] in
            try await actions.runInstances(request, op).instances.compactMap(\.instanceId)
        }
        guard case .done(let ids) = outcome else { return }
        if !launch.count.contains(ids.count) { world.complain("RunInstances of \(launch.count) gave \(ids.count) instances") }
        expectations.with { s in
            guard let i = s.launches.firstIndex(where: { $0.token == launch.token }) else { return }
            if let known = s.launches[i].ids, known != ids {
                world.complain("client token \(launch.token) gave \(known), then \(ids)")
            }
            s.launches[i].ids = ids
            for id in ids where s.instances[id] == nil { s.instances[id] = .init() }
        }
        world.trace.note("client: \(launch.token) is \(ids)")
    }

    private func terminate() async {
        guard let id = expectations.take(random.pick, where: { $0.wish != .terminated }) else { return }
        let outcome = await client.call("terminate \(id)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), op)
            return true
        }
        if case .done = outcome { expectations.giveBack(id, wish: .terminated) } else { expectations.giveBack(id) }
    }

    private func stop() async {
        guard let id = expectations.take(random.pick, where: { $0.wish != .terminated }) else { return }
        let force = random.chance(perMille: 300)
        let outcome = await client.call("stop \(id)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.stopInstances(EC2.StopInstances(instanceIds: [id], force: force), op)
            return true
        }
        if case .done = outcome { expectations.giveBack(id, wish: .stopped) } else { expectations.giveBack(id) }
    }

    private func start() async {
        guard let id = expectations.take(random.pick, where: { $0.wish == .stopped || $0.wish == nil }) else { return }
        let outcome = await client.call("start \(id)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.startInstances(EC2.StartInstances(instanceIds: [id]), op)
            return true
        }
        if case .done = outcome { expectations.giveBackStarted(id) } else { expectations.giveBack(id) }
    }

    private func reboot() async {
        guard let id = expectations.take(random.pick, where: { $0.wish == .running }) else { return }
        _ = await client.call("reboot \(id)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.rebootInstances(EC2.RebootInstances(instanceIds: [id]), op)
            return true
        }
        expectations.giveBack(id)
    }

    private func guest(crashes: Bool) async {
        guard let node = random.pick(world.nodes) else { return }
        let active = await node.activeDomains()
        guard let id = random.pick(active) else { return }
        expectations.with { s in
            if s.instances[id]?.wish != .terminated { s.instances[id]?.wish = nil }
            s.instances[id]?.wasStopped = false
            if crashes { s.instances[id]?.hasCrashed = true }
        }
        world.trace.note("guest \(id) on \(node.name) \(crashes ? "crashes" : "shuts down")")
        if crashes { node.hypervisor.crash(id) } else { node.hypervisor.guestShutsDown(id) }
    }

    // MARK: volumes

    private func createVolume() async {
        let token = "volume-\(random.below(1 << 40))"
        let size = random.number(in: 1...12)
        let outcome = await client.call("create volume of \(size) GiB") { (actions, op) async throws(CloudError) -> String in
            try await actions.createVolume(
                EC2.CreateVolume(availabilityZone: SimulatedCluster.zone, size: size, clientToken: token), op
            ).volumeId ?? ""
        }
        if case .done(let id) = outcome { expectations.with { s in if s.volumes[id] == nil { s.volumes[id] = .init() } } }
    }

    private func attach() async {
        guard let volume = expectations.takeVolume(random.pick) else { return }
        let running = expectations.now.instances.filter { $0.value.wish != .terminated }.keys.sorted()
        if let id = random.pick(running) {
            let device = "/dev/sd" + (random.pick(["f", "g", "h"]) ?? "f")
            _ = await client.call("attach \(volume) to \(id) as \(device)") { (actions, op) async throws(CloudError) -> Bool in
                _ = try await actions.attachVolume(EC2.AttachVolume(volumeId: volume, instanceId: id, device: device), op)
                return true
            }
        }
        expectations.giveBackVolume(volume)
    }

    private func detach() async {
        guard let volume = expectations.takeVolume(random.pick) else { return }
        let force = random.chance(perMille: 200)
        _ = await client.call("detach \(volume)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.detachVolume(EC2.DetachVolume(volumeId: volume, force: force), op)
            return true
        }
        expectations.giveBackVolume(volume)
    }

    private func deleteVolume() async {
        guard let volume = expectations.takeVolume(random.pick) else { return }
        let outcome = await client.call("delete \(volume)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.deleteVolume(EC2.DeleteVolume(volumeId: volume), op)
            return true
        }
        if case .done = outcome { expectations.giveBackVolume(volume, deleted: true) } else { expectations.giveBackVolume(volume) }
    }

    // MARK: groups

    private func createGroup() async {
        let name = "group\(random.below(1 << 30))"
        let outcome = await client.call("create \(name)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.createSecurityGroup(EC2.CreateSecurityGroup(groupName: name, description: "of the storm"), op)
            return true
        }
        if case .done = outcome { expectations.with { $0.groups.append(name) } }
    }

    private func addRule() async {
        let name = random.pick(expectations.now.groups) ?? "default"
        let port = random.number(in: 1...65_000)
        _ = await client.call("open port \(port) of \(name)") { (actions, op) async throws(CloudError) -> Bool in
            _ = try await actions.authorizeSecurityGroupIngress(
                EC2.AuthorizeSecurityGroupIngress(cidrIp: "0.0.0.0/0", fromPort: port, groupName: name, ipProtocol: "tcp", toPort: port), op
            )
            return true
        }
    }

    // MARK: fate

    private func killed(_ host: SimulatedHost?) async {
        guard let host, host.isUp else { return }
        host.kill()
        await world.sleep(random.below(random.chance(perMille: 200) ? 15_000 : 2000))
        host.start()
    }

    private func cut(_ a: String, _ b: String) async {
        world.trace.note("cut \(a) \(b)")
        world.network.cut(a, b)
        await world.sleep(random.below(20_000))
        world.trace.note("mend \(a) \(b)")
        world.network.mend(a, b)
    }

    /// A node's host goes off and on: no machine runs any more, and the node controller starts anew.
    private func powerFailure() async {
        let index = random.below(world.nodes.count)
        let (node, host) = (world.nodes[index], world.nodeHosts[index])
        guard host.isUp else { return }
        world.trace.note("power failure of \(node.name)")
        host.kill()
        let ids = await node.activeDomains()
        expectations.with { s in
            for id in ids {
                if s.instances[id]?.wish == .running { s.instances[id]?.wish = nil }
                s.instances[id]?.wasStopped = false
                s.instances[id]?.hasCrashed = true
            }
        }
        node.hypervisor.restartHost()
        await world.sleep(1000 + random.below(10_000))
        host.start()
    }
}
