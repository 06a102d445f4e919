import Domain
import Testing

@testable import Signing

/// Bytes that nobody would send, with a fixed seed: an error or nothing comes of them, never a stop of the process, and never acceptance.
@Suite struct FuzzTests {
    struct Numbers {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        mutating func bytes(_ most: Int) -> [UInt8] { (0..<next(most)).map { _ in UInt8(next(256)) } }
        /// Pieces that mean something, in no order.
        mutating func text(_ words: [String], _ most: Int) -> String { (0..<next(most)).map { _ in words[next(words.count)] }.joined() }
        /// A few changes, cuts and repetitions.
        mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
            var out = bytes
            for _ in 0..<(1 + next(4)) where !out.isEmpty {
                let at = next(out.count)
                switch next(5) {
                case 0: out[at] = UInt8(next(256))
                case 1: out.remove(at: at)
                case 2: out.insert(UInt8(next(256)), at: at)
                case 3: out.insert(contentsOf: out[at..<min(out.count, at + 40)], at: next(out.count))
                default: out.removeSubrange(at..<min(out.count, at + 1 + next(60)))
                }
            }
            return out
        }
    }

    @Test(arguments: [1, 2, 3]) func requests(_ seed: UInt64) {
        var n = Numbers(state: seed)
        let words = [
            "AWS4-HMAC-SHA256", " ", "Credential=", "AK", "/", "20261122", "r", "s3", "aws4_request", ",", "SignedHeaders=", "host", ";",
            "x-amz-date",
            "Signature=", CanonicalV4.emptySHA256, "AWS", ":", "=", "&", "%", "%2", "%zz", "+", "é", "e\u{301}", "\u{0}", "X-Amz-Signature",
            "X-Amz-Algorithm",
            "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "Expires", "AWSAccessKeyId", "SignatureVersion",
            "Timestamp", "9", "-",
        ]
        for _ in 0..<3000 {
            let request = SignedRequest(
                method: n.text(["GET", "PUT", "x", ""], 2), rawPath: n.text(words, 6), rawQuery: n.text(words, 20),
                headers: [
                    ("host", n.text(words, 3)),
                    ("authorization", n.next(2) == 0 ? "AWS4-HMAC-SHA256 " + n.text(words, 20) : n.text(words, 10)),
                    ("x-amz-date", "20261122T150000Z"), ("x-amz-content-sha256", n.text(words, 3)),
                ].filter { _ in n.next(4) > 0 }, isTLS: n.next(2) == 0)
            for service in [AWSSignature.Service.s3, .ec2Query] {
                let form = n.next(2) == 0 ? nil : [(n.text(words, 2), n.text(words, 2))]
                let error = refusal {
                    if let parsed = try AWSSignature.parse(request, form: form, service: service) {
                        _ = try parsed.verify(secret: "secret", now: Timestamp(seconds: 1_795_359_600))
                        Issue.record("accepted")
                    }
                }
                _ = error
            }
        }
    }

    @Test func chunks() throws {
        var n = Numbers(state: 4)
        let seed = VerifiedSignature.Seed(signature: CanonicalV4.emptySHA256, signingKey: [1], date: "d", scope: "s")
        let kinds: [PayloadKind] = [.streamingSigned(trailer: true), .streamingSigned(trailer: false), .streamingUnsignedTrailer]
        let words = [
            "5", "0", "\r\n", "\n", "\r", "hello", ";chunk-signature=", CanonicalV4.emptySHA256, "x-amz-a:b", ":", "ffffffffffff", ";",
            "\u{0}",
        ]
        for _ in 0..<3000 {
            let verified = VerifiedSignature(accessKeyID: "a", kind: .v4Header, sessionToken: nil, payload: kinds[n.next(3)], seed: seed)
            var decoder = try ChunkDecoder(verified: verified, decodedLength: n.next(2) == 0 ? nil : n.next(20), trailers: ["x-amz-a"])
            let bytes = Array(n.text(words, 20).utf8)
            let cut = n.next(bytes.count + 1)
            _ = refusal {
                _ = try decoder.feed(Array(bytes[..<cut]))
                _ = try decoder.feed(bytes[cut...])
                _ = try decoder.finish()
                if case .streamingSigned = verified.payload { Issue.record("accepted") }
            }
        }
    }

    @Test func keys() throws {
        let (key, certificate) = try TestKeys.pair()
        var n = Numbers(state: 5)
        let line = Array(key.publicKey.openSSHPublicKey(comment: "c").utf8)
        let pem = Array(certificate.pem.utf8)
        for _ in 0..<300 {
            _ = try? OpenSSHKey(parsing: String(decoding: n.mutated(line), as: UTF8.self)).fingerprint
            _ = try? Certificate(der: n.mutated(certificate.der)).subjectAltURIs
            _ = try? Certificate(pem: String(decoding: n.mutated(pem), as: UTF8.self)).publicKey.isStrongRSA
            _ = try? PrivateKey(pem: String(decoding: n.mutated(Array(key.pem.utf8)), as: UTF8.self)).publicKey.der
            _ = try? PublicKey(der: n.mutated(key.publicKey.der)).openSSHBlob
            _ = try? key.unwrap(n.bytes(300))
            #expect(Base64.decode(Base64.encode(n.bytes(100))) != nil)
            _ = Base64.decode(String(decoding: n.bytes(100), as: UTF8.self))
        }
    }

    /// A signed message, mutated: what is accepted says what was signed.
    @Test(arguments: ["01-zeep-run-instances-2010-08-31-sha1.xml", "03-wss4j-describe-instances-2009-11-30-sha256-inclusivens.xml"])
    func envelopes(_ name: String) async throws {
        let bytes = try Golden.bytes("envelopes/\(name)")
        let certificate = try Certificate(pem: try Golden.text("envelopes/test-cert.pem"))
        func verify(_ bytes: [UInt8]) async throws -> VerifiedMessage {
            try await WSSecurity.verify(bytes, policy: .external(allowSHA1: true), now: EnvelopeTests.now, replay: ReplayCache()) {
                $0 == certificate.fingerprintSHA256
            }
        }
        let honest = try await verify(bytes)
        var n = Numbers(state: 6)
        var accepted = 0
        for _ in 0..<1500 {
            if let message = try? await verify(n.mutated(bytes)) {
                accepted += 1
                #expect(
                    message.body.operation == honest.body.operation && message.created == honest.created
                        && message.expires == honest.expires)
            }
        }
        #expect(accepted < 200)
    }
}
