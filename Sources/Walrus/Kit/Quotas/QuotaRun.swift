import Daemon
import Database
import Domain
import Workflow

/// `karri-walrus quota`: reads and sets quotas in the database; a daemon that runs takes them over within a second.
public struct QuotaRun: Sendable {
    private let configuration: WalrusConfiguration

    public init(_ configuration: WalrusConfiguration) { self.configuration = configuration }

    /// Sets what `quota` names (nothing: leaves it), or takes the account's quota away, and says how it stands.
    ///
    /// - Parameter account: `nil`: all that have a quota are shown; nothing can be set.
    public func run(account: String?, _ quota: Quota, clear: Bool) async throws -> [String] {
        let limits = [quota.bytes, quota.objects, quota.buckets].compactMap { $0 }
        guard limits.allSatisfy({ $0 >= 0 }) else { throw CloudError(.invalidParameter("quota"), "a limit is at least 0") }
        guard limits.isEmpty || !clear else { throw CloudError(.invalidParameter("clear"), "--clear takes no limits") }
        guard account != nil || limits.isEmpty && !clear else { throw CloudError(.missingParameter("account"), "an account is needed") }
        return try await use { pool in
            try await pool.transaction { t in
                if let account, clear { try QuotaStore.quotaRemove(t, account: account) }
                if let account, !limits.isEmpty { try QuotaStore.quotaSet(t, account: account, quota) }
                let all = try QuotaStore.quotaList(t)
                return try (account.map { [$0] } ?? all.keys.sorted()).map {
                    Self.line($0, all[$0] ?? Quota(), try QuotaStore.use(t, account: $0))
                }
            }
        }
    }

    private static func line(_ account: String, _ quota: Quota, _ use: QuotaUse) -> String {
        func of(_ used: Int, _ limit: Int?) -> String { "\(used) of \(limit.map(String.init) ?? "any number")" }
        return "\(account): bytes \(of(use.bytes, quota.bytes)), objects \(of(use.objects, quota.objects)), "
            + "buckets \(of(use.buckets, quota.buckets))"
    }

    private func use<R: Sendable>(_ body: (DatabasePool) async throws -> R) async throws -> R {
        let pool = DatabasePool(url: configuration.databaseURL, size: 1, name: "karri-walrus-quota")
        defer { pool.close() }
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        return try await body(pool)
    }
}
