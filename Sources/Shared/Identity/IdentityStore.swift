public import Database
public import Domain
import Signing
public import Workflow

/// Accounts, users, their keys, certificates and policies: schema `identity`, shared by the Cloud Controller and Walrus.
///
/// Secrets are stored encrypted with the cloud's secret key (AES-256-GCM, bound to the id of their row). Every change notifies the channel
/// `identity`, and everybody's caches are emptied: a key that was deactivated is refused within milliseconds.
public final class IdentityStore: Sendable {
    static let channel = "identity"

    let pool: DatabasePool
    private let secretKey: [UInt8]
    let clock: any Clock
    let random: any Random
    private let keys = IdentityCache<Credential>()
    private let certificates = IdentityCache<AuthenticatedCaller>()
    private let accounts = IdentityCache<Account>()

    /// An access key's secret, and whose it is.
    public struct Credential: Sendable {
        public let secret: String
        public let caller: AuthenticatedCaller
    }

    /// - Parameter secretKey: 32 bytes, the same for all daemons of the cloud.
    public init(pool: DatabasePool, secretKey: [UInt8], clock: any Clock = SystemClock(), random: any Random = SystemRandom()) {
        self.pool = pool
        self.secretKey = secretKey
        self.clock = clock
        self.random = random
    }

    public func migrate() async throws(CloudError) {
        try await pool.migrate(schema: "identity", Self.migrations)
    }

    /// Empties the caches when something changes. Without it there are no caches, and everything is right but slower. Ends when the pool is
    /// closed or the task is cancelled.
    public func run() async {
        for await _ in pool.listen([Self.channel]) { emptyCaches(on: true) }
        emptyCaches(on: false)
    }

    private func emptyCaches(on: Bool) {
        keys.clear(on: on)
        certificates.clear(on: on)
        accounts.clear(on: on)
    }

    // MARK: lookup, for every request

    /// The secret of an active access key and its caller; `nil` when there is no such key (or it is switched off).
    public func credential(accessKeyID: String) async throws(CloudError) -> Credential? {
        let now = clock.now()
        let epoch: UInt64
        switch keys.look(accessKeyID, now: now) {
        case .hit(let credential): return credential
        case .miss(let current): epoch = current
        }
        guard let credential = try await credentialFetch(accessKeyID) else { return nil }
        keys.store(accessKeyID, credential, epoch: epoch, now: now)
        return credential
    }

    private func credentialFetch(_ id: String) async throws(CloudError) -> Credential? {
        // Others' input: an id that no key can have does not bother the database.
        guard (16...128).contains(id.utf8.count), id.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
        let found = try await pool.read { t -> ([UInt8], Principal, [PolicyDocument])? in
            guard let row = try t.execute("SELECT * FROM identity.access_keys WHERE id = $1 AND active", .text(id)).first else {
                return nil
            }
            let principal = try Self.principal(t, account: row.text("account"), user: row.optionalText("user_id"))
            return (row.bytes("secret"), principal, try Self.policies(t, user: row.optionalText("user_id")))
        }
        guard let (sealed, principal, policies) = found else { return nil }
        let secret = try openSecret(sealed, id)
        return Credential(
            secret: secret, caller: AuthenticatedCaller(principal: principal, policies: policies, accessKeyID: id))
    }

    /// The caller of an active certificate; `nil` when nobody has it.
    /// - Parameter certificateFingerprint: SHA-256 of the DER, lower-case hexadecimal.
    public func caller(certificateFingerprint fingerprint: String) async throws(CloudError) -> AuthenticatedCaller? {
        let now = clock.now()
        let epoch: UInt64
        switch certificates.look(fingerprint, now: now) {
        case .hit(let caller): return caller
        case .miss(let current): epoch = current
        }
        guard fingerprint.utf8.count == 64, Hex.decode(fingerprint) != nil else { return nil }
        let caller = try await pool.read { t -> AuthenticatedCaller? in
            let rows = try t.execute(
                "SELECT * FROM identity.certificates WHERE fingerprint = $1 AND active", .text(fingerprint.lowercased()))
            guard let row = rows.first else { return nil }
            let user = row.optionalText("user_id")
            return AuthenticatedCaller(
                principal: try Self.principal(t, account: row.text("account"), user: user), policies: try Self.policies(t, user: user),
                certificateFingerprint: fingerprint)
        }
        if let caller { certificates.store(fingerprint, caller, epoch: epoch, now: now) }
        return caller
    }

    /// S3's id of an account.
    /// - Throws: `.notFound(user)` when there is no such account.
    public func canonicalUserID(accountID: String) async throws(CloudError) -> String {
        try await accountFetch(accountID).canonicalUserID
    }

