import Daemon
import Database
import Domain
import Signing
import Wire
import Workflow

/// Put, copy and delete. An object is visible from the commit on, whole; before, nobody sees any of it.
struct WriteActions: Sendable {
    let core: WalrusCore

    /// Source: S3 User Guide, "Uploading objects": one PUT, and one copy, is at most 5 GiB.
    static let putLimit = 5 << 30

    /// The account that owns what this request writes: what the cloud itself or nobody in particular writes is the bucket owner's, who
    /// could not read it otherwise.
    static func ownerAccount(_ r: S3Request, _ bucket: BucketRecord) -> String {
        guard let known = r.requester.known, !known.isSystem else { return bucket.account }
        return known.accountID
    }

    static func acl(_ core: WalrusCore, _ r: S3Request, _ bucket: BucketRecord, _ key: ObjectKey) async throws(CloudError)
        -> AccessControlList
    {
        let owner = try await core.owner(ownerAccount(r, bucket)).id
        let bucketOwner = try await core.owner(bucket.account).id
        guard let acl = try ACLParsing.fromHeaders(r, owner: owner, bucketOwner: bucketOwner) else {
            return AccessControlList([.init(.canonicalUser(owner), .fullControl)])
        }
        try Authorization.write(r.requester, bucket, key, "s3:PutObjectAcl")
        try await core.checkGrantees(acl)
        return acl
    }

