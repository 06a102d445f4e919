public import Domain

/// May this caller do that? The one place where callers meet the evaluator of `Domain/Policy`. Default is deny.
public enum Authorizer {
    /// For resources without a policy of their own.
    /// - Parameters:
    ///   - action: `ec2:RunInstances`.
    ///   - resource: an ARN, or `*`.
    ///   - context: condition keys of the request (`aws:SourceIp`, `ec2:InstanceType`, …); those of the caller are added here.
    /// - Throws: `.forbidden`, with a message as IAM writes it.
    public static func allow(
        _ caller: AuthenticatedCaller, action: String, resource: String = "*", context: PolicyContext = [:]
    ) throws(CloudError) {
        guard decide(caller, action: action, resource: resource, context: context) == .allowed else {
            throw refusal(caller, action: action, resource: resource)
        }
    }

    /// What the caller's own policies say. The root of an account and our own daemons are always allowed by them.
    public static func decide(
        _ caller: AuthenticatedCaller, action: String, resource: String, context: PolicyContext = [:]
    ) -> PolicyDecision {
        if caller.principal.isRoot || caller.principal.isSystem { return .allowed }
        return PolicyEvaluator.evaluate(request(caller, action: action, resource: resource, context: context), caller.stack)
    }

    /// For a resource with a policy (a bucket). Source: IAM User Guide, "Policy evaluation logic", and "Cross-account policy evaluation".
    ///
    /// Within the account that owns the resource either side may allow; from another account both must; the anonymous have only the
    /// resource's policy. A Deny on either side wins, over a root too. Our own daemons are allowed.
    /// - Parameter caller: `nil` for anonymous requests.
    public static func decide(
        _ caller: AuthenticatedCaller?, action: String, resource: String, ownerAccountID: String, resourcePolicy: PolicyDocument?,
        context: PolicyContext = [:]
    ) -> PolicyDecision {
        if let caller, caller.principal.isSystem { return .allowed }
        let question = request(caller, action: action, resource: resource, context: context)
        guard let caller else { return resourcePolicy.map { PolicyEvaluator.evaluate(question, [$0]) } ?? .notMentioned }
        let isOwnAccount = caller.principal.accountID == ownerAccountID
        return PolicyEvaluator.evaluate(
            question, caller.principal.isRoot ? Self.unlimited : caller.stack, resourcePolicy: resourcePolicy, isOwnAccount: isOwnAccount)
    }

    /// What the root of an account has.
    private static let unlimited = PolicyStack(identity: [AWSManagedPolicies.administrator])

    /// The question that a caller's request puts to policies, with all its condition keys: for simulations and for encoded refusals.
    public static func question(
        _ caller: AuthenticatedCaller, action: String, resource: String, context: PolicyContext
    ) -> PolicyRequest { request(caller, action: action, resource: resource, context: context) }

    public static func refusal(_ caller: AuthenticatedCaller?, action: String, resource: String) -> CloudError {
        let who = caller.map { "User: \($0.principal.arn)" } ?? "An anonymous user"
        return CloudError(.forbidden(action: action), "\(who) is not authorized to perform: \(action) on resource: \(resource)")
    }

    private static func request(
        _ caller: AuthenticatedCaller?, action: String, resource: String, context: PolicyContext
    ) -> PolicyRequest {
        guard let caller else { return PolicyRequest(principal: nil, action: action, resource: resource, context: context) }
        let principal = caller.principal
        // What the request says about its caller is not asked: these keys are always ours.
        var context = context
        context["aws:username"] = principal.isUser ? [principal.userName] : []
        context["aws:userid"] = [principal.userID]
        context["aws:PrincipalArn"] = [principal.role?.roleARN ?? principal.arn]
        context["aws:PrincipalAccount"] = [principal.accountID]
        context["aws:PrincipalType"] = [Self.type(principal)]
        for (key, value) in caller.tags { context["aws:PrincipalTag/\(key)"] = [value] }
        // No second factor exists here: a session is without one, and a long-term key has no such key at all.
        context["aws:MultiFactorAuthPresent"] = caller.session == nil ? [] : ["false"]
        context["aws:TokenIssueTime"] = caller.session.map { [$0.issued.iso8601Seconds] } ?? []
        context["aws:FederatedProvider"] = caller.session?.federatedProvider.map { [$0] } ?? []
        return PolicyRequest(
            principal: PolicyPrincipal(
                accountID: principal.accountID, arn: principal.arn, canonicalUserID: principal.canonicalUserID,
                roleARN: principal.role?.roleARN),
            action: action, resource: resource, context: context)
    }

    /// Source: IAM User Guide, "IAM policy elements: variables and tags" (the table of principal values).
    private static func type(_ principal: Principal) -> String {
        if principal.role != nil { return "AssumedRole" }
        if principal.federatedName != nil { return "FederatedUser" }
        return principal.isRoot ? "Account" : "User"
    }
}
