import API
import Database
import Domain
import Synchronization
import TestKit
import Wire
import Workflow

@testable import StorageControllerKit

/// The storage controller's machine: the backend and the database outlive it.
final class SimulatedStorage: Sendable {
    static let name = "sc1"
    static let endpoint = "10.0.0.3:8776"
    static let capacityGiB = 60
    let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
    private let objects = MemorySnapshotObjects()
    private let wires: Wires

    init(wires: Wires) { self.wires = wires }

    func boot(_ life: Life) async throws -> SimulatedHost.Daemon {
        let random = wires.random.fork(Self.name)
        let deeds = Deeds(life: life, clock: wires.clock, random: random.fork("deeds"))
        let pool = DatabasePool(inlineForSimulation: wires.database, name: "sim-sc") { await deeds.pause(atMost: 2) }
        life.onKill { pool.close() }
        let clock = life.clock(wires.clock)
        let environment = StorageEnvironment(
            zone: SimulatedCluster.zone, capacityGiB: Self.capacityGiB, tlsHostname: "10.0.0.3", store: StorageStore(pool: pool),
            backend: LifeBackend(base: backend, deeds: deeds), objects: objects, clock: clock, random: random)
        try await environment.store.migrate()
        let controller = StorageController(environment)
        let trace = wires.trace
        return SimulatedHost.Daemon(
            service: SC.service,
            dispatch: { operation, input, context async throws(CloudError) in try await SC.dispatch(operation, input, controller, context)
            },
            work: {
                await withTaskGroup(of: Void.self) { group in
                    func loop(_ name: String, _ nudge: Nudge, _ body: @escaping @Sendable () async -> ReconcileReport) {
                        group.addTask {
                            await ReconcilerLoop(
                                name: name, periodMilliseconds: 15_000, retryMilliseconds: 250, nudge: nudge, clock: clock,
                                observe: { report in for failure in report.failures { trace.note("sc1: \(name): \(failure)") } }, body: body
                            ).run()
                        }
                    }
                    loop("volumes", environment.volumesNudge) { await VolumeReconciler(environment).runOnce() }
                    loop("snapshots", environment.snapshotsNudge) { await SnapshotReconciler(environment).runOnce() }
                    loop("transfers", environment.transfersNudge) { await TransferReconciler(environment).runOnce() }
                }
            })
    }
}

private actor MemorySnapshotObjects: SnapshotObjects {
    private var objects: [String: [UInt8]] = [:]
    func put(_ key: String, _ bytes: [UInt8]) { objects[key] = bytes }
    func get(_ key: String) -> [UInt8]? { objects[key] }
    func deleteAll(prefix: String) { objects = objects.filter { !$0.key.hasPrefix(prefix) } }
}

/// The backend, as one life of the storage controller reaches it.
private struct LifeBackend: BlockBackend {
    let base: SimulatedBlockBackend
    let deeds: Deeds

    var capabilities: BlockCapabilities { base.capabilities }

    func space() async throws(CloudError) -> BlockSpace { await base.space() }
    func volumeCreate(_ id: String, bytes: Int) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in await base.volumeCreate(id, bytes: bytes) }
    }
    func volumeBytes(_ id: String) async throws(CloudError) -> Int? {
        try deeds.life.check()
        return await base.volumeBytes(id)
    }
    func volumeDelete(_ id: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.volumeDelete(id) }
    }
    func restoreOffset(_ id: String) async throws(CloudError) -> Int { await base.restoreOffset(id) }
    func restoreWrite(_ id: String, at offset: Int, _ bytes: [UInt8]) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in await base.restoreWrite(id, at: offset, bytes) }
    }
    func restoreFinish(_ id: String, bytes: Int, sha256: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.restoreFinish(id, bytes: bytes, sha256: sha256) }
    }
    func restoreAbandon(_ id: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in await base.restoreAbandon(id) }
    }
    func exportsApply(_ id: String, _ grants: [ExportGrant]) async throws(CloudError) -> ExportAddress? {
        try await deeds.perform(atMost: 50) { () async throws(CloudError) in try await base.exportsApply(id, grants) }
    }
    func runningVolumes() async throws(CloudError) -> [String] {
        try deeds.life.check()
        return await base.runningVolumes()
    }
    func captureStart(_ capture: String, of volume: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in try await base.captureStart(capture, of: volume) }
    }
    func captureState(_ capture: String, of volume: String) async throws(CloudError) -> CaptureState {
        try await deeds.perform { () async throws(CloudError) in await base.captureState(capture, of: volume) }
    }
    func captureDigest(_ capture: String) async throws(CloudError) -> String { await base.captureDigest(capture) }
    func captureRead(_ capture: String, at offset: Int, count: Int) async throws(CloudError) -> [UInt8] {
        await base.captureRead(capture, at: offset, count: count)
    }
    func captureDelete(_ capture: String, of volume: String) async throws(CloudError) {
        try await deeds.perform { () async throws(CloudError) in await base.captureDelete(capture, of: volume) }
    }
}
