/// The facts of a request that conditions and variables may ask for (`aws:SourceIp`, `aws:username`, …). Names ignore case.
public struct PolicyContext: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    private var values: [String: [String]]

    public init(_ values: [String: [String]] = [:]) {
        self.values = Dictionary(values.map { ($0.key.asciiLowercased, $0.value) }, uniquingKeysWith: { $0 + $1 })
    }
    public init(dictionaryLiteral elements: (String, String)...) {
        self.init(Dictionary(elements.map { ($0.0, [$0.1]) }, uniquingKeysWith: { $0 + $1 }))
    }
    /// The keys that have values, in lower case, sorted.
    public var names: [String] { values.filter { !$0.value.isEmpty }.keys.sorted() }
    /// The values of a key; empty when it is missing.
    public subscript(key: String) -> [String] {
        get { values[key.asciiLowercased] ?? [] }
        set { values[key.asciiLowercased] = newValue }
    }
}

/// Who asks, as statements with principals see them.
public struct PolicyPrincipal: Sendable, Equatable {
    public let accountID: String
    /// Of a user, or of a session of a role.
    public let arn: String
    public let canonicalUserID: String?
    /// Of a session: the role's.
    public let roleARN: String?
    /// The identity provider that says who it is.
    public let federatedProvider: String?
    /// A part of the cloud: `ec2.amazonaws.com`.
    public let service: String?

    public init(
        accountID: String, arn: String, canonicalUserID: String? = nil, roleARN: String? = nil, federatedProvider: String? = nil,
        service: String? = nil
    ) {
        self.accountID = accountID
        self.arn = arn
        self.canonicalUserID = canonicalUserID
        self.roleARN = roleARN
        self.federatedProvider = federatedProvider
        self.service = service
    }
}

/// One question to policies: may this be done to that?
public struct PolicyRequest: Sendable, Equatable {
    /// `nil`: anonymous.
    public let principal: PolicyPrincipal?
    /// `service:Name`.
    public let action: String
    /// An ARN, or `*` for actions without a resource.
    public let resource: String
    public let context: PolicyContext

    public init(principal: PolicyPrincipal?, action: String, resource: String, context: PolicyContext = [:]) {
        self.principal = principal
        self.action = action
        self.resource = resource
        self.context = context
    }
}

public enum PolicyDecision: Sendable, Equatable {
    case allowed
    /// A statement with the effect Deny matches: nothing can allow it.
    case explicitlyDenied
    /// No statement matches. Not allowed either, but another policy may allow it.
    case notMentioned
}

/// All policies that bear on one caller, whatever the resource says. What they allow is what each of the three kinds allows.
public struct PolicyStack: Sendable, Equatable {
    /// Of the user and its groups, or of the role.
    public var identity: [PolicyDocument]
    /// The most that the user or role may have; `nil`: no bound.
    public var boundary: PolicyDocument?
    /// The most that this session may have; `nil`: no bound.
    public var session: [PolicyDocument]?

    public init(identity: [PolicyDocument], boundary: PolicyDocument? = nil, session: [PolicyDocument]? = nil) {
        self.identity = identity
        self.boundary = boundary
        self.session = session
    }

    /// Keys that any condition or variable asks for, in lower case.
    public var contextKeys: Set<String> {
        Set((identity + (boundary.map { [$0] } ?? []) + (session ?? [])).flatMap { $0.contextKeys.map(\.asciiLowercased) })
    }
}

/// The one evaluator of the cloud (`ARCHITECTURE.md` §5). Source: IAM User Guide, "Policy evaluation logic".
public enum PolicyEvaluator {
    /// Over all policies that apply: a Deny anywhere wins, else an Allow anywhere, else nothing is said.
    public static func evaluate(_ request: PolicyRequest, _ policies: [PolicyDocument]) -> PolicyDecision {
        var decision = PolicyDecision.notMentioned
        for policy in policies {
            for statement in policy.statements where applies(statement, request, usesVariables: policy.usesVariables) {
                if statement.effect == .deny { return .explicitlyDenied }
                decision = .allowed
            }
        }
        return decision
    }

    /// What the caller's own policies say together: each kind that is there must allow. Source: the same page, "Evaluating identity-based
    /// policies with permissions boundaries" and "Session policies".
    public static func evaluate(_ request: PolicyRequest, _ stack: PolicyStack) -> PolicyDecision {
        let bounds = bounds(request, stack)
        if bounds == .explicitlyDenied { return .explicitlyDenied }
        let own = evaluate(request, stack.identity)
        return own == .allowed && bounds != .allowed ? .notMentioned : own
    }

