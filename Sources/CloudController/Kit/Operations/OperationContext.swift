public import Domain
public import Identity

/// Everything that one call of the outside knows about itself. Only the front end makes it, after the signature was verified; each
/// handler gets it as its last argument.
public struct OperationContext: Sendable {
    /// Who signed the call.
    public let caller: AuthenticatedCaller
    /// The id in the reply and in every line of the log, of all daemons, that this call causes.
    public let requestID: String
    /// The API date that was asked for: `2016-11-15`.
    public let apiVersion: String
    /// The moment at which the call was taken up. One call has one now.
    public let now: Timestamp
    /// The client's address without its port, for `aws:SourceIp`.
    public let sourceAddress: String
    public let isTLS: Bool
    /// The client's own name, for `aws:UserAgent`.
    public let userAgent: String
    /// This cloud's, for `aws:RequestedRegion`.
    public let region: String

    public init(
        caller: AuthenticatedCaller, requestID: String, apiVersion: String, now: Timestamp, sourceAddress: String = "", isTLS: Bool = false,
        userAgent: String = "", region: String = ""
    ) {
        self.caller = caller
        self.requestID = requestID
        self.apiVersion = apiVersion
        self.now = now
        self.sourceAddress = sourceAddress
        self.isTLS = isTLS
        self.userAgent = userAgent
        self.region = region
    }

    /// The 12 digits of the account that acts.
    public var accountID: String { caller.principal.accountID }

    /// Ask the one evaluator once more, for a resource that the front end could not know (it has asked for the action with the ids
    /// that stand in the request).
    /// - Throws: `.forbidden`.
    public func authorize(_ action: String, resource: String = "*", context: [String: String] = [:]) throws(CloudError) {
        var all = conditions
        for (key, value) in context { all[key] = [value] }
        try Authorizer.allow(caller, action: action, resource: resource, context: all)
    }

    /// The condition keys that every request has; those of the caller the authorizer adds itself. Source: IAM User Guide, "AWS global
    /// condition context keys".
    public var conditions: PolicyContext {
        var keys: PolicyContext = [
            "aws:SourceIp": sourceAddress, "aws:SecureTransport": isTLS ? "true" : "false", "aws:CurrentTime": now.iso8601Seconds,
            "aws:EpochTime": String(now.seconds),
        ]
        if !userAgent.isEmpty { keys["aws:UserAgent"] = [userAgent] }
        if !region.isEmpty { keys["aws:RequestedRegion"] = [region] }
        return keys
    }
}
