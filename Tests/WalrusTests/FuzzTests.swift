import Daemon
import Domain
import Glibc
import NIOCore
import Signing
import Testing

@testable import WalrusKit

/// Every parser that strangers reach, fed with its corpus, changed at random. The seed is printed with a failure and can be given by
/// KARRI_FUZZ_SEED; KARRI_FUZZ_ROUNDS makes it run longer. What was ever found goes into `Corpus`, one file an input, `<parser>-<n>`.
///
/// A parser answers or throws a named error; a trap ends the process, which is the finding.
@Suite struct FuzzTests {
    struct Generator {
        var state: UInt64
        mutating func next(_ below: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return below <= 0 ? 0 : Int(state % UInt64(below))
        }

        /// One to eight changes: a byte, a stretch doubled, removed or moved, a piece of another input, a number at its edge.
        mutating func changed(_ input: [UInt8], _ corpus: [[UInt8]]) -> [UInt8] {
            var out = input
            for _ in 0...next(8) {
                let at = next(out.count + 1)
                let end = min(out.count, at + next(24))
                switch next(8) {
                case 0: out.insert(UInt8(next(256)), at: at)
                case 1 where at < out.count: out[at] ^= UInt8(1 << next(8))
                case 2: out.removeSubrange(at..<end)
                case 3: out.insert(contentsOf: Array(out[at..<end]), at: next(out.count + 1))
                case 4:
                    let other = corpus[next(corpus.count)]
                    let from = next(other.count + 1)
                    out.insert(contentsOf: other[from..<min(other.count, from + next(64))], at: at)
                case 5: out.insert(contentsOf: ["\r\n", "%", "\"", "\0", "--", "]]>"][next(6)].utf8, at: at)
                case 6: out.insert(contentsOf: ["0", "-1", "9223372036854775807", "9223372036854775808", "1e9"][next(5)].utf8, at: at)
                default: out = Array(out.prefix(at))
                }
            }
            return Array(out.prefix(20_000))
        }
    }

