import Daemon
import Database
import Domain
import Workflow

/// `karri-walrus quota`: reads and sets quotas in the database; a daemon that runs takes them over within a second.
public struct QuotaRun: Sendable {
    private let configuration: WalrusConfiguration

    public init(_ configuration: WalrusConfiguration) { self.configuration = configuration }

    public func set(account: String, _ quota: Quota) async throws {
        try await use { pool in try await pool.transaction { try QuotaStore.quotaSet($0, account: account, quota) } }
    }

    public func clear(account: String) async throws {
        try await use { pool in try await pool.transaction { try QuotaStore.quotaRemove($0, account: account) } }
    }

    /// - Parameter account: `nil`: all that have a quota.
    public func show(account: String?) async throws -> [(account: String, quota: Quota, use: QuotaUse)] {
        try await use { pool in
            try await pool.read { t in
                let all = try QuotaStore.quotaList(t)
                return try (account.map { [$0] } ?? all.keys.sorted()).map {
                    ($0, all[$0] ?? Quota(), try QuotaStore.use(t, account: $0))
                }
            }
        }
    }

    private func use<R: Sendable>(_ body: (DatabasePool) async throws -> R) async throws -> R {
        let pool = DatabasePool(url: configuration.databaseURL, size: 1, name: "karri-walrus-quota")
        defer { pool.close() }
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        return try await body(pool)
    }
}
