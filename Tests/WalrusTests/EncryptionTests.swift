import Daemon
import Database
import Domain
import NIOPosix
import Signing
import TestKit
import Testing
import Wire
import Workflow

@testable import WalrusKit

@Suite struct EncryptionUnitTests {
    /// NIST SP 800-38A, F.5.5: CTR-AES256.
    @Test func counterModeAgainstTheStandard() throws {
        let key = try #require(Hex.decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
        let nonce = try #require(Hex.decode("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
        let plain = try #require(
            Hex.decode(
                "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
            ))
        let want =
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
        #expect(Hex.encode(try AESCounter(key: key, nonce: nonce, offset: 0).applied(to: plain)) == want)
        // From any byte on, also over the counter's carry.
        for top in [nonce, [UInt8](repeating: 0xff, count: 16)] {
            let whole = try AESCounter(key: key, nonce: top, offset: 0).applied(to: plain)
            for offset in [1, 15, 16, 17, 31, 33, 63] {
                let part = try AESCounter(key: key, nonce: top, offset: offset).applied(to: Array(plain[offset...]))
                #expect(part == Array(whole[offset...]), "from \(offset)")
            }
        }
    }

    @Test func dataKeysOpenWithTheirKeyOnly() throws {
        let ring = KeyRing(cloudKey: [UInt8](repeating: 1, count: 32), names: ["a", "b"], acceptsCustomerKeysOnHTTP: false)
        let other = KeyRing(cloudKey: [UInt8](repeating: 2, count: 32), names: ["a"], acceptsCustomerKeysOnHTTP: false)
        let data = [UInt8](repeating: 9, count: 32)
        let sealed = try ring.make(.kms, keyID: "a", context: "e30=", dataKey: data).record
        let kept = try #require(Encryption(stored: sealed.stored))
        #expect(kept == sealed)
        let plain = Array("hello".utf8)
        let bytes = try ring.open(kept, customer: nil).cipher(nil).applied(to: plain)
        #expect(bytes != plain)
        #expect(try ring.open(kept, customer: nil).cipher(nil).applied(to: bytes) == plain)
        #expect(throws: CloudError.self) { try other.open(kept, customer: nil) }
        let moved = Encryption(kind: .kms, keyID: "b", context: "e30=", sealedKey: kept.sealedKey)
        #expect(throws: CloudError.self) { try ring.open(moved, customer: nil) }
        let changed = Encryption(kind: .kms, keyID: "a", context: "e31=", sealedKey: kept.sealedKey)
        #expect(throws: CloudError.self) { try ring.open(changed, customer: nil) }
        #expect(throws: CloudError.self) { try ring.make(.kms, keyID: "unknown", dataKey: data) }
        #expect(throws: CloudError.self) { try KeyRing.none.make(.s3, dataKey: data) }
        #expect(Encryption(stored: "2 AES256 AAAA - - -") == nil && Encryption(stored: "") == nil)
        // A named key under its ARN is the same key.
        _ = try ring.make(.kms, keyID: "arn:aws:kms:karri-1:123456789012:key/a", dataKey: data)
    }
}

/// Encrypted objects through a real server.
@Suite(.serialized) struct EncryptionServerTests {
    private static let prefix = "x-amz-server-side-encryption"

    private static func customer(_ byte: UInt8, source: Bool = false) -> [(String, String)] {
        let key = [UInt8](repeating: byte, count: 32)
        let base = (source ? "x-amz-copy-source-server-side-encryption" : prefix) + "-customer-"
        return [(base + "algorithm", "AES256"), (base + "key", Base64.encode(key)), (base + "key-md5", Base64.encode(Digest.md5(key)))]
    }

