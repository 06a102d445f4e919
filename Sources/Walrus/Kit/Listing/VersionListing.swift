import Daemon
import Database
import Domain
import Wire

/// One entry of a list of versions.
enum VersionEntry: Sendable {
    case commonPrefix([UInt8])
    case object(ObjectRecord, isLatest: Bool)
    case marker(key: [UInt8], DeleteMarker, isLatest: Bool)

    /// The place in the order; a common prefix has no version.
    var place: (key: [UInt8], version: String?) {
        switch self {
        case .commonPrefix(let prefix): (prefix, nil)
        case .object(let object, _): (object.key.bytes, object.version)
        case .marker(let key, let marker, _): (key, marker.version)
        }
    }
}

/// ListObjectVersions: keys in order, the versions of each from the newest to the oldest.
extension ListActions {
    func listObjectVersions(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:ListBucketVersions", .read)
        let encoded = try ListQuery.encoding(r.query)
        let marker = ListQuery.bytes(r.query, "key-marker")
        let versionMarker = try Self.versionMarker(r, marker)
        let query = ListQuery(
            prefix: ListQuery.bytes(r.query, "prefix"), delimiter: ListQuery.bytes(r.query, "delimiter"), after: marker,
            maxKeys: try ListQuery.maxKeys(r.query))
        var page: [VersionEntry] = []
        if query.maxKeys > 0 {
            page = try await core.pool.read { t in
                try VersionListStore.versionPage(t, bucket: bucket.id, query, afterVersion: versionMarker, limit: query.maxKeys + 1)
            }
        }
        let isTruncated = page.count > query.maxKeys && query.maxKeys > 0
        if isTruncated { page.removeLast() }
        var owners: [String: OwnerNames] = [:]
        for entry in page {
            let account: String
            switch entry {
            case .commonPrefix: continue
            case .object(let object, _): account = object.account
            case .marker(_, let marker, _): account = marker.account
            }
            if owners[account] == nil { owners[account] = try await core.owner(account) }
        }
        let (entries, names) = (page, owners)
        return S3Document.reply("ListVersionsResult", capacity: 1024 + page.count * 420) { xml in
            xml.element("Name", bucket.name)
            xml.element("Prefix", text(query.prefix, encoded))
            xml.element("KeyMarker", text(marker, encoded))
            xml.element("VersionIdMarker", r.query["version-id-marker"] ?? "")
            if isTruncated, let last = entries.last?.place {
                xml.element("NextKeyMarker", text(last.key, encoded))
                if let version = last.version { xml.element("NextVersionIdMarker", version) }
            }
            xml.element("MaxKeys", String(query.maxKeys))
            if !query.delimiter.isEmpty { xml.element("Delimiter", text(query.delimiter, encoded)) }
            if encoded { xml.element("EncodingType", "url") }
            xml.element("IsTruncated", isTruncated ? "true" : "false")
            for entry in entries { write(&xml, entry, names, encoded) }
            for case .commonPrefix(let prefix) in entries {
                xml.open("CommonPrefixes")
                xml.element("Prefix", text(prefix, encoded))
                xml.close()
            }
        }
    }

    /// - Throws: `InvalidArgument`.
    private static func versionMarker(_ r: S3Request, _ keyMarker: [UInt8]) throws(CloudError) -> String? {
        guard let text = r.query.nonEmpty("version-id-marker") else { return nil }
        guard !keyMarker.isEmpty else {
            throw S3Failure.invalidArgument("A version-id marker cannot be specified without a key marker.")
        }
        return try VersionID.parse(text)
    }

    private func write(_ xml: inout XMLWriter, _ entry: VersionEntry, _ owners: [String: OwnerNames], _ encoded: Bool) {
        func head(_ element: String, _ key: [UInt8], _ version: String, _ isLatest: Bool, _ modified: Timestamp) {
            xml.open(element)
            xml.element("Key", text(key, encoded))
            xml.element("VersionId", version)
            xml.element("IsLatest", isLatest ? "true" : "false")
            xml.element("LastModified", modified.iso8601)
        }
        switch entry {
        case .commonPrefix: return
        case .object(let object, let isLatest):
            head("Version", object.key.bytes, object.version, isLatest, object.modified)
            S3Document.etag(&xml, object.etag)
            if let checksum = object.checksum {
                xml.element("ChecksumAlgorithm", checksum.algorithm.rawValue)
                xml.element("ChecksumType", checksum.type.rawValue)
            }
            xml.element("Size", String(object.size))
            if let owner = owners[object.account] { S3Document.owner(&xml, owner) }
            xml.element("StorageClass", object.attributes.storageClass)
        case .marker(let key, let marker, let isLatest):
            head("DeleteMarker", key, marker.version, isLatest, marker.modified)
            if let owner = owners[marker.account] { S3Document.owner(&xml, owner) }
        }
        xml.close()
    }
}
