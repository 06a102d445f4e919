import API
public import Daemon
import Database
import Domain
import Identity
public import ServiceLifecycle
import Workflow

/// The composition root: everything of the controller, constructed in one readable order.
public enum CloudController {
    /// A request's body is at most 1 MiB: many connections cost little.
    static let limits = HTTPLimits(connections: 2048)

    public static func services(_ configuration: CloudConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        let folder = CloudFolder(keys: configuration.keysFolder, random: runtime.random)
        let host = try folder.hostIdentity("clc")
        let pool = DatabasePool(url: configuration.databaseURL, size: configuration.databaseConnections, name: "karri-clc")
        let identity = IdentityStore(pool: pool, secretKey: try folder.secret(), clock: runtime.clock, random: runtime.random)
        try await identity.migrate()
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)

        let transport = InternalTransport(identity: host, clock: runtime.clock, random: runtime.random)
        let cloud = CloudServices(
            pool: pool, identity: identity, clock: runtime.clock, random: runtime.random, settings: configuration.settings,
            cluster: ClusterRegistry(pool: pool, transport: transport),
            keys: try folder.cloudKeys(credentials: configuration.systemCredentials))
        let nudges = ReconcilerNudges()
        let reconcilers = Reconcilers(cloud, nudges: nudges)
        let front = FrontEnd(cloud, runtime: runtime)
        let actions = CloudActions(nudges)

        let outside = HTTPServer(
            address: configuration.listenAddress, port: configuration.port, limits: limits, runtime: runtime, name: "api",
            admin: runtime.admin(metricsForAnyone: false)
        ) { await front.answer($0) }
        let inside = InternalListener(
            address: configuration.listenAddress, port: configuration.internalPort, identity: host, service: CLC.service,
            allowedRoles: ["*": ["cc"]], runtime: runtime
        ) { operation, input, context throws(CloudError) in try await CLC.dispatch(operation, input, actions, context) }
        return [PoolService(pool: pool), IdentityService(store: identity)] + reconcilers.services(runtime) + [inside, outside]
    }
}

/// Closes the pool after everything that uses it has stopped (services stop in reverse order).
private struct PoolService: Service {
    let pool: DatabasePool
    func run() async throws {
        try? await gracefulShutdown()
        pool.close()
    }
}

/// Empties the identity's caches when something changes.
private struct IdentityService: Service {
    let store: IdentityStore
    func run() async throws { await cancelWhenGracefulShutdown { await store.run() } }
}
