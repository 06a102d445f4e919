import Database
import Domain
import Identity

/// How much an account, or one of its users, may have: the configuration's numbers, and in their place what `karri-clc quota` has set.
extension CloudSettings {
    /// Of an account, as they are now.
    func quotas(_ tx: Transaction, accountID: String) throws(CloudError) -> Quotas {
        let own = try QuotaStore.values(tx, account: accountID)
        if own.isEmpty { return quotas }
        var quotas = quotas
        for (name, path) in Quotas.paths { if let value = own[name.rawValue] { quotas[keyPath: path] = value } }
        return quotas
    }
}

extension CloudSettings.Quotas {
    /// Computed: a key path is not `Sendable`.
    static var paths: [(name: LimitName, path: WritableKeyPath<Self, Int>)] {
        [
            (.instances, \.instances), (.cores, \.cores), (.volumes, \.volumes), (.volumeGiB, \.volumeGiB), (.snapshots, \.snapshots),
            (.addresses, \.addresses), (.keyPairs, \.keyPairs), (.securityGroups, \.securityGroups), (.rulesPerGroup, \.rulesPerGroup),
        ]
    }
}

/// Instances and cores, which are the account's and at the same time of the user who started them.
struct LaunchQuota {
    /// How many more of this many cores each there may be; never below 0.
    let remaining: Int

    /// - Parameters:
    ///   - count: instances that there must be room for.
    /// - Throws: `.limitExceeded(.instances)` or `(.cores)`: whose limit it is, and by how much.
    init(_ tx: Transaction, _ count: Int, cores: Int, settings: CloudSettings, _ op: OperationContext) throws(CloudError) {
        let quotas = try settings.quotas(tx, accountID: op.accountID)
        let usage = try InstanceStore.usage(tx, accountID: op.accountID)
        try Self.check(.instances, usage.instances + count, quotas.instances, "the account \(op.accountID)")
        try Self.check(.cores, usage.cores + count * cores, quotas.cores, "the account \(op.accountID)")
        var remaining = min(quotas.instances - usage.instances, (quotas.cores - usage.cores) / cores)
        if op.caller.principal.isUser {
            let own = try QuotaStore.values(tx, account: op.accountID, userID: op.caller.principal.userID)
            if !own.isEmpty {
                let used = try AccountStore.usage(tx, accountID: op.accountID, userARN: op.caller.principal.arn)
                let who = "the user \(op.caller.principal.userName)"
                if let limit = own[LimitName.instances.rawValue] {
                    try Self.check(.instances, used.instances + count, limit, who)
                    remaining = min(remaining, limit - used.instances)
                }
                if let limit = own[LimitName.cores.rawValue] {
                    try Self.check(.cores, used.cores + count * cores, limit, who)
                    remaining = min(remaining, (limit - used.cores) / cores)
                }
            }
        }
        self.remaining = max(0, remaining)
    }

    private static func check(_ name: LimitName, _ asked: Int, _ limit: Int, _ who: String) throws(CloudError) {
        guard asked > limit else { return }
        throw CloudError(
            .limitExceeded(name, asked: asked, limit: limit),
            "Your quota allows for \(limit) \(name.words) of \(who). You requested at least \(asked): \(asked - limit) too many.")
    }
}
