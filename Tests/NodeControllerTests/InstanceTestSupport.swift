import API
import Daemon
import Domain
import Logging
import NodeControllerKit
import Synchronization
import Testing
import Wire
import Workflow

/// A clock that stands still until it is told to go on.
final class ManualClock: Clock {
    private struct Sleeper {
        var id: UInt64
        var due: Int64
        var continuation: CheckedContinuation<Void, any Error>
    }
    private struct State {
        var now: Int64 = 1_700_000_000_000
        var sleepers: [Sleeper] = []
        var next: UInt64 = 0
        var cancelled: Set<UInt64> = []
    }
    private let state = Mutex(State())

    func now() -> Timestamp { Timestamp(milliseconds: state.withLock { $0.now }) }
    func monotonic() -> Int64 { state.withLock { $0.now } * 1_000_000 }

    func sleep(milliseconds: Int) async throws {
        let id = state.withLock { s in
            s.next += 1
            return s.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let cancelled = state.withLock { s -> Bool in
                    if s.cancelled.remove(id) != nil { return true }
                    s.sleepers.append(Sleeper(id: id, due: s.now + Int64(max(0, milliseconds)), continuation: continuation))
                    return false
                }
                if cancelled { continuation.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            let sleeper = state.withLock { s -> Sleeper? in
                if let i = s.sleepers.firstIndex(where: { $0.id == id }) { return s.sleepers.remove(at: i) }
                s.cancelled.insert(id)
                return nil
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    func advance(milliseconds: Int) {
        let due = state.withLock { s -> [Sleeper] in
            s.now += Int64(milliseconds)
            let due = s.sleepers.filter { $0.due <= s.now }
            s.sleepers.removeAll { $0.due <= s.now }
            return due.sorted { ($0.due, $0.id) < ($1.due, $1.id) }
        }
        for sleeper in due { sleeper.continuation.resume() }
    }
}

/// The same numbers in every run.
final class CountingRandom: Random {
    private let state = Mutex<UInt8>(1)
    func bytes(_ count: Int) -> [UInt8] {
        state.withLock { s in
            s &+= 1
            return (0..<count).map { UInt8(truncatingIfNeeded: $0) &+ s }
        }
    }
    func below(_ bound: Int) -> Int { 0 }
}

/// Another daemon, as its answers to calls.
struct FakeDaemon: MessageTransport {
    let answer: @Sendable (_ operation: String, _ input: [String: Value]) throws(CloudError) -> Value
    func call(
        _ service: ServiceDefinition, _ operation: Wire.Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value { try answer(operation.name, try input.fields()) }
}

/// A storage controller that only knows what is exported.
final class FakeStorage: Sendable {
    private let state = Mutex<(exports: Set<String>, log: [String], failure: CloudError?)>((exports: [], log: [], failure: nil))
    var exports: Set<String> { state.withLock { $0.exports } }
    var log: [String] { state.withLock { $0.log } }
    func fail(with error: CloudError?) { state.withLock { $0.failure = error } }

    var client: SCClient {
        SCClient(
            transport: FakeDaemon { operation, input throws(CloudError) in
                let key = try input.text("volumeId") + "/" + input.text("attachmentId")
                if let error = self.state.withLock({ $0.failure }) { throw error }
                self.state.withLock { $0.log.append("\(operation) \(key)") }
                switch operation {
                case "ExportVolume":
                    self.state.withLock { _ = $0.exports.insert(key) }
                    return SC.ExportVolumeResponse(
                        export: SC.VolumeExport(
                            host: "10.0.0.9", port: 10_809, exportName: "x-" + key, tlsHostname: "sc1", sizeBytes: 1 << 30)
                    ).wireValue
                case "UnexportVolume":
                    self.state.withLock { _ = $0.exports.remove(key) }
                    return .record([:])
                default: throw CloudError(.unknownAction(operation))
                }
            }, endpoint: "sc:8776")
    }
}

/// A network that has the instances that it was told.
actor FakeNetwork: NodeNetwork {
    private var generation = 0
    private var instances: Set<String> = []
    private(set) var removed: [String] = []
    func apply(_ network: NC.NetworkState, generation: Int) async throws(CloudError) -> Int {
        if generation < self.generation { throw CloudError(.stale(newest: Int64(self.generation))) }
        self.generation = generation
        instances = Set(network.instances.compactMap(\.instanceId))
        return generation
    }
    func appliedGeneration() async -> Int { generation }
    func contains(instanceID: String) async -> Bool { instances.contains(instanceID) }
    func instanceRemoved(instanceID: String) async { removed.append(instanceID) }
}

struct NoHTTP: HTTPRequesting {
    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse { throw CloudError(.unavailable("HTTP")) }
}

/// Fails at one named place, the n-th time that it is passed; a test then "kills" the node.
final class FaultAt: Faults {
    private let place: String
    private let state = Mutex<(seen: Int, hit: Bool)>((seen: 0, hit: false))
    private let occurrence: Int
    init(_ place: String, occurrence: Int = 1) {
        self.place = place
        self.occurrence = occurrence
    }
    var wasHit: Bool { state.withLock { $0.hit } }
    func point(_ name: String) async throws(CloudError) {
        guard name == place else { return }
        let hit = state.withLock { s -> Bool in
            s.seen += 1
            if s.seen == occurrence { s.hit = true }
            return s.hit
        }
        // Killed: nothing after this place happens in this life.
        if hit { throw CloudError(.unavailable("killed at \(name)")) }
    }
}

/// A node whose world (hypervisor, files, journal, storage controller) outlives it.
final class NodeWorld: Sendable {
    let clock = ManualClock()
    let records = MemoryJournalStorage()
    let hypervisor: SimulatedHypervisor
    let images = SimulatedImages()
    let disks = SimulatedDisks()
    let network = FakeNetwork()
    let storage = FakeStorage()
    let nudges = Mutex<[String]>([])
    private let node = Mutex<NodeController?>(nil)
    let capacity: NodeCapacity

    init(capacity: NodeCapacity = NodeCapacity(cores: 8, memoryMiB: 8192, diskGiB: 100)) {
        hypervisor = SimulatedHypervisor(clock: clock)
        self.capacity = capacity
    }

    var actions: NodeActions { node.withLock { $0!.actions } }
    var keeper: InstanceKeeper { node.withLock { $0!.keeper } }
    let context = CallContext(requestID: "test")

    /// Runs a node on this world for the time of `body`, then kills it.
    func life(faults: any Faults = NoFaults(), attempts: Int = 6, _ body: () async throws -> Void) async throws {
        let journal = Journal(storage: records)
        #expect(try await journal.open() == [])
        var settings = NodeSettings(capacity: capacity)
        settings.launchAttempts = attempts
        let storage = storage
        let environment = NodeEnvironment(
            name: "node1", hypervisor: hypervisor, journal: journal, images: images, disks: disks, network: network,
            storage: { _ in storage.client }, clock: clock, random: CountingRandom(), faults: faults,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, settings: settings)
        let cluster = CCClient(
            transport: FakeDaemon { operation, input throws(CloudError) in
                let ids = try input.texts("ids")
                self.nudges.withLock { $0 += ids }
                return .record([:])
            }, endpoint: "cc:8774")
        let controller = NodeController(
            environment: environment, cluster: cluster, staging: SimulatedBundleStaging(), http: NoHTTP(),
            facts: NodeFacts(version: "0", certificatePEM: "", startedAt: clock.now()))
        node.withLock { $0 = controller }
        let running = Task { await controller.run() }
        defer { running.cancel() }
        do { try await body() } catch {
            running.cancel()
            await running.value
            throw error
        }
        running.cancel()
        await running.value
    }

    /// Lets time go on until the condition holds; fails after so many seconds of the node's clock.
    func until(
        _ seconds: Int = 120, _ what: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation,
        _ condition: () async throws -> Bool
    ) async throws {
        for _ in 0..<(seconds * 10) {
            // Real time for the tasks, then some of the node's.
            for _ in 0..<20 { await Task.yield() }
            if try await condition() { return }
            try await Task.sleep(for: .microseconds(300))
            if try await condition() { return }
            hypervisor.settle()
            clock.advance(milliseconds: 100)
        }
        Issue.record(what ?? "it did not happen in time", sourceLocation: sourceLocation)
    }

    /// Lets this much of the node's time go by.
    func pass(seconds: Int) async throws {
        for _ in 0..<(seconds * 5) {
            for _ in 0..<20 { await Task.yield() }
            try await Task.sleep(for: .microseconds(300))
            hypervisor.settle()
            clock.advance(milliseconds: 200)
        }
    }

    func report(_ id: String) async throws -> NC.InstanceReport? {
        try await actions.describeInstances(NC.DescribeInstances(instanceIds: [id]), context).instances.first
    }
    func state(_ id: String) async throws -> String? { try await report(id)?.state }
    func volume(_ id: String, _ volume: String) async throws -> NC.VolumeReport? {
        try await report(id)?.volumes.first { $0.volumeId == volume }
    }

    func connect(_ ids: [String], generation: Int) async throws {
        _ = try await actions.applyNetwork(
            NC.ApplyNetwork(
                network: NC.NetworkState(gateway: "10.1.0.1", prefixLength: 16, instances: ids.map { NC.InstanceAddress(instanceId: $0) }),
                generation: generation), context)
    }

    @discardableResult
    func run(_ id: String, generation: Int = 1, cores: Int = 1, volumes: [NC.VolumeOrder] = []) async throws -> NC.InstanceReport? {
        try await actions.runInstance(
            NC.RunInstance(order: Self.order(id, cores: cores, volumes: volumes), generation: generation), context
        ).instance
    }

    static func order(_ id: String, cores: Int = 1, volumes: [NC.VolumeOrder] = []) -> NC.InstanceOrder {
        func image(_ n: String) -> NC.ImageSource {
            NC.ImageSource(
                imageId: n, format: "bundle", cacheKey: Hex.encode(Array((n + "-image").utf8)), digest: "00", size: 1 << 20,
                virtualSize: 1 << 20, parts: [NC.ImagePart(url: "http://walrus/\(n)")])
        }
        return NC.InstanceOrder(
            instanceId: id, accountId: "123456789012", cores: cores, memoryMiB: 512, diskGiB: 4, machine: image("emi-1"),
            kernel: image("eki-1"), ramdisk: image("eri-1"), macAddress: "d0:0d:00:00:00:0a", privateAddress: "10.1.0.10", volumes: volumes,
            rebootCount: 0)
    }
    static func volume(_ n: Int, attachment: Int = 1) -> NC.VolumeOrder {
        NC.VolumeOrder(
            volumeId: "vol-0000000\(n)", attachmentId: "attach-0000000\(attachment)", device: "/dev/sdf", storage: "sc:8776", sizeGiB: 1)
    }
}