    /// The boundary and the session together; `.allowed` where there is neither.
    private static func bounds(_ request: PolicyRequest, _ stack: PolicyStack) -> PolicyDecision {
        let boundary = stack.boundary.map { evaluate(request, [$0]) } ?? .allowed
        let session = stack.session.map { evaluate(request, $0) } ?? .allowed
        if boundary == .explicitlyDenied || session == .explicitlyDenied { return .explicitlyDenied }
        return boundary == .allowed && session == .allowed ? .allowed : .notMentioned
    }

    /// With a resource's policy, in the account that owns the resource or from another. Source: the same page, "Evaluating identity-based
    /// policies with resource-based policies" and "Cross-account policy evaluation logic".
    ///
    /// Within the account either side may allow. What the resource gives to everybody, to the account or to the role is bounded by
    /// boundary and session; what it gives to this very user or session by name is not.
    public static func evaluate(
        _ request: PolicyRequest, _ stack: PolicyStack, resourcePolicy: PolicyDocument?, isOwnAccount: Bool
    ) -> PolicyDecision {
        let own = evaluate(request, stack)
        let theirs = resourcePolicy.map { evaluate(request, [$0]) } ?? .notMentioned
        if own == .explicitlyDenied || theirs == .explicitlyDenied { return .explicitlyDenied }
        guard isOwnAccount else { return own == .allowed && theirs == .allowed ? .allowed : .notMentioned }
        if own == .allowed { return .allowed }
        guard theirs == .allowed, let resourcePolicy else { return .notMentioned }
        if bounds(request, stack) == .allowed { return .allowed }
        return allowsByName(request, resourcePolicy) ? .allowed : .notMentioned
    }

    /// Whether the policy gives it to this very user or session, by its ARN.
    public static func allowsByName(_ request: PolicyRequest, _ policy: PolicyDocument) -> Bool {
        guard let arn = request.principal?.arn else { return false }
        return policy.statements.contains { statement in
            guard statement.effect == .allow, let principals = statement.principals, !principals.isInverted else { return false }
            return principals.accounts.contains(arn) && applies(statement, request, usesVariables: policy.usesVariables)
        }
    }

    /// The statements of a policy that match, by position: what a simulation tells.
    public static func matches(_ request: PolicyRequest, _ policy: PolicyDocument) -> [(index: Int, effect: PolicyDocument.Effect)] {
        policy.statements.enumerated().filter { applies($0.element, request, usesVariables: policy.usesVariables) }
            .map { ($0.offset, $0.element.effect) }
    }

    private static func applies(_ statement: PolicyDocument.Statement, _ request: PolicyRequest, usesVariables: Bool) -> Bool {
        if let principals = statement.principals, names(principals, request.principal) == principals.isInverted { return false }
        let actionListed = statement.actions.patterns.contains {
            PolicyPattern($0).matches(request.action, ignoringCase: true)
        }
        if actionListed == statement.actions.isInverted { return false }
        let resourceListed = statement.resources.patterns.contains { pattern in
            guard usesVariables else { return PolicyPattern(pattern).matches(request.resource) }
            return PolicyPattern(pattern, variables: request.context)?.matches(request.resource) ?? false
        }
        if resourceListed == statement.resources.isInverted { return false }
        // "Everything but ${x}" without an x would be everything: that may deny, but not allow.
        func isUnknown(_ texts: [String]) -> Bool {
            usesVariables && texts.contains { PolicyPattern($0, variables: request.context) == nil }
        }
        if statement.resources.isInverted, statement.effect == .allow, isUnknown(statement.resources.patterns) { return false }
        return statement.conditions.allSatisfy { condition in
            if condition.test.isNegated, isUnknown(condition.values) { return statement.effect == .deny }
            return condition.test.holds(
                condition.values, request.context[condition.key], variables: usesVariables ? request.context : nil)
        }
    }

    private static func names(_ list: PolicyDocument.Principals, _ principal: PolicyPrincipal?) -> Bool {
        if list.anyone { return true }
        guard let principal else { return false }
        if let id = principal.canonicalUserID, list.canonicalUsers.contains(id) { return true }
        // Whom a provider or a part of the cloud vouches for is of no account yet.
        if let provider = principal.federatedProvider { return list.federated.contains(provider) || list.federated.contains("*") }
        if let service = principal.service { return list.services.contains(service) }
        // An account, written either way, stands for everybody in it.
        return list.accounts.contains { name in
            name == principal.accountID || name == "arn:aws:iam::\(principal.accountID):root" || name == principal.arn
                || name == principal.roleARN
        }
    }
}
