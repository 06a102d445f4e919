import Domain

/// Whose a new object is, and what its ACL says. Source: S3 User Guide, "Controlling ownership of objects and disabling ACLs".
enum NewObjectRights {
    /// The account that owns what this request writes. What the cloud itself or nobody in particular writes is the bucket owner's, who
    /// could not read it otherwise.
    static func owner(_ r: S3Request, _ bucket: BucketRecord) throws(CloudError) -> String {
        guard let known = r.requester.known, !known.isSystem else { return bucket.account }
        switch try bucket.loaded().ownership {
        case .bucketOwnerEnforced: return bucket.account
        case .bucketOwnerPreferred where r.header("x-amz-acl") == "bucket-owner-full-control": return bucket.account
        case .bucketOwnerPreferred, .objectWriter: return known.accountID
        }
    }

    /// - Throws: `AccessControlListNotSupported`, `AccessDenied` for what the bucket's settings forbid; `InvalidArgument`.
    static func acl(_ core: WalrusCore, _ r: S3Request, _ bucket: BucketRecord, _ key: ObjectKey) async throws(CloudError)
        -> AccessControlList
    {
        let account = try owner(r, bucket)
        let owner = try await core.owner(account).id
        let plain = AccessControlList([.init(.canonicalUser(owner), .fullControl)])
        // The directory is asked only when there is something to look up.
        guard ACLParsing.hasHeaders(r) else { return plain }
        let bucketOwner = try await core.owner(bucket.account).id
        guard let acl = try ACLParsing.fromHeaders(r, owner: owner, bucketOwner: bucketOwner) else { return plain }
        if try bucket.loaded().ownership == .bucketOwnerEnforced {
            try requireNoEffect(r, acl, bucketOwner)
            return plain
        }
        try Authorization.objectACL(r.requester, bucket, key, owner: account)
        try await core.checkGrantees(acl)
        try admitPublic(acl, bucket)
        return acl
    }

    /// Where ACLs are switched off a request may still say what is so anyway: that the bucket's owner has full control.
    static func requireNoEffect(_ r: S3Request, _ acl: AccessControlList, _ bucketOwner: String) throws(CloudError) {
        if r.header("x-amz-acl") == "bucket-owner-full-control" { return }
        let isOwners = acl.grants == [.init(.canonicalUser(bucketOwner), .fullControl)] && r.header("x-amz-acl") == nil
        guard isOwners else { throw notSupported() }
    }

    /// Owner and ACL as they count: with ACLs switched off the bucket's owner has everything.
    static func shown(
        _ core: WalrusCore, _ bucket: BucketRecord, _ object: ObjectRecord
    ) async throws(CloudError) -> (owner: OwnerNames, acl: AccessControlList) {
        guard try bucket.loaded().ownership == .bucketOwnerEnforced else { return (try await core.owner(object.account), object.acl) }
        let owner = try await core.owner(bucket.account)
        return (owner, AccessControlList([.init(.canonicalUser(owner.id), .fullControl)]))
    }

    static func notSupported() -> CloudError {
        S3Failure.named("AccessControlListNotSupported", 400, "The bucket does not allow ACLs")
    }

    /// - Throws: `AccessDenied` for a public ACL where the bucket's public access block refuses these.
    static func admitPublic(_ acl: AccessControlList, _ bucket: BucketRecord) throws(CloudError) {
        if try bucket.loaded().publicAccessBlock?.blockPublicAcls == true, acl.isPublic {
            throw S3Failure.accessDenied("public ACLs are blocked by the bucket's public access block")
        }
    }
}
