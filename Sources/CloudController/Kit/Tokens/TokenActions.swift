public import API
import Database
public import Domain
import Identity

/// The value that implements the STS actions.
public struct STSActions: Sendable {
    public typealias Context = OperationContext
    public let cloud: CloudServices
    let keys: WebKeys
    public init(_ cloud: CloudServices) {
        self.cloud = cloud
        keys = WebKeys(http: cloud.http, clock: cloud.clock)
    }

    /// Characters of a session policy. Source: STS API Reference, `Policy`.
    static let policyLimit = 2048
    static let policyArns = 10

    /// Makes the credentials and writes down that they were made.
    func issue(
        _ token: SessionToken, _ op: OperationContext, action: String, resource: String
    ) async throws(CloudError) -> STS.Credentials {
        let made = try cloud.identity.sessionCreate(token)
        try await cloud.pool.transaction { t in
            try AuditStore.record(
                t, at: op.now, accountID: token.accountID, principal: op.caller.principal.arn, requestID: op.requestID, action: action,
                resource: resource, detail: made.accessKeyID)
        }
        return STS.Credentials(
            accessKeyId: made.accessKeyID, secretAccessKey: made.secret, sessionToken: made.token, expiration: made.expires)
    }

    /// The session policies of a request; `nil` when it has none. A text is checked now, a managed policy is named in the token.
    /// - Throws: `MalformedPolicyDocument`, `PackedPolicyTooLarge`, `NoSuchEntity`.
    func policies(
        _ text: String?, _ arns: [STS.PolicyDescriptorType], account: String
    ) async throws(CloudError) -> [String]? {
        guard text != nil || !arns.isEmpty else { return nil }
        var out: [String] = []
        if let text {
            guard text.utf8.count <= Self.policyLimit else {
                throw CloudError(
                    .named(code: "PackedPolicyTooLarge", status: 400),
                    "A session policy has at most \(Self.policyLimit) characters; this has \(text.utf8.count).")
            }
            _ = try PolicyDocument(parsing: text)
            out.append(text)
        }
        guard arns.count <= Self.policyArns else {
            throw CloudError(
                .named(code: "PackedPolicyTooLarge", status: 400),
                "A session has at most \(Self.policyArns) managed policies, not \(arns.count).")
        }
        let names = arns.compactMap(\.arn)
        try await cloud.pool.read { t in for name in names { _ = try PolicyStore.fetch(t, name, account: account) } }
        return out + names
    }

    /// Per cent of what a session's policies may take.
    static func packed(_ policies: [String]?) -> Int? {
        policies.map { max(1, $0.reduce(0) { $0 + $1.utf8.count } * 100 / policyLimit) }
    }

