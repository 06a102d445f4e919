import API
import Database
import Domain
import Identity
import Synchronization
import TestKit
import Wire
import Workflow

@testable import CloudControllerKit

/// The cloud controller's machine; the database outlives it.
final class SimulatedCloud: Sendable {
    static let name = "clc1"
    static let endpoint = "10.0.0.1:8779"
    static let imageID = "emi-0badcafe"
    static let account = Account(
        id: "123456789012", name: "alice", canonicalUserID: String(repeating: "a", count: 64), created: Timestamp(milliseconds: 0))

    struct Front: Sendable {
        let life: Life
        let actions: EC2Actions
        let nudges: ReconcilerNudges
    }
    private let wires: Wires
    private let front = Mutex<Front?>(nil)

    init(wires: Wires) { self.wires = wires }

    /// Where clients' calls go; `nil` while it is down.
    var listening: Front? { front.withLock { $0 }.flatMap { $0.life.isAlive ? $0 : nil } }

    func boot(_ life: Life) async throws -> SimulatedHost.Daemon {
        let random = wires.random.fork(Self.name)
        let deeds = Deeds(life: life, clock: wires.clock, random: random.fork("deeds"))
        let pool = DatabasePool(inlineForSimulation: wires.database, name: "sim-clc") { await deeds.pause(atMost: 2) }
        life.onKill { pool.close() }
        let clock = life.clock(wires.clock)
        let identity = IdentityStore(pool: pool, secretKey: [UInt8](repeating: 7, count: 32), clock: clock, random: random)
        let transport = wires.network.transport(
            from: PeerIdentity(cloud: "sim", role: "clc", name: Self.name), life: life, timeoutMilliseconds: 30_000)
        let cloud = CloudServices(
            pool: pool, identity: identity, clock: clock, random: random, settings: CloudSettings(),
            cluster: ClusterRegistry(pool: pool, transport: transport),
            keys: CloudKeys(
                imageKey: try Wires.key.get(), imageCertificate: try Wires.certificate.get(), systemAccessKeyID: "AKSYSTEM",
                systemSecret: "secret", secret: [UInt8](repeating: 9, count: 32)), http: NoHTTP())
        let nudges = ReconcilerNudges()
        let reconcilers = Reconcilers(cloud, nudges: nudges)
        let actions = CloudActions(nudges)
        let trace = wires.trace
        front.withLock { $0 = Front(life: life, actions: EC2Actions(cloud), nudges: nudges) }
        return SimulatedHost.Daemon(
            service: CLC.service,
            dispatch: { operation, input, context async throws(CloudError) in try await CLC.dispatch(operation, input, actions, context) },
            work: {
                await withTaskGroup(of: Void.self) { group in
                    func loop(_ name: String, _ period: Int, _ nudge: Nudge, _ body: @escaping @Sendable () async -> ReconcileReport) {
                        group.addTask {
                            await ReconcilerLoop(
                                name: name, periodMilliseconds: period, nudge: nudge, clock: clock,
                                observe: { report in for failure in report.failures { trace.note("clc1: \(name): \(failure)") } },
                                body: body
                            ).run()
                        }
                    }
                    loop("cluster", Reconcilers.clusterMilliseconds, nudges.cluster) { await reconcilers.clusterPass() }
                    loop("bundles", Reconcilers.clusterMilliseconds, nudges.bundles) { await reconcilers.bundlePass() }
                    loop("storage", Reconcilers.storageMilliseconds, nudges.storage) { await reconcilers.storagePass() }
                    loop("network", Reconcilers.networkMilliseconds, nudges.network) { await reconcilers.networkPass() }
                    loop("tidy", Reconcilers.tidyMilliseconds, Nudge()) { await reconcilers.tidyPass() }
                }
            })
    }

    /// Who asks, at this moment.
    static func context(now: Timestamp, requestID: String) -> OperationContext {
        OperationContext(
            caller: AuthenticatedCaller(principal: account.root, accessKeyID: "AKALICE"), requestID: requestID, apiVersion: "2016-11-15",
            now: now)
    }

    // MARK: the database of a new cloud

    /// Every schema and one image. Nothing is connected to it afterwards, so that each seed can have a copy.
    static func prepare(_ url: String) async throws {
        let pool = DatabasePool(inlineForSimulation: url, name: "sim-template")
        defer { pool.close() }
        try await IdentityStore(pool: pool, secretKey: [UInt8](repeating: 7, count: 32)).migrate()
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)
        let image = StoredImage(
            id: imageID, accountID: account.id, location: "images/simulated.raw", bucket: "images", role: .machine, format: .raw,
            architecture: "x86_64", rootDeviceName: "/dev/sda1", virtualizationType: "hvm", digest: String(repeating: "0", count: 64),
            cacheKey: "00112233445566778899", size: 1 << 20, virtualSize: 1 << 30, bundledSize: 1 << 20,
            parts: [.init(key: "simulated.raw", size: 1 << 20, digest: "")], createdAt: Timestamp(milliseconds: 0))
        try await pool.transaction { tx in try ImageStore.insert(tx, image) }
    }

    /// Writes down which daemons there are.
    static func register(_ url: String, nodes: [(name: String, endpoint: String)]) async throws {
        let pool = DatabasePool(inlineForSimulation: url, name: "sim-register")
        defer { pool.close() }
        try await pool.transaction { tx in
            let zone = SimulatedCluster.zone
            let now = Timestamp(milliseconds: 0)
            var all = [
                Component(role: .cc, name: SimulatedCluster.name, zone: zone, endpoint: SimulatedCluster.endpoint),
                Component(role: .sc, name: SimulatedStorage.name, zone: zone, endpoint: SimulatedStorage.endpoint),
            ]
            all += nodes.map { Component(role: .nc, name: $0.name, zone: zone, endpoint: $0.endpoint) }
            for component in all { _ = try ComponentStore.register(tx, component, now: now) }
        }
    }
}
