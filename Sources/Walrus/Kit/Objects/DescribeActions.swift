import Daemon
import Database
import Domain
import Wire

/// What describes objects: ACL, tags, attributes.
struct DescribeActions: Sendable {
    let core: WalrusCore

    /// - Parameter action: of the current version; with a version it is called `s3:GetObjectVersionAcl` and so on.
    /// - Throws: for what is not there; 405 for a delete marker.
    func found(
        _ r: S3Request, _ action: String, _ permission: AccessControlList.Permission
    ) async throws(CloudError) -> (bucket: BucketRecord, object: ObjectRecord) {
        let version = try r.versionID()
        let (bucket, object, marker) = try await core.object(r, version: version, withBytes: false)
        let action = version == nil ? action : Self.versionAction(action)
        guard let object else {
            let refusal = try Authorization.missing(r.requester, bucket, try r.key(), action)
            guard S3ErrorCode.of(refusal).status == 404 else { throw refusal }
            if marker != nil { throw version == nil && action == "s3:GetObjectAcl" ? refusal : S3Failure.methodNotAllowed() }
            throw version == nil ? refusal : S3Failure.noSuchVersion()
        }
        try Authorization.object(r.requester, bucket, object, action, permission)
        return (bucket, object)
    }

    private static func versionAction(_ action: String) -> String {
        let hasOneName = ["Retention", "LegalHold", "RestoreObject"].contains { action.hasSuffix($0) }
        return hasOneName ? action : action.replacing("Object", with: "ObjectVersion")
    }

    /// The headers of an answer about a version.
    private func versionHeader(_ bucket: BucketRecord, _ object: ObjectRecord) -> [(String, String)] {
        bucket.shown(object.version).map { [("x-amz-version-id", $0)] } ?? []
    }

    func getObjectACL(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:GetObjectAcl", .readACP)
        let (account, acl) = try await NewObjectRights.shown(core, bucket, object)
        let body = S3Document.accessControl(account, acl, names: try await core.grantees(acl))
        return HTTPReply(
            status: 200, headers: [("Content-Type", "application/xml")] + versionHeader(bucket, object), body: .bytes(body))
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
        if try bucket.loaded().ownership == .bucketOwnerEnforced {
            try NewObjectRights.requireNoEffect(r, acl, bucketOwner)
            return HTTPReply(status: 200, headers: versionHeader(bucket, object))
        }
        try await core.checkGrantees(acl)
        try NewObjectRights.admitPublic(acl, bucket)
        let isThere = try await core.pool.transaction(isolation: .readCommitted) {
            try ObjectStore.objectSetACL($0, bucket: bucket.id, object, acl)
        }
        guard isThere else { throw S3Failure.noSuchKey(object.key.text) }
        return HTTPReply(status: 200, headers: versionHeader(bucket, object))
    }

    func getObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:GetObjectTagging", .fullControl)
        return HTTPReply(
            status: 200, headers: [("Content-Type", "application/xml")] + versionHeader(bucket, object),
            body: .bytes(S3Document.tagging(object.attributes.tags)))
    }

    func putObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        // Policies may ask for the tags that come, so they are read first.
        let tags = try Tagging.fromDocument(try await r.document(limit: 64 * 1024), limit: Tagging.objectLimit)
        let (bucket, object) = try await found(r.bringing(tags: tags), "s3:PutObjectTagging", .fullControl)
        try await setTags(bucket, object, tags)
        return HTTPReply(status: 200, headers: versionHeader(bucket, object))
    }

    func deleteObjectTagging(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await found(r, "s3:DeleteObjectTagging", .fullControl)
        try await setTags(bucket, object, [])
        return HTTPReply(status: 204, headers: versionHeader(bucket, object))
    }

    private func setTags(_ bucket: BucketRecord, _ object: ObjectRecord, _ tags: [(name: String, value: String)]) async throws(CloudError) {
        let isThere = try await core.pool.transaction(isolation: .readCommitted) {
            try ObjectStore.objectSetTags($0, bucket: bucket.id, object, tags)
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
        let version = try r.versionID()
        let action = version == nil ? "s3:GetObjectAttributes" : "s3:GetObjectVersionAttributes"
        let (bucket, there, marker) = try await core.object(r, version: version, withBytes: false)
        guard let object = there else { return try ReadActions.absent(r, bucket, marker, version: version, action) }
        try Authorization.object(r.requester, bucket, object, action, .read)
        _ = try EncryptionHeaders.opened(r, object.encryption, core.keys)
        let limit = min(Int(r.header("x-amz-max-parts") ?? "") ?? 1000, 1000)
        let partMarker = Int(r.header("x-amz-part-number-marker") ?? "") ?? 0
        var parts: [PartRecord] = []
        if wanted.contains("ObjectParts"), case .parts(let upload) = object.content {
            parts = try await core.pool.read { try UploadStore.partList($0, upload: upload, after: partMarker, limit: limit + 1) }
        }
        let isTruncated = parts.count > limit
        if isTruncated { parts.removeLast() }
        let page = parts
        var reply = S3Document.reply("GetObjectAttributesResponse") { xml in
            if wanted.contains("ETag") { xml.element("ETag", object.etag) }
            if wanted.contains("Checksum"), let checksum = object.checksum {
                xml.open("Checksum")
                xml.element(checksum.algorithm.element, checksum.value)
                xml.element("ChecksumType", checksum.type.rawValue)
                xml.close()
            }
            if wanted.contains("ObjectParts"), object.partCount > 0 {
                xml.open("ObjectParts")
                // The element is called so on the wire; SDKs show it as TotalPartsCount.
                xml.element("PartsCount", String(object.partCount))
                xml.element("PartNumberMarker", String(partMarker))
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
        reply.headers += [("Last-Modified", object.modified.httpDate)] + versionHeader(bucket, object)
        return reply
    }
}
