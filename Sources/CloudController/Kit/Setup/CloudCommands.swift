public import Daemon
import Database
import Domain
import Workflow

/// What the subcommands of `karri-clc` do. Errors are told on standard error with what the operator can do about them.
public struct CloudCommands: Sendable {
    private let configuration: CloudConfiguration
    private let runtime: DaemonRuntime
    private let folder: CloudFolder

    public init(_ configuration: CloudConfiguration, _ runtime: DaemonRuntime) {
        self.configuration = configuration
        self.runtime = runtime
        folder = CloudFolder(keys: configuration.keysFolder, random: runtime.random)
    }

    /// An error with its context: whoever may run these commands may see it.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    private func telling<R>(_ body: () async throws -> R) async throws -> R {
        do {
            return try await body()
        } catch {
            throw Failure(description: DaemonFailure.text(error))
        }
    }

    private func pool() -> DatabasePool { DatabasePool(url: configuration.databaseURL, size: 1, name: "karri-clc command") }

    private func setup(_ pool: DatabasePool) throws(CloudError) -> CloudSetup {
        try CloudSetup(folder: folder, pool: pool, clock: runtime.clock, random: runtime.random)
    }

    public func initialise(home: String?) async throws {
        let home = home ?? configuration.keysFolder.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
        let pool = pool()
        defer { pool.close() }
        try await telling {
            try folder.make(hosts: .here(and: [configuration.settings.serviceHost]))
            try await setup(pool).initialise(credentials: configuration.systemCredentials, admin: home + "/admin")
        }
    }

    public func register(role: String, name: String, zone: String?, endpoint: String) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            guard let kind = Component.Role(rawValue: role) else {
                throw Failure(description: "the role is cc, sc, nc or walrus, not '\(role)'")
            }
            let parts = endpoint.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, let port = UInt16(parts[1]), port > 0 else {
                throw Failure(description: "the endpoint is host:port, not '\(endpoint)'")
            }
            let component = Component(role: kind, name: name, zone: zone ?? configuration.settings.zone, endpoint: endpoint)
            let changed = try await setup(pool).register(component)
            return "\(role) \(name) at \(endpoint) in \(component.zone): \(changed ? "registered" : "already registered")"
        }
    }

    public func deregister(role: String, name: String, force: Bool) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            guard let kind = Component.Role(rawValue: role) else {
                throw Failure(description: "the role is cc, sc, nc or walrus, not '\(role)'")
            }
            let was = try await setup(pool).deregister(role: kind, name: name, force: force)
            return "\(role) \(name): \(was ? "deregistered" : "was not registered")"
        }
    }

    public func createAccount(_ name: String, out: String?) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            try await setup(pool).createAccount(name: name, files: out).map { "\($0.0)=\($0.1)" }.joined(separator: "\n")
        }
    }

    public func issue(role: String, name: String, prefix: String, addresses: [String], names: [String]) throws {
        do {
            try folder.issue(role: role, name: name, hosts: Hosts(names: names, addresses: addresses), prefix: prefix)
        } catch {
            throw Failure(description: DaemonFailure.text(error))
        }
    }

    /// - Returns: what was removed. Refused when another session of Karri's is connected.
    public func dropSchemas() async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            let dropped = try await CloudSchema.drop(pool)
            return dropped.isEmpty ? "no schema of Karri's" : "removed the schemas \(dropped.joined(separator: ", "))"
        }
    }

    public func status(json: Bool) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            let host = try folder.hostIdentity("clc")
            let peers = HTTPClient(tls: host.clientTLS)
            let transport = InternalTransport(
                identity: host, clock: runtime.clock, random: runtime.random, http: peers, timeoutMilliseconds: 5000)
            let status = try await CloudStatus(
                configuration: configuration, registry: ClusterRegistry(pool: pool, transport: transport), peers: peers, plain: HTTPClient()
            ).json()
            return json ? status.encoded : CloudStatus.text(status)
        }
    }
}
