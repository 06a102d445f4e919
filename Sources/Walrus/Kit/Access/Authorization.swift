import Domain

/// Who may do what with a bucket or an object.
///
/// Five things speak: the requester's own policies, the bucket's policy, ACLs, the bucket's object ownership and its public access block.
/// A Deny in either policy wins. Otherwise, in the account that owns the thing either policy may allow; for another account its own
/// policies must allow, and so must the bucket's policy or an ACL; the anonymous have the bucket's policy and ACLs only. The bucket's
/// policy allows nothing on objects that others own. `RestrictPublicBuckets` keeps a public policy to the bucket's account,
/// `IgnorePublicAcls` takes grants to groups away, and `BucketOwnerEnforced` all grants, and makes every object the bucket owner's.
/// Source: S3 User Guide, "How Amazon S3 authorizes a request", "Controlling ownership of objects", "Blocking public access".
enum Authorization {
    typealias Permission = AccessControlList.Permission

    private static func arn(_ bucket: String, _ key: String? = nil) -> String {
        key.map { "arn:aws:s3:::\(bucket)/\($0)" } ?? "arn:aws:s3:::\(bucket)"
    }

    /// Actions of an account on itself (ListBuckets, CreateBucket).
    static func account(_ r: Requester, _ action: String, _ resource: String) throws(CloudError) -> KnownRequester {
        guard let known = r.known else { throw S3Failure.accessDenied("anonymous \(action)") }
        if known.isRoot || known.isSystem { return known }
        guard known.decide(action, resource, r.facts.context(known, existingTags: nil)) == .allowed else {
            throw S3Failure.accessDenied("\(known.arn) may not do \(action) on \(resource)")
        }
        return known
    }

    /// - Parameter permission: what another account needs by ACL; `nil`: no ACL gives this.
    static func bucket(_ r: Requester, _ bucket: BucketRecord, _ action: String, _ permission: Permission?) throws(CloudError) {
        try decide(r, bucket, action, arn(bucket.name), owner: bucket.account, existingTags: nil) { settings in
            guard let permission else { return nil }
            return settings.effective(bucket.acl).grantee(permission, caller: r.canonicalID)
        }
    }

    /// Writing a key: the bucket's owner and those whom its policy or its ACL lets write.
    /// - Parameter current: what is there; its tags may be asked for.
    static func write(
        _ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, _ action: String, current: ObjectRecord? = nil
    ) throws(CloudError) {
        try decide(
            r, bucket, action, arn(bucket.name, key.text), owner: bucket.account, existingTags: current?.attributes.tags
        ) { settings in
            // A grant to write makes and deletes objects; everything else about them is not the bucket's ACL's.
            guard grantedByWrite.contains(action) else { return nil }
            return settings.effective(bucket.acl).grantee(.write, caller: r.canonicalID)
        }
    }

    private static let grantedByWrite: Set<String> = [
        "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ]

    /// Reading or administering an object: its owner, and those whom ACL or policy allows. The bucket's owner has no right to the bytes of
    /// others' objects but by ACL, as in S3.
    /// - Parameter permission: what an ACL must give; `.fullControl` for what no ACL gives by itself.
    static func object(
        _ r: Requester, _ bucket: BucketRecord, _ object: ObjectRecord, _ action: String, _ permission: Permission
    ) throws(CloudError) {
        let owner = try bucket.loaded().ownership == .bucketOwnerEnforced ? bucket.account : object.account
        try decide(r, bucket, action, arn(bucket.name, object.key.text), owner: owner, existingTags: object.attributes.tags) { settings in
            settings.effective(object.acl).grantee(permission, caller: r.canonicalID)
        }
    }

    /// What to say of an object that is not there: those who may not list the bucket must not learn that.
    static func missing(_ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, _ action: String) throws(CloudError) -> CloudError {
        guard mayList(r, bucket, key, action) else { return S3Failure.accessDenied("no list right") }
        return S3Failure.noSuchKey(key.text)
    }

    /// Whether the requester may learn that there is no such object (or version): whoever may list the bucket with this key as the prefix.
    static func mayList(_ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, _ action: String) -> Bool {
        do throws(CloudError) {
            try Self.bucket(r.looking(for: key.text), bucket, "s3:ListBucket", .read)
            return true
        } catch { return false }
    }

    /// The ACL that comes with a new object is its owner's to choose; the bucket's policy can forbid it.
    static func objectACL(_ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, owner: String) throws(CloudError) {
        try decide(r, bucket, "s3:PutObjectAcl", arn(bucket.name, key.text), owner: owner, existingTags: nil) { _ in
            r.known == nil ? .anyone : nil
        }
    }

    // MARK: the decision

    private static func decide(
        _ r: Requester, _ bucket: BucketRecord, _ action: String, _ resource: String, owner: String,
        existingTags: [(name: String, value: String)]?, acl: (BucketSettings) -> AccessControlList.Reach?
    ) throws(CloudError) {
        if r.isSystem { return }
        let settings = try bucket.loaded()
        let known = r.known
        if settings.policy == nil, let known, known.isRoot, known.accountID == owner { return }
        let context =
            settings.policy != nil || known?.needsContext == true
            ? r.facts.context(known, existingTags: existingTags) : PolicyContext()

        var theirs = PolicyDecision.notMentioned
        if let policy = settings.policy {
            theirs = PolicyEvaluator.evaluate(
                PolicyRequest(principal: known?.principal, action: action, resource: resource, context: context), [policy.document])
            if theirs == .explicitlyDenied {
                // The root of the account cannot lock itself out. Source: S3 API reference, PutBucketPolicy.
                let isKeeper = known?.isRoot == true && known?.accountID == bucket.account && policyActions.contains(action)
                guard isKeeper else { throw refusal(r, action, resource, "the bucket's policy denies it") }
                return
            }
            if settings.publicAccessBlock?.restrictPublicBuckets == true, policy.isPublic, known?.accountID != bucket.account {
                theirs = .notMentioned
            }
            // What others own is not the bucket owner's to give.
            if owner != bucket.account { theirs = .notMentioned }
        }
        let granted = acl(settings)
        guard let known else {
            guard theirs == .allowed || granted == .anyone else { throw refusal(r, action, resource, "nothing opens it to everybody") }
            return
        }
        let own = known.isRoot ? PolicyDecision.allowed : known.decide(action, resource, context)
        if own == .explicitlyDenied { throw refusal(r, action, resource, "the requester's policies deny it") }
        let isAllowed: Bool
        if known.accountID == owner {
            isAllowed = own == .allowed || theirs == .allowed || granted == .anyone || granted == .authenticated
        } else {
            isAllowed = own == .allowed && (theirs == .allowed || granted != nil)
        }
        guard isAllowed else { throw refusal(r, action, resource, "of account \(owner)") }
    }

    static let policyActions: Set<String> = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"]

    private static func refusal(_ r: Requester, _ action: String, _ resource: String, _ why: String) -> CloudError {
        S3Failure.accessDenied("\(r.known?.arn ?? "anonymous") may not do \(action) on \(resource): \(why)")
    }
}
