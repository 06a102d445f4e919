public import Database
public import Domain
import Workflow

/// Accounts and users.
extension IdentityStore {
    /// - Throws: `.duplicate(user)` when the name is taken; `.invalidParameter`.
    public func accountCreate(name: String) async throws(CloudError) -> Account {
        try await change { t in try self.accountCreate(t, name: name) }
    }

    public func accountCreate(_ t: Transaction, name: String) throws(CloudError) -> Account {
        try IdentityRules.checkAccountName(name)
        let order = newAccount(name)
        guard try t.execute("SELECT 1 FROM identity.accounts WHERE name = $1", .text(name)).isEmpty else {
            throw CloudError(.duplicate(.user, name: name), "The account \(name) exists already.")
        }
        try Self.insert(t, order)
        return order
    }

    /// With its users, groups, roles, keys and policies. What it owns elsewhere the caller has looked at.
    public static func accountDelete(_ t: Transaction, _ account: Account) throws(CloudError) {
        let id = SQLValue.text(account.id)
        for statement in [
            "DELETE FROM identity.access_keys WHERE account = $1", "DELETE FROM identity.certificates WHERE account = $1",
            "DELETE FROM identity.group_members m USING identity.groups g WHERE g.id = m.group_id AND g.account = $1",
        ] {
            try t.execute(statement, id)
        }
        for kind in [EntityKind.instanceProfile, .role, .group, .user] {
            for entity in try EntityStore.list(t, kind, account: account.id) { try EntityStore.remove(t, entity) }
        }
        for policy in try PolicyStore.list(t, account: account.id) { try PolicyStore.remove(t, policy) }
        for provider in try OIDCStore.list(t, account: account.id) { try OIDCStore.delete(t, provider) }
        try t.execute("DELETE FROM identity.quotas WHERE account = $1", id)
        try t.execute("DELETE FROM identity.accounts WHERE id = $1", id)
    }

    /// The account of that name, made if there is none: repeating it gives the same one, also when two do it at once.
    public func accountEnsure(name: String) async throws(CloudError) -> Account {
        try IdentityRules.checkAccountName(name)
        return try await ensure(newAccount(name))
    }

    /// The account of the cloud's own daemons.
    public func systemAccountEnsure() async throws(CloudError) -> Account {
        let fresh = newAccount(Account.systemName)
        return try await ensure(
            Account(id: Account.systemID, name: fresh.name, canonicalUserID: fresh.canonicalUserID, created: fresh.created))
    }

    private func newAccount(_ name: String) -> Account {
        Account(
            id: IdentityRules.accountID(random), name: name, canonicalUserID: IdentityRules.canonicalUserID(random), created: clock.now())
    }

    private func ensure(_ order: Account) async throws(CloudError) -> Account {
        try await pool.transaction(isolation: .readCommitted) { t in
            let inserted = try t.execute(
                "INSERT INTO identity.accounts (id, name, canonical_id, created) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
                .text(order.id), .text(order.name), .text(order.canonicalUserID), .timestamp(order.created))
            if inserted.affected > 0 { try t.notify(Self.channel) }
            return try Self.account(t, "name", order.name)
        }
    }

    private static func insert(_ t: Transaction, _ account: Account) throws(CloudError) {
        try t.execute(
            "INSERT INTO identity.accounts (id, name, canonical_id, created) VALUES ($1, $2, $3, $4)", .text(account.id),
            .text(account.name), .text(account.canonicalUserID), .timestamp(account.created))
    }

    /// - Throws: `EntityAlreadyExists`, `.notFound(user)` (the account), `ValidationError`, `LimitExceeded`.
    public func userCreate(name: String, account: String, path: String = "/") async throws(CloudError) -> User {
        let now = clock.now()
        return try await change { t in
            _ = try Self.account(t, "id", account)
            _ = try EntityStore.create(t, .user, name: name, path: path, account: account, random: self.random, now: now)
            return try Self.user(t, name, account)
        }
    }

    /// - Throws: `.notFound(user)`.
    public func userFetch(name: String, account: String) async throws(CloudError) -> User {
        try await pool.read { t in try Self.user(t, name, account) }
    }

    public func userList(account: String) async throws(CloudError) -> [User] {
        try await pool.read { t in
            let owner = try Self.account(t, "id", account)
            return try t.execute("SELECT * FROM identity.users WHERE account = $1 ORDER BY name", .text(account)).map { User($0, owner) }
        }
    }

    /// - Throws: `NoSuchEntity`; `DeleteConflict` while it has keys, certificates, policies, groups or a password.
    public func userDelete(name: String, account: String) async throws(CloudError) {
        try await change { t in try EntityStore.delete(t, try EntityStore.fetch(t, .user, name, account: account)) }
    }

    /// A transaction that changes identities, told to everybody's caches.
    public func change<R: Sendable>(_ body: @escaping @Sendable (Transaction) throws -> R) async throws(CloudError) -> R {
        try await pool.transaction { t in
            let result = try body(t)
            try Self.changed(t)
            return result
        }
    }

    /// The last step of every transaction that changes identities: empties the caches of all processes when it commits.
    public static func changed(_ t: Transaction) throws(CloudError) { try t.notify(channel) }

    static func user(_ t: Transaction, _ name: String, _ account: String) throws(CloudError) -> User {
        let owner = try Self.account(t, "id", account)
        guard
            let row = try t.execute(
                "SELECT * FROM identity.users WHERE account = $1 AND lower(name) = lower($2)", .text(account), .text(name)
            ).first
        else { throw CloudError(.notFound(.user, id: name)) }
        return User(row, owner)
    }

    /// The id of a user; `nil` stands for the account's root on both sides.
    static func userID(_ t: Transaction, _ name: String?, _ account: String) throws(CloudError) -> String? {
        guard let name, name != "root" else {
            _ = try Self.account(t, "id", account)
            return nil
        }
        return try Self.user(t, name, account).principal.userID
    }

    // MARK: policies

    /// Adds or replaces an inline policy of a user.
    /// - Throws: `MalformedPolicyDocument`, `NoSuchEntity`, `LimitExceeded`.
    public func policyPut(_ document: String, name: String, user: String, account: String) async throws(CloudError) {
        try await change { t in
            try PolicyStore.put(t, try EntityStore.fetch(t, .user, user, account: account), name: name, document: document)
        }
    }

    /// Name and text of each.
    public func policyList(user: String, account: String) async throws(CloudError) -> [(name: String, document: String)] {
        try await pool.read { t in try PolicyStore.inline(t, try EntityStore.fetch(t, .user, user, account: account)) }
    }

    /// - Throws: `NoSuchEntity` also for a policy that does not exist.
    public func policyDelete(name: String, user: String, account: String) async throws(CloudError) {
        try await change { t in
            try PolicyStore.deleteInline(t, try EntityStore.fetch(t, .user, user, account: account), name: name)
        }
    }
}
