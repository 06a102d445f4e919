import Database
import Domain

/// Who a key, a certificate or a session token stands for, with everything that bears on them: one look at the database.
extension IdentityStore {
    /// - Parameter user: the id; `nil` for the account's root.
    static func caller(
        _ t: Transaction, account: String, user: String?, accessKeyID: String? = nil, certificateFingerprint: String? = nil
    ) throws(CloudError) -> AuthenticatedCaller {
        let principal = try Self.principal(t, account: account, user: user)
        guard let user else {
            return AuthenticatedCaller(principal: principal, accessKeyID: accessKeyID, certificateFingerprint: certificateFingerprint)
        }
        return AuthenticatedCaller(
            principal: principal, stack: try stack(t, entityID: user, boundary: try boundary(t, .user, user)),
            tags: try tags(t, user), accessKeyID: accessKeyID, certificateFingerprint: certificateFingerprint)
    }

    /// Of a session. `nil` when the account, the user or the role is there no more.
    static func caller(_ t: Transaction, _ token: SessionToken, accessKeyID: String) throws(CloudError) -> AuthenticatedCaller? {
        guard let row = try t.execute("SELECT * FROM identity.accounts WHERE id = $1", .text(token.accountID)).first else { return nil }
        let account = Account(row)
        let session = AuthenticatedCaller.Session(
            issued: token.issued, expires: token.expires, federatedProvider: token.federatedProvider)
        var policies: [PolicyDocument]?
        if let texts = token.policies {
            var parsed: [PolicyDocument] = []
            for text in texts {
                // A managed policy is named, so that its changes act on sessions that are open.
                if text.hasPrefix("arn:") {
                    if let document = try PolicyStore.document(t, text) { parsed.append(document) }
                } else {
                    parsed.append(try PolicyDocument(parsing: text))
                }
            }
            policies = parsed
        }
        let ownTags = Dictionary(token.tags.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
        switch token.subject {
        case .user(let id):
            guard try exists(t, user: id) else { return nil }
            let base = try caller(t, account: account.id, user: id)
            return AuthenticatedCaller(
                principal: base.principal, stack: base.stack, tags: base.tags, session: session, accessKeyID: accessKeyID)
        case .role(let id, let name):
            guard let role = try RoleStore.fetch(t, id: id), role.entity.accountID == account.id else { return nil }
            let principal = Principal(
                accountID: account.id, accountAlias: account.name, userName: name, userID: "\(id):\(name)", path: role.entity.path,
                canonicalUserID: account.canonicalUserID, isRoot: false,
                role: RoleSession(roleARN: role.entity.arn, roleName: role.entity.name, sessionName: name))
            var stack = try stack(t, entityID: id, boundary: role.boundary)
            stack.session = policies
            let tags = try tags(t, id).merging(ownTags) { _, session in session }
            return AuthenticatedCaller(principal: principal, stack: stack, tags: tags, session: session, accessKeyID: accessKeyID)
        case .federated(let name, let by):
            guard try exists(t, user: by) else { return nil }
            let base = try caller(t, account: account.id, user: by)
            let principal = Principal(
                accountID: account.id, accountAlias: account.name, userName: name, userID: "\(account.id):\(name)", path: "/",
                canonicalUserID: account.canonicalUserID, isRoot: false, federatedName: name)
            var stack = base.principal.isRoot ? PolicyStack(identity: [AWSManagedPolicies.administrator]) : base.stack
            // Without a session policy a federated user may do nothing of itself. Source: STS API Reference, GetFederationToken.
            stack.session = policies ?? []
            return AuthenticatedCaller(principal: principal, stack: stack, tags: ownTags, session: session, accessKeyID: accessKeyID)
        }
    }

    private static func exists(_ t: Transaction, user: String?) throws(CloudError) -> Bool {
        guard let user else { return true }
        return try !t.execute("SELECT 1 FROM identity.users WHERE id = $1", .text(user)).isEmpty
    }

    private static func boundary(_ t: Transaction, _ kind: EntityKind, _ id: String) throws(CloudError) -> String? {
        try t.execute("SELECT boundary FROM \(kind.table) WHERE id = $1", .text(id)).first?.optionalText("boundary")
    }

    /// Of a user or role, without a session. A boundary that is gone allows nothing.
    static func stack(_ t: Transaction, entityID: String, boundary: String?) throws(CloudError) -> PolicyStack {
        var bound: PolicyDocument?
        if let boundary { bound = try PolicyStore.document(t, boundary) ?? PolicyDocument.none }
        return PolicyStack(identity: try PolicyStore.sources(t, entityID: entityID).map(\.document), boundary: bound)
    }

    private static func tags(_ t: Transaction, _ owner: String) throws(CloudError) -> [String: String] {
        Dictionary(try EntityStore.tags(t, owner).map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }
}
