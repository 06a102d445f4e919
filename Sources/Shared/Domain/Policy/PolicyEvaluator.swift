/// The facts of a request that conditions and variables may ask for (`aws:SourceIp`, `aws:username`, …). Names ignore case.
public struct PolicyContext: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    private var values: [String: [String]]

    public init(_ values: [String: [String]] = [:]) {
        self.values = Dictionary(values.map { ($0.key.asciiLowercased, $0.value) }, uniquingKeysWith: { $0 + $1 })
    }
    public init(dictionaryLiteral elements: (String, String)...) {
        self.init(Dictionary(elements.map { ($0.0, [$0.1]) }, uniquingKeysWith: { $0 + $1 }))
    }
    /// The values of a key; empty when it is missing.
    public subscript(key: String) -> [String] {
        get { values[key.asciiLowercased] ?? [] }
        set { values[key.asciiLowercased] = newValue }
    }
}

/// Who asks, as statements with principals see them.
public struct PolicyPrincipal: Sendable, Equatable {
    public let accountID: String
    public let arn: String
    public let canonicalUserID: String?

    public init(accountID: String, arn: String, canonicalUserID: String? = nil) {
        self.accountID = accountID
        self.arn = arn
        self.canonicalUserID = canonicalUserID
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
        // An account, written either way, stands for everybody in it.
        return list.accounts.contains { name in
            name == principal.accountID || name == "arn:aws:iam::\(principal.accountID):root" || name == principal.arn
        }
    }
}
