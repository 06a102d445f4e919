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
    let uses = UseNotes()
    let tokenKeys: SessionToken.Keys
    private let keys = IdentityCache<Credential>()
    private let sessions = IdentityCache<Credential>()
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
        tokenKeys = SessionToken.Keys(secretKey)
        self.clock = clock
        self.random = random
    }

    public func migrate() async throws(CloudError) {
        try await pool.migrate(schema: "identity", IdentitySchema.migrations)
    }

    /// Empties the caches when something changes. Without it there are no caches, and everything is right but slower. Ends when the pool is
    /// closed or the task is cancelled.
    public func run() async {
        for await _ in pool.listen([Self.channel]) { emptyCaches(on: true) }
        emptyCaches(on: false)
    }

    private func emptyCaches(on: Bool) {
        keys.clear(on: on)
        sessions.clear(on: on)
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
        guard Self.isKeyID(id) else { return nil }
        let found = try await pool.read { t -> ([UInt8], AuthenticatedCaller)? in
            guard let row = try t.execute("SELECT * FROM identity.access_keys WHERE id = $1 AND active", .text(id)).first else {
                return nil
            }
            let caller = try Self.caller(t, account: row.text("account"), user: row.optionalText("user_id"), accessKeyID: id)
            return (row.bytes("secret"), caller)
        }
        guard let (sealed, caller) = found else { return nil }
        return Credential(secret: try openSecret(sealed, id), caller: caller)
    }

    static func isKeyID(_ id: String) -> Bool {
        (16...128).contains(id.utf8.count) && id.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }

    /// The secret and the caller of any access key, with the session token that came with it: the one call of every front door.
    ///
    /// Temporary credentials need no row of their own, but what they stand for must still be there: a deleted user or role, a changed
    /// policy, a revoked trust acts at once.
    /// - Parameter sessionToken: as the request has it; `nil` when it has none.
    /// - Returns: `nil` when there is no such key, or the token is not the key's.
    /// - Throws: `.named("ExpiredToken", 403)`.
    public func credential(accessKeyID: String, sessionToken: String?) async throws(CloudError) -> Credential? {
        guard let sessionToken, !sessionToken.isEmpty else { return try await credential(accessKeyID: accessKeyID) }
        guard Self.isKeyID(accessKeyID), let token = SessionToken.open(sessionToken, accessKeyID: accessKeyID, tokenKeys) else {
            return nil
        }
        let now = clock.now()
        guard now < token.expires else {
            throw CloudError(.named(code: "ExpiredToken", status: 403), "The security token included in the request is expired")
        }
        let epoch: UInt64
        // A key's token is one: the nonce of the seal makes each another, but they say the same.
        switch sessions.look(accessKeyID, now: now) {
        case .hit(let credential) where credential.caller.session?.expires == token.expires: return credential
        case .hit: epoch = 0
        case .miss(let current): epoch = current
        }
        let caller = try await pool.read { t in try Self.caller(t, token, accessKeyID: accessKeyID) }
        guard let caller else { return nil }
        let credential = Credential(secret: SessionToken.secret(accessKeyID, tokenKeys), caller: caller)
        sessions.store(accessKeyID, credential, epoch: epoch, now: now)
        return credential
    }

    /// Makes temporary credentials. Who may have them has been asked.
    public func sessionCreate(_ token: SessionToken) throws(CloudError) -> SessionCredentials { try token.credentials(tokenKeys, random) }

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
            return try Self.caller(
                t, account: row.text("account"), user: row.optionalText("user_id"), certificateFingerprint: fingerprint)
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

    func sealSecret(_ secret: String, _ id: String) throws(CloudError) -> [UInt8] {
        try AES.seal(Array(secret.utf8), key: secretKey, context: Array("access-key:\(id)".utf8))
    }

    func openSecret(_ sealed: [UInt8], _ id: String) throws(CloudError) -> String {
        String(decoding: try AES.open(sealed, key: secretKey, context: Array("access-key:\(id)".utf8)), as: UTF8.self)
    }
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
