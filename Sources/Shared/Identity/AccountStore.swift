import Database
public import Domain
import Workflow

/// Accounts and users.
extension IdentityStore {
    /// - Throws: `.duplicate(user)` when the name is taken; `.invalidParameter`.
    public func accountCreate(name: String) async throws(CloudError) -> Account {
        try IdentityRules.checkAccountName(name)
        let order = newAccount(name)
        return try await Self.naming(.user, name) { () async throws(CloudError) in
            try await self.pool.transaction { t in
                try Self.insert(t, order)
                try t.notify(Self.channel)
                return order
            }
        }
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

    /// - Throws: `.duplicate(user)`, `.notFound(user)` (the account), `.invalidParameter`.
    public func userCreate(name: String, account: String, path: String = "/") async throws(CloudError) -> User {
        try IdentityRules.checkUserName(name)
        try IdentityRules.checkPath(path)
        let id = IdentityRules.userID(random)
        let now = clock.now()
        return try await Self.naming(.user, name) { () async throws(CloudError) in
            try await self.pool.transaction { t in
                _ = try Self.account(t, "id", account)
                try t.execute(
                    "INSERT INTO identity.users (id, account, name, path, created) VALUES ($1, $2, $3, $4, $5)", .text(id), .text(account),
                    .text(name), .text(path), .timestamp(now))
                try t.notify(Self.channel)
                return try Self.user(t, name, account)
            }
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

    /// With the user go their policies. Keys and certificates must be gone before, as in IAM.
    /// - Throws: `.notFound(user)`, `.inUse(user)`.
    public func userDelete(name: String, account: String) async throws(CloudError) {
        try await pool.transaction { t in
            let user = try Self.user(t, name, account).principal.userID
            for (table, what) in [("access_keys", "access keys"), ("certificates", "certificates")] {
                let used = try t.execute("SELECT 1 FROM identity.\(table) WHERE user_id = $1 LIMIT 1", .text(user))
                guard used.isEmpty else { throw CloudError(.inUse(.user, id: name, by: what)) }
            }
            try t.execute("DELETE FROM identity.user_policies WHERE user_id = $1", .text(user))
            try t.execute("DELETE FROM identity.users WHERE id = $1", .text(user))
            try t.notify(Self.channel)
        }
    }

    static func user(_ t: Transaction, _ name: String, _ account: String) throws(CloudError) -> User {
        let owner = try Self.account(t, "id", account)
        guard let row = try t.execute("SELECT * FROM identity.users WHERE account = $1 AND name = $2", .text(account), .text(name)).first
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

    /// A name that is taken is the caller's error, not ours.
    private static func naming<R: Sendable>(
        _ kind: ResourceKind, _ name: String, _ body: () async throws(CloudError) -> R
    ) async throws(CloudError) -> R {
        do throws(CloudError) { return try await body() } catch {
            throw error.isUniqueViolation ? CloudError(.duplicate(kind, name: name), context: error.context) : error
        }
    }

    // MARK: policies

    /// Adds or replaces an inline policy of a user.
    /// - Throws: `.named("MalformedPolicyDocument")`, `.notFound(user)`, `.invalidParameter`, `.requestTooLarge`.
    public func policyPut(_ document: String, name: String, user: String, account: String) async throws(CloudError) {
        try IdentityRules.checkPolicyName(name)
        guard document.utf8.count <= IdentityRules.policyLimit else {
            throw CloudError(.requestTooLarge(limit: IdentityRules.policyLimit))
        }
        _ = try PolicyDocument(parsing: document, for: .identity)
        try await pool.transaction { t in
            let id = try Self.user(t, user, account).principal.userID
            try t.execute(
                """
                INSERT INTO identity.user_policies (user_id, name, document) VALUES ($1, $2, $3)
                ON CONFLICT (user_id, name) DO UPDATE SET document = excluded.document
                """, .text(id), .text(name), .text(document))
            let count = try t.execute("SELECT count(*) AS n FROM identity.user_policies WHERE user_id = $1", .text(id))[0].int("n")
            guard count <= IdentityRules.policiesPerUser else {
                throw CloudError(
                    .named(code: "LimitExceeded", status: 409), "A user has at most \(IdentityRules.policiesPerUser) inline policies")
            }
            try t.notify(Self.channel)
        }
    }

    /// Name and text of each.
    public func policyList(user: String, account: String) async throws(CloudError) -> [(name: String, document: String)] {
        try await pool.read { t in
            let id = try Self.user(t, user, account).principal.userID
            return try t.execute("SELECT * FROM identity.user_policies WHERE user_id = $1 ORDER BY name", .text(id)).map {
                ($0.text("name"), $0.text("document"))
            }
        }
    }

    /// - Throws: `.notFound(user)` also for a policy that does not exist.
    public func policyDelete(name: String, user: String, account: String) async throws(CloudError) {
        try await pool.transaction { t in
            let id = try Self.user(t, user, account).principal.userID
            let deleted = try t.execute("DELETE FROM identity.user_policies WHERE user_id = $1 AND name = $2", .text(id), .text(name))
            guard deleted.affected > 0 else {
                throw CloudError(.notFound(.user, id: name), "The user policy with name \(name) cannot be found.")
            }
            try t.notify(Self.channel)
        }
    }
}
