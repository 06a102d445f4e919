public import Domain
import Glibc
import Signing
import Wire
public import Workflow

/// What a store says about an object.
public struct S3ObjectInfo: Sendable, Equatable {
    public let size: Int
    /// Without the quotes. MD5 in hexadecimal for an object that was put in one piece.
    public let etag: String
    public let contentType: String
    /// `x-amz-meta-…`, names in lower case without the prefix.
    public let metadata: [String: String]
}

/// Our daemons' client of Walrus (or of any S3 store): SigV4 in headers, streaming from and to files.
///
/// Errors: `.notFound(.bucket | .object)`, `.forbidden`, `.unavailable` (no answer, 5xx), else `.named` with the store's code.
public final class S3Client: Sendable {
    /// Smallest part of a multipart upload, except the last (S3's rule).
    public static let smallestPart = 5 << 20

    private let endpoint: String
    private let host: String
    private let accessKeyID, secret, region: String
    private let http: any HTTPRequesting
    private let clock: any Clock

    /// - Parameter endpoint: `http://host:port`, path-style addressing.
    public init(
        endpoint: String, accessKeyID: String, secret: String, region: String = "karri-1", clock: any Clock,
        http: (any HTTPRequesting)? = nil
    ) {
        self.endpoint = endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
        host = self.endpoint.split(separator: "/", omittingEmptySubsequences: true).last.map(String.init) ?? ""
        self.accessKeyID = accessKeyID
        self.secret = secret
        self.region = region
        self.clock = clock
        self.http = http ?? HTTPClient()
    }

    // MARK: Buckets

    /// Makes the bucket; one of our own that exists is fine.
    public func createBucket(_ bucket: String) async throws(CloudError) {
        do throws(CloudError) {
            _ = try await send("PUT", bucket, nil)
        } catch {
            if case .named(code: "BucketAlreadyOwnedByYou", _) = error.reason { return }
            throw error
        }
    }

    public func deleteBucket(_ bucket: String) async throws(CloudError) { _ = try await send("DELETE", bucket, nil) }

    public func bucketExists(_ bucket: String) async throws(CloudError) -> Bool {
        do throws(CloudError) {
            _ = try await send("HEAD", bucket, nil)
            return true
        } catch {
            if case .notFound = error.reason { return false }
            throw error
        }
    }

    /// All keys below a prefix, in byte order, as many pages as it takes.
    public func list(_ bucket: String, prefix: String = "") async throws(CloudError) -> [(key: String, size: Int)] {
        var found: [(key: String, size: Int)] = []
        var token: String?
        repeat {
            var query = [("list-type", "2"), ("prefix", prefix)]
            if let token { query.append(("continuation-token", token)) }
            let page = try xml(try await send("GET", bucket, nil, query: query).body)
            for item in page.all("Contents") {
                found.append((key: item.first("Key")?.text ?? "", size: Int(item.first("Size")?.text ?? "") ?? 0))
            }
            token = page.first("IsTruncated")?.text == "true" ? page.first("NextContinuationToken")?.text : nil
        } while token != nil
        return found
    }

    // MARK: Objects

    /// - Returns: nil when there is no such object.
    public func head(_ bucket: String, _ key: String) async throws(CloudError) -> S3ObjectInfo? {
        do throws(CloudError) {
            return Self.info(try await send("HEAD", bucket, key))
        } catch {
            if case .notFound = error.reason { return nil }
            throw error
        }
    }

    /// A small object, whole.
    public func get(_ bucket: String, _ key: String, limit: Int = 16 << 20) async throws(CloudError) -> [UInt8] {
        try await send("GET", bucket, key, sink: .memory(limit: limit)).body
    }

    /// An object or a part of it, into a file or a consumer.
    /// - Parameter range: bytes of the object; nil: all.
    @discardableResult
    public func get(
        _ bucket: String, _ key: String, range: Range<Int>? = nil, into sink: HTTPClientRequest.Sink
    ) async throws(CloudError) -> S3ObjectInfo {
        let headers = range.map { [("Range", "bytes=\($0.lowerBound)-\($0.upperBound - 1)")] } ?? []
        return Self.info(try await send("GET", bucket, key, headers: headers, sink: sink, timeoutMilliseconds: 0))
    }