    /// - Throws: `.notFound(user)`.
    public func accountFetch(_ id: String) async throws(CloudError) -> Account {
        let now = clock.now()
        let epoch: UInt64
        switch accounts.look(id, now: now) {
        case .hit(let account): return account
        case .miss(let current): epoch = current
        }
        let account = try await pool.read { t in try Self.account(t, "id", id) }
        accounts.store(id, account, epoch: epoch, now: now)
        return account
    }

    /// - Throws: `.notFound(user)`.
    public func accountFetch(canonicalUserID: String) async throws(CloudError) -> Account {
        try await pool.read { t in try Self.account(t, "canonical_id", canonicalUserID) }
    }

    /// - Throws: `.notFound(user)`.
    public func accountFetch(name: String) async throws(CloudError) -> Account {
        try await pool.read { t in try Self.account(t, "name", name) }
    }

    public func accountList() async throws(CloudError) -> [Account] {
        try await pool.read { t in
            try t.execute("SELECT * FROM identity.accounts WHERE id <> $1 ORDER BY created, id", .text(Account.systemID)).map(Account.init)
        }
    }

    // MARK: shared by the parts of the store

    static func account(_ t: Transaction, _ column: String, _ value: String) throws(CloudError) -> Account {
        guard let row = try t.execute("SELECT * FROM identity.accounts WHERE \(column) = $1", .text(value)).first else {
            throw CloudError(.notFound(.user, id: value), "The account '\(value)' does not exist")
        }
        return Account(row)
    }

    /// - Parameter user: `nil` for the account's root.
    static func principal(_ t: Transaction, account: String, user: String?) throws(CloudError) -> Principal {
        let account = try Self.account(t, "id", account)
        guard let user else { return account.root }
        guard let row = try t.execute("SELECT * FROM identity.users WHERE id = $1", .text(user)).first else {
            throw .bug("a key of the user \(user), who does not exist")
        }
        return User(row, account).principal
    }

    static func policies(_ t: Transaction, user: String?) throws(CloudError) -> [PolicyDocument] {
        guard let user else { return [] }
        let rows = try t.execute("SELECT document FROM identity.user_policies WHERE user_id = $1 ORDER BY name", .text(user))
        var documents: [PolicyDocument] = []
        // They were checked when they were stored. One that cannot be read now might hold a Deny: fail closed.
        for row in rows { documents.append(try PolicyDocument(parsing: row.text("document"))) }
        return documents
    }

    func sealSecret(_ secret: String, _ id: String) throws(CloudError) -> [UInt8] {
        try AES.seal(Array(secret.utf8), key: secretKey, context: Array("access-key:\(id)".utf8))
    }

    func openSecret(_ sealed: [UInt8], _ id: String) throws(CloudError) -> String {
        String(decoding: try AES.open(sealed, key: secretKey, context: Array("access-key:\(id)".utf8)), as: UTF8.self)
    }

    private static let migrations = [
        Migration(
            1,
            """
            CREATE TABLE identity.accounts (
                id text PRIMARY KEY CHECK (id ~ '^[0-9]{12}$'), name text NOT NULL UNIQUE, canonical_id text NOT NULL UNIQUE,
                created bigint NOT NULL);
            CREATE TABLE identity.users (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL, path text NOT NULL,
                created bigint NOT NULL, UNIQUE (account, name));
            CREATE TABLE identity.access_keys (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, user_id text REFERENCES identity.users,
                secret bytea NOT NULL, active boolean NOT NULL DEFAULT true, created bigint NOT NULL);
            CREATE INDEX ON identity.access_keys (account, user_id);
            CREATE TABLE identity.certificates (
                fingerprint text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, user_id text REFERENCES identity.users,
                pem text NOT NULL, active boolean NOT NULL DEFAULT true, created bigint NOT NULL);
            CREATE INDEX ON identity.certificates (account, user_id);
            CREATE TABLE identity.user_policies (
                user_id text NOT NULL REFERENCES identity.users, name text NOT NULL, document text NOT NULL, PRIMARY KEY (user_id, name));
            """)
    ]
}

extension Account {
    init(_ row: Row) {
        self.init(id: row.text("id"), name: row.text("name"), canonicalUserID: row.text("canonical_id"), created: row.timestamp("created"))
    }
}

extension User {
    init(_ row: Row, _ account: Account) {
        self.init(
            principal: Principal(
                accountID: account.id, accountAlias: account.name, userName: row.text("name"), userID: row.text("id"),
                path: row.text("path"), canonicalUserID: account.canonicalUserID, isRoot: false),
            created: row.timestamp("created"))
    }
}
