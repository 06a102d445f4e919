import Daemon
import Database
import Domain
import Wire

/// The actions on buckets. Thin: rights, one store call, the document.
struct BucketActions: Sendable {
    let core: WalrusCore

    func listBuckets(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let known = try Authorization.account(r.requester, "s3:ListAllMyBuckets", "*")
        let limit = try r.query.integer("max-buckets", 1...10_000) ?? 10_000
        let prefix = r.query["prefix"] ?? ""
        var after = ""
        if let token = r.query.nonEmpty("continuation-token") {
            after = String(decoding: try ContinuationToken.decode(token), as: UTF8.self)
        }
        let from = after
        let account = known.accountID
        var buckets = try await core.pool.read {
            try BucketStore.bucketList($0, account: account, prefix: prefix, after: from, limit: limit + 1)
        }
        let isTruncated = buckets.count > limit
        if isTruncated { buckets.removeLast() }
        let owner = try await core.owner(account)
        return S3Document.reply("ListAllMyBucketsResult") { xml in
            S3Document.owner(&xml, owner)
            xml.open("Buckets")
            for bucket in buckets {
                xml.open("Bucket")
                xml.element("Name", bucket.name)
                xml.element("CreationDate", bucket.created.iso8601)
                if r.query.has("max-buckets") || r.query.has("prefix") { xml.element("BucketRegion", bucket.region) }
                xml.close()
            }
            xml.close()
            if !prefix.isEmpty { xml.element("Prefix", prefix) }
            if isTruncated, let last = buckets.last { xml.element("ContinuationToken", ContinuationToken.encode(Array(last.name.utf8))) }
        }
    }

    func createBucket(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let name = try r.bucketName()
        try BucketRules.checkName(name)
        let known = try Authorization.account(r.requester, "s3:CreateBucket", "arn:aws:s3:::\(name)")
        let isLocked = r.header("x-amz-bucket-object-lock-enabled")?.lowercased() == "true"
        let ownership = try ownership(r)
        let body = try await r.document(limit: 64 * 1024)
        let configuration = body.isEmpty ? nil : try S3Document.parse(body, root: "CreateBucketConfiguration")
        if let configuration { try checkLocation(configuration) }
        let acl =
            try ACLParsing.fromHeaders(r, owner: known.canonicalID, bucketOwner: known.canonicalID)
            ?? AccessControlList([.init(.canonicalUser(known.canonicalID), .fullControl)])
        if ownership == .bucketOwnerEnforced { try ConfigurationActions.requireOwnerOnly(acl, known.canonicalID) }
        let blocked = core.newBuckets.blocksPublicAccess ? PublicAccessBlock(all: true) : nil
        guard blocked == nil || !acl.isPublic else {
            throw S3Failure.named(
                "InvalidBucketAclWithBlockPublicAccessError", 400, "Bucket cannot have public ACLs set with BlockPublicAccess enabled")
        }
        try await core.checkGrantees(acl)
        let (region, now) = (core.region, r.now)
        let (bucket, made) = try await core.pool.transaction { t in
            let result = try BucketStore.bucketCreate(t, name: name, account: known.accountID, region: region, now: now, acl: acl)
            if result.made {
                if isLocked { try VersionStore.bucketStartLocked(t, result.bucket.id) }
                if let ownership { try ConfigurationStore.configurationPut(t, result.bucket.id, .ownership, ownership.document, now: now) }
                if let blocked {
                    try ConfigurationStore.configurationPut(t, result.bucket.id, .publicAccessBlock, blocked.document, now: now)
                }
            }
            return result
        }
        if !made {
            guard bucket.account == known.accountID else {
                throw S3Failure.named(
                    "BucketAlreadyExists", 409,
                    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
                        + "Please select a different name and try again."
                )
            }
            // A request that names no region means S3's first one, where to make one's own bucket again is no error.
            if configuration?.first("LocationConstraint") == nil, bucket.acl == acl {
                return HTTPReply(status: 200, headers: [("Location", "/\(name)")])
            }
            throw S3Failure.named(
                "BucketAlreadyOwnedByYou", 409, "Your previous request to create the named bucket succeeded and you already own it.")
        }
        return HTTPReply(status: 200, headers: [("Location", "/\(name)")])
    }