    static func checkName(_ name: String, _ parameter: String) throws(CloudError) {
        let fits = name.utf8.allSatisfy { byte in
            let lower = byte | 0x20
            return (lower >= 0x61 && lower <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || "_+=,.@-".utf8.contains(byte)
        }
        guard fits else { throw IdentityError.invalid(parameter, "it has letters, digits and characters of _+=,.@-") }
    }

    /// Nobody has a second factor here: whoever names one is refused, as with a wrong code.
    static func refuseFactor(_ serial: String?, _ code: String?) throws(CloudError) {
        guard serial == nil, code == nil else {
            throw CloudError(
                .forbidden(action: "sts"), "MultiFactorAuthentication failed, unable to validate MFA code: there are no such devices here.")
        }
    }
}

extension STSActions: STSIdentityActions {
    public func getCallerIdentity(
        _ request: STS.GetCallerIdentity, _ op: OperationContext
    ) async throws(CloudError) -> STS.GetCallerIdentityResponse {
        let me = op.caller.principal
        return STS.GetCallerIdentityResponse(arn: me.arn, userId: me.isRoot ? me.accountID : me.userID, account: me.accountID)
    }
}

extension STSActions: STSTokensActions {
    public func assumeRole(_ request: STS.AssumeRole, _ op: OperationContext) async throws(CloudError) -> STS.AssumeRoleResponse {
        try Self.refuseFactor(request.serialNumber, request.tokenCode)
        try Self.checkName(request.roleSessionName, "RoleSessionName")
        guard !op.caller.principal.isRoot else {
            throw CloudError(.forbidden(action: "sts:AssumeRole"), "Roles may not be assumed by root accounts.")
        }
        let role = try await roleIfAny(request.roleArn)
        let refusal = Authorizer.refusal(op.caller, action: "sts:AssumeRole", resource: request.roleArn)
        // Who may not assume it does not learn whether there is such a role.
        guard let role else { throw refusal }
        var context = op.conditions
        context["sts:RoleSessionName"] = [request.roleSessionName]
        context["sts:ExternalId"] = request.externalId.map { [$0] } ?? []
        context.add(tags: request.tags.map { ($0.key, $0.value) })
        guard try TrustPolicy.allows(role, op.caller, "sts:AssumeRole", context) else { throw refusal }
        if !request.tags.isEmpty, try !TrustPolicy.allows(role, op.caller, "sts:TagSession", context) {
            throw Authorizer.refusal(op.caller, action: "sts:TagSession", resource: request.roleArn)
        }
        let duration = request.durationSeconds ?? IAMActions.standardSessionSeconds
        guard duration <= role.maxSessionSeconds else {
            throw IdentityError.invalid(
                "DurationSeconds",
                "the requested duration of \(duration) s exceeds the MaxSessionDuration set for this role (\(role.maxSessionSeconds) s)")
        }
        guard op.caller.principal.role == nil || duration <= IAMActions.standardSessionSeconds else {
            throw IdentityError.invalid("DurationSeconds", "a session that assumes a role has at most one hour")
        }
        let policies = try await policies(request.policy, request.policyArns, account: role.entity.accountID)
        let credentials = try await issue(
            SessionToken(
                accountID: role.entity.accountID, subject: .role(id: role.entity.id, session: request.roleSessionName), policies: policies,
                tags: request.tags.map { IdentityTag(key: $0.key, value: $0.value) }, issued: op.now,
                expires: op.now.adding(seconds: Int64(duration))), op, action: "AssumeRole",
            resource: "\(role.entity.name) \(request.roleSessionName)")
        return STS.AssumeRoleResponse(
            credentials: credentials, assumedRoleUser: STS.AssumedRoleUser(role, request.roleSessionName),
            packedPolicySize: Self.packed(policies))
    }

    /// - Returns: `nil` for a role that does not exist.
    private func roleIfAny(_ arn: String) async throws(CloudError) -> Role? {
        let parts = arn.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "arn", parts[2] == "iam", parts[5].hasPrefix("role/"),
            let name = parts[5].split(separator: "/").last
        else { throw IdentityError.invalid("RoleArn", "\(arn.prefix(200)) is no ARN of a role") }
        let account = String(parts[4])
        do throws(CloudError) {
            let role = try await cloud.pool.read { t in try RoleStore.fetch(t, String(name), account: account) }
            return role.entity.arn == arn ? role : nil
        } catch {
            guard case .named("NoSuchEntity", _) = error.reason else { throw error }
            return nil
        }
    }

