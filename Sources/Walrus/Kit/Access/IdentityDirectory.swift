import Daemon
import Database
import Domain
import Identity
import ServiceLifecycle
import Workflow

/// The cloud's accounts, from the schema `identity` that Walrus shares with the Cloud Controller.
struct IdentityDirectory: RequesterDirectory {
    let store: IdentityStore

    /// - Throws: `.unavailable` when the key file cannot be read or holds something else.
    static func open(_ pool: DatabasePool, secretKeyFile: String, clock: any Clock, random: any Random) async throws(CloudError) -> Self {
        let text = String(decoding: try FileSystem.read(secretKeyFile, limit: 4096), as: UTF8.self).filter { !$0.isWhitespace }
        guard let key = Hex.decode(text), key.count == 32 else {
            throw CloudError(.unavailable("secret_key_file"), "\(secretKeyFile) does not hold 32 bytes in hexadecimal")
        }
        let store = IdentityStore(pool: pool, secretKey: key, clock: clock, random: random)
        try await store.migrate()
        return IdentityDirectory(store: store)
    }

    /// What conditions of bucket policies may ask about whoever asks.
    private static let keys = [
        "aws:username", "aws:userid", "aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalType", "aws:TokenIssueTime",
        "aws:MultiFactorAuthPresent", "aws:FederatedProvider",
    ]

    func requester(
        accessKeyID: String, sessionToken: String?
    ) async throws(CloudError) -> (secret: String, requester: KnownRequester)? {
        guard let credential = try await store.credential(accessKeyID: accessKeyID, sessionToken: sessionToken) else { return nil }
        let caller = credential.caller
        let principal = caller.principal
        let question = Authorizer.question(caller, action: "", resource: "", context: [:])
        var facts: [String: [String]] = [:]
        for key in Self.keys + caller.tags.keys.map({ "aws:PrincipalTag/\($0)" }) { facts[key] = question.context[key] }
        let requester = KnownRequester(
            accountID: principal.accountID, canonicalID: principal.canonicalUserID, arn: principal.arn,
            isRoot: principal.isRoot, isSystem: principal.isSystem,
            roleARN: principal.role?.roleARN, facts: facts,
            decide: { Authorizer.decide(caller, action: $0, resource: $1, context: $2) })
        return (credential.secret, requester)
    }

    func owner(accountID: String) async throws(CloudError) -> OwnerNames {
        let account = try await store.accountFetch(accountID)
        return OwnerNames(id: account.canonicalUserID, displayName: account.name)
    }

    func owner(canonicalID: String) async throws(CloudError) -> OwnerNames? {
        do throws(CloudError) {
            let account = try await store.accountFetch(canonicalUserID: canonicalID)
            return OwnerNames(id: account.canonicalUserID, displayName: account.name)
        } catch {
            if case .notFound = error.reason { return nil }
            throw error
        }
    }
}

/// Empties the cache of keys and accounts when something changes.
struct IdentityCacheService: Service {
    let store: IdentityStore
    func run() async throws { await cancelWhenGracefulShutdown { await store.run() } }
}
