import Daemon
import Domain
import Glibc
import NIOCore
import Signing
import Synchronization
import Testing

@Suite(.serialized) struct HTTPClientTests {
    private static let megabytes: [UInt8] = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    /// `/file` gives a file, `/put` counts what comes, `/fail` answers 503.
    private static func handler(_ path: String) -> @Sendable (HTTPRequest) async -> HTTPReply {
        { request in
            switch request.rawPath {
            case "/file":
                return HTTPReply(
                    status: 200, body: .file(FileSource(descriptor: open(path, O_RDONLY)), offset: 0, length: megabytes.count))
            case "/part":
                return HTTPReply(status: 206, body: .file(FileSource(descriptor: open(path, O_RDONLY)), offset: 1_000_001, length: 77))
            case "/put":
                let hasher = Digest.Hasher(.sha256)
                var count = 0
                do {
                    for try await piece in request.body {
                        count += piece.readableBytes
                        hasher.update(Array(piece.readableBytesView))
                    }
                } catch { return .text(400, "\(error)") }
                return .text(200, "\(count) \(Hex.encode(hasher.finish())) \(request.headers.first("content-type") ?? "none")")
            case "/slow":
                do { try await Task.sleep(for: .seconds(20)) } catch {}
                return HTTPReply(status: 200)
            default:
                return .text(503, "SlowDown")
            }
        }
    }

    @Test(arguments: [false, true]) func downloadsAndUploads(_ isTLS: Bool) async throws {
        let cloud = try TestCloud()
        let identity = try cloud.host("walrus")
        let source = try cloud.folder.write("source", Self.megabytes)
        let digest = Hex.encode(Digest.sha256(Self.megabytes))
        let tls = isTLS ? ServerTLS(certificate: identity.certificatePath, key: identity.keyPath) : nil
        try await serving(tls: tls, Self.handler(source)) { port in
            let base = isTLS ? "https://localhost:\(port)" : "http://127.0.0.1:\(port)"
            let client = HTTPClient(tls: ClientTLS(ca: cloud.caPath))
            let target = cloud.folder.file("target")
            let file = try await client.execute(HTTPClientRequest(url: base + "/file", sink: .file(target)))
            #expect(file.status == 200 && file.received == Self.megabytes.count)
            let written = try FileSystem.read(target)
            #expect(written == Self.megabytes)
            let seen = Mutex(0)
            _ = try await client.execute(
                HTTPClientRequest(
                    url: base + "/file",
                    sink: .consumer { bytes in
                        seen.withLock { $0 += bytes.count }
                        return true
                    }))
            #expect(seen.withLock { $0 } == Self.megabytes.count)
            let part = try await client.execute(HTTPClientRequest(url: base + "/part"))
            #expect(part.body == Array(Self.megabytes[1_000_001..<1_000_078]))
            let up = try await client.execute(
                HTTPClientRequest("PUT", url: base + "/put", body: .file(path: source, offset: 0, length: Self.megabytes.count)))
            #expect(String(decoding: up.body, as: UTF8.self) == "\(Self.megabytes.count) \(digest) none")
            let small = try await client.execute(
                HTTPClientRequest("POST", url: base + "/put", headers: [("Content-Type", "text/xml")], body: .bytes(Array("abc".utf8))))
            #expect(
                String(decoding: small.body, as: UTF8.self) == "3 \(Hex.encode(Digest.sha256(Array("abc".utf8)))) text/xml")
            let empty = try await client.execute(HTTPClientRequest("PUT", url: base + "/put"))
            #expect(String(decoding: empty.body, as: UTF8.self).hasPrefix("0 "))
        }
    }

    @Test func anErrorsBodyGoesToMemoryNotToTheFile() async throws {
        let folder = ScratchFolder()
        try await serving(Self.handler("")) { port in
            let target = folder.file("target")
            let reply = try await HTTPClient().execute(HTTPClientRequest(url: "http://127.0.0.1:\(port)/x", sink: .file(target)))
            #expect(reply.status == 503 && String(decoding: reply.body, as: UTF8.self) == "SlowDown")
            #expect(!FileSystem.exists(target))
        }
    }

    @Test func limitsConsumersAndTimeouts() async throws {
        let folder = ScratchFolder()
        let source = try folder.write("source", Self.megabytes)
        try await serving(Self.handler(source)) { port in
            let client = HTTPClient()
            let base = "http://127.0.0.1:\(port)"
            await expect(.requestTooLarge(limit: 1000)) {
                _ = try await client.execute(HTTPClientRequest(url: base + "/file", sink: .memory(limit: 1000)))
            }
            await expect(.unavailable("127.0.0.1:\(port)")) {
                _ = try await client.execute(HTTPClientRequest(url: base + "/file", sink: .consumer { _ in false }))
            }
            await expect(.unavailable("127.0.0.1:\(port)")) {
                _ = try await client.execute(HTTPClientRequest(url: base + "/slow?X-Amz-Signature=secret", timeoutMilliseconds: 200))
            }
            await expect(.unavailable("/dev/full")) {
                _ = try await client.execute(HTTPClientRequest(url: base + "/file", sink: .file("/dev/full")))
            }
        }
    }

    @Test func cancellationEndsATransfer() async throws {
        try await serving(Self.handler("")) { port in
            let client = HTTPClient()
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    await expect(.unavailable("The service")) {
                        _ = try await client.execute(HTTPClientRequest(url: "http://127.0.0.1:\(port)/slow"))
                    }
                }
                try? await Task.sleep(for: .milliseconds(100))
                group.cancelAll()
            }
        }
    }

    @Test func nobodyThere() async throws {
        await expect(.unavailable("127.0.0.1:1")) { _ = try await HTTPClient().execute(HTTPClientRequest(url: "http://127.0.0.1:1/")) }
    }

    @Test func aServerOfAnotherCAIsRefused() async throws {
        let cloud = try TestCloud()
        let other = try TestCloud()
        let identity = try cloud.host("walrus")
        try await serving(
            tls: ServerTLS(certificate: identity.certificatePath, key: identity.keyPath), { _ in HTTPReply(status: 200) }
        ) { port in
            let client = HTTPClient(tls: ClientTLS(ca: other.caPath))
            await expect(.unavailable("localhost:\(port)")) {
                _ = try await client.execute(HTTPClientRequest(url: "https://localhost:\(port)/"))
            }
        }
    }

    @Test func theServersCertificateIsKnownOnKeptConnectionsToo() async throws {
        let cloud = try TestCloud()
        let identity = try cloud.host("walrus")
        try await serving(
            tls: ServerTLS(certificate: identity.certificatePath, key: identity.keyPath), { _ in HTTPReply(status: 200) }
        ) { port in
            let client = HTTPClient(tls: ClientTLS(ca: cloud.caPath))
            for _ in 0..<3 {
                let reply = try await client.execute(HTTPClientRequest(url: "https://localhost:\(port)/"))
                #expect(reply.peerCertificateDER == identity.certificate.der)
            }
        }
    }
}

func expect(_ reason: CloudError.Reason, _ body: () async throws -> Void) async {
    do {
        try await body()
        Issue.record("it should have failed with \(reason)")
    } catch let error as CloudError {
        #expect(error.reason == reason, "\(error.context)")
        #expect(!error.context.contains("secret"))
    } catch {
        Issue.record("\(error)")
    }
}
