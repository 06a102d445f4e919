import Domain
import Signing
import TestKit
import Testing
import Wire
import Workflow

@testable import WalrusKit

@Suite struct ChecksumVectorTests {
    /// Made by the reference implementation (xxhash 3.x of PyPI) over bytes i·131 + i/8: length, XXH64, XXH3, XXH128.
    private static let vectors: [(Int, String, String, String)] = [
        (0, "ef46db3751d8e999", "2d06800538d394c2", "99aa06d3014798d86001c324468d497f"),
        (1, "e934a84adb052768", "c44bdff4074eecdb", "a6cd5e9392000f6ac44bdff4074eecdb"),
        (3, "a83378d1eb86ec62", "6811538b444fc6dc", "c925ae1797c3998f6811538b444fc6dc"),
        (4, "9882e57ed36c4cfc", "ed503340c589a28b", "6ae518c60df23fcadb9cecd5eb59a7f1"),
        (8, "a5bc8d8944331fe7", "e5b43ab074c9c13b", "63f350efc0ba3e2e5b3f49d0f38f9d7d"),
        (9, "a2852f960c31b119", "98b5d7141ed79e34", "9779e9837eb46b3fb29819f07be24be8"),
        (16, "917595d825aa12bc", "ac4b400b09fefc71", "3b1969c3d4fe036d552f4b2fff1f4d72"),
        (17, "e214af7e3f611e1d", "e43948ad7d39cc4e", "e96ab65d27f6ab6c71ce18c8f219e820"),
        (32, "be472cfc7179d8db", "285e921dd0912d24", "37b70d7e902b67b2f262918cfa1d827f"),
        (33, "65bd87d627c99e22", "71dc38a3bf0b5551", "fc6d21fb2e5459ae95b793751faee469"),
        (64, "e76e9bb1fbd6e66d", "61aebb26f12563f6", "a3245969e8aadffae02f2559629d7e18"),
        (65, "29a7b61bcbe38383", "4f6fd22179b6afa5", "299aa390011c7ed8824f79742d5abb75"),
        (96, "73b6394df9771953", "02ef3fb93f51af89", "2ace6d4e28b91ba67b185ade74f8cc16"),
        (97, "7868cab89a8033e9", "5f560370492f16cd", "25f93dd12fe8a66f80a48106a6d31ae5"),
        (128, "4a57a5e4e86224a3", "abe5353db9741d3c", "f2d31679b8b5686e1188fc8e42200dd7"),
        (129, "db7971eacff69945", "62e851eb617ab82c", "d15ec57e780df3b23b5eb4544c504f20"),
        (192, "c58b4c406da3d54b", "da989aaa024e86f1", "1965592639aadf15daa2f238a4186463"),
        (239, "01bac51fc4dd32ee", "f6e3b35c498b9a5e", "1a5befa7e17f419c0105faccd7e78113"),
        (240, "c2cfced29ca191c9", "3b7fbc325f2fe844", "fdfc81512b46d647c0a6fe354c39a7d2"),
        (241, "69aa2044baeca86c", "a9d16963bf94ed57", "e36e08da3c3d95d6a9d16963bf94ed57"),
        (256, "9387f3c74e5fa1a2", "2da5ad14ab420002", "30a179427495cae72da5ad14ab420002"),
        (512, "c052f89f4fff0ecc", "1e53be9718ec320c", "0a068686940c379c1e53be9718ec320c"),
        (1023, "a297ce939fafb251", "6a940f0d1f87e826", "eeea490d6cb9f3716a940f0d1f87e826"),
        (1024, "52263456e39ce3c0", "9de7f57ae046252a", "169f02376e40bdac9de7f57ae046252a"),
        (1025, "fb271dbd5b53791d", "bf9b78b0edb148d3", "946187df57d38292bf9b78b0edb148d3"),
        (1088, "4056bd99ecbe3bbe", "15efeba30eb0d4c3", "fd360ea21061e33715efeba30eb0d4c3"),
        (1089, "207f17df6dd91f09", "5ecbc43ba9c5bd00", "b80b14cde8e3f96f5ecbc43ba9c5bd00"),
        (2048, "c664812c47750da5", "4576b1b24aff16d1", "ab4463cd573e765c4576b1b24aff16d1"),
        (2049, "6414b24f4d2a7193", "78b61df10fd97c82", "3bd7028878ff0fef78b61df10fd97c82"),
        (4999, "94a7fb2a5621e67f", "f86e59b9119a5e2d", "d8b0a237c807fec1f86e59b9119a5e2d"),
    ]

