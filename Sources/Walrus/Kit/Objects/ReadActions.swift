import Daemon
import Database
import Domain
import NIOCore
import Signing

/// GET and HEAD of objects.
struct ReadActions: Sendable {
    let core: WalrusCore

    private static let overrides = [
        ("response-cache-control", "Cache-Control"), ("response-content-disposition", "Content-Disposition"),
        ("response-content-encoding", "Content-Encoding"), ("response-content-language", "Content-Language"),
        ("response-content-type", "Content-Type"), ("response-expires", "Expires"),
    ]

    func read(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        // An object may be replaced between the look at its row and the opening of its file: then the row is old, and is looked at again.
        for _ in 0..<5 {
            if let reply = try await attempt(r) { return reply }
        }
        throw CloudError(
            .unavailable("The object"), "Please reduce your request rate.", context: "the object changed five times while it was opened")
    }

    private func attempt(_ r: S3Request) async throws(CloudError) -> HTTPReply? {
        let isHead = r.method == "HEAD"
        let version = try r.versionID()
        let (bucket, found, marker) = try await core.object(r, version: version, withBytes: !isHead)
        let action = version == nil ? "s3:GetObject" : "s3:GetObjectVersion"
        guard let object = found else { return try Self.absent(r, bucket, marker, version: version, action) }
        try Authorization.object(r.requester, bucket, object, action, .read)
        let encryption = try EncryptionHeaders.opened(r, object.encryption, core.keys)

        switch r.preconditions.read(etag: object.etag, modified: object.modified) {
        case .proceed: break
        case .notModified:
            var headers = [("ETag", "\"\(object.etag)\""), ("Last-Modified", object.modified.httpDate)]
            if let id = bucket.shown(object.version) { headers.append(("x-amz-version-id", id)) }
            return HTTPReply(status: 304, headers: headers)
        case .failed(let header): throw S3Failure.preconditionFailed(header)
        }

        var headers = Self.describe(object) + (encryption?.headers ?? [])
        if version == nil { headers += bucket.expiration(object) }
        if let id = bucket.shown(object.version) { headers.append(("x-amz-version-id", id)) }
        for (name, header) in Self.overrides {
            guard let value = r.query.nonEmpty(name) else { continue }
            guard r.requester.known != nil else {
                throw S3Failure.invalidRequest("Request specific response headers cannot be used for anonymous GET requests.")
            }
            guard !value.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else {
                throw S3Failure.invalidArgument("\(name) is not a header value")
            }
            headers.removeAll { $0.0 == header }
            headers.append((header, value))
        }

        var offset = 0
        var length = object.size
        var status = 200
        var checksum = object.checksum
        if let number = try r.query.integer("partNumber", 1...10_000) {
            guard r.header("range") == nil else {
                throw S3Failure.invalidRequest("Cannot specify both Range header and partNumber query parameter")
            }
            let part = try await part(object, number)
            (offset, length, checksum) = (part.offset, part.length, part.checksum)
            status = 206
            if object.partCount > 0 { headers.append(("x-amz-mp-parts-count", String(object.partCount))) }
        } else {
            switch ByteRange.parse(r.header("range"), size: object.size) {
            case .whole: break
            case .part(let from, let count):
                // The whole object's checksum says nothing of a part of it.
                (offset, length, status, checksum) = (from, count, 206, count == object.size ? checksum : nil)
            case .unsatisfiable: throw S3Failure.invalidRange()
            }
        }
        if r.header("x-amz-checksum-mode")?.uppercased() == "ENABLED", let checksum {
            headers.append((checksum.algorithm.header, checksum.value))
            headers.append(("x-amz-checksum-type", checksum.type.rawValue))
        }
        if status == 206, length > 0 { headers.append(("Content-Range", "bytes \(offset)-\(offset + length - 1)/\(object.size)")) }
        if isHead {
            headers.append(("Content-Length", String(length)))
            return HTTPReply(status: status, headers: headers)
        }
        guard let body = try await Self.body(core, object, encryption, offset: offset, length: length) else { return nil }
        return HTTPReply(status: status, headers: headers, body: body)
    }

    /// What is said of a key or version that is no object: `NoSuchKey`, `NoSuchVersion`, or of a delete marker 404 when it is current and
    /// 405 when it was asked for. Source: S3 User Guide, "Working with delete markers".
    static func absent(
        _ r: S3Request, _ bucket: BucketRecord, _ marker: DeleteMarker?, version: String?, _ action: String
    ) throws(CloudError) -> HTTPReply {
        let key = try r.key()
        let refusal = try Authorization.missing(r.requester, bucket, key, action)
        guard S3ErrorCode.of(refusal).status == 404 else { throw refusal }
        guard let marker else {
            return Gateway.refusal(
                version == nil ? refusal : S3Failure.noSuchVersion(), r.http, headers: [("x-amz-delete-marker", "false")])
        }
        let headers = [("x-amz-delete-marker", "true"), ("x-amz-version-id", marker.version)]
        if version == nil { return Gateway.refusal(refusal, r.http, headers: headers) }
        return Gateway.refusal(
            S3Failure.methodNotAllowed(), r.http,
            headers: headers + [("Last-Modified", marker.modified.httpDate), ("Allow", "DELETE")])
    }

