import Daemon
import Database
import Domain
import Signing
import Wire
import Workflow

/// CopyObject, and the source of every copy.
extension WriteActions {
    /// The object, or version, that `x-amz-copy-source` names, with the right to read it and its conditions checked.
    /// - Returns: also whether the source names a version.
    static func source(_ core: WalrusCore, _ r: S3Request, withBytes: Bool) async throws(CloudError) -> (
        bucket: BucketRecord, object: ObjectRecord, isVersion: Bool
    ) {
        var text = Substring(r.header("x-amz-copy-source") ?? "")
        var version: String?
        if let question = text.lastIndex(of: "?"), text[question...].hasPrefix("?versionId=") {
            version = try VersionID.parse(String(text[question...].dropFirst("?versionId=".count)))
            text = text[..<question]
        }
        let target = try S3Target(rawPath: text.hasPrefix("/") ? String(text) : "/" + text, host: nil, domain: "")
        guard let name = target.bucket, let bytes = target.key else {
            throw S3Failure.invalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
        }
        let key = try ObjectKey(bytes)
        let wanted = version
        var found = try await core.pool.read {
            try ObjectStore.objectFetch($0, bucket: name, key: key, version: wanted, withBytes: withBytes)
        }
        found.bucket = try await core.configured(found.bucket)
        if let expected = r.header("x-amz-source-expected-bucket-owner"), expected != found.bucket.account {
            throw S3Failure.accessDenied("the source bucket belongs to \(found.bucket.account), not \(expected)")
        }
        let action = version == nil ? "s3:GetObject" : "s3:GetObjectVersion"
        guard let object = found.object else {
            let refusal = try Authorization.missing(r.requester, found.bucket, key, action)
            guard S3ErrorCode.of(refusal).status == 404, version != nil else { throw refusal }
            guard found.marker == nil else {
                throw S3Failure.invalidRequest(
                    "The source of a copy request may not specifically refer to a delete marker by version id.")
            }
            throw S3Failure.noSuchVersion()
        }
        try Authorization.object(r.requester, found.bucket, object, action, .read)
        let conditions = Preconditions(
            ifMatch: r.header("x-amz-copy-source-if-match"), ifNoneMatch: r.header("x-amz-copy-source-if-none-match"),
            ifModifiedSince: r.header("x-amz-copy-source-if-modified-since").flatMap { Timestamp(httpDate: $0) },
            ifUnmodifiedSince: r.header("x-amz-copy-source-if-unmodified-since").flatMap { Timestamp(httpDate: $0) })
        switch conditions.read(etag: object.etag, modified: object.modified) {
        case .proceed: break
        case .notModified: throw S3Failure.preconditionFailed("x-amz-copy-source-If-None-Match")
        case .failed(let header): throw S3Failure.preconditionFailed("x-amz-copy-source-\(header)")
        }
        return (found.bucket, object, version != nil)
    }

    private static func replaces(_ r: S3Request, _ name: String) throws(CloudError) -> Bool {
        switch r.header(name)?.uppercased() {
        case nil, "COPY": return false
        case "REPLACE": return true
        default: throw S3Failure.invalidArgument("Unknown \(name == "x-amz-metadata-directive" ? "metadata" : "tagging") directive.")
        }
    }

