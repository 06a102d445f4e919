import Daemon
import Domain
import Glibc
import NIOCore
import ServiceLifecycle
import Synchronization
import Testing

@Suite(.serialized) struct HTTPServerTests {
    @Test func theTargetStaysAsItWasSent() async throws {
        let answer = try await serving({ .text(200, "\($0.rawPath) \($0.rawQuery ?? "-") \($0.target)") }) { port in
            try await RawClient(port: port).exchange([
                "GET //a%2Fb/../c%20?x=%3D&y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            ])
        }
        #expect(answer.contains("//a%2Fb/../c%20 x=%3D&y //a%2Fb/../c%20?x=%3D&y<closed>"))
    }

    @Test func headersKeepOrderAndCase() async throws {
        let answer = try await serving({ request in
            .text(200, request.headers.map { "\($0.name)=\($0.value)" }.joined(separator: ";"))
        }) { port in
            try await RawClient(port: port).exchange([
                "GET / HTTP/1.1\r\nX-b: 2\r\nhOST: h\r\nx-A: 1\r\nX-b: 3\r\nConnection: close\r\n\r\n"
            ])
        }
        #expect(answer.contains("X-b=2;hOST=h;x-A=1;X-b=3;Connection=close"))
    }

    @Test func twoRequestsInOnePacket() async throws {
        let answer = try await serving({ .text(200, "<\($0.rawPath)>") }) { port in
            try await RawClient(port: port).exchange([
                "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            ])
        }
        #expect(answer.contains("</1>") && answer.contains("</2><closed>"))
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "NONSENSE\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]) func formsThatCanBeReadInTwoWaysAreRefused(_ bytes: String) async throws {
        let answer = try await serving({ request in
            .text(200, "served \((try? await request.body.collect(upTo: 100))?.count ?? -1)")
        }) { port in try await RawClient(port: port).exchange([bytes]) }
        #expect(answer.hasPrefix("HTTP/1.1 400") || answer.contains("served -1"), "\(answer)")
        #expect(answer.contains("<closed>"))
    }

    @Test func anUnknownCodingIsRefused() async throws {
        let answer = try await serving({ _ in .text(200, "served") }) { port in
            try await RawClient(port: port).exchange(["POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"])
        }
        #expect(answer.hasPrefix("HTTP/1.1 501") || answer.hasPrefix("HTTP/1.1 400"), "\(answer)")
    }

    @Test func tooLargeHeadersAreRefused() async throws {
        let answer = try await serving(limits: HTTPLimits(headerBytes: 4096), { _ in .text(200, "served") }) { port in
            try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\nX: \(String(repeating: "x", count: 9000))\r\n\r\n"])
        }
        #expect(answer.hasPrefix("HTTP/1.1 431"), "\(answer)")
    }

    @Test func continueIsSaidByTheFirstReadOnly() async throws {
        let head = "PUT /%s HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        let handler: @Sendable (HTTPRequest) async -> HTTPReply = { request in
            if request.rawPath == "/no" { return HTTPReply(status: 403) }
            let bytes = (try? await request.body.collect(upTo: 10)) ?? []
            return .text(200, String(decoding: bytes, as: UTF8.self))
        }
        let refused = try await serving(handler) { port in
            try await RawClient(port: port).exchange([head.replacing("%s", with: "no")])
        }
        #expect(refused.hasPrefix("HTTP/1.1 403") && refused.contains("Connection: close") && refused.contains("<closed>"))
        let accepted = try await serving(handler) { port in
            try await RawClient(port: port).exchange([head.replacing("%s", with: "yes"), "hello"], pause: 200, until: "hello")
        }
        #expect(accepted.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "\(accepted)")
    }

    @Test func aRefusedUploadIsNotReadToItsEnd() async throws {
        let piece = String(repeating: "x", count: 65536)
        let answer = try await serving({ _ in HTTPReply(status: 403, body: .bytes(Array("no".utf8))) }) { port in
            try await RawClient(port: port).exchange([
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000000\r\n\r\n", piece, piece,
            ])
        }
        // The reply arrives whole although the body was still coming.
        #expect(answer.hasPrefix("HTTP/1.1 403") && answer.contains("no"), "\(answer)")
    }

    @Test func aSmallIgnoredBodyKeepsTheConnection() async throws {
        let answer = try await serving({ .text(200, "<\($0.rawPath)>") }) { port in
            try await RawClient(port: port).exchange([
                "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            ])
        }
        #expect(answer.contains("</1>") && answer.contains("</2><closed>"), "\(answer)")
    }

    @Test func headKeepsTheLengthAndHasNoBody() async throws {
        let answer = try await serving({ _ in HTTPReply(status: 200, headers: [("Content-Length", "12345")]) }) { port in
            try await RawClient(port: port).exchange(["HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"])
        }
        #expect(answer.contains("Content-Length: 12345\r\n") && answer.contains("\r\n\r\n<closed>"), "\(answer)")
    }

    @Test func aStreamOfUnknownLengthIsChunkedAndAFailureBreaksIt() async throws {
        let handler: @Sendable (HTTPRequest) async -> HTTPReply = { request in
            HTTPReply(
                status: 200,
                body: .stream(length: nil) { writer in
                    try await writer.write(Array("one".utf8))
                    if request.rawPath == "/broken" { throw CloudError(.bug) }
                    try await writer.write(Array("two".utf8))
                })
        }
        let good = try await serving(handler) { port in
            try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\n\r\n"], until: "0\r\n\r\n")
        }
        #expect(good.contains("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "\(good)")
        let broken = try await serving(handler) { port in
            try await RawClient(port: port).exchange(["GET /broken HTTP/1.1\r\nHost: h\r\n\r\n"])
        }
        #expect(!broken.contains("0\r\n\r\n") && !broken.contains("timeout"), "\(broken)")
        let old = try await serving(handler) { port in try await RawClient(port: port).exchange(["GET / HTTP/1.0\r\n\r\n"]) }
        #expect(old.contains("onetwo<closed>") && !old.contains("chunked"), "\(old)")
    }

    @Test func aSlowSenderIsCutOff() async throws {
        let answer = try await serving(limits: HTTPLimits(idleSeconds: 1, slowSeconds: 1)) { request in
            do { _ = try await request.body.collect(upTo: 100) } catch { return HTTPReply(status: 400) }
            return HTTPReply(status: 200)
        } _: { port in
            try await RawClient(port: port).exchange(["PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nabc"], seconds: 8)
        }
        #expect(!answer.contains("timeout"), "\(answer)")
    }

    @Test func aHalfSentHeadIsCutOff() async throws {
        let answer = try await serving(limits: HTTPLimits(idleSeconds: 1, slowSeconds: 1), { _ in HTTPReply(status: 200) }) { port in
            try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHo"], seconds: 8)
        }
        #expect(answer == "<closed>")
    }

    @Test func healthAndMetrics() async throws {
        let runtime = testRuntime()
        let answer = try await serving(admin: true, runtime: runtime, { _ in HTTPReply(status: 404) }) { port in
            try await RawClient(port: port).exchange([
                "GET /health HTTP/1.1\r\nHost: h\r\n\r\nGET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            ])
        }
        #expect(answer.contains("\"status\":\"ok\""), "\(answer)")
        #expect(answer.contains("karri_http_requests_total{listener=\"test\",status=\"200\"} 1"), "\(answer)")
    }

    @Test func theRequestIDIsThereForLogs() async throws {
        let answer = try await serving({ .text(200, RequestID.current == $0.id ? "same \($0.id.utf8.count)" : "other") }) { port in
            try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"])
        }
        #expect(answer.contains("same 36"))
    }

    @Test func onePeerDoesNotTakeAllConnections() async throws {
        try await serving(limits: HTTPLimits(connections: 50, connectionsPerPeer: 2), { _ in .text(200, "ok") }) { port in
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<2 { group.addTask { try await RawClient(port: port).exchange([], seconds: 2) } }
                try await Task.sleep(for: .milliseconds(300))
                let third = try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\n\r\n"])
                #expect(!third.contains("ok"))
                for try await idle in group { #expect(idle == "<timeout>") }
            }
            try await Task.sleep(for: .milliseconds(200))
            let after = try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"])
            #expect(after.contains("ok<closed>"))
        }
    }

    @Test func aGracefulStopLetsRequestsEndAndClosesIdleConnections() async throws {
        let server = HTTPServer(address: "127.0.0.1", port: 0, runtime: testRuntime(), name: "test") { request in
            if request.rawPath == "/slow" { try? await Task.sleep(for: .milliseconds(700)) }
            return .text(200, "done")
        }
        var configuration = ServiceGroupConfiguration(services: [server], logger: testRuntime().logger)
        configuration.maximumGracefulShutdownDuration = .seconds(10)
        let group = ServiceGroup(configuration: configuration)
        try await withThrowingTaskGroup(of: String.self) { tasks in
            tasks.addTask {
                try await group.run()
                return "stopped"
            }
            let port = await server.waitUntilListening()
            tasks.addTask { try await RawClient(port: port).exchange(["GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"], seconds: 5) }
            tasks.addTask { try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\n\r\n"], seconds: 5) }
            tasks.addTask { try await RawClient(port: port).exchange([], seconds: 5) }
            try await Task.sleep(for: .milliseconds(300))
            await group.triggerGracefulShutdown()
            var ends: [String] = []
            for try await end in tasks { ends.append(end) }
            #expect(ends.filter { $0.contains("done<closed>") }.count == 2, "\(ends)")
            #expect(ends.contains("<closed>"))
            #expect(ends.last == "stopped", "\(ends)")
        }
    }

    @Test func moreConnectionsThanAllowedWait() async throws {
        let answers = try await serving(limits: HTTPLimits(connections: 2), { _ in .text(200, "ok") }) { port in
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<6 {
                    group.addTask {
                        try await RawClient(port: port).exchange(["GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"], seconds: 10)
                    }
                }
                return try await group.reduce(into: [String]()) { $0.append($1) }
            }
        }
        #expect(answers.allSatisfy { $0.contains("ok<closed>") })
    }
}

extension String {
    func replacing(_ needle: String, with text: String) -> String {
        var out = ""
        var rest = Substring(self)
        while !rest.isEmpty {
            if rest.hasPrefix(needle) {
                out += text
                rest = rest.dropFirst(needle.count)
            } else {
                out.append(rest.removeFirst())
            }
        }
        return out
    }
}
