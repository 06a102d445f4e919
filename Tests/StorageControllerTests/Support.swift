import API
import Database
import Domain
import StorageControllerKit
import Synchronization
import TestKit
import Testing
import Wire
import Workflow

/// An object store in memory that can be out of reach, and lose or damage things.
actor MemoryObjects: SnapshotObjects {
    private(set) var objects: [String: [UInt8]] = [:]
    private var isDown = false

    func setDown(_ down: Bool) { isDown = down }
    func replace(_ key: String, _ bytes: [UInt8]?) { objects[key] = bytes }
    var keys: [String] { objects.keys.sorted() }

    private func check() throws(CloudError) { if isDown { throw CloudError(.unavailable("The object store")) } }
    func put(_ key: String, _ bytes: [UInt8]) async throws(CloudError) {
        try check()
        objects[key] = bytes
    }
    func get(_ key: String) async throws(CloudError) -> [UInt8]? {
        try check()
        return objects[key]
    }
    func deleteAll(prefix: String) async throws(CloudError) {
        try check()
        for key in objects.keys where key.hasPrefix(prefix) { objects[key] = nil }
    }
}

/// Kills whatever comes to the `at`-th place, once.
final class KillAt: Faults {
    private let state: Mutex<(count: Int, at: Int)>
    init(_ at: Int) { state = Mutex((0, at)) }

    func point(_ name: String) async throws(CloudError) {
        let kill = state.withLock { s in
            s.count += 1
            return s.count == s.at
        }
        if kill { throw CloudError(.unavailable("killed"), context: name) }
    }
    var count: Int { state.withLock { $0.count } }
}

/// A Storage Controller on a database of its own, a backend in memory and objects in memory. `restart()` is what kill -9 leaves.
struct StorageBench: Sendable {
    static let node = CallContext(requestID: "r", caller: PeerIdentity(cloud: "c", role: "nc", name: "alpha"))
    static let otherNode = CallContext(requestID: "r", caller: PeerIdentity(cloud: "c", role: "nc", name: "beta"))
    static let cloud = CallContext(requestID: "r", caller: PeerIdentity(cloud: "c", role: "clc", name: "clc"))

    let pool: DatabasePool
    let backend: any BlockBackend
    let objects: MemoryObjects
    let capacityGiB: Int
    private(set) var environment: StorageEnvironment
    private(set) var controller: StorageController

    init(
        capacityGiB: Int = 100, backend: any BlockBackend = SimulatedBlockBackend(totalBytes: 1 << 40), faults: any Faults = NoFaults()
    ) async throws {
        pool = try TransientPostgres.pool(size: 4, name: "sc")
        self.backend = backend
        objects = MemoryObjects()
        self.capacityGiB = capacityGiB
        let store = StorageStore(pool: pool)
        try await store.migrate()
        environment = StorageEnvironment(
            zone: "karri-1a", capacityGiB: capacityGiB, tlsHostname: "127.0.0.1", store: store, backend: backend, objects: objects,
            clock: SystemClock(), random: SystemRandom(), faults: faults)
        controller = StorageController(environment)
    }

    mutating func restart(faults: any Faults = NoFaults()) {
        environment = StorageEnvironment(
            zone: "karri-1a", capacityGiB: capacityGiB, tlsHostname: "127.0.0.1", store: StorageStore(pool: pool), backend: backend,
            objects: objects, clock: SystemClock(), random: SystemRandom(), faults: faults)
        controller = StorageController(environment)
    }

    /// One pass of each reconciler. - Returns: what failed.
    @discardableResult
    func pass() async -> [String] {
        let environment = environment
        var failures: [String] = []
        for report in [
            await VolumeReconciler(environment).runOnce(), await SnapshotReconciler(environment).runOnce(),
            await TransferReconciler(environment).runOnce(),
        ] { failures += report.failures }
        return failures
    }

    func settle(_ passes: Int = 8) async { for _ in 0..<passes { await pass() } }

    // MARK: requests

    @discardableResult
    func create(_ id: String, _ sizeGiB: Int = 1, snapshot: String? = nil, generation: Int = 1) async throws(CloudError) -> SC.VolumeState {
        let request = SC.CreateVolume(volumeId: id, sizeGiB: sizeGiB, snapshotId: snapshot, generation: generation)
        return try required(try await controller.createVolume(request, Self.cloud).volume)
    }
    @discardableResult
    func delete(_ id: String, generation: Int = 2) async throws(CloudError) -> SC.VolumeState {
        try required(try await controller.deleteVolume(SC.DeleteVolume(volumeId: id, generation: generation), Self.cloud).volume)
    }
    @discardableResult
    func snapshot(_ id: String, of volume: String, generation: Int = 1) async throws(CloudError) -> SC.SnapshotState {
        let request = SC.CreateSnapshot(snapshotId: id, volumeId: volume, generation: generation)
        return try required(try await controller.createSnapshot(request, Self.cloud).snapshot)
    }
    @discardableResult
    func deleteSnapshot(_ id: String, generation: Int = 2) async throws(CloudError) -> SC.SnapshotState {
        try required(try await controller.deleteSnapshot(SC.DeleteSnapshot(snapshotId: id, generation: generation), Self.cloud).snapshot)
    }
    func export(
        _ volume: String, _ attachment: String, _ context: CallContext = StorageBench.node
    ) async throws(CloudError) -> SC.VolumeExport {
        try required(
            try await controller.exportVolume(SC.ExportVolume(volumeId: volume, attachmentId: attachment), context).export)
    }
    func unexport(_ volume: String, _ attachment: String, _ context: CallContext = StorageBench.node) async throws(CloudError) {
        _ = try await controller.unexportVolume(SC.UnexportVolume(volumeId: volume, attachmentId: attachment), context)
    }
    func volume(_ id: String) async throws(CloudError) -> SC.VolumeState? {
        try await controller.describeVolumes(SC.DescribeVolumes(volumeIds: [id]), Self.cloud).volumes.first
    }
    func snapshotState(_ id: String) async throws(CloudError) -> SC.SnapshotState? {
        try await controller.describeSnapshots(SC.DescribeSnapshots(snapshotIds: [id]), Self.cloud).snapshots.first
    }
}

/// `#require` with typed throws.
private func required<T>(_ value: T?) throws(CloudError) -> T {
    guard let value else { throw .bug("an answer without its value") }
    return value
}
