import Daemon
import Database
import Domain
import Wire

/// What describes objects: ACL, tags, attributes.
struct DescribeActions: Sendable {
    let core: WalrusCore

    private func found(
        _ r: S3Request, _ action: String, _ permission: AccessControlList.Permission
    ) async throws(CloudError) -> (bucket: BucketRecord, object: ObjectRecord) {
        let (bucket, object) = try await core.object(r, withBytes: false)
        guard let object else { throw try Authorization.missing(r.requester, bucket, try r.key(), action) }
        try Authorization.object(r.requester, bucket, object, action, permission)
        return (bucket, object)
    }

    func getObjectACL(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (_, object) = try await found(r, "s3:GetObjectAcl", .readACP)
        let owner = try await core.owner(object.account)
        let body = S3Document.accessControl(owner, object.acl, names: try await core.grantees(object.acl))
        return HTTPReply(status: 200, headers: [("Content-Type", "application/xml")], body: .bytes(body))
    }

    func putObjectACL(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:PutObjectAcl", .writeACP)
        let owner = try await core.owner(object.account).id
        let bucketOwner = try await core.owner(bucket.account).id
        let body = try await r.document(limit: 256 * 1024)
        let acl: AccessControlList
        if let named = try ACLParsing.fromHeaders(r, owner: owner, bucketOwner: bucketOwner) {
            guard body.isEmpty else { throw S3Failure.named("UnexpectedContent", 400, "This request does not support content") }
            acl = named
        } else {
            guard !body.isEmpty else { throw S3Failure.named("MissingSecurityHeader", 400, "Your request was missing a required header") }
            acl = try ACLParsing.fromDocument(body, owner: owner)
        }
        try await core.checkGrantees(acl)
        let isThere = try await core.pool.transaction(isolation: .readCommitted) {
            try ObjectStore.objectSetACL($0, bucket: bucket.id, key: object.key, acl)
        }
        guard isThere else { throw S3Failure.noSuchKey(object.key.text) }
        return HTTPReply(status: 200)
    }

    func getObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (_, object) = try await found(r, "s3:GetObjectTagging", .fullControl)
        return HTTPReply(
            status: 200, headers: [("Content-Type", "application/xml")], body: .bytes(S3Document.tagging(object.attributes.tags)))
    }

    func putObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:PutObjectTagging", .fullControl)
        let tags = try Tagging.fromDocument(try await r.document(limit: 64 * 1024), limit: Tagging.objectLimit)
        try await setTags(bucket, object, tags)
        return HTTPReply(status: 200)
    }

    func deleteObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:DeleteObjectTagging", .fullControl)
        try await setTags(bucket, object, [])
        return HTTPReply(status: 204)
    }

    private func setTags(_ bucket: BucketRecord, _ object: ObjectRecord, _ tags: [(name: String, value: String)]) async throws(CloudError) {
        let isThere = try await core.pool.transaction(isolation: .readCommitted) {
            try ObjectStore.objectSetTags($0, bucket: bucket.id, key: object.key, tags)
        }
        guard isThere else { throw S3Failure.noSuchKey(object.key.text) }
    }

    /// Source: S3 API reference, GetObjectAttributes.
    func getObjectAttributes(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let wanted = r.http.headers.all("x-amz-object-attributes").flatMap { $0.split(separator: ",").map { String($0).trimmed } }
        guard !wanted.isEmpty else {
            throw S3Failure.invalidArgument("x-amz-object-attributes is needed")
        }
        let known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
        guard wanted.allSatisfy({ known.contains($0) }) else { throw S3Failure.invalidArgument("Invalid attribute name specified.") }
        let (_, object) = try await found(r, "s3:GetObjectAttributes", .read)
        let limit = min(Int(r.header("x-amz-max-parts") ?? "") ?? 1000, 1000)
        let marker = Int(r.header("x-amz-part-number-marker") ?? "") ?? 0
        var parts: [PartRecord] = []
        if wanted.contains("ObjectParts"), case .parts(let upload) = object.content {
            parts = try await core.pool.read { try UploadStore.partList($0, upload: upload, after: marker, limit: limit + 1) }
        }
        let isTruncated = parts.count > limit
        if isTruncated { parts.removeLast() }
        let page = parts
        var reply = S3Document.reply("GetObjectAttributesResponse") { xml in
            if wanted.contains("ETag") { xml.element("ETag", object.etag) }
            if wanted.contains("Checksum"), let checksum = object.checksum {
                xml.open("Checksum")
                // A composite value stands here without the number of parts.
                xml.element(checksum.algorithm.element, checksum.value.split(separator: "-").first.map(String.init) ?? "")
                xml.element("ChecksumType", checksum.type.rawValue)
                xml.close()
            }
            if wanted.contains("ObjectParts"), object.partCount > 0 {
                xml.open("ObjectParts")
                // The element is called so on the wire; SDKs show it as TotalPartsCount.
                xml.element("PartsCount", String(object.partCount))
                xml.element("PartNumberMarker", String(marker))
                xml.element("NextPartNumberMarker", String(page.last?.number ?? 0))
                xml.element("MaxParts", String(limit))
                xml.element("IsTruncated", isTruncated ? "true" : "false")
                for part in page {
                    xml.open("Part")
                    xml.element("PartNumber", String(part.number))
                    xml.element("Size", String(part.size))
                    if let checksum = part.checksum { xml.element(checksum.algorithm.element, checksum.value) }
                    xml.close()
                }
                xml.close()
            }
            if wanted.contains("StorageClass") { xml.element("StorageClass", object.attributes.storageClass) }
            if wanted.contains("ObjectSize") { xml.element("ObjectSize", String(object.size)) }
        }
        reply.headers.append(("Last-Modified", object.modified.httpDate))
        return reply
    }
}
