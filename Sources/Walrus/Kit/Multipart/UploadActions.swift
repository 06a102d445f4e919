import Daemon
import Database
import Domain
import Signing
import Wire
import Workflow

/// Multipart uploads. Parts are blobs of their own; completing refers to them in order and copies nothing.
struct UploadActions: Sendable {
    let core: WalrusCore

    func createMultipartUpload(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject")
        let checksum = try UploadChecksum.parse(algorithm: r.header("x-amz-checksum-algorithm"), type: r.header("x-amz-checksum-type"))
        var started = UploadRecord(
            number: 0, id: Hex.encode(core.random.bytes(24)), bucket: bucket.id, key: key,
            account: try WriteActions.ownerAccount(r, bucket),
            initiator: r.requester.known.map { $0.isRoot ? $0.canonicalID : $0.arn } ?? "anonymous", created: core.clock.now(),
            acl: try await WriteActions.acl(core, r, bucket, key), attributes: try ObjectHeaders.attributes(r), checksum: checksum)
        started.lock = try ObjectLockHeaders.lock(r, bucket, key)
        let encryption = try EncryptionHeaders.new(r, bucket, core)
        started.encryption = encryption?.record
        let upload = started
        // The body is empty, but a signed hash of it must be right.
        _ = try await r.document(limit: 0, aboutBody: false)
        try await core.pool.transaction(isolation: .readCommitted) { try UploadStore.uploadCreate($0, upload) }
        var reply = S3Document.reply("InitiateMultipartUploadResult") { xml in
            xml.element("Bucket", bucket.name)
            xml.element("Key", key.text)
            xml.element("UploadId", upload.id)
        }
        if let checksum {
            reply.headers.append(("x-amz-checksum-algorithm", checksum.algorithm.rawValue))
            reply.headers.append(("x-amz-checksum-type", checksum.type.rawValue))
        }
        reply.headers += encryption?.headers ?? []
        return reply
    }