    private static func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 7) } }

    @Test func everyKindAtEverySizeAndRange() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/sealed").status == 200)
            let kinds: [(name: String, put: [(String, String)], get: [(String, String)])] = [
                ("plain", [], []), ("s3", [(Self.prefix, "AES256")], []), ("kms", [(Self.prefix, "aws:kms")], []),
                ("named", [(Self.prefix, "aws:kms"), (Self.prefix + "-aws-kms-key-id", "key-1")], []),
                ("customer", Self.customer(1), Self.customer(1)),
            ]
            for size in [0, 1, 100, 16 * 1024 + 1, 1_100_000] {
                let data = Self.bytes(size)
                for kind in kinds {
                    let path = "/sealed/\(kind.name)-\(size)"
                    let put = try await s3("PUT", path, headers: kind.put, body: data)
                    #expect(put.status == 200, "\(path) \(put.text)")
                    let isPlainETag = kind.name == "plain" || kind.name == "s3"
                    #expect((put.header("ETag") == "\"\(Hex.encode(Digest.md5(data)))\"") == isPlainETag || size == 0, "\(path)")
                    let got = try await s3("GET", path, headers: kind.get)
                    #expect(got.status == 200 && got.body == data, "\(path)")
                    #expect(got.header(Self.prefix) == kind.put.first { $0.0 == Self.prefix }?.1, "\(path)")
                    if kind.name == "customer" {
                        #expect(got.header(Self.prefix + "-customer-key-md5") == Self.customer(1)[2].1)
                        #expect(try await s3("GET", path).status == 400)
                        #expect(try await s3("GET", path, headers: Self.customer(2)).status == 403)
                    }
                    if kind.name == "plain" { #expect(try await s3("GET", path, headers: Self.customer(1)).code == "InvalidRequest") }
                    for (from, to) in [(0, 0), (1, 17), (15, 16), (33, 90)] where to < size {
                        let part = try await s3("GET", path, headers: kind.get + [("Range", "bytes=\(from)-\(to)")])
                        #expect(part.status == 206 && part.body == Array(data[from...to]), "\(path) \(from)-\(to)")
                    }
                }
            }
            // No plain text on the disk or in a row.
            let rows = try await w.pool.read { try GarbageStore.inlineObjects($0, live: true, after: nil, limit: 100) }
            for row in rows where row.size == 100 {
                let isPlain = String(decoding: row.key, as: UTF8.self).hasPrefix("plain")
                #expect((row.bytes == Self.bytes(100)) == isPlain)
            }
            let store = try LocalBytes(root: w.folder + "/data", pool: .singleton, exclusive: false)
            let report = try await Fsck(pool: w.pool, bytes: store, now: SystemClock().now()).run(repair: false)
            #expect(report.isClean && report.inlineObjects == 15 && report.blobs == 10, "\(report.lines)")
        }
    }

    @Test func partsAndCopiesInAllCombinations() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/combined").status == 200)
            let kinds: [(put: [(String, String)], get: [(String, String)], source: [(String, String)], part: [(String, String)])] = [
                ([], [], [], []), ([(Self.prefix, "AES256")], [], [], []), ([(Self.prefix, "aws:kms")], [], [], []),
                (Self.customer(7), Self.customer(7), Self.customer(7, source: true), Self.customer(7)),
            ]
            let first = Self.bytes(5 << 20)
            let last = Self.bytes(70_001)
            for (n, kind) in kinds.enumerated() {
                let started = try await s3("POST", "/combined/up\(n)", [("uploads", "")], headers: kind.put)
                let id = try #require(try started.children("UploadId").first?.text)
                var list = ""
                for (number, data) in [(1, first), (2, last)] {
                    let part = try await s3(
                        "PUT", "/combined/up\(n)", [("partNumber", "\(number)"), ("uploadId", id)], headers: kind.part, body: data)
                    #expect(part.status == 200, "\(part.text)")
                    list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(part.header("ETag") ?? "")</ETag></Part>"
                }
                if !kind.part.isEmpty {
                    let query = [("partNumber", "3"), ("uploadId", id)]
                    #expect(try await s3("PUT", "/combined/up\(n)", query, body: [1]).code == "InvalidRequest")
                    #expect(try await s3("PUT", "/combined/up\(n)", query, headers: Self.customer(8), body: [1]).code == "InvalidRequest")
                }
                let order = "<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>"
                if !kind.part.isEmpty {
                    #expect(try await s3("POST", "/combined/up\(n)", [("uploadId", id)], text: order).code == "InvalidRequest")
                }
                let done = try await s3("POST", "/combined/up\(n)", [("uploadId", id)], headers: kind.part, text: order)
                #expect(done.status == 200 && done.code == nil, "\(done.text)")
                let part = try await s3(
                    "GET", "/combined/up\(n)", headers: kind.get + [("Range", "bytes=\(first.count - 5)-\(first.count + 9)")])
                #expect(part.body == Array(first.suffix(5) + last.prefix(10)))
                #expect(try await s3("PUT", "/combined/small\(n)", headers: kind.put, body: Self.bytes(999)).status == 200)
            }
            for (from, source) in kinds.enumerated() {
                for (to, target) in kinds.enumerated() {
                    for (name, data) in [("up", first + last), ("small", Self.bytes(999))] {
                        let copy = try await s3(
                            "PUT", "/combined/copy\(to)",
                            headers: [("x-amz-copy-source", "/combined/\(name)\(from)")] + target.put + source.source)
                        #expect(copy.status == 200, "\(name) \(from) to \(to): \(copy.text)")
                        let got = try await s3("GET", "/combined/copy\(to)", headers: target.get)
                        #expect(got.body == data, "\(name) \(from) to \(to)")
                    }
                }
            }
            let store = try LocalBytes(root: w.folder + "/data", pool: .singleton, exclusive: false)
            let report = try await Fsck(pool: w.pool, bytes: store, now: SystemClock().now()).run(repair: false)
            #expect(report.isClean, "\(report.lines)")
        }
    }

    @Test func refusals() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/refused").status == 200)
            let key = Self.customer(3)
            let p = Self.prefix
            let bad: [(headers: [(String, String)], code: String)] = [
                ([(p, "rot13")], "InvalidArgument"), ([(p + "-aws-kms-key-id", "key-1")], "InvalidArgument"),
                ([(p, "AES256"), (p + "-aws-kms-key-id", "key-1")], "InvalidArgument"),
                ([(p, "aws:kms"), (p + "-aws-kms-key-id", "nobody")], "KMS.NotFoundException"),
                ([(p, "aws:kms"), (p + "-context", "no json")], "InvalidArgument"), ([(p, "AES256")] + key, "InvalidArgument"),
                ([key[0]], "InvalidArgument"), ([key[1], key[2]], "InvalidArgument"), ([key[0], key[1]], "InvalidArgument"),
                ([key[0], key[1], (p + "-customer-key-md5", Base64.encode([UInt8](repeating: 0, count: 16)))], "InvalidArgument"),
                ([(key[0].0, "AES128"), key[1], key[2]], "InvalidEncryptionAlgorithmError"),
                ([key[0], (key[1].0, "AAAA"), key[2]], "InvalidArgument"),
            ]
            for (headers, code) in bad {
                let reply = try await s3("PUT", "/refused/k", headers: headers, body: [1])
                #expect(reply.status == 400 && reply.code == code, "\(headers): \(reply.text)")
            }
            #expect(try await s3("PUT", "/refused/k", body: [1]).status == 200)
            #expect(try await s3("GET", "/refused/k", headers: [(p, "AES256")]).code == "InvalidArgument")
        }
    }
}
