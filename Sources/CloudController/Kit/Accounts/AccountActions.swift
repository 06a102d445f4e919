public import API
import Daemon
import Database
public import Domain
import Identity
import Signing
import Wire

/// Accounts by API, as Eucalyptus has them: for users of the first account only.
extension IAMActions: IAMAccountsActions {
    private func checkAdministrator(_ op: OperationContext, _ action: String) throws(CloudError) {
        guard op.caller.principal.accountAlias == CloudSetup.firstAccount else {
            throw Authorizer.refusal(op.caller, action: "iam:\(action)", resource: "*")
        }
    }

    public func createAccount(_ request: IAM.CreateAccount, _ op: OperationContext) async throws(CloudError) -> IAM.CreateAccountResponse {
        try checkAdministrator(op, "CreateAccount")
        return try await change(op, "CreateAccount", request.accountName) { t in
            let account = try cloud.identity.accountCreate(t, name: request.accountName)
            let key = try cloud.identity.accessKeyCreate(t, account: account.id, user: nil, now: op.now)
            return IAM.CreateAccountResponse(
                account: IAM.CloudAccount(account),
                accessKey: IAM.AccessKey(accessKeyId: key.id, status: "Active", secretAccessKey: key.secret, createDate: op.now))
        }
    }

    public func listAccounts(_ request: IAM.ListAccounts, _ op: OperationContext) async throws(CloudError) -> IAM.ListAccountsResponse {
        try checkAdministrator(op, "ListAccounts")
        return IAM.ListAccountsResponse(accounts: try await cloud.identity.accountList().map { IAM.CloudAccount($0) })
    }

    public func deleteAccount(_ request: IAM.DeleteAccount, _ op: OperationContext) async throws(CloudError) -> IAM.DeleteAccountResponse {
        try checkAdministrator(op, "DeleteAccount")
        let account: Account
        do throws(CloudError) { account = try await cloud.identity.accountFetch(name: request.accountName) } catch {
            guard case .notFound = error.reason else { throw error }
            throw IdentityError.missing("account", request.accountName)
        }
        guard account.name != CloudSetup.firstAccount, account.id != Account.systemID else {
            throw IdentityError.conflict("The account \(account.name) is the cloud's own.")
        }
        let buckets = try await AccountBuckets(cloud: cloud).count(of: account, now: op.now)
        guard buckets == 0 else { throw IdentityError.conflict("The account \(account.name) has \(buckets) buckets.") }
        return try await change(op, "DeleteAccount", "\(account.name) \(account.id)") { t in
            if let owned = try AccountStore.owned(t, accountID: account.id) {
                throw IdentityError.conflict("The account \(account.name) has \(owned.count) \(owned.what).")
            }
            if request.recursive != true {
                for kind in EntityKind.allCases {
                    let count = try EntityStore.list(t, kind, account: account.id).count
                    guard count == 0 else { throw IdentityError.conflict("The account \(account.name) has \(count) \(kind.words)s.") }
                }
            }
            try IdentityStore.accountDelete(t, account)
            return IAM.DeleteAccountResponse()
        }
    }
}

extension IAM.CloudAccount {
    init(_ account: Account) { self.init(accountName: account.name, accountId: account.id, createDate: account.created) }
}

/// How many buckets an account has: asked of the object store as its root, with a session of a few minutes.
struct AccountBuckets {
    let cloud: CloudServices

    /// - Throws: `.unavailable` when the object store does not say.
    func count(of account: Account, now: Timestamp) async throws(CloudError) -> Int {
        let session = try cloud.identity.sessionCreate(
            SessionToken(accountID: account.id, subject: .user(id: nil), issued: now, expires: now.adding(seconds: 900)))
        let host = cloud.settings.walrusEndpoint.split(separator: "/", maxSplits: 1).last.map { $0.drop { $0 == "/" } } ?? ""
        let headers = SignV4.headers(
            method: "GET", host: String(host), path: "/", payloadHash: SignV4.payloadHash([UInt8]()), accessKeyID: session.accessKeyID,
            secret: session.secret, sessionToken: session.token, region: cloud.settings.region, now: now)
        let reply = try await cloud.http.execute(
            HTTPClientRequest(
                url: cloud.settings.walrusEndpoint + "/", headers: headers, sink: .memory(limit: 1 << 20), timeoutMilliseconds: 10_000))
        guard reply.status == 200, let list = try? XMLReader.parse(reply.body), let buckets = list.first("Buckets") else {
            throw CloudError(.unavailable("The object store"), context: "list of buckets of \(account.id): status \(reply.status)")
        }
        return buckets.all("Bucket").count
    }
}