    /// Where part `number` lies. An object that was not uploaded in parts is its own part 1.
    private func part(
        _ object: ObjectRecord, _ number: Int
    ) async throws(CloudError) -> (offset: Int, length: Int, checksum: StoredChecksum?) {
        guard case .parts(let upload) = object.content else {
            guard number == 1 else {
                throw S3Failure.named("InvalidPartNumber", 416, "The requested partnumber is not satisfiable")
            }
            return (0, object.size, object.checksum)
        }
        let parts = try await core.pool.read { try UploadStore.partList($0, upload: upload) }
        guard number <= parts.count else { throw S3Failure.named("InvalidPartNumber", 416, "The requested partnumber is not satisfiable") }
        let part = parts[number - 1]
        // Its value is of its own bytes, under the type that the object was uploaded with.
        let checksum = object.checksum.flatMap { whole in part.checksum.map { StoredChecksum($0.algorithm, whole.type, $0.value) } }
        return (part.start, part.size, checksum)
    }

    /// The headers that an object's row stands for.
    static func describe(_ object: ObjectRecord) -> [(String, String)] {
        var headers: [(String, String)] = [
            ("ETag", "\"\(object.etag)\""), ("Last-Modified", object.modified.httpDate), ("Accept-Ranges", "bytes"),
        ]
        for (name, value) in object.attributes.headers { headers.append((ObjectHeaders.shown(name), value)) }
        if !object.attributes.headers.contains(where: { $0.name == "content-type" }) {
            headers.append(("Content-Type", "binary/octet-stream"))
        }
        for (name, value) in object.attributes.metadata { headers.append(("x-amz-meta-\(name)", ObjectHeaders.encoded(value))) }
        if !object.attributes.tags.isEmpty { headers.append(("x-amz-tagging-count", String(object.attributes.tags.count))) }
        if let mode = object.lock.mode, let until = object.lock.until {
            headers.append(("x-amz-object-lock-mode", mode.rawValue))
            headers.append(("x-amz-object-lock-retain-until-date", until.iso8601))
        }
        if let hold = object.lock.legalHold { headers.append(("x-amz-object-lock-legal-hold", hold ? "ON" : "OFF")) }
        if object.attributes.storageClass != "STANDARD" { headers.append(("x-amz-storage-class", object.attributes.storageClass)) }
        return headers
    }

    /// The bytes of a stretch of an object; `nil` when they are gone, because the object was replaced.
    static func body(
        _ core: WalrusCore, _ object: ObjectRecord, _ encryption: OpenEncryption?, offset: Int, length: Int
    ) async throws(CloudError) -> HTTPReply.Body? {
        if case .inline(let bytes) = object.content {
            try core.quarantine.checkInline(bytes, md5: object.storedMD5 ?? object.etag)
            let wanted = Array(bytes[offset..<offset + length])
            return .bytes(try encryption?.cipher(nil, offset: offset).applied(to: wanted) ?? wanted)
        }
        if length == 0 { return .empty }
        guard let segments = try await segments(core, object, offset: offset, length: length) else { return nil }
        guard let first = segments.first, let blob = try await core.bytes.open(first.blob) else { return nil }
        if encryption == nil, segments.count == 1, let file = blob.file { return .file(file, offset: first.offset, length: first.length) }
        let lease = core.leases.take(segments.map(\.blob))
        return .stream(length: length) { writer in
            for (index, segment) in segments.enumerated() {
                guard let blob = index == 0 ? blob : try await core.bytes.open(segment.blob) else {
                    throw CloudError.bug("blob \(segment.blob) of \(object.key) is gone")
                }
                let cipher = try encryption?.cipher(segment.blob, offset: segment.offset)
                var done = 0
                while done < segment.length {
                    let count = min(Intake.batchSize, segment.length - done)
                    var buffer = try await blob.read(offset: segment.offset + done, length: count)
                    if let cipher { buffer = await cipher.staged(buffer) }
                    try await writer.write(buffer)
                    done += count
                }
            }
            withExtendedLifetime(lease) {}
        }
    }

    /// The blobs that a stretch of an object is made of; `nil` when its row is out of date.
    static func segments(_ core: WalrusCore, _ object: ObjectRecord, offset: Int, length: Int) async throws(CloudError) -> [Segment]? {
        switch object.content {
        case .inline: return []
        case .blob(let blob): return [Segment(blob: blob, offset: offset, length: length)]
        case .parts(let upload):
            let parts = try await core.pool.read { try ObjectStore.objectParts($0, upload: upload, offset: offset, length: length) }
            var segments: [Segment] = []
            var at = offset
            for part in parts {
                guard part.start <= at else { return nil }
                let from = at - part.start
                let count = min(part.size - from, offset + length - at)
                if count > 0 { segments.append(Segment(blob: part.blob, offset: from, length: count)) }
                at += count
            }
            return at == offset + length ? segments : nil
        }
    }
}
