public import Daemon
import Database
import Domain
import Identity
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

    /// A line for each account.
    public func listAccounts() async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            try await setup(pool).identity.accountList().map { "\($0.id) \($0.name) \($0.created.iso8601Seconds)" }.joined(separator: "\n")
        }
    }

    /// The quotas of an account: the configuration's, and in their place what was set; then those of its users.
    public func quotas(account: String) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        let settings = configuration.settings
        return try await telling {
            let owner = try await self.account(account, try setup(pool).identity)
            return try await pool.read { t in
                let values = try settings.quotas(t, accountID: owner.id)
                let own = try QuotaStore.list(t, account: owner.id)
                var lines = CloudSettings.Quotas.paths.map { name, path in
                    let isSet = own.contains { $0.user == nil && $0.name == name.rawValue }
                    return "\(name.rawValue) \(values[keyPath: path])\(isSet ? "" : " (configuration)")"
                }
                for quota in own { if let user = quota.user { lines.append("\(quota.name) \(quota.value) of the user \(user)") } }
                return lines.joined(separator: "\n")
            }
        }
    }

    /// - Parameter value: `nil` goes back to the configuration's.
    public func setQuota(account: String, user: String?, name: String, value: Int?) async throws -> String {
        let pool = pool()
        defer { pool.close() }
        return try await telling {
            let names = CloudSettings.Quotas.paths.map(\.name)
            guard let limit = names.first(where: { $0.rawValue == name }) else {
                throw Failure(description: "the quota is one of \(names.map(\.rawValue).joined(separator: ", ")), not '\(name)'")
            }
            // Only of these is it written down whose they are.
            guard user == nil || limit == .instances || limit == .cores else {
                throw Failure(description: "a user's quotas are instances and cores; \(name) is the account's")
            }
            let identity = try setup(pool).identity
            let owner = try await self.account(account, identity)
            try await identity.change { t in
                let entity = try user.map { name throws(CloudError) in try EntityStore.fetch(t, .user, name, account: owner.id) }
                try QuotaStore.set(t, account: owner.id, user: entity, name: limit, value: value)
            }
            return "\(name) of \(user.map { "\($0) in " } ?? "")\(owner.name): \(value.map { String($0) } ?? "as configured")"
        }
    }

    /// By id or name.
    private func account(_ text: String, _ identity: IdentityStore) async throws(CloudError) -> Account {
        let isID = text.utf8.count == 12 && text.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
        return isID ? try await identity.accountFetch(text) : try await identity.accountFetch(name: text)
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