    @Test func xxHash() {
        let data = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 131 &+ $0 >> 3) }
        for (count, xxh64, xxh3, xxh128) in Self.vectors {
            for (algorithm, want) in [(ChecksumAlgorithm.xxhash64, xxh64), (.xxhash3, xxh3), (.xxhash128, xxh128)] {
                for cut in [0, 31, 240, 1024, 1025] where cut <= count {
                    let running = RunningChecksum(algorithm)
                    data[..<cut].withUnsafeBytes { running.update($0) }
                    data[cut..<count].withUnsafeBytes { running.update($0) }
                    #expect(Hex.encode(running.finish()) == want, "\(algorithm) of \(count) cut at \(cut)")
                }
            }
        }
    }

    /// FIPS 180-4 and RFC 1321: "abc".
    @Test func digests() {
        #expect(
            Hex.encode(ChecksumAlgorithm.sha512.of(Array("abc".utf8)))
                == "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        )
        #expect(Hex.encode(ChecksumAlgorithm.md5.of(Array("abc".utf8))) == "900150983cd24fb0d6963f7d28e17f72")
    }

    /// Long pieces go through three registers at once: the value must be that of byte after byte.
    @Test func longPieces() {
        let data = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 &* 17 &+ $0 >> 5) }
        for algorithm in [ChecksumAlgorithm.crc32, .crc32c, .crc64nvme] {
            let small = RunningChecksum(algorithm)
            for start in stride(from: 0, to: data.count, by: 777) {
                data[start..<min(start + 777, data.count)].withUnsafeBytes { small.update($0) }
            }
            #expect(small.finish() == algorithm.of(data), "\(algorithm)")
        }
    }
}

@Suite(.serialized) struct ChecksumServerTests {
    /// All ten, in headers, of parts and objects, right and wrong.
    @Test func allAlgorithms() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/sums").status == 200)
            let data = (0..<30_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            for algorithm in ChecksumAlgorithm.allCases {
                let value = Base64.encode(algorithm.of(data))
                let path = "/sums/\(algorithm.rawValue)"
                let put = try await s3("PUT", path, headers: [(algorithm.header, value)], body: data)
                #expect(
                    put.status == 200 && put.header(algorithm.header) == value && put.header("x-amz-checksum-type") == "FULL_OBJECT",
                    "\(put.text)")
                let get = try await s3("GET", path, headers: [("x-amz-checksum-mode", "ENABLED")])
                #expect(get.header(algorithm.header) == value && get.body == data)
                #expect(try await s3("GET", path).header(algorithm.header) == nil)
                let attributes = try await s3("GET", path, [("attributes", "")], headers: [("x-amz-object-attributes", "Checksum")])
                #expect(attributes.text.contains("<\(algorithm.element)>\(value)</\(algorithm.element)>"), "\(attributes.text)")
                let wrong = Base64.encode([UInt8](repeating: 0, count: algorithm.length))
                for bad in [wrong, "bad", ""] {
                    let refused = try await s3("PUT", path + "-wrong", headers: [(algorithm.header, bad)], body: data)
                    #expect(refused.code == "BadDigest", "\(algorithm) \(bad): \(refused.text)")
                }
                #expect(try await s3("HEAD", path + "-wrong").status == 404)
                // A copy gets another one.
                let other: ChecksumAlgorithm = algorithm == .sha512 ? .crc32c : .sha512
                let copy = try await s3(
                    "PUT", path + "-copy", headers: [("x-amz-copy-source", path), ("x-amz-checksum-algorithm", other.rawValue)])
                #expect(copy.text.contains(Base64.encode(other.of(data))), "\(copy.text)")

                for type in algorithm.multipartTypes {
                    let started = try await s3(
                        "POST", path + "-up", [("uploads", "")],
                        headers: [("x-amz-checksum-algorithm", algorithm.rawValue), ("x-amz-checksum-type", type.rawValue)])
                    let id = try #require(try started.children("UploadId").first?.text)
                    let part = try await s3(
                        "PUT", path + "-up", [("partNumber", "1"), ("uploadId", id)], headers: [(algorithm.header, value)], body: data)
                    #expect(part.status == 200 && part.header(algorithm.header) == value, "\(part.text)")
                    #expect(try await s3("GET", path + "-up", [("uploadId", id)]).text.contains("<\(algorithm.element)>\(value)<"))
                    let whole = type == .fullObject ? value : Base64.encode(algorithm.of(algorithm.of(data))) + "-1"
                    let list =
                        "<Part><PartNumber>1</PartNumber><ETag>\(part.header("ETag") ?? "")</ETag><\(algorithm.element)>\(value)</\(algorithm.element)></Part>"
                    let text = "<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>"
                    let bad = try await s3("POST", path + "-up", [("uploadId", id)], headers: [(algorithm.header, wrong)], text: text)
                    #expect(bad.code == "BadDigest", "\(bad.text)")
                    let done = try await s3("POST", path + "-up", [("uploadId", id)], headers: [(algorithm.header, whole)], text: text)
                    #expect(
                        done.text.contains("<\(algorithm.element)>\(whole)<") && done.text.contains("<ChecksumType>\(type.rawValue)<"),
                        "\(done.text)")
                }
            }
        }
    }
}
