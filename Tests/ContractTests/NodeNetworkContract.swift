import API
import Daemon
import Domain
import Glibc
import Logging
import NodeControllerKit
import Synchronization
import Testing
import Workflow

// What every `NodeNetwork` promises, held against the simulated one and against the real one in a network namespace of its own.

/// Runs everything in a network namespace, so that tests never touch the host's network.
struct NamespaceRunner: CommandRunning {
    let namespace: String
    private let runner = CommandRunner()

    init(namespace: String) { self.namespace = namespace }

    func run(_ command: Command) async throws(CloudError) -> CommandResult {
        var inside = command
        inside.executable = "ip"
        inside.arguments = ["netns", "exec", namespace, command.executable] + command.arguments
        return try await runner.run(inside)
    }
}

/// A node that can be started again on what it kept.
protocol NetworkBench: Sendable {
    func network() -> any NodeNetwork
    func close() async
}

struct SimulatedBench: NetworkBench {
    private let storage = MemoryJournalStorage()
    func network() -> any NodeNetwork { SimulatedNetwork(storage: storage) }
    func close() async {}
}

struct HostBench: NetworkBench {
    let namespace: String
    let settings: NetworkSettings
    let storage = MemoryJournalStorage()

    var runner: NamespaceRunner { NamespaceRunner(namespace: namespace) }

    init() async throws {
        var random = SystemRandomNumberGenerator()
        let name = "kt" + String(UInt32.random(in: 0...UInt32.max, using: &random), radix: 16)
        namespace = name
        settings = NetworkSettings(runFolder: "/run/karri-test-\(name)")
        try await CommandRunner().check(Command("ip", ["netns", "add", name]))
        try await NamespaceRunner(namespace: name).check(Command("ip", ["link", "set", "lo", "up"]))
    }

    func network() -> any NodeNetwork { host() }

    func host() -> HostNetwork {
        HostNetwork(
            settings: settings, storage: storage, clock: SystemClock(),
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
            runner: runner)
    }

    func close() async {
        try? await NetworkTeardown.run(settings: settings, storage: storage, runner: runner)
        _ = try? await CommandRunner().run(Command("ip", ["netns", "del", namespace]))
    }
}

/// Root, nft, dnsmasq and network namespaces are there.
let canMakeNetworks: Bool = getuid() == 0 && ["nft", "dnsmasq", "ip"].allSatisfy { FileSystem.exists("/usr/sbin/\($0)") }

enum BenchKind: String, CaseIterable, Sendable { case simulated, host }

func withBench(_ kind: BenchKind, _ body: (any NetworkBench) async throws -> Void) async throws {
    switch kind {
    case .simulated:
        try await body(SimulatedBench())
    case .host:
        guard canMakeNetworks else { return }
        let bench = try await HostBench()
        do { try await body(bench) } catch {
            await bench.close()
            throw error
        }
        await bench.close()
    }
}

enum SampleNetwork {
    static func instance(
        _ digit: String, _ address: String, public publicAddress: String? = nil, groups: [String] = ["sg-0000000a"]
    ) -> NC.InstanceAddress {
        let last = address.split(separator: ".").last.flatMap { UInt8($0) } ?? 0
        return NC.InstanceAddress(
            instanceId: "i-" + String(repeating: digit, count: 8), macAddress: "02:00:0a:01:00:" + Hex.encode([last]),
            privateAddress: address,
            publicAddress: publicAddress, groups: groups, hostname: "h-\(last)")
    }

    static func state(_ instances: [NC.InstanceAddress], _ rules: [NC.GroupRule], members: [String]? = nil) -> NC.NetworkState {
        NC.NetworkState(
            gateway: "10.1.0.1", prefixLength: 24,
            groups: [
                NC.GroupState(groupId: "sg-0000000a", members: members ?? instances.compactMap(\.privateAddress), rules: rules),
                NC.GroupState(groupId: "sg-0000000b", members: [], rules: []),
            ],
            instances: instances)
    }