    /// What the new bucket gets; `nil`: nothing is written down, which means ObjectWriter.
    private func ownership(_ r: S3Request) throws(CloudError) -> ObjectOwnership? {
        guard let text = r.header("x-amz-object-ownership") else {
            return core.newBuckets.ownership == .objectWriter ? nil : core.newBuckets.ownership
        }
        guard let ownership = ObjectOwnership(rawValue: text) else {
            throw S3Failure.invalidArgument("Invalid x-amz-object-ownership header: \(text)")
        }
        return ownership
    }

    /// A bucket is in our region; a constraint that says another one is an error of the client's configuration. Old clients send `EU` or
    /// nothing.
    private func checkLocation(_ root: XMLElement) throws(CloudError) {
        let location = root.first("LocationConstraint")?.text.trimmed ?? ""
        let isOurs = location.isEmpty || location == core.region || location == "default" || location == "us-east-1"
        guard isOurs else {
            throw S3Failure.named(
                "InvalidLocationConstraint", 400, "The specified location-constraint is not valid: this cloud's region is \(core.region)")
        }
        if let bucket = root.first("Bucket"), bucket.first("Type")?.text == "Directory" {
            throw S3Failure.notImplemented("Directory buckets are not implemented")
        }
    }

    func headBucket(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:ListBucket", .read)
        return HTTPReply(
            status: 200,
            headers: [
                ("x-amz-bucket-region", bucket.region), ("x-amz-access-point-alias", "false"), ("Content-Type", "application/xml"),
            ])
    }

    func deleteBucket(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:DeleteBucket", nil)
        let now = r.now
        try await core.pool.transaction(isolation: .readCommitted) { try BucketStore.bucketDelete($0, name: bucket.name, now: now) }
        return HTTPReply(status: 204)
    }

    func getBucketLocation(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketLocation", nil)
        return S3Document.reply("LocationConstraint") { $0.text(bucket.region) }
    }

    func getBucketACL(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketAcl", .readACP)
        let owner = try await core.owner(bucket.account)
        let isEnforced = try bucket.loaded().ownership == .bucketOwnerEnforced
        let acl = isEnforced ? AccessControlList([.init(.canonicalUser(owner.id), .fullControl)]) : bucket.acl
        let body = S3Document.accessControl(owner, acl, names: try await core.grantees(acl))
        return HTTPReply(status: 200, headers: [("Content-Type", "application/xml")], body: .bytes(body))
    }

    func putBucketACL(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:PutBucketAcl", .writeACP)
        let owner = try await core.owner(bucket.account)
        let body = try await r.document(limit: 256 * 1024)
        let acl: AccessControlList
        if let named = try ACLParsing.fromHeaders(r, owner: owner.id, bucketOwner: owner.id) {
            guard body.isEmpty else { throw S3Failure.named("UnexpectedContent", 400, "This request does not support content") }
            acl = named
        } else {
            guard !body.isEmpty else { throw S3Failure.named("MissingSecurityHeader", 400, "Your request was missing a required header") }
            acl = try ACLParsing.fromDocument(body, owner: owner.id)
        }
        if try bucket.loaded().ownership == .bucketOwnerEnforced {
            try NewObjectRights.requireNoEffect(r, acl, owner.id)
            return HTTPReply(status: 200)
        }
        try await core.checkGrantees(acl)
        try NewObjectRights.admitPublic(acl, bucket)
        try await core.pool.transaction(isolation: .readCommitted) { try BucketStore.bucketSetACL($0, bucket.id, acl) }
        return HTTPReply(status: 200)
    }

    func getBucketTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketTagging", nil)
        guard !bucket.tags.isEmpty else { throw S3Failure.named("NoSuchTagSet", 404, "The TagSet does not exist") }
        return HTTPReply(status: 200, headers: [("Content-Type", "application/xml")], body: .bytes(S3Document.tagging(bucket.tags)))
    }

    func putBucketTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:PutBucketTagging", nil)
        let tags = try Tagging.fromDocument(try await r.document(limit: 64 * 1024), limit: Tagging.bucketLimit)
        try await core.pool.transaction(isolation: .readCommitted) { try BucketStore.bucketSetTags($0, bucket.id, tags) }
        return HTTPReply(status: 204)
    }

    func deleteBucketTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:PutBucketTagging", nil)
        try await core.pool.transaction(isolation: .readCommitted) { try BucketStore.bucketSetTags($0, bucket.id, []) }
        return HTTPReply(status: 204)
    }
}
