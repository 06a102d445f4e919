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
    /// The role, of a session that assumed one: policies of buckets may name it instead of the session.
    var roleARN: String?
    /// What statements with conditions may ask about the requester (`aws:username`, `aws:PrincipalArn`, …).
    let facts: [String: [String]]
    /// Whether `decide` may look at the request's context: roots have no policies of their own.
    var needsContext: Bool { !isRoot && !isSystem }
    /// What the requester's own policies say.
    let decide: @Sendable (_ action: String, _ resource: String, _ context: PolicyContext) -> PolicyDecision

    /// As policies of buckets see it.
    var principal: PolicyPrincipal { PolicyPrincipal(accountID: accountID, arn: arn, canonicalUserID: canonicalID, roleARN: roleARN) }
}

/// Where access keys and accounts are looked up.
protocol RequesterDirectory: Sendable {
    /// `nil`: no such key, or the token of a session is not the key's.
    /// - Throws: `ExpiredToken`.
    func requester(accessKeyID: String, sessionToken: String?) async throws(CloudError) -> (secret: String, requester: KnownRequester)?
    /// How an account is shown.
    func owner(accountID: String) async throws(CloudError) -> OwnerNames
    /// `nil`: no such account.
    func owner(canonicalID: String) async throws(CloudError) -> OwnerNames?
}

extension RequesterDirectory {
    /// Whose signature it has to be.
    /// - Throws: `InvalidToken` (S3's answer to a token that is not the key's); `.unauthenticated` for a key that nobody has;
    ///   `ExpiredToken`.
    func signer(
        _ accessKeyID: String, sessionToken: String?
    ) async throws(CloudError) -> (secret: String, requester: KnownRequester) {
        if let found = try await requester(accessKeyID: accessKeyID, sessionToken: sessionToken) { return found }
        guard sessionToken?.isEmpty ?? true else {
            throw S3Failure.named("InvalidToken", 400, "The provided token is malformed or otherwise invalid.")
        }
        throw CloudError(.unauthenticated(.unknownKey), context: "access key \(accessKeyID)")
    }
}
