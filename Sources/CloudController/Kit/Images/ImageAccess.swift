import Daemon
import Domain
import Identity
import Signing

extension CloudServices {
    /// The object store, seen with the rights of whoever calls: with its own access key, so that the store's own rules decide.
    /// A caller that signed with a certificate has no key in the request; one of its user's own is taken.
    /// - Throws: `.forbidden` for a certificate's user without any active access key.
    func objects(of op: OperationContext) async throws(CloudError) -> S3Client {
        let principal = op.caller.principal
        var id = op.caller.accessKeyID
        if id == nil {
            let keys = try await identity.accessKeyList(account: principal.accountID, user: principal.isRoot ? nil : principal.userName)
            id = keys.first { $0.isActive }?.id
        }
        guard let id, let credential = try await identity.credential(accessKeyID: id) else {
            throw CloudError(
                .forbidden(action: "s3:GetObject"),
                "Images are read from the object store with an access key, and \(principal.arn) has none")
        }
        return objects(accessKeyID: id, secret: credential.secret)
    }

    /// The object store with the cloud's own rights.
    func systemObjects() -> S3Client { objects(accessKeyID: keys.systemAccessKeyID, secret: keys.systemSecret) }

    func objects(accessKeyID: String, secret: String) -> S3Client {
        S3Client(
            endpoint: settings.walrusEndpoint, accessKeyID: accessKeyID, secret: secret, region: settings.region, clock: clock, http: http)
    }

    /// Whose signature a manifest of this account may have: its users' certificates, and the cloud's own for what BundleInstance wrote.
    func signers(accountID: String) async throws(CloudError) -> [Certificate] {
        var users: [String?] = [nil]
        for user in try await identity.userList(account: accountID) where !user.principal.isRoot { users.append(user.principal.userName) }
        var out: [Certificate] = []
        for user in users {
            for known in try await identity.certificateList(account: accountID, user: user) where known.isActive {
                out.append(try Certificate(pem: known.pem))
            }
        }
        return out + [keys.imageCertificate]
    }
}