    func putObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, current) = try await core.object(r, withBytes: false)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject")
        let conditions = r.preconditions
        // Once before the body, so that a refused PUT does not send it; the decision falls in the transaction.
        try conditions.write(current: current?.etag, key: key.text)
        let attributes = try ObjectHeaders.attributes(r)
        let acl = try await Self.acl(core, r, bucket, key)
        let plan = try IntakePlan(r, limit: Self.putLimit)
        let taken = try await core.intake.take(r, plan)

        let checksum = taken.checksum.map { StoredChecksum($0.algorithm, .fullObject, Base64.encode($0.value)) }
        let object = ObjectRecord(
            key: key, size: taken.size, etag: taken.md5, modified: core.clock.now(), account: Self.ownerAccount(r, bucket), acl: acl,
            attributes: attributes, checksum: checksum, content: taken.content)
        try await core.commit(taken.content) { t in
            try ObjectStore.objectPut(t, bucket: bucket.id, object) { try conditions.write(current: $0?.etag, key: key.text) }
        }
        var headers: [(String, String)] = [("ETag", "\"\(object.etag)\"")]
        if let checksum {
            headers.append((checksum.algorithm.header, checksum.value))
            headers.append(("x-amz-checksum-type", checksum.type.rawValue))
        }
        return HTTPReply(status: 200, headers: headers)
    }

    // MARK: copy

    /// The object that `x-amz-copy-source` names, with the right to read it and its conditions checked.
    static func source(_ core: WalrusCore, _ r: S3Request, withBytes: Bool) async throws(CloudError) -> (
        bucket: BucketRecord, object: ObjectRecord
    ) {
        var text = Substring(r.header("x-amz-copy-source") ?? "")
        if let question = text.lastIndex(of: "?"), text[question...].hasPrefix("?versionId=") {
            guard text[question...] == "?versionId=null" else {
                throw S3Failure.named("NoSuchVersion", 404, "The specified version does not exist.")
            }
            text = text[..<question]
        }
        let target = try S3Target(rawPath: text.hasPrefix("/") ? String(text) : "/" + text, host: nil, domain: "")
        guard let name = target.bucket, let bytes = target.key else {
            throw S3Failure.invalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
        }
        let key = try ObjectKey(bytes)
        let found = try await core.pool.read { try ObjectStore.objectFetch($0, bucket: name, key: key, withBytes: withBytes) }
        if let expected = r.header("x-amz-source-expected-bucket-owner"), expected != found.bucket.account {
            throw S3Failure.accessDenied("the source bucket belongs to \(found.bucket.account), not \(expected)")
        }
        guard let object = found.object else { throw try Authorization.missing(r.requester, found.bucket, key, "s3:GetObject") }
        try Authorization.object(r.requester, found.bucket, object, "s3:GetObject", .read)
        let conditions = Preconditions(
            ifMatch: r.header("x-amz-copy-source-if-match"), ifNoneMatch: r.header("x-amz-copy-source-if-none-match"),
            ifModifiedSince: r.header("x-amz-copy-source-if-modified-since").flatMap { Timestamp(httpDate: $0) },
            ifUnmodifiedSince: r.header("x-amz-copy-source-if-unmodified-since").flatMap { Timestamp(httpDate: $0) })
        switch conditions.read(etag: object.etag, modified: object.modified) {
        case .proceed: break
        case .notModified: throw S3Failure.preconditionFailed("x-amz-copy-source-If-None-Match")
        case .failed(let header): throw S3Failure.preconditionFailed("x-amz-copy-source-\(header)")
        }
        return (found.bucket, object)
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
        let (bucket, current) = try await core.object(r, withBytes: false)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject")
        let conditions = r.preconditions
        try conditions.write(current: current?.etag, key: key.text)
        let (sourceBucket, source) = try await Self.source(core, r, withBytes: true)
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
        let isSelf = sourceBucket.id == bucket.id && source.key == key
        if isSelf, !replacesMetadata, r.header("x-amz-storage-class") == nil, r.header("x-amz-website-redirect-location") == nil {
            throw S3Failure.invalidRequest(
                "This copy request is illegal because it is trying to copy an object to itself without "
                    + "changing the object's metadata, storage class, website redirect location or "
                    + "encryption attributes."
            )
        }
        let acl = try await Self.acl(core, r, bucket, key)
        let named = try r.header("x-amz-checksum-algorithm").map { text throws(CloudError) in try ChecksumAlgorithm(parsing: text) }

        var object = source
        object.key = key
        object.account = Self.ownerAccount(r, bucket)
        object.acl = acl
        object.attributes = attributes
        object.modified = core.clock.now()
        if isSelf, named == nil || named == source.checksum?.algorithm {
            // The bytes stay where they are.
            let described = object
            let changed = try await core.pool.transaction(isolation: .readCommitted) { t in
                let now = try ObjectStore.objectLock(t, bucket: bucket.id, key: key)
                try conditions.write(current: now?.etag, key: key.text)
                return try ObjectStore.objectDescribe(t, bucket: bucket.id, described, was: source)
            }
            return changed ? copyReply(object, root: "CopyObjectResult") : nil
        }
        let algorithm = named ?? source.checksum?.algorithm
        switch source.content {
        case .inline(let bytes):
            object.checksum = algorithm.map { StoredChecksum($0, .fullObject, Base64.encode($0.of(bytes))) }
        case .blob, .parts:
            guard let segments = try await ReadActions.segments(core, source, offset: 0, length: source.size) else { return nil }
            let lease = core.leases.take(segments.map(\.blob))
            let taken = try await core.intake.copy(segments, checksum: algorithm)
            withExtendedLifetime(lease) {}
            object.content = taken.content
            object.etag = taken.md5
            object.partCount = 0
            object.checksum = taken.checksum.map { StoredChecksum($0.algorithm, .fullObject, Base64.encode($0.value)) }
        }
        let finished = object
        try await core.commit(finished.content) { t in
            try ObjectStore.objectPut(t, bucket: bucket.id, finished) { try conditions.write(current: $0?.etag, key: key.text) }
        }
        return copyReply(object, root: "CopyObjectResult")
    }

    private func copyReply(_ object: ObjectRecord, root: String) -> HTTPReply {
        S3Document.reply(root) { xml in
            xml.element("LastModified", object.modified.iso8601)
            S3Document.etag(&xml, object.etag)
            if let checksum = object.checksum {
                xml.element(checksum.algorithm.element, checksum.value)
                xml.element("ChecksumType", checksum.type.rawValue)
            }
        }
    }

    // MARK: delete

    func deleteObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:DeleteObject")
        let condition = try DeleteCondition(
            etag: r.header("if-match"), size: r.header("x-amz-if-match-size"), lastModified: r.header("x-amz-if-match-last-modified-time"))
        let now = core.clock.now()
        _ = try await core.pool.transaction(isolation: .readCommitted) { t in
            try ObjectStore.objectDelete(t, bucket: bucket.id, key: key, now: now) { try condition.check($0) }
        }
        return HTTPReply(status: 204)
    }

    /// What a delete asks of the object that is there.
    private struct DeleteCondition: Sendable {
        let etag: String?
        let size: Int?
        let lastModified: Timestamp?

        /// - Throws: `InvalidArgument` for what cannot be read: a condition is never left out.
        init(etag: String?, size: String?, lastModified: String?) throws(CloudError) {
            self.etag = etag
            self.size = try size.map { text throws(CloudError) in
                guard let n = Int(text.trimmed) else { throw S3Failure.invalidArgument("The size of the condition is not a number") }
                return n
            }
            self.lastModified = try lastModified.map { text throws(CloudError) in
                guard let time = Timestamp(httpDate: text.trimmed) ?? Timestamp(iso8601: text.trimmed) else {
                    throw S3Failure.invalidArgument("The time of the condition is not a date")
                }
                return time
            }
        }

        func check(_ current: ObjectRecord?) throws(CloudError) {
            try Preconditions(ifMatch: etag).delete(
                current: current.map { ($0.etag, $0.size, $0.modified) }, size: size, lastModified: lastModified)
        }
    }

    private struct Order: Sendable {
        let key: String
        let versionID, etag, size, lastModified: String?

        init(_ element: XMLElement) {
            key = element.first("Key")?.text ?? ""
            versionID = element.first("VersionId")?.text
            etag = element.first("ETag")?.text
            size = element.first("Size")?.text
            lastModified = element.first("LastModifiedTime")?.text
        }
    }
    private struct Failure: Sendable {
        let order: Order
        let error: CloudError
    }

    /// Source: S3 API reference, DeleteObjects: at most 1,000 keys, an answer for each.
    func deleteObjects(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        if r.requester.known == nil { try Authorization.bucket(r.requester, bucket, "s3:DeleteObject", .write) }
        let body = try await r.document(limit: 2 << 20, needsDigest: true)
        let root = try S3Document.parse(body, root: "Delete", limits: XMLLimits(maxBytes: 2 << 20, maxElements: 8000))
        let orders = root.all("Object").map(Order.init)
        guard !orders.isEmpty, orders.count <= 1000, orders.allSatisfy({ !$0.key.isEmpty }) else {
            throw S3Failure.malformedXML("\(orders.count) objects")
        }
        let isQuiet = root.first("Quiet")?.text.trimmed == "true"

        var failures: [Failure] = []
        var admitted: [(order: Order, key: ObjectKey, condition: DeleteCondition)] = []
        for order in orders {
            do throws(CloudError) {
                let key = try ObjectKey(Array(order.key.utf8))
                if let version = order.versionID, version != "null" {
                    throw S3Failure.named("NoSuchVersion", 404, "The specified version does not exist.")
                }
                try Authorization.write(r.requester, bucket, key, "s3:DeleteObject")
                let condition = try DeleteCondition(etag: order.etag, size: order.size, lastModified: order.lastModified)
                admitted.append((order, key, condition))
            } catch {
                failures.append(Failure(order: order, error: error))
            }
        }
        // Always in the same order, so that two of these do not wait for each other in a circle.
        let sorted = admitted.sorted { $0.key < $1.key }
        let now = core.clock.now()
        let refused = try await core.pool.transaction(isolation: .readCommitted) { t in
            var refused: [Failure] = []
            for (order, key, condition) in sorted {
                do {
                    _ = try ObjectStore.objectDelete(t, bucket: bucket.id, key: key, now: now) { try condition.check($0) }
                } catch let error as CloudError {
                    guard case .named("PreconditionFailed", _) = error.reason else { throw error }
                    refused.append(Failure(order: order, error: error))
                }
            }
            return refused
        }
        failures += refused
        let failed = Set(failures.map(\.order.key))
        return S3Document.reply("DeleteResult", capacity: 256 + orders.count * 80) { xml in
            if !isQuiet {
                for order in orders where !failed.contains(order.key) {
                    xml.open("Deleted")
                    xml.element("Key", order.key)
                    if let version = order.versionID { xml.element("VersionId", version) }
                    xml.close()
                }
            }
            for failure in failures {
                xml.open("Error")
                xml.element("Key", failure.order.key)
                if let version = failure.order.versionID { xml.element("VersionId", version) }
                xml.element("Code", S3ErrorCode.of(failure.error).code)
                xml.element("Message", failure.error.message)
                xml.close()
            }
        }
    }
}
