import Daemon
import Database
import Domain
import Wire

/// Put, get and delete of a bucket's configurations: rights, the check of the kind, one row.
struct ConfigurationActions: Sendable {
    let core: WalrusCore

    private static let xml = [("Content-Type", "application/xml")]

    func get(_ r: S3Request, _ kind: ConfigurationKind) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, kind.shape.readAction, nil)
        guard let document = try bucket.loaded().documents[kind] else {
            switch kind.shape.absent {
            case .error(let code, let message): throw S3Failure.named(code, 404, message)
            case .document(let root, let element):
                return S3Document.reply(root) { xml in if let element { xml.element(element.0, element.1) } }
            }
        }
        let headers = kind == .policy ? [("Content-Type", "application/json")] : Self.xml
        return HTTPReply(status: 200, headers: headers, body: .bytes(document))
    }

    func put(_ r: S3Request, _ kind: ConfigurationKind) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, kind.shape.writeAction, nil)
        let body = try await r.document(limit: kind.shape.limit)
        let document = try await admitted(r, bucket, kind, body)
        let now = r.now
        try await core.pool.transaction(isolation: .readCommitted) { t in
            if let document {
                try ConfigurationStore.configurationPut(t, bucket.id, kind, document, now: now)
            } else {
                try ConfigurationStore.configurationDelete(t, bucket.id, kind)
            }
        }
        return HTTPReply(status: kind.shape.putStatus)
    }

    func delete(_ r: S3Request, _ kind: ConfigurationKind) async throws(CloudError) -> HTTPReply {
        guard let action = kind.shape.deleteAction else { throw S3Failure.methodNotAllowed() }
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, action, nil)
        if try bucket.loaded().documents[kind] != nil {
            try await core.pool.transaction(isolation: .readCommitted) { try ConfigurationStore.configurationDelete($0, bucket.id, kind) }
        }
        return HTTPReply(status: 204)
    }

    /// Checks what came, and writes it anew in the form that is kept.
    /// - Returns: `nil` when the document says that there shall be none.
    private func admitted(
        _ r: S3Request, _ bucket: BucketRecord, _ kind: ConfigurationKind, _ body: [UInt8]
    ) async throws(CloudError) -> [UInt8]? {
        switch kind {
        case .ownership: return try await ownership(bucket, body)
        case .publicAccessBlock: return try PublicAccessBlock(document: body).document
        case .policy: return try policy(r, bucket, body)
        case .requestPayment:
            let isRequester = try RequestPayment.isRequester(body)
            return S3Document.make("RequestPaymentConfiguration") { $0.element("Payer", isRequester ? "Requester" : "BucketOwner") }
        case .encryption: return try BucketEncryption(document: body).document
        case .cors: return try CORSConfiguration(document: body).document
        case .lifecycle: return try LifecycleConfiguration(document: body).document
        case .website: return try WebsiteConfiguration(document: body).document
        case .logging: return try await logging(r, bucket, body)
        case .notification: return try notification(body)
        }
    }

    private func ownership(_ bucket: BucketRecord, _ body: [UInt8]) async throws(CloudError) -> [UInt8] {
        let ownership = try ObjectOwnership(document: body)
        if ownership == .bucketOwnerEnforced {
            let owner = try await core.owner(bucket.account).id
            try Self.requireOwnerOnly(bucket.acl, owner)
        }
        return ownership.document
    }

    /// - Throws: `InvalidBucketAclWithObjectOwnership` when others have grants that would cease to count.
    static func requireOwnerOnly(_ acl: AccessControlList, _ owner: String) throws(CloudError) {
        guard acl.grants.allSatisfy({ $0.grantee == .canonicalUser(owner) }) else {
            throw S3Failure.named(
                "InvalidBucketAclWithObjectOwnership", 400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
            )
        }
    }

    private func policy(_ r: S3Request, _ bucket: BucketRecord, _ body: [UInt8]) throws(CloudError) -> [UInt8] {
        let policy = try BucketPolicy(body, bucket: bucket.name)
        if try bucket.loaded().publicAccessBlock?.blockPublicPolicy == true, policy.isPublic {
            throw S3Failure.accessDenied("public policies are blocked by the bucket's public access block")
        }
        // A user who would lock himself out must say that he means it; the account's root always gets back in.
        if let known = r.requester.known, !known.isRoot, !known.isSystem,
            r.header("x-amz-confirm-remove-self-bucket-access")?.lowercased() != "true"
        {
            let question = PolicyRequest(
                principal: known.principal, action: "s3:PutBucketPolicy", resource: "arn:aws:s3:::\(bucket.name)",
                context: r.requester.facts.context(known, existingTags: nil))
            guard PolicyEvaluator.evaluate(question, [policy.document]) != .explicitlyDenied else {
                throw S3Failure.accessDenied("the policy would lock its author out")
            }
        }
        return Array(policy.text.utf8)
    }

    /// The target is a bucket of the same account, without a log of its own kind that would grow by itself.
    private func logging(_ r: S3Request, _ bucket: BucketRecord, _ body: [UInt8]) async throws(CloudError) -> [UInt8]? {
        guard let logging = try LoggingConfiguration.parse(body) else { return nil }
        guard let target = try await core.bucket(named: logging.targetBucket), target.account == bucket.account else {
            throw S3Failure.named("InvalidTargetBucketForLogging", 400, "The target bucket for logging does not exist")
        }
        return logging.document
    }

    private func notification(_ body: [UInt8]) throws(CloudError) -> [UInt8]? {
        let notification = try NotificationConfiguration(document: body)
        for rule in notification.rules where core.webhooks[rule.arn] == nil {
            throw S3Failure.named(
                "InvalidArgument", 400, "Unable to validate the following destination configurations: \(rule.arn)",
                context: "notification_webhooks has no such ARN")
        }
        return notification.rules.isEmpty ? nil : notification.document
    }

    /// Whether the bucket is open to everybody, by policy or ACL. Source: S3 API reference, GetBucketPolicyStatus.
    func getPolicyStatus(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketPolicyStatus", nil)
        let settings = try bucket.loaded()
        let isPublic = settings.policy?.isPublic == true || settings.effective(bucket.acl).isPublic
        return S3Document.reply("PolicyStatus") { $0.element("IsPublic", isPublic ? "true" : "false") }
    }

    // MARK: what we do not have

    func getForeign(_ r: S3Request, _ kind: ForeignConfiguration) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, kind.readAction, nil)
        switch kind {
        case .accelerate: return S3Document.reply("AccelerateConfiguration") { _ in }
        case .replication:
            throw S3Failure.named("ReplicationConfigurationNotFoundError", 404, "The replication configuration was not found")
        case .analytics, .inventory, .metrics, .intelligentTiering:
            guard !r.query.has("id"), let root = kind.listElement else { throw Self.noSuchConfiguration() }
            return S3Document.reply(root) { $0.element("IsTruncated", "false") }
        }
    }

    func putForeign(_ r: S3Request, _ kind: ForeignConfiguration) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, kind.writeAction, nil)
        throw S3Failure.notImplemented(
            "A header or query you provided implies functionality that is not implemented: PUT \(kind.rawValue)")
    }

    func deleteForeign(_ r: S3Request, _ kind: ForeignConfiguration) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, kind.writeAction, nil)
        switch kind {
        // There is none, and S3 says so with success here.
        case .replication: return HTTPReply(status: 204)
        case .accelerate: throw S3Failure.methodNotAllowed()
        case .analytics, .inventory, .metrics, .intelligentTiering: throw Self.noSuchConfiguration()
        }
    }

    private static func noSuchConfiguration() -> CloudError {
        S3Failure.named("NoSuchConfiguration", 404, "The specified configuration does not exist.")
    }
}
