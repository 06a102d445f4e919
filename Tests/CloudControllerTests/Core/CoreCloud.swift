import API
import Database
import Domain
import Identity
import Logging
import Signing
import Synchronization
import TestKit
import Testing
import Wire
import Workflow

@testable import CloudControllerKit
@testable import Daemon

/// The whole controller on an empty database, with one simulated zone below it.
struct CoreCloud {
    let zone: CoreZone
    let clock = CoreClock()
    let cloud: CloudServices
    let actions: EC2Actions
    let reconcilers: Reconcilers
    let front: FrontEnd
    let store = CoreStore()
    private let closer: PoolCloser
    let accountID: String
    let key: AccessKeyPair
    let signingKey: PrivateKey
    let signingCertificate: Certificate
    let runtime: DaemonRuntime
    static let image = "emi-11111111111111111"
    static let rsa = Result { try PrivateKey.generateRSA(bits: 2048) }

    init(nodes: [String: Int] = ["node1": 4], settings: CloudSettings = CloudSettings()) async throws {
        let rsa = try Self.rsa.get()
        let certificate = try CertificateAuthority.selfSigned(name: "node", key: rsa, days: 30)
        zone = CoreZone(certificate: certificate.pem)
        zone.state.withLock { s in
            for (name, cores) in nodes { s.nodes[name] = CoreZone.Node(cores: cores, memoryMiB: cores * 1024, diskGiB: 100) }
        }
        let pool = try TransientPostgres.pool(size: 3)
        closer = PoolCloser(pool)
        let identity = IdentityStore(pool: pool, secretKey: [UInt8](repeating: 7, count: 32), clock: clock, random: SystemRandom())
        try await identity.migrate()
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)
        cloud = CloudServices(
            pool: pool, identity: identity, clock: clock, random: SystemRandom(), settings: settings,
            cluster: ClusterRegistry(pool: pool, transport: CoreTransport(zone: zone)),
            keys: CloudKeys(
                imageKey: rsa, imageCertificate: certificate, systemAccessKeyID: "SYSTEMSYSTEMSYSTEM", systemSecret: "secret",
                secret: [UInt8](repeating: 9, count: 32)), http: store)
        actions = EC2Actions(cloud)
        reconcilers = Reconcilers(cloud, nudges: ReconcilerNudges())
        runtime = DaemonRuntime(name: "test", logger: .init(label: "test") { _ in SilentLog() }, clock: clock, random: SystemRandom())
        front = FrontEnd(cloud, runtime: runtime)
        let account = try await identity.accountEnsure(name: "karri")
        accountID = account.id
        key = try await identity.accessKeyEnsure(account: account.id)
        signingKey = try PrivateKey.generateRSA(bits: 2048)
        signingCertificate = try CertificateAuthority.selfSigned(name: "alice", key: signingKey, days: 30)
        _ = try await identity.certificateAdd(pem: signingCertificate.pem, account: account.id)
        let now = clock.now()
        let (accountID, wrapped) = (account.id, Hex.encode(try certificate.wrap(Array("00112233445566778899aabbccddeeff".utf8))))
        try await pool.transaction { tx in
            try ComponentStore.register(tx, Component(role: .cc, name: "cc", zone: "karri-1a", endpoint: "127.0.0.1:8774"), now: now)
            try ComponentStore.register(tx, Component(role: .sc, name: "sc", zone: "karri-1a", endpoint: "127.0.0.1:8776"), now: now)
            for name in nodes.keys {
                try ComponentStore.register(tx, Component(role: .nc, name: name, zone: "karri-1a", endpoint: "\(name):8775"), now: now)
            }
            try ImageStore.insert(
                tx,
                StoredImage(
                    id: Self.image, accountID: accountID, name: nil, location: "images/tiny.manifest.xml", bucket: "images", role: .machine,
                    format: .bundle, architecture: "x86_64", rootDeviceName: "/dev/vda", virtualizationType: "hvm",
                    digest: String(repeating: "a", count: 40), cacheKey: "c0ffee", size: 1 << 20, virtualSize: 1 << 20,
                    bundledSize: 1 << 19,
                    encryptedKey: wrapped, encryptedIV: wrapped, parts: [.init(key: "tiny.part.0", size: 1 << 19, digest: "b")],
                    createdAt: now))
        }
    }

    var op: OperationContext {
        get async throws {
            let known = try #require(try await cloud.identity.credential(accessKeyID: key.id))
            return OperationContext(caller: known.caller, requestID: "test", apiVersion: "2016-11-15", now: clock.now())
        }
    }

    /// One round of everybody: the controller's reconcilers, then the simulated daemons.
    func round(_ times: Int = 1) async {
        for _ in 0..<times {
            _ = await reconcilers.clusterPass()
            _ = await reconcilers.bundlePass()
            _ = await reconcilers.storagePass()
            _ = await reconcilers.networkPass()
            zone.work()
            clock.advance(3)
        }
    }

    func run(count: Int = 1, type: String = "t1.micro", _ change: (inout EC2.RunInstances) -> Void = { _ in }) async throws -> [String] {
        var request = EC2.RunInstances(imageId: Self.image, minCount: count, maxCount: count, instanceType: type)
        change(&request)
        return try await actions.runInstances(request, try await op).instances.compactMap(\.instanceId)
    }

    func describe(_ id: String) async throws -> EC2.Instance {
        let answer = try await actions.describeInstances(EC2.DescribeInstances(instanceIds: [id]), try await op)
        return try #require(answer.reservations.first?.instances.first)
    }
    func state(_ id: String) async throws -> String { try await describe(id).state?.name ?? "" }
    func row(_ id: String) async throws -> InstanceRow {
        try #require(try await cloud.pool.read { tx in try InstanceStore.find(tx, id) })
    }
    func number(_ sql: String) async throws -> Int {
        try await cloud.pool.read { tx in try tx.execute(sql).first?.int("n") ?? -1 }
    }
}

/// Gives the connections back when the last copy of a test's cloud goes: all tests share one server.
final class PoolCloser: Sendable {
    private let pool: DatabasePool
    init(_ pool: DatabasePool) { self.pool = pool }
    deinit { pool.close() }
}