    /// - Returns: the ETag, without quotes.
    @discardableResult
    public func put(
        _ bucket: String, _ key: String, _ body: HTTPClientRequest.Body, contentType: String = "application/octet-stream",
        metadata: [String: String] = [:], headers: [(String, String)] = []
    ) async throws(CloudError) -> String {
        let all = [("Content-Type", contentType)] + metadata.map { ("x-amz-meta-\($0.key)", $0.value) } + headers
        return Self.etag(try await send("PUT", bucket, key, headers: all, body: body, timeoutMilliseconds: 0))
    }

    /// Deletes the object; one that is not there is fine.
    public func delete(_ bucket: String, _ key: String) async throws(CloudError) { _ = try await send("DELETE", bucket, key) }

    // MARK: Multipart uploads

    /// - Returns: the upload's id.
    public func createUpload(
        _ bucket: String, _ key: String, contentType: String = "application/octet-stream"
    ) async throws(CloudError) -> String {
        let reply = try await send("POST", bucket, key, query: [("uploads", "")], headers: [("Content-Type", contentType)])
        guard let id = try xml(reply.body).first("UploadId")?.text, !id.isEmpty else {
            throw CloudError.bug("the store gave no UploadId for \(bucket)/\(key)")
        }
        return id
    }

    /// - Parameter number: from 1 to 10,000.
    /// - Returns: the part's ETag, without quotes.
    public func uploadPart(
        _ bucket: String, _ key: String, upload: String, number: Int, _ body: HTTPClientRequest.Body
    ) async throws(CloudError) -> String {
        Self.etag(
            try await send(
                "PUT", bucket, key, query: [("partNumber", "\(number)"), ("uploadId", upload)], body: body, timeoutMilliseconds: 0))
    }

    /// - Parameter parts: the ETags of parts 1, 2, … in order.
    /// - Returns: the object's ETag.
    @discardableResult
    public func completeUpload(
        _ bucket: String, _ key: String, upload: String, parts: [String]
    ) async throws(CloudError) -> String {
        var writer = XMLWriter(capacity: 128 + parts.count * 96)
        writer.open("CompleteMultipartUpload", attributes: [("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/")])
        for (index, etag) in parts.enumerated() {
            writer.open("Part")
            writer.element("PartNumber", "\(index + 1)")
            writer.element("ETag", "\"\(etag)\"")
            writer.close()
        }
        writer.close()
        let reply = try await send(
            "POST", bucket, key, query: [("uploadId", upload)], headers: [("Content-Type", "application/xml")], body: .bytes(writer.bytes),
            timeoutMilliseconds: 0)
        // S3 answers 200 before it knows, and may still put an error into the body.
        let element = try xml(reply.body)
        if element.name == "Error" { throw Self.error(element, 500, bucket, key) }
        return Self.unquoted(element.first("ETag")?.text ?? "")
    }

    public func abortUpload(_ bucket: String, _ key: String, upload: String) async throws(CloudError) {
        _ = try await send("DELETE", bucket, key, query: [("uploadId", upload)])
    }

    // MARK: Presigned addresses

    /// An address that reads the object without a key, for `expires` seconds.
    public func presignGet(_ bucket: String, _ key: String, expires: Int) -> String {
        Presign.url(
            method: "GET", endpoint: endpoint, path: Self.path(bucket, key), accessKeyID: accessKeyID, secret: secret, region: region,
            expires: expires, now: clock.now())
    }

    /// An address that writes the object without a key, for `expires` seconds.
    public func presignPut(_ bucket: String, _ key: String, expires: Int) -> String {
        Presign.url(
            method: "PUT", endpoint: endpoint, path: Self.path(bucket, key), accessKeyID: accessKeyID, secret: secret, region: region,
            expires: expires, now: clock.now())
    }

    // MARK: One request

