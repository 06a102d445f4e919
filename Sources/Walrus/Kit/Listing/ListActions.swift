import Daemon
import Database
import Domain
import Wire

/// The lists: of keys (three forms of one page) and of running uploads.
struct ListActions: Sendable {
    let core: WalrusCore

    private struct Page {
        var entries: [ListEntry]
        var isTruncated: Bool
        var owners: [String: OwnerNames]
        var last: [UInt8]? { entries.last?.key }
    }

    private func page(_ r: S3Request, _ query: ListQuery, action: String, owners wanted: Bool) async throws(CloudError) -> Page {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, action, .read)
        // A page of no entries says nothing of what follows (S3: max-keys 0 is not truncated).
        guard query.maxKeys > 0 else { return Page(entries: [], isTruncated: false, owners: [:]) }
        var entries = try await core.pool.read {
            try ListStore.listPage(
                $0, bucket: bucket.id, prefix: query.prefix, delimiter: query.delimiter, reach: query.reach, limit: query.maxKeys + 1)
        }
        let isTruncated = entries.count > query.maxKeys
        if isTruncated { entries.removeLast() }
        var owners: [String: OwnerNames] = [:]
        if wanted {
            for entry in entries {
                if case .object(_, _, _, let account, _, _) = entry.kind, owners[account] == nil {
                    owners[account] = try await core.owner(account)
                }
            }
        }
        return Page(entries: entries, isTruncated: isTruncated, owners: owners)
    }

    func text(_ bytes: [UInt8], _ encoded: Bool) -> String {
        encoded ? S3Encoding.url(bytes) : String(decoding: bytes, as: UTF8.self)
    }

    private func contents(_ xml: inout XMLWriter, _ page: Page, encoded: Bool) {
        for entry in page.entries {
            guard case .object(let size, let etag, let modified, let account, let storageClass, let checksum) = entry.kind else { continue }
            xml.open("Contents")
            xml.element("Key", text(entry.key, encoded))
            xml.element("LastModified", modified.iso8601)
            S3Document.etag(&xml, etag)
            if let checksum {
                xml.element("ChecksumAlgorithm", checksum.0)
                xml.element("ChecksumType", checksum.1)
            }
            xml.element("Size", String(size))
            if let owner = page.owners[account] { S3Document.owner(&xml, owner) }
            xml.element("StorageClass", storageClass)
            xml.close()
        }
    }

    private func commonPrefixes(_ xml: inout XMLWriter, _ page: Page, encoded: Bool) {
        for entry in page.entries {
            guard case .commonPrefix = entry.kind else { continue }
            xml.open("CommonPrefixes")
            xml.element("Prefix", text(entry.key, encoded))
            xml.close()
        }
    }

    private func capacity(_ page: Page) -> Int { 1024 + page.entries.count * 320 }

    func listObjects(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let encoded = try ListQuery.encoding(r.query)
        let marker = ListQuery.bytes(r.query, "marker")
        let query = ListQuery(
            prefix: ListQuery.bytes(r.query, "prefix"), delimiter: ListQuery.bytes(r.query, "delimiter"), after: marker,
            maxKeys: try ListQuery.maxKeys(r.query))
        let page = try await page(r, query, action: "s3:ListBucket", owners: true)
        let name = try r.bucketName()
        return S3Document.reply("ListBucketResult", capacity: capacity(page)) { xml in
            xml.element("Name", name)
            // As it came: S3 encodes keys and markers here, and clients decode those only.
            xml.element("Prefix", text(query.prefix, false))
            xml.element("Marker", text(marker, encoded))
            // Without a delimiter the last key is the next marker; S3 says it only with one.
            if page.isTruncated, !query.delimiter.isEmpty, let last = page.last { xml.element("NextMarker", text(last, encoded)) }
            xml.element("MaxKeys", String(query.maxKeys))
            if !query.delimiter.isEmpty { xml.element("Delimiter", text(query.delimiter, encoded)) }
            if encoded { xml.element("EncodingType", "url") }
            xml.element("IsTruncated", page.isTruncated ? "true" : "false")
            contents(&xml, page, encoded: encoded)
            commonPrefixes(&xml, page, encoded: encoded)
        }
    }

    func listObjectsV2(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let encoded = try ListQuery.encoding(r.query)
        let startAfter = ListQuery.bytes(r.query, "start-after")
        let token = r.query["continuation-token"]
        let query = ListQuery(
            prefix: ListQuery.bytes(r.query, "prefix"), delimiter: ListQuery.bytes(r.query, "delimiter"),
            after: try r.query.nonEmpty("continuation-token").map { text throws(CloudError) in try ContinuationToken.decode(text) }
                ?? startAfter,
            maxKeys: try ListQuery.maxKeys(r.query))
        let page = try await page(r, query, action: "s3:ListBucket", owners: r.query["fetch-owner"]?.lowercased() == "true")
        let name = try r.bucketName()
        return S3Document.reply("ListBucketResult", capacity: capacity(page)) { xml in
            xml.element("Name", name)
            xml.element("Prefix", text(query.prefix, encoded))
            if let token { xml.element("ContinuationToken", token) }
            if page.isTruncated, let last = page.last { xml.element("NextContinuationToken", ContinuationToken.encode(last)) }
            if !startAfter.isEmpty { xml.element("StartAfter", text(startAfter, encoded)) }
            xml.element("KeyCount", String(page.entries.count))
            xml.element("MaxKeys", String(query.maxKeys))
            if !query.delimiter.isEmpty { xml.element("Delimiter", text(query.delimiter, encoded)) }
            if encoded { xml.element("EncodingType", "url") }
            xml.element("IsTruncated", page.isTruncated ? "true" : "false")
            contents(&xml, page, encoded: encoded)
            commonPrefixes(&xml, page, encoded: encoded)
        }
    }

    /// Running uploads, in order of key and id. Common prefixes are made from the page's uploads: they are few, unlike objects.
    func listMultipartUploads(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:ListBucketMultipartUploads", .read)
        let encoded = try ListQuery.encoding(r.query)
        let limit = try ListQuery.maxKeys(r.query, "max-uploads")
        let prefix = ListQuery.bytes(r.query, "prefix")
        let delimiter = ListQuery.bytes(r.query, "delimiter")
        let keyMarker = ListQuery.bytes(r.query, "key-marker")
        let idMarker = keyMarker.isEmpty ? nil : r.query.nonEmpty("upload-id-marker")

        var uploads: [UploadRecord] = []
        var prefixes: [[UInt8]] = []
        var isTruncated = false
        var next: (key: [UInt8], id: String) = ([], "")
        var from = ListQuery(prefix: prefix, delimiter: idMarker == nil ? delimiter : [], after: keyMarker, maxKeys: limit)
        var (afterKey, afterID) = (keyMarker, idMarker)
        if !delimiter.isEmpty, idMarker == nil, !keyMarker.isEmpty {
            // A marker inside a common prefix is behind it.
            let reach = from.reach
            if reach != ListRange.after(keyMarker) { (afterKey, afterID) = (reach, "") }
        }
        scan: while limit > 0 {
            let (key, id) = (afterKey, afterID)
            let rows = try await core.pool.read {
                try UploadStore.uploadList($0, bucket: bucket.id, prefix: prefix, afterKey: key, afterID: id, limit: limit + 1)
            }
            for upload in rows {
                if uploads.count + prefixes.count == limit {
                    isTruncated = true
                    break scan
                }
                from = ListQuery(prefix: prefix, delimiter: delimiter, after: upload.key.bytes, maxKeys: limit)
                let behind = from.reach
                if !delimiter.isEmpty, behind != ListRange.after(upload.key.bytes) {
                    let common = Array(behind.dropLast()) + [behind[behind.count - 1] - 1]
                    prefixes.append(common)
                    next = (common, "")
                    // Everything below the prefix is skipped by the index, as with objects.
                    (afterKey, afterID) = (behind, "")
                    continue scan
                }
                uploads.append(upload)
                next = (upload.key.bytes, upload.id)
                (afterKey, afterID) = (upload.key.bytes, upload.id)
            }
            if rows.count <= limit { break }
        }
        var owners: [String: OwnerNames] = [:]
        for upload in uploads where owners[upload.account] == nil { owners[upload.account] = try await core.owner(upload.account) }
        return S3Document.reply("ListMultipartUploadsResult") { xml in
            xml.element("Bucket", bucket.name)
            xml.element("KeyMarker", text(keyMarker, encoded))
            xml.element("UploadIdMarker", idMarker ?? "")
            if isTruncated {
                xml.element("NextKeyMarker", text(next.key, encoded))
                xml.element("NextUploadIdMarker", next.id)
            }
            xml.element("Prefix", text(prefix, encoded))
            if !delimiter.isEmpty { xml.element("Delimiter", text(delimiter, encoded)) }
            if encoded { xml.element("EncodingType", "url") }
            xml.element("MaxUploads", String(limit))
            xml.element("IsTruncated", isTruncated ? "true" : "false")
            for upload in uploads {
                xml.open("Upload")
                xml.element("Key", text(upload.key.bytes, encoded))
                xml.element("UploadId", upload.id)
                if let owner = owners[upload.account] {
                    S3Document.owner(&xml, UploadRules.initiator(upload.initiator, owner), element: "Initiator")
                    S3Document.owner(&xml, owner)
                }
                xml.element("StorageClass", upload.attributes.storageClass)
                xml.element("Initiated", upload.created.iso8601)
                if let checksum = upload.checksum {
                    xml.element("ChecksumAlgorithm", checksum.algorithm.rawValue)
                    xml.element("ChecksumType", checksum.type.rawValue)
                }
                xml.close()
            }
            for common in prefixes {
                xml.open("CommonPrefixes")
                xml.element("Prefix", text(common, encoded))
                xml.close()
            }
        }
    }
}