    /// The one action that nobody signs: the provider's token says who it is.
    public func assumeRoleWithWebIdentity(
        _ request: STS.AssumeRoleWithWebIdentity, _ op: OperationContext
    ) async throws(CloudError) -> STS.AssumeRoleWithWebIdentityResponse {
        guard request.providerId == nil else {
            throw IdentityError.invalid("ProviderId", "only OpenID Connect providers are known, which are named by their tokens")
        }
        try Self.checkName(request.roleSessionName, "RoleSessionName")
        let refusal = CloudError(
            .forbidden(action: "sts:AssumeRoleWithWebIdentity"), "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        guard let role = try await roleIfAny(request.roleArn) else { throw refusal }
        let token = try WebToken(parsing: request.webIdentityToken)
        let account = role.entity.accountID
        let provider = try await provider(token, account: account)
        try await keys.verify(token, of: provider, now: op.now)
        try token.check(provider, now: op.now)
        var context = op.conditions
        context["sts:RoleSessionName"] = [request.roleSessionName]
        context["\(provider.url):aud"] = token.azp.map { [$0] } ?? token.audience
        context["\(provider.url):sub"] = [token.subject]
        context["aws:FederatedProvider"] = [provider.arn]
        if let amr = token.methods { context["\(provider.url):amr"] = amr }
        guard try TrustPolicy.allows(role, provider: provider, context) else { throw refusal }
        let duration = request.durationSeconds ?? IAMActions.standardSessionSeconds
        guard duration <= role.maxSessionSeconds else {
            throw IdentityError.invalid(
                "DurationSeconds",
                "the requested duration of \(duration) s exceeds the MaxSessionDuration set for this role (\(role.maxSessionSeconds) s)")
        }
        let policies = try await policies(request.policy, request.policyArns, account: account)
        let credentials = try await issue(
            SessionToken(
                accountID: account, subject: .role(id: role.entity.id, session: request.roleSessionName), policies: policies,
                federatedProvider: provider.arn, issued: op.now, expires: op.now.adding(seconds: Int64(duration))), op,
            action: "AssumeRoleWithWebIdentity", resource: "\(role.entity.name) \(request.roleSessionName) \(token.subject.prefix(100))")
        return STS.AssumeRoleWithWebIdentityResponse(
            credentials: credentials, subjectFromWebIdentityToken: token.subject,
            assumedRoleUser: STS.AssumedRoleUser(role, request.roleSessionName), packedPolicySize: Self.packed(policies),
            provider: provider.arn, audience: token.azp ?? token.audience.first)
    }

    private func provider(_ token: WebToken, account: String) async throws(CloudError) -> OIDCProvider {
        let arn = "arn:aws:iam::\(account):oidc-provider/\(token.issuerName)"
        do throws(CloudError) {
            return try await cloud.pool.read { t in try OIDCStore.fetch(t, arn, account: account) }
        } catch {
            guard case .named("NoSuchEntity", _) = error.reason else { throw error }
            throw WebToken.invalid("No OpenIDConnect provider found in your account for \(token.issuer.prefix(200))")
        }
    }

    public func getSessionToken(
        _ request: STS.GetSessionToken, _ op: OperationContext
    ) async throws(CloudError) -> STS.GetSessionTokenResponse {
        try Self.refuseFactor(request.serialNumber, request.tokenCode)
        let me = op.caller.principal
        guard op.caller.session == nil else {
            throw CloudError(.forbidden(action: "sts:GetSessionToken"), "Cannot call GetSessionToken with session credentials")
        }
        // A root's session is an hour at most. Source: STS API Reference, GetSessionToken.
        let standard = me.isRoot ? 3600 : 43_200
        let duration = me.isRoot ? min(request.durationSeconds ?? standard, 3600) : request.durationSeconds ?? standard
        let credentials = try await issue(
            SessionToken(
                accountID: me.accountID, subject: .user(id: me.isRoot ? nil : me.userID), issued: op.now,
                expires: op.now.adding(seconds: Int64(duration))), op, action: "GetSessionToken", resource: me.userName)
        return STS.GetSessionTokenResponse(credentials: credentials)
    }

    public func getFederationToken(
        _ request: STS.GetFederationToken, _ op: OperationContext
    ) async throws(CloudError) -> STS.GetFederationTokenResponse {
        try Self.checkName(request.name, "Name")
        let me = op.caller.principal
        guard op.caller.session == nil else {
            throw CloudError(.forbidden(action: "sts:GetFederationToken"), "Cannot call GetFederationToken with session credentials")
        }
        let policies = try await policies(request.policy, request.policyArns, account: me.accountID)
        let standard = me.isRoot ? 3600 : 43_200
        let duration = me.isRoot ? min(request.durationSeconds ?? standard, 3600) : request.durationSeconds ?? standard
        let credentials = try await issue(
            SessionToken(
                accountID: me.accountID, subject: .federated(name: request.name, by: me.isRoot ? nil : me.userID), policies: policies,
                tags: request.tags.map { IdentityTag(key: $0.key, value: $0.value) }, issued: op.now,
                expires: op.now.adding(seconds: Int64(duration))), op, action: "GetFederationToken", resource: request.name)
        return STS.GetFederationTokenResponse(
            credentials: credentials,
            federatedUser: STS.FederatedUser(
                federatedUserId: "\(me.accountID):\(request.name)",
                arn: "arn:aws:sts::\(me.accountID):federated-user/\(request.name)"), packedPolicySize: Self.packed(policies))
    }

    public func getAccessKeyInfo(
        _ request: STS.GetAccessKeyInfo, _ op: OperationContext
    ) async throws(CloudError) -> STS.GetAccessKeyInfoResponse {
        do throws(CloudError) {
            let account = try await cloud.pool.read { t in try IdentityStore.accessKeyFetch(t, request.accessKeyId).account }
            return STS.GetAccessKeyInfoResponse(account: account)
        } catch {
            guard case .notFound = error.reason else { throw error }
            throw IdentityError.invalid("AccessKeyId", "there is no such access key")
        }
    }

    public func decodeAuthorizationMessage(
        _ request: STS.DecodeAuthorizationMessage, _ op: OperationContext
    ) async throws(CloudError) -> STS.DecodeAuthorizationMessageResponse {
        guard let text = AuthorizationMessage.open(request.encodedMessage, account: op.accountID, key: cloud.keys.authorization) else {
            throw CloudError(
                .named(code: "InvalidAuthorizationMessageException", status: 400), "The message is not one of this cloud and this account.")
        }
        return STS.DecodeAuthorizationMessageResponse(decodedMessage: text)
    }
}

extension STS.AssumedRoleUser {
    init(_ role: Role, _ session: String) {
        self.init(
            assumedRoleId: "\(role.entity.id):\(session)",
            arn: "arn:aws:sts::\(role.entity.accountID):assumed-role/\(role.entity.name)/\(session)")
    }
}

extension PolicyContext {
    /// Tags that a request gives: `aws:RequestTag/…` and `aws:TagKeys`.
    mutating func add(tags: [(key: String, value: String)]) {
        guard !tags.isEmpty else { return }
        for tag in tags { self["aws:RequestTag/\(tag.key)"] = [tag.value] }
        self["aws:TagKeys"] = tags.map(\.key)
    }
}

/// May somebody assume a role? Its trust policy must say so, and the caller's own policies too, unless the trust policy names the caller
/// itself and both are of one account. Source: IAM User Guide, "Policy evaluation logic" for `sts:AssumeRole`.
enum TrustPolicy {
    static func allows(
        _ role: Role, _ caller: AuthenticatedCaller, _ action: String, _ context: PolicyContext
    ) throws(CloudError) -> Bool {
        let trust = try PolicyDocument(parsing: role.trust, for: .trust)
        let question = Authorizer.question(caller, action: action, resource: role.entity.arn, context: context)
        guard PolicyEvaluator.evaluate(question, [trust]) == .allowed else { return false }
        switch Authorizer.decide(caller, action: action, resource: role.entity.arn, context: context) {
        case .explicitlyDenied: return false
        case .allowed: return true
        case .notMentioned:
            return caller.principal.accountID == role.entity.accountID && PolicyEvaluator.allowsByName(question, trust)
        }
    }

    /// What a provider vouches for has no policies of its own.
    static func allows(_ role: Role, provider: OIDCProvider, _ context: PolicyContext) throws(CloudError) -> Bool {
        let trust = try PolicyDocument(parsing: role.trust, for: .trust)
        let question = PolicyRequest(
            principal: PolicyPrincipal(accountID: "", arn: "", federatedProvider: provider.arn), action: "sts:AssumeRoleWithWebIdentity",
            resource: role.entity.arn, context: context)
        return PolicyEvaluator.evaluate(question, [trust]) == .allowed
    }

    static func allows(_ role: Role, service: String) throws(CloudError) -> Bool {
        let trust = try PolicyDocument(parsing: role.trust, for: .trust)
        let question = PolicyRequest(
            principal: PolicyPrincipal(accountID: "", arn: "", service: service), action: "sts:AssumeRole", resource: role.entity.arn)
        return PolicyEvaluator.evaluate(question, [trust]) == .allowed
    }
}
