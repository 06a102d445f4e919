import Daemon
import Domain
import Signing
import Synchronization
import Testing
import Workflow

/// A store in memory that checks each signature.
private final class MemoryStore: Sendable {
    let objects = Mutex<[String: [UInt8]]>([:])
    let parts = Mutex<[Int: [UInt8]]>([:])

    func answer(_ request: HTTPRequest) async -> HTTPReply {
        let body = (try? await request.body.collect(upTo: 1 << 24)) ?? []
        let signed = SignedRequest(
            method: request.method, rawPath: request.rawPath, rawQuery: request.rawQuery ?? "",
            headers: request.headers.map { (name: $0.name, value: $0.value) }, isTLS: false)
        do {
            guard let parsed = try AWSSignature.parse(signed, form: nil, service: .s3) else { return error(403, "AccessDenied") }
            _ = try parsed.verify(secret: "secret", now: SystemClock().now(), bodySHA256: Hex.encode(Digest.sha256(body)))
        } catch { return self.error(403, "SignatureDoesNotMatch \(error)") }
        switch (request.method, request.rawQuery ?? "") {
        case ("PUT", let query) where query.hasPrefix("partNumber="):
            let number = Int(query.dropFirst(11).prefix { $0 != "&" }) ?? 0
            parts.withLock { $0[number] = body }
            return HTTPReply(status: 200, headers: [("ETag", "\"p\(number)\"")])
        case ("POST", "uploads="):
            return .text(200, "<InitiateMultipartUploadResult><UploadId>u+1</UploadId></InitiateMultipartUploadResult>")
        case ("POST", _):
            let whole = parts.withLock { parts in parts.keys.sorted().flatMap { parts[$0] ?? [] } }
            objects.withLock { $0[request.rawPath] = whole }
            return .text(200, "<CompleteMultipartUploadResult><ETag>\"e-2\"</ETag></CompleteMultipartUploadResult>")
        case ("PUT", _):
            objects.withLock { $0[request.rawPath] = body }
            return HTTPReply(status: 200, headers: [("ETag", "\"\(Hex.encode(Digest.md5(body)))\"")])
        case ("DELETE", _):
            objects.withLock { $0[request.rawPath] = nil }
            return HTTPReply(status: 204)
        default:
            guard let object = objects.withLock({ $0[request.rawPath] }) else { return error(404, "NoSuchKey") }
            return HTTPReply(status: 200, headers: [("ETag", "\"x\""), ("x-amz-meta-Color", "red")], body: .bytes(object))
        }
    }

    private func error(_ status: Int, _ code: String) -> HTTPReply {
        .text(status, "<Error><Code>\(code)</Code><Message>no</Message></Error>", type: "application/xml")
    }
}

@Suite(.serialized) struct S3ClientTests {
    @Test func objects() async throws {
        let store = MemoryStore()
        let folder = ScratchFolder()
        try await serving({ await store.answer($0) }) { port in
            let client = S3Client(
                endpoint: "http://127.0.0.1:\(port)", accessKeyID: "AKI", secret: "secret", clock: SystemClock())
            let key = "a b/ü+c.part.0"
            let bytes = Array("hello".utf8)
            #expect(try await client.put("bucket", key, .bytes(bytes), metadata: ["color": "red"]) == Hex.encode(Digest.md5(bytes)))
            #expect(try await client.get("bucket", key) == bytes)
            let source = try folder.write("f", Array("xxhelloyy".utf8))
            #expect(try await client.put("bucket", "g", .file(path: source, offset: 2, length: 5)) == Hex.encode(Digest.md5(bytes)))
            let info = try #require(try await client.head("bucket", key))
            #expect(info.size == 5 && info.etag == "x" && info.metadata == ["color": "red"])
            #expect(try await client.head("bucket", "nope") == nil)
            await expect(.notFound(.object, id: "bucket/nope")) { _ = try await client.get("bucket", "nope") }
            try await client.delete("bucket", key)
            #expect(try await client.head("bucket", key) == nil)
            let upload = try await client.createUpload("bucket", "m")
            let one = try await client.uploadPart("bucket", "m", upload: upload, number: 1, .bytes([1, 2]))
            let two = try await client.uploadPart("bucket", "m", upload: upload, number: 2, .bytes([3]))
            #expect(try await client.completeUpload("bucket", "m", upload: upload, parts: [one, two]) == "e-2")
            #expect(try await client.get("bucket", "m") == [1, 2, 3])
            let reply = try await HTTPClient().execute(HTTPClientRequest(url: client.presignGet("bucket", "m", expires: 60)))
            #expect(reply.body == [1, 2, 3])
            let wrong = S3Client(endpoint: "http://127.0.0.1:\(port)", accessKeyID: "AKI", secret: "other", clock: SystemClock())
            await expect(.forbidden(action: "s3")) { _ = try await wrong.get("bucket", "m") }
        }
    }
}