    private static let rounds = getenv("KARRI_FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 400
    private static let seed: UInt64 = {
        if let given = getenv("KARRI_FUZZ_SEED").flatMap({ UInt64(String(cString: $0)) }) { return given }
        return UInt64(time(nil)) | 1
    }()

    private static func corpus(_ parser: String) throws -> [[UInt8]] {
        let folder = String(#filePath.dropLast("FuzzTests.swift".count)) + "Corpus"
        var inputs: [[UInt8]] = []
        while FileSystem.exists("\(folder)/\(parser)-\(inputs.count + 1)") {
            inputs.append(try FileSystem.read("\(folder)/\(parser)-\(inputs.count + 1)"))
        }
        return inputs
    }

    /// - Parameter body: what must hold, beside that nothing but named errors comes out.
    private func run(_ parser: String, _ body: (inout Generator, [UInt8]) async throws -> Void) async throws {
        let corpus = try Self.corpus(parser)
        try #require(!corpus.isEmpty, "no corpus of \(parser)")
        var generator = Generator(state: Self.seed &* 0x9E37_79B9_7F4A_7C15 | 1)
        for round in 0..<Self.rounds {
            let input = round < corpus.count ? corpus[round] : generator.changed(corpus[generator.next(corpus.count)], corpus)
            do { try await body(&generator, input) } catch is CloudError {} catch {
                Issue.record("\(parser), seed \(Self.seed), round \(round): \(error) for \(Hex.encode(input))")
            }
        }
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test func targets() async throws {
        try await run("target") { _, input in
            let target = try S3Target(rawPath: text(input), host: "b.s3.test", domain: "s3.test")
            if let key = target.key { _ = try ObjectKey(key) }
            _ = try S3Target(rawPath: "/" + text(input), host: text(input), domain: "s3.test")
        }
        try await run("query") { _, input in
            let query = try S3Query(raw: text(input))
            _ = try query.integer("max-keys", 0...1000)
            _ = try ListQuery.encoding(query)
        }
    }

    @Test func documents() async throws {
        try await run("complete") { _, input in
            let order = try CompletionOrder(input)
            for (a, b) in zip(order.parts, order.parts.dropFirst()) { #expect(a.number < b.number) }
        }
        try await run("tagging") { _, input in
            let tags = try Tagging.fromDocument(input, limit: 10)
            #expect(tags.count <= 10)
        }
        try await run("acl") { _, input in _ = try ACLParsing.fromDocument(input, owner: "0123") }
        try await run("cors") { _, input in _ = try CORSConfiguration(document: input) }
        try await run("lifecycle") { _, input in _ = try LifecycleConfiguration(document: input) }
        try await run("policy") { _, input in _ = try BucketPolicy(input, bucket: "fuzz") }
        try await run("formpolicy") { _, input in
            let policy = try FormPolicy(base64: Base64.encode(input))
            #expect(policy.sizes.lowerBound >= 0)
            try policy.check(["key": "k", "bucket": "b"], now: Timestamp(seconds: 0))
        }
    }

    @Test func forms() async throws {
        try await run("form") { generator, input in
            let reader = try FormReader(body: RequestBody(bytes: input), contentType: "multipart/form-data; boundary=B")
            let head = try await reader.head()
            #expect(head.fields.reduce(0) { $0 + $1.value.utf8.count } <= FormReader.headLimit + 2)
            var size = 0
            while let piece = try await reader.next() { size += piece.readableBytes }
            #expect(size <= input.count)
            _ = FormReader.parameter("name", of: text(input))
        }
    }

    @Test func headers() async throws {
        try await run("range") { generator, input in
            let size = generator.next(100)
            switch ByteRange.parse(text(input), size: size) {
            case .whole, .unsatisfiable: break
            case .part(let offset, let length): #expect(offset >= 0 && length > 0 && offset + length <= size)
            }
            if let (first, last) = ByteRange.parseStrict(text(input)) { #expect(first >= 0 && first <= last) }
        }
        try await run("condition") { _, input in
            let header = text(input)
            let conditions = Preconditions(
                ifMatch: header, ifNoneMatch: header, ifModifiedSince: Timestamp(httpDate: header),
                ifUnmodifiedSince: Timestamp(httpDate: header))
            _ = conditions.read(etag: "b", modified: Timestamp(seconds: 0))
            try conditions.write(current: "b", key: "k")
        }
        try await run("authorization") { _, input in
            let headers = [
                (name: "Host", value: "h"), (name: "Authorization", value: text(input)), (name: "x-amz-date", value: "20260101T000000Z"),
                (name: "x-amz-content-sha256", value: "UNSIGNED-PAYLOAD"),
            ]
            let request = SignedRequest(method: "GET", rawPath: "/b/k", rawQuery: text(input), headers: headers, isTLS: true)
            // What is right for no key must not be found right.
            if let parsed = try AWSSignature.parse(request, form: nil, service: .s3) {
                _ = try parsed.verify(secret: "no such secret", now: Timestamp(basic: "20260101T000000Z") ?? Timestamp(seconds: 0))
                Issue.record("a signature without a secret was found right: \(text(input))")
            }
        }
    }

    @Test func chunks() async throws {
        let date = "20260101T000000Z"
        let now = try #require(Timestamp(basic: date))
        func verified(_ payload: String) throws -> VerifiedSignature {
            let headers = SignV4.headers(
                method: "PUT", host: "h", path: "/b/k", query: [], headers: [], payloadHash: payload, accessKeyID: "a", secret: "s",
                region: "r",
                now: now)
            let request = SignedRequest(
                method: "PUT", rawPath: "/b/k", headers: [(name: "host", value: "h")] + headers.map { (name: $0.0, value: $0.1) },
                isTLS: true)
            return try #require(try AWSSignature.parse(request, form: nil, service: .s3)).verify(secret: "s", now: now)
        }
        let kinds = [
            try verified("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), try verified("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            try verified("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ]
        try await run("chunks") { generator, input in
            let limit = generator.next(40)
            for kind in kinds {
                do {
                    var decoder = try ChunkDecoder(verified: kind, decodedLength: limit, trailers: ["x-amz-checksum-crc32"])
                    var size = 0
                    var rest = input[...]
                    while !rest.isEmpty {
                        let piece = rest.prefix(1 + generator.next(20))
                        rest = rest.dropFirst(piece.count)
                        size += try decoder.feed(piece).reduce(0) { $0 + $1.count }
                        #expect(size <= limit)
                    }
                    _ = try decoder.finish()
                    #expect(size == limit)
                } catch is CloudError {}
            }
        }
    }
}
