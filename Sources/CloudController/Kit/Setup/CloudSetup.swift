import Daemon
public import Database
public import Domain
public import Identity
import Signing
public import Workflow

/// Makes a cloud out of an empty folder and an empty database, and keeps its members. Every function can be repeated: it answers the
/// same and changes nothing more.
public struct CloudSetup: Sendable {
    /// The account that the operator works with.
    public static let firstAccount = "karri"

    public let folder: CloudFolder
    public let pool: DatabasePool
    public let identity: IdentityStore
    private let clock: any Workflow.Clock

    public init(folder: CloudFolder, pool: DatabasePool, clock: any Workflow.Clock, random: any Workflow.Random) throws(CloudError) {
        self.folder = folder
        self.pool = pool
        self.clock = clock
        identity = IdentityStore(pool: pool, secretKey: try folder.secret(), clock: clock, random: random)
    }

    /// Schemas, the system account and its key file, the first account and the files that its owner needs.
    /// - Parameters:
    ///   - credentials: where the system account's key goes.
    ///   - admin: the folder for the first account's files.
    public func initialise(credentials: String, admin: String) async throws(CloudError) {
        try await identity.migrate()
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)
        let system = try await identity.systemAccountEnsure()
        let key = try await identity.accessKeyEnsure(account: system.id)
        try CloudFolder.write(
            EnvironmentFile.text([("AWS_ACCESS_KEY_ID", key.id), ("AWS_SECRET_ACCESS_KEY", key.secret)]), to: credentials, mode: 0o600)
        let account = try await identity.accountEnsure(name: Self.firstAccount)
        try await writeFiles(of: account, to: admin)
    }

    /// A further account with root credentials.
    public func createAccount(name: String, files: String?) async throws(CloudError) -> [(String, String)] {
        let account = try await identity.accountCreate(name: name)
        if let files {
            try await writeFiles(of: account, to: files)
        }
        return try await credentials(of: account)
    }

    private func credentials(of account: Account) async throws(CloudError) -> [(String, String)] {
        let key = try await identity.accessKeyEnsure(account: account.id)
        return [
            ("AWS_ACCESS_KEY_ID", key.id), ("AWS_SECRET_ACCESS_KEY", key.secret), ("ACCOUNT_ID", account.id),
            ("CANONICAL_ID", account.canonicalUserID), ("ACCOUNT_NAME", account.name),
        ]
    }

    /// `credentials.env`, the signing key and certificate (`pk.pem`, `cert.pem`), the cloud's certificate (`cloud-cert.pem`).
    private func writeFiles(of account: Account, to folder: String) async throws(CloudError) {
        try FileSystem.makeFolder(folder, mode: 0o700)
        try CloudFolder.write(EnvironmentFile.text(try await credentials(of: account)), to: folder + "/credentials.env", mode: 0o600)
        let keyPath = folder + "/pk.pem"
        let certificatePath = folder + "/cert.pem"
        if !(FileSystem.exists(keyPath) && FileSystem.exists(certificatePath)) {
            let key = try PrivateKey.generateRSA(bits: 2048)
            let certificate = try CertificateAuthority.selfSigned(name: account.name, key: key, days: CloudFolder.rootDays)
            try CloudFolder.write(key.pem, to: keyPath, mode: 0o600)
            try CloudFolder.write(certificate.pem, to: certificatePath, mode: 0o644)
        }
        _ = try await identity.certificateAdd(pem: try CloudFolder.text(certificatePath), account: account.id)
        try CloudFolder.write(try CloudFolder.text(self.folder.path("cloud.pem")), to: folder + "/cloud-cert.pem", mode: 0o644)
    }

    // MARK: members

    /// - Returns: whether anything changed.
    public func register(_ component: Component) async throws(CloudError) -> Bool {
        let now = clock.now()
        return try await pool.transaction { tx in try ComponentStore.register(tx, component, now: now) }
    }

    /// - Throws: `.inUse` for a node that has instances, unless forced: without its node an instance is lost.
    public func deregister(role: Component.Role, name: String, force: Bool) async throws(CloudError) -> Bool {
        try await pool.transaction { tx in
            if role == .nc, !force {
                let count = try ComponentStore.openInstances(tx, node: name)
                guard count == 0 else {
                    throw CloudError(
                        .inUse(.node, id: name, by: "\(count) instances"),
                        "The node '\(name)' has \(count) instances; terminate them first, or use --force, which gives them up")
                }
            }
            return try ComponentStore.deregister(tx, role: role, name: name)
        }
    }
}