    private func uploadID(_ r: S3Request) throws(CloudError) -> String {
        guard let id = r.query["uploadId"], !id.isEmpty, id.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw S3Failure.noSuchUpload()
        }
        return id
    }

    private func partNumber(_ r: S3Request) throws(CloudError) -> Int {
        guard let n = Int(r.query["partNumber"] ?? ""), (1...CompletionOrder.partLimit).contains(n) else {
            throw S3Failure.invalidArgument("Part number must be an integer between 1 and \(CompletionOrder.partLimit), inclusive")
        }
        return n
    }

    /// The bucket, and the running upload that the request names.
    private func running(_ r: S3Request, _ action: String) async throws(CloudError) -> (bucket: BucketRecord, upload: UploadRecord) {
        let bucket = try await core.bucket(r)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, action)
        let id = try uploadID(r)
        guard let upload = try await core.pool.read({ try UploadStore.uploadFetch($0, id: id, bucket: bucket.id, key: key) }),
            upload.completed == nil
        else { throw S3Failure.noSuchUpload() }
        return (bucket, upload)
    }

    /// Stores a part, unless the upload has ended meanwhile.
    private func store(_ part: PartRecord, _ upload: UploadRecord) async throws(CloudError) {
        try await core.commit(.blob(part.blob)) { t in
            guard let now = try UploadStore.uploadFetch(t, id: upload.id, bucket: upload.bucket, key: upload.key, lock: .share),
                now.completed == nil
            else { throw S3Failure.noSuchUpload() }
            try UploadStore.partPut(t, upload: now.number, part)
        }
    }

    private func record(_ taken: Intaken, number: Int) throws(CloudError) -> PartRecord {
        guard case .blob(let blob) = taken.content else { throw .bug("a part that is no blob") }
        return PartRecord(
            number: number, blob: blob, size: taken.size, etag: taken.md5, modified: core.clock.now(),
            checksum: taken.checksum.map { StoredChecksum($0.algorithm, .fullObject, Base64.encode($0.value)) }, storedMD5: taken.storedMD5)
    }

    func uploadPart(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let number = try partNumber(r)
        let (bucket, upload) = try await running(r, "s3:PutObject")
        let encryption = try EncryptionHeaders.part(r, of: upload.encryption, core.keys)
        let plan = try IntakePlan(r, limit: WriteActions.putLimit, algorithm: upload.checksum?.algorithm)
        if let wanted = upload.checksum?.algorithm, let given = plan.checksum, given != wanted {
            throw S3Failure.invalidRequest(
                "Checksum Type mismatch occurred, expected checksum Type: \(wanted.rawValue.lowercased()), "
                    + "actual checksum Type: \(given.rawValue.lowercased())"
            )
        }
        let room = try await core.quotas?.reserve(bucket.account, bytes: plan.length, objects: 0)
        let part = try record(try await core.intake.take(r, plan, allowInline: false, encryption: encryption), number: number)
        room?.keep()
        try await store(part, upload)
        var headers: [(String, String)] = [("ETag", "\"\(part.etag)\"")]
        if let checksum = part.checksum { headers.append((checksum.algorithm.header, checksum.value)) }
        headers += encryption?.headers ?? []
        return HTTPReply(status: 200, headers: headers)
    }

    func uploadPartCopy(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let number = try partNumber(r)
        let (bucket, upload) = try await running(r, "s3:PutObject")
        let encryption = try EncryptionHeaders.part(r, of: upload.encryption, core.keys)
        for _ in 0..<5 {
            let (sourceBucket, source, _) = try await WriteActions.source(core, r, withBytes: true)
            let opened = try EncryptionHeaders.opened(r, source.encryption, core.keys, ofSource: true)
            var (offset, length) = (0, source.size)
            if let range = r.header("x-amz-copy-source-range") {
                guard let (first, last) = ByteRange.parseStrict(range) else {
                    throw S3Failure.invalidArgument(
                        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are "
                            + "the zero-based offsets of the first and last bytes to copy"
                    )
                }
                guard last < source.size else {
                    throw S3Failure.named("InvalidRange", 416, "Range specified is not valid for source object of size: \(source.size)")
                }
                (offset, length) = (first, last - first + 1)
            }
            guard length <= WriteActions.putLimit else { throw S3Failure.entityTooLarge(limit: WriteActions.putLimit) }
            let room = try await core.quotas?.reserve(bucket.account, bytes: length, objects: 0)
            let taken: Intaken
            if case .inline(let bytes) = source.content {
                let stored = Array(bytes[offset..<offset + length])
                let plain = try opened?.cipher(nil, offset: offset).applied(to: stored) ?? stored
                taken = try await core.intake.store(plain, checksum: upload.checksum?.algorithm, encryption: encryption)
            } else {
                guard let segments = try await ReadActions.segments(core, source, offset: offset, length: length) else { continue }
                let lease = core.leases.take(segments.map(\.blob))
                taken = try await core.intake.copy(
                    segments, checksum: upload.checksum?.algorithm, source: opened, encryption: encryption)
                withExtendedLifetime(lease) {}
            }
            let part = try record(taken, number: number)
            room?.keep()
            try await store(part, upload)
            var reply = S3Document.reply("CopyPartResult") { xml in
                xml.element("LastModified", part.modified.iso8601)
                S3Document.etag(&xml, part.etag)
                if let checksum = part.checksum { xml.element(checksum.algorithm.element, checksum.value) }
            }
            if let id = sourceBucket.shown(source.version) { reply.headers.append(("x-amz-copy-source-version-id", id)) }
            reply.headers += encryption?.headers ?? []
            return reply
        }
        throw CloudError(.unavailable("The object"), "Please reduce your request rate.", context: "the source changed five times")
    }

    func completeMultipartUpload(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject")
        let id = try uploadID(r)
        // `x-amz-checksum-…` speaks of the object here, not of the document.
        let claimed = try IntakePlan.headerClaims(r)
        let order = try CompletionOrder(try await r.document(limit: 8 << 20, aboutBody: false))
        let conditions = r.preconditions
        let claimedType = r.header("x-amz-checksum-type")
        let claimedSize = try r.header("x-amz-mp-object-size").map { text throws(CloudError) in
            guard let n = Int(text), n >= 0 else { throw S3Failure.invalidRequest("Value for x-amz-mp-object-size header is invalid.") }
            return n
        }
        let now = core.clock.now()
        let origin = EventOrigin(r)
        let plan = core.plan(bucket)
        let room = try await core.quotas?.reserve(bucket.account, bytes: 0, objects: 1)
        room?.keep()
        defer { withExtendedLifetime(room) {} }
        let (etag, checksum, version, encryption) = try await core.pool.transaction(isolation: .readCommitted) {
            t -> (String, StoredChecksum?, String?, Encryption?) in
            guard let upload = try UploadStore.uploadFetch(t, id: id, bucket: bucket.id, key: key, lock: .update) else {
                throw S3Failure.noSuchUpload()
            }
            if upload.completed != nil, let etag = upload.completedETag {
                // The same request again, because its answer was lost.
                let checksum = upload.checksum.flatMap { c in upload.completedChecksum.map { StoredChecksum(c.algorithm, c.type, $0) } }
                return (etag, checksum, upload.completedVersion, upload.encryption)
            }
            try EncryptionHeaders.checkCompletion(r, of: upload.encryption, core.keys)
            if let claimedType, let own = upload.checksum, claimedType.uppercased() != own.type.rawValue {
                throw S3Failure.invalidRequest(
                    "The upload was created with the \(own.type.rawValue) checksum mode. The complete request must use the same mode.")
            }
            let parts = try order.choose(from: try UploadStore.partList(t, upload: upload.number))
            let size = parts.reduce(0) { $0 + $1.size }
            if let claimedSize, claimedSize != size {
                throw S3Failure.invalidRequest(
                    "The provided 'x-amz-mp-object-size' header value \(claimedSize) does not match what was computed: \(size)")
            }
            let checksum = try Self.checksum(of: parts, upload)
            for claim in claimed where checksum?.algorithm == claim.algorithm && checksum?.value != claim.value {
                throw S3Failure.badDigest(claim.algorithm.rawValue)
            }
            let etag = CompletionOrder.etag(parts)
            var object = ObjectRecord(
                key: key, size: size, etag: etag, modified: now, account: upload.account, acl: upload.acl, attributes: upload.attributes,
                checksum: checksum, content: .parts(upload: upload.number), partCount: parts.count)
            object.lock = upload.lock
            object.encryption = upload.encryption
            let version = try ObjectStore.objectPut(t, bucket: bucket.id, object, plan) {
                try conditions.write(current: $0?.etag, key: key.text)
            }
            try NotificationStore.recordCreated(t, bucket, "CompleteMultipartUpload", object, version, origin)
            try UploadStore.uploadComplete(t, upload, parts: parts, etag: etag, checksum: checksum?.value, version: version, now: now)
            return (etag, checksum, version, upload.encryption)
        }
        let host = r.header("host") ?? ""
        var reply = S3Document.reply("CompleteMultipartUploadResult") { xml in
            xml.element("Location", "\(r.http.isTLS ? "https" : "http")://\(host)\(r.http.rawPath)")
            xml.element("Bucket", bucket.name)
            xml.element("Key", key.text)
            S3Document.etag(&xml, etag)
            if let checksum {
                xml.element(checksum.algorithm.element, checksum.value)
                xml.element("ChecksumType", checksum.type.rawValue)
            }
        }
        if let version { reply.headers.append(("x-amz-version-id", version)) }
        let customer = try EncryptionHeaders.customer(r, core.keys)
        reply.headers += encryption?.headers(customer: customer) ?? []
        return reply
    }

    private static func checksum(of parts: [PartRecord], _ upload: UploadRecord) throws(CloudError) -> StoredChecksum? {
        guard let wanted = upload.checksum else { return nil }
        var values: [PartChecksums.Part] = []
        for part in parts {
            guard let own = part.checksum, own.algorithm == wanted.algorithm, let bytes = Base64.decode(own.value) else {
                throw .bug("part \(part.number) of upload \(upload.number) has no \(wanted.algorithm.rawValue)")
            }
            values.append(.init(value: bytes, size: part.size))
        }
        guard let value = PartChecksums.combine(values, wanted.algorithm, wanted.type) else { throw .bug("no \(wanted) of parts") }
        return StoredChecksum(wanted.algorithm, wanted.type, value)
    }

    func abortMultipartUpload(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, upload) = try await running(r, "s3:AbortMultipartUpload")
        let now = core.clock.now()
        try await core.pool.transaction(isolation: .readCommitted) { t in
            guard let locked = try UploadStore.uploadFetch(t, id: upload.id, bucket: bucket.id, key: upload.key, lock: .update),
                locked.completed == nil
            else { throw S3Failure.noSuchUpload() }
            try UploadStore.uploadAbort(t, locked, now: now)
        }
        return HTTPReply(status: 204)
    }

    func listParts(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, upload) = try await running(r, "s3:ListMultipartUploadParts")
        let encoded = try ListQuery.encoding(r.query)
        let limit = try ListQuery.maxKeys(r.query, "max-parts")
        let marker = try r.query.integer("part-number-marker", 0...Int(Int32.max)) ?? 0
        var parts = try await core.pool.read { try UploadStore.partList($0, upload: upload.number, after: marker, limit: limit + 1) }
        let isTruncated = parts.count > limit
        if isTruncated { parts.removeLast() }
        let page = parts
        let owner = try await core.owner(upload.account)
        return S3Document.reply("ListPartsResult", capacity: 1024 + page.count * 256) { xml in
            xml.element("Bucket", bucket.name)
            xml.element("Key", encoded ? S3Encoding.url(upload.key.bytes) : upload.key.text)
            xml.element("UploadId", upload.id)
            S3Document.owner(&xml, UploadRules.initiator(upload.initiator, owner), element: "Initiator")
            S3Document.owner(&xml, owner)
            xml.element("StorageClass", upload.attributes.storageClass)
            xml.element("PartNumberMarker", String(marker))
            xml.element("NextPartNumberMarker", String(page.last?.number ?? 0))
            xml.element("MaxParts", String(limit))
            xml.element("IsTruncated", isTruncated && limit > 0 ? "true" : "false")
            if let checksum = upload.checksum {
                xml.element("ChecksumAlgorithm", checksum.algorithm.rawValue)
                xml.element("ChecksumType", checksum.type.rawValue)
            }
            for part in page {
                xml.open("Part")
                xml.element("PartNumber", String(part.number))
                xml.element("LastModified", part.modified.iso8601)
                S3Document.etag(&xml, part.etag)
                xml.element("Size", String(part.size))
                if let checksum = part.checksum { xml.element(checksum.algorithm.element, checksum.value) }
                xml.close()
            }
        }
    }
}