    private func send(
        _ method: String, _ bucket: String, _ key: String?, query: [(String, String)] = [], headers: [(String, String)] = [],
        body: HTTPClientRequest.Body = .none, sink: HTTPClientRequest.Sink = .memory(limit: 16 << 20), timeoutMilliseconds: Int = 60_000
    ) async throws(CloudError) -> HTTPClientResponse {
        let path = Self.path(bucket, key)
        let hash: String
        switch body {
        case .none: hash = SignV4.payloadHash([])
        case .bytes(let bytes): hash = SignV4.payloadHash(bytes)
        case .file(let file, let offset, let length):
            // Walrus takes an unsigned payload over TLS only; hashing first costs a second reading at 1.7 GB/s.
            hash = endpoint.hasPrefix("https://") ? "UNSIGNED-PAYLOAD" : try await Self.hash(file, offset, length)
        }
        var all = headers
        if let id = RequestID.current { all.append(("X-Request-Id", id)) }
        let signed = SignV4.headers(
            method: method, host: host, path: path, query: query, headers: headers, payloadHash: hash, accessKeyID: accessKeyID,
            secret: secret, region: region, now: clock.now())
        let text = query.map { "\(Presign.encode(component: $0.0))=\(Presign.encode(component: $0.1))" }.joined(separator: "&")
        let reply = try await http.execute(
            HTTPClientRequest(
                method, url: endpoint + path + (text.isEmpty ? "" : "?" + text), headers: all + signed, body: body, sink: sink,
                timeoutMilliseconds: timeoutMilliseconds))
        if reply.isSuccess { return reply }
        let element = reply.body.isEmpty ? nil : try? XMLReader.parse(reply.body)
        throw Self.error(element, reply.status, bucket, key)
    }

    private static func hash(_ path: String, _ offset: Int, _ length: Int) async throws(CloudError) -> String {
        try await BlockingPool.run { () throws(CloudError) -> String in
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw CloudError(.unavailable(path), context: "cannot open \(path): \(FileSystem.lastError)") }
            let source = FileSource(descriptor: descriptor)
            let hasher = Digest.Hasher(.sha256)
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            var position = offset
            while position < offset + length {
                let got = pread(source.descriptor, &chunk, min(chunk.count, offset + length - position), off_t(position))
                guard got > 0 else { throw CloudError(.unavailable(path), context: "\(path) ends before byte \(offset + length)") }
                chunk.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<got])) }
                position += got
            }
            return Hex.encode(hasher.finish())
        }
    }

    private static func path(_ bucket: String, _ key: String?) -> String {
        "/" + Presign.encode(component: bucket) + (key.map { "/" + Presign.encode(path: $0) } ?? "")
    }

    private static func error(_ element: XMLElement?, _ status: Int, _ bucket: String, _ key: String?) -> CloudError {
        let code = element?.first("Code")?.text ?? ""
        let message = element?.first("Message")?.text ?? "HTTP status \(status)"
        let place = bucket + (key.map { "/\($0)" } ?? "")
        let context = "S3 \(place): \(status) \(code): \(message)"
        switch (status, code) {
        case (_, "NoSuchBucket"): return CloudError(.notFound(.bucket, id: bucket), context: context)
        case (_, "NoSuchUpload"): return CloudError(.notFound(.upload, id: place), context: context)
        case (_, "NoSuchKey"): return CloudError(.notFound(.object, id: place), context: context)
        case (404, ""): return CloudError(.notFound(key == nil ? .bucket : .object, id: place), context: context)
        case (403, _): return CloudError(.forbidden(action: "s3"), "Access to \(place) is denied", context: context)
        case (500..., _), (429, _): return CloudError(.unavailable("The object store"), context: context)
        default: return CloudError(.named(code: code.isEmpty ? "S3" : code, status: status), message, context: context)
        }
    }

    private func xml(_ bytes: [UInt8]) throws(CloudError) -> XMLElement {
        do {
            return try XMLReader.parse(bytes, limits: XMLLimits(maxBytes: 16 << 20, maxElements: 100_000))
        } catch {
            throw CloudError(.unavailable("The object store"), context: "the answer is no XML: \(DaemonFailure.text(error))")
        }
    }

    private static func info(_ reply: HTTPClientResponse) -> S3ObjectInfo {
        var metadata: [String: String] = [:]
        for (name, value) in reply.headers where name.lowercased().hasPrefix("x-amz-meta-") {
            metadata[String(name.lowercased().dropFirst(11))] = value
        }
        return S3ObjectInfo(
            size: Int(reply.headers.first("content-length") ?? "") ?? reply.received, etag: etag(reply),
            contentType: reply.headers.first("content-type") ?? "", metadata: metadata)
    }

    private static func etag(_ reply: HTTPClientResponse) -> String { unquoted(reply.headers.first("etag") ?? "") }

    private static func unquoted(_ text: String) -> String {
        text.count >= 2 && text.hasPrefix("\"") && text.hasSuffix("\"") ? String(text.dropFirst().dropLast()) : text
    }
}
