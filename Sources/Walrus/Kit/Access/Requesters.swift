import Domain

/// An authenticated requester as Walrus needs it.
struct KnownRequester: Sendable {
    let accountID: String
    /// The account's canonical user id: 64 hexadecimal digits.
    let canonicalID: String
    let arn: String
    /// The account itself, not one of its users.
    let isRoot: Bool
    /// The cloud itself: may read and write all buckets, for images and snapshots.
    let isSystem: Bool
    /// What statements with conditions may ask about the requester (`aws:username`, `aws:PrincipalArn`, …).
    let facts: [String: [String]]
    /// Whether `decide` may look at the request's context: roots have no policies of their own.
    var needsContext: Bool { !isRoot && !isSystem }
    /// What the requester's own policies say.
    let decide: @Sendable (_ action: String, _ resource: String, _ context: PolicyContext) -> PolicyDecision

    /// As policies of buckets see it.
    var principal: PolicyPrincipal { PolicyPrincipal(accountID: accountID, arn: arn, canonicalUserID: canonicalID) }
}

/// Where access keys and accounts are looked up.
protocol RequesterDirectory: Sendable {
    /// `nil`: no such key.
    func requester(accessKeyID: String) async throws(CloudError) -> (secret: String, requester: KnownRequester)?
    /// How an account is shown.
    func owner(accountID: String) async throws(CloudError) -> OwnerNames
    /// `nil`: no such account.
    func owner(canonicalID: String) async throws(CloudError) -> OwnerNames?
}