    static let ssh = NC.GroupRule(proto: "tcp", fromPort: 22, toPort: 22, cidr: "0.0.0.0/0")
}

@Suite(.serialized) struct NodeNetworkContract {
    @Test(arguments: BenchKind.allCases) func generations(_ kind: BenchKind) async throws {
        try await withBench(kind) { bench in
            let network = bench.network()
            #expect(await network.appliedGeneration() == 0)
            let one = SampleNetwork.state([SampleNetwork.instance("a", "10.1.0.11")], [])
            let two = SampleNetwork.state([SampleNetwork.instance("b", "10.1.0.12")], [])
            let first = try await network.apply(one, generation: 5)
            #expect(first == 5)
            #expect(await network.contains(instanceID: "i-aaaaaaaa"))
            // A repeat answers the same, an older one is refused, a newer one replaces all.
            let repeated = try await network.apply(one, generation: 5)
            #expect(repeated == 5)
            await #expect(throws: CloudError(.stale(newest: 5))) { try await network.apply(two, generation: 4) }
            #expect(await network.contains(instanceID: "i-aaaaaaaa"))
            let second = try await network.apply(two, generation: 6)
            #expect(second == 6)
            #expect(await !network.contains(instanceID: "i-aaaaaaaa"))
            #expect(await network.contains(instanceID: "i-bbbbbbbb"))
            #expect(await network.appliedGeneration() == 6)
        }
    }

    @Test(arguments: BenchKind.allCases) func whatIsNotValidChangesNothing(_ kind: BenchKind) async throws {
        try await withBench(kind) { bench in
            let network = bench.network()
            _ = try await network.apply(SampleNetwork.state([SampleNetwork.instance("a", "10.1.0.11")], []), generation: 1)
            var broken = SampleNetwork.state([SampleNetwork.instance("b", "10.1.0.12")], [])
            broken.instances[0].privateAddress = "10.9.0.12"
            await #expect(throws: CloudError.self) { try await network.apply(broken, generation: 2) }
            #expect(await network.appliedGeneration() == 1)
            #expect(await network.contains(instanceID: "i-aaaaaaaa"))
        }
    }

    @Test(arguments: BenchKind.allCases) func aRestartKeepsTheNewest(_ kind: BenchKind) async throws {
        try await withBench(kind) { bench in
            _ = try await bench.network().apply(SampleNetwork.state([SampleNetwork.instance("a", "10.1.0.11")], []), generation: 7)
            let again = bench.network()
            #expect(await again.appliedGeneration() == 7)
            await #expect(throws: CloudError(.stale(newest: 7))) {
                try await again.apply(SampleNetwork.state([], []), generation: 3)
            }
            if let host = again as? HostNetwork { await host.look() }
            #expect(await again.contains(instanceID: "i-aaaaaaaa"))
            let newer = try await again.apply(SampleNetwork.state([], []), generation: 8)
            #expect(newer == 8)
        }
    }

    @Test(arguments: BenchKind.allCases) func anInstanceThatIsGone(_ kind: BenchKind) async throws {
        try await withBench(kind) { bench in
            let network = bench.network()
            _ = try await network.apply(
                SampleNetwork.state([SampleNetwork.instance("a", "10.1.0.11"), SampleNetwork.instance("b", "10.1.0.12")], []), generation: 1
            )
            await network.instanceRemoved(instanceID: "i-aaaaaaaa")
            await network.instanceRemoved(instanceID: "i-aaaaaaaa")
            await network.instanceRemoved(instanceID: "i-cccccccc")
            #expect(await !network.contains(instanceID: "i-aaaaaaaa"))
            #expect(await network.contains(instanceID: "i-bbbbbbbb"))
            #expect(await network.appliedGeneration() == 1)
            let again = bench.network()
            if let host = again as? HostNetwork { await host.look() }
            #expect(await !again.contains(instanceID: "i-aaaaaaaa"))
        }
    }
}