    func copyObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        // The source may be replaced while it is opened: then it is looked at again.
        for _ in 0..<5 {
            if let reply = try await copyAttempt(r) { return reply }
        }
        throw CloudError(.unavailable("The object"), "Please reduce your request rate.", context: "the source changed five times")
    }

    private func copyAttempt(_ r: S3Request) async throws(CloudError) -> HTTPReply? {
        let origin = EventOrigin(r)
        let (bucket, current, _) = try await core.object(r, withBytes: false)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject")
        let conditions = r.preconditions
        try conditions.write(current: current?.etag, key: key.text)
        let (sourceBucket, source, isVersion) = try await Self.source(core, r, withBytes: true)
        guard source.size <= Self.putLimit else {
            throw S3Failure.invalidRequest(
                "The specified copy source is larger than the maximum allowable size for a copy source: \(Self.putLimit)")
        }
        let replacesMetadata = try Self.replaces(r, "x-amz-metadata-directive")
        let replacesTags = try Self.replaces(r, "x-amz-tagging-directive")
        let given = try ObjectHeaders.attributes(r)
        var attributes = replacesMetadata ? given : source.attributes
        attributes.tags = replacesTags ? given.tags : source.attributes.tags
        attributes.storageClass = given.storageClass
        // A redirect is the copy's own or none. Source: S3 API reference, CopyObject.
        let redirect = "x-amz-website-redirect-location"
        attributes.headers = attributes.headers.filter { $0.name != redirect } + given.headers.filter { $0.name == redirect }
        let isSelf = sourceBucket.id == bucket.id && source.key == key
        if isSelf, !isVersion, !replacesMetadata, !EncryptionHeaders.isGiven(r), r.header("x-amz-storage-class") == nil,
            r.header("x-amz-website-redirect-location") == nil
        {
            throw S3Failure.invalidRequest(
                "This copy request is illegal because it is trying to copy an object to itself without "
                    + "changing the object's metadata, storage class, website redirect location or "
                    + "encryption attributes."
            )
        }
        let acl = try await Self.acl(core, r, bucket, key)
        let sealing = try EncryptionHeaders.new(r, bucket, core)
        let opened = try EncryptionHeaders.opened(r, source.encryption, core.keys, ofSource: true)
        let named = try r.header("x-amz-checksum-algorithm").map { text throws(CloudError) in try ChecksumAlgorithm(parsing: text) }

        var object = source
        object.key = key
        object.account = try Self.ownerAccount(r, bucket)
        object.acl = acl
        object.attributes = attributes
        object.modified = core.clock.now()
        object.lock = try ObjectLockHeaders.lock(r, bucket, key)
        object.version = VersionID.null
        if isSelf, sealing == nil, opened == nil, bucket.versioning == .off, named == nil || named == source.checksum?.algorithm {
            // The bytes stay where they are.
            let described = object
            let changed = try await core.pool.transaction(isolation: .readCommitted) { t in
                let now = try ObjectStore.objectLock(t, bucket: bucket.id, key: key)
                try conditions.write(current: now?.etag, key: key.text)
                let isSame = try ObjectStore.objectDescribe(t, bucket: bucket.id, described, was: source)
                if isSame { try NotificationStore.recordCreated(t, bucket, "Copy", described, nil, origin) }
                return isSame
            }
            return changed ? copyReply(object, nil, sourceBucket.shown(source.version), made: nil) : nil
        }
        let room = try await core.quotas?.reserve(bucket.account, bytes: source.size, objects: current == nil ? 1 : 0)
        let algorithm = named ?? source.checksum?.algorithm
        switch source.content {
        case .inline(let stored):
            let bytes = try opened?.cipher(nil).applied(to: stored) ?? stored
            object.checksum = algorithm.map { StoredChecksum($0, .fullObject, Base64.encode($0.of(bytes))) }
            let sealed = try sealing?.cipher(nil).applied(to: bytes) ?? bytes
            let taken = Intaken(content: .inline(sealed), size: bytes.count, md5: Hex.encode(Digest.md5(bytes)), checksum: nil)
                .encrypted(sealing, atRest: Hex.encode(Digest.md5(sealed)))
            (object.content, object.etag) = (taken.content, taken.md5)
            (object.encryption, object.storedMD5) = (taken.encryption, taken.storedMD5)
        case .blob, .parts:
            guard let segments = try await ReadActions.segments(core, source, offset: 0, length: source.size) else { return nil }
            let lease = core.leases.take(segments.map(\.blob))
            let taken = try await core.intake.copy(segments, checksum: algorithm, source: opened, encryption: sealing)
            withExtendedLifetime(lease) {}
            object.content = taken.content
            object.etag = taken.md5
            (object.encryption, object.storedMD5) = (taken.encryption, taken.storedMD5)
            object.partCount = 0
            object.checksum = taken.checksum.map { StoredChecksum($0.algorithm, .fullObject, Base64.encode($0.value)) }
        }
        room?.keep()
        let (finished, plan) = (object, core.plan(bucket))
        let made = try await core.commit(finished.content) { t in
            let version = try ObjectStore.objectPut(t, bucket: bucket.id, finished, plan) {
                try conditions.write(current: $0?.etag, key: key.text)
            }
            try NotificationStore.recordCreated(t, bucket, "Copy", finished, version, origin)
            return version
        }
        return copyReply(object, sealing, sourceBucket.shown(source.version), made: made)
    }

    /// - Parameters:
    ///   - source: the version that was copied; `nil` in a bucket that was never versioned.
    ///   - made: the version that the copy is.
    private func copyReply(_ object: ObjectRecord, _ encryption: OpenEncryption?, _ source: String?, made: String?) -> HTTPReply {
        var reply = S3Document.reply("CopyObjectResult") { xml in
            xml.element("LastModified", object.modified.iso8601)
            S3Document.etag(&xml, object.etag)
            if let checksum = object.checksum {
                xml.element(checksum.algorithm.element, checksum.value)
                xml.element("ChecksumType", checksum.type.rawValue)
            }
        }
        if let source { reply.headers.append(("x-amz-copy-source-version-id", source)) }
        if let made { reply.headers.append(("x-amz-version-id", made)) }
        reply.headers += encryption?.headers ?? []
        return reply
    }
}
