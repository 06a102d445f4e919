import Domain
import Signing
import Testing

@testable import WalrusKit

func code(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch let error as CloudError {
        return S3ErrorCode.of(error).code
    } catch { return "\(error)" }
}

@Suite struct RangeTests {
    @Test(
        arguments: [
            (nil, ByteRange.Outcome.whole), ("bytes=0-0", .part(offset: 0, length: 1)), ("bytes=2-", .part(offset: 2, length: 8)),
            ("bytes=-3", .part(offset: 7, length: 3)), ("bytes=-30", .part(offset: 0, length: 10)),
            ("bytes=5-100", .part(offset: 5, length: 5)),
            ("bytes=9-9", .part(offset: 9, length: 1)), ("bytes=10-", .unsatisfiable), ("bytes=10-11", .unsatisfiable),
            ("bytes=-0", .unsatisfiable),
            ("bytes=5-2", .whole), ("bytes=a-b", .whole), ("bytes=0-1,3-4", .whole), ("items=0-1", .whole), ("bytes=", .whole),
            ("bytes=-", .whole),
            ("bytes=٣-٤", .whole), ("bytes=0-99999999999999999999", .part(offset: 0, length: 10)),
            ("bytes=99999999999999999999-", .unsatisfiable),
        ] as [(String?, ByteRange.Outcome)])
    func ranges(_ header: String?, _ expected: ByteRange.Outcome) {
        #expect(ByteRange.parse(header, size: 10) == expected, "\(header ?? "none")")
    }

    @Test func emptyObjects() {
        #expect(ByteRange.parse("bytes=0-", size: 0) == .unsatisfiable)
        #expect(ByteRange.parse("bytes=-5", size: 0) == .unsatisfiable)
        #expect(ByteRange.parse(nil, size: 0) == .whole)
    }

    @Test func copyRangesAreStrict() throws {
        let good = try #require(ByteRange.parseStrict("bytes=1-3"))
        #expect(good.first == 1 && good.last == 3)
        for bad in ["bytes=1-", "bytes=-3", "bytes=3-1", "0-3", "bytes=1-2,3-4", "bytes=+1-2"] {
            #expect(ByteRange.parseStrict(bad) == nil, "\(bad)")
        }
    }
}

@Suite struct PreconditionsTests {
    private let modified = Timestamp(milliseconds: 1_000_500)

    @Test func reads() {
        func read(_ p: Preconditions) -> Preconditions.ReadOutcome { p.read(etag: "e", modified: modified) }
        #expect(read(.init()) == .proceed)
        #expect(read(.init(ifMatch: "\"e\"")) == .proceed)
        #expect(read(.init(ifMatch: "\"x\", \"e\"")) == .proceed)
        #expect(read(.init(ifMatch: "*")) == .proceed)
        #expect(read(.init(ifMatch: "\"x\"")) == .failed(header: "If-Match"))
        #expect(read(.init(ifNoneMatch: "e")) == .notModified)
        #expect(read(.init(ifNoneMatch: "W/\"e\"")) == .notModified)
        // HTTP dates know no milliseconds.
        #expect(read(.init(ifModifiedSince: Timestamp(seconds: 1000))) == .notModified)
        #expect(read(.init(ifModifiedSince: Timestamp(seconds: 999))) == .proceed)
        #expect(read(.init(ifUnmodifiedSince: Timestamp(seconds: 1000))) == .proceed)
        #expect(read(.init(ifUnmodifiedSince: Timestamp(seconds: 999))) == .failed(header: "If-Unmodified-Since"))
        // S3's combinations: the ETag outweighs the date.
        #expect(read(.init(ifMatch: "e", ifUnmodifiedSince: Timestamp(seconds: 999))) == .proceed)
        #expect(read(.init(ifNoneMatch: "x", ifModifiedSince: Timestamp(seconds: 1000))) == .proceed)
    }

    @Test func writes() {
        #expect(code { try Preconditions(ifNoneMatch: "*").write(current: nil, key: "k") } == nil)
        #expect(code { try Preconditions(ifNoneMatch: "*").write(current: "e", key: "k") } == "PreconditionFailed")
        #expect(code { try Preconditions(ifNoneMatch: "\"e\"").write(current: nil, key: "k") } == nil)
        #expect(code { try Preconditions(ifNoneMatch: "\"e\"").write(current: "e", key: "k") } == "PreconditionFailed")
        #expect(code { try Preconditions(ifNoneMatch: "\"e\"").write(current: "f", key: "k") } == nil)
        #expect(code { try Preconditions(ifMatch: "e").write(current: "e", key: "k") } == nil)
        #expect(code { try Preconditions(ifMatch: "e").write(current: "f", key: "k") } == "PreconditionFailed")
        #expect(code { try Preconditions(ifMatch: "e").write(current: nil, key: "k") } == "NoSuchKey")
        #expect(code { try Preconditions(ifModifiedSince: modified).write(current: nil, key: "k") } == "NotImplemented")
        let there = (etag: "e", size: 5, modified: modified)
        #expect(code { try Preconditions(ifMatch: "f").delete(current: there) } == "PreconditionFailed")
        #expect(code { try Preconditions(ifMatch: "e").delete(current: there, size: 5, lastModified: Timestamp(seconds: 1000)) } == nil)
        #expect(code { try Preconditions().delete(current: there, size: 4) } == "PreconditionFailed")
        #expect(code { try Preconditions().delete(current: there, lastModified: Timestamp(seconds: 999)) } == "PreconditionFailed")
        #expect(code { try Preconditions(ifMatch: "e").delete(current: nil) } == nil)
    }
}

@Suite struct TargetTests {
    private func target(_ path: String, host: String? = nil) throws -> S3Target {
        try S3Target(rawPath: path, host: host, domain: "s3.test")
    }

    @Test func pathStyle() throws {
        #expect(try target("/").bucket == nil)
        #expect(try target("/b").bucket == "b")
        #expect(try target("/b/").key == nil)
        #expect(try target("/b/k").key == Array("k".utf8))
        #expect(try target("/b//k/../x").key == Array("/k/../x".utf8))
        #expect(try target("/b/a%2Fb+c%20d").key == Array("a/b+c d".utf8))
        #expect(try target("/b/%C3%BC").key == Array("ü".utf8))
        #expect(try target("/b%2Fc/k").bucket == "b/c")
    }

    @Test func eucalyptusPaths() throws {
        for prefix in ["/services/Walrus", "/services/objectstorage"] {
            #expect(try target(prefix).bucket == nil)
            #expect(try target(prefix + "/").bucket == nil)
            #expect(try target(prefix + "/b/k").bucket == "b")
            #expect(try target(prefix + "/b/k").key == Array("k".utf8))
        }
        #expect(try target("/services/WalrusX/k").bucket == "services")
    }

    @Test func virtualHosts() throws {
        for host in ["b.s3.test", "B.S3.TEST", "b.s3.test:8778"] {
            let t = try target("/k/1", host: host)
            #expect(t.bucket == "b" && t.key == Array("k/1".utf8) && t.isVirtualHosted)
            #expect(try target("/", host: host).key == nil)
        }
        #expect(try target("/b/k", host: "s3.test").bucket == "b")
        #expect(try target("/b/k", host: "other.example").bucket == "b")
        #expect(try target("/k", host: "my.dotted.s3.test").bucket == "my.dotted")
    }

    @Test func brokenEscapes() {
        for path in ["/b/%", "/b/%2", "/b/%zz", "/%ff/k"] { #expect(code { _ = try target(path) } == "InvalidURI", "\(path)") }
        #expect(code { _ = try ObjectKey([0xff]) } == "InvalidURI")
        #expect(code { _ = try ObjectKey([UInt8](repeating: 65, count: 1025)) } == "KeyTooLongError")
    }

    @Test func queries() throws {
        let query = try S3Query(raw: "list-type=2&prefix=a%2Fb+c&acl&empty=&x=1&x=2")
        #expect(query["prefix"] == "a/b c")
        #expect(query.has("acl") && query["acl"] == "" && query.nonEmpty("empty") == nil)
        #expect(query["x"] == "1" && query["none"] == nil)
        #expect(code { _ = try S3Query(raw: "max=x").integer("max", 0...5) } == "InvalidArgument")
    }
}

@Suite struct NameTests {
    @Test func bucketNames() {
        for good in ["abc", "a-b-c", "my.bucket.name", "123", "1.2.3", String(repeating: "x", count: 63)] {
            #expect(code { try BucketRules.checkName(good) } == nil, "\(good)")
        }
        for bad in [
            "ab", "", "Abc", "a_b", "-abc", "abc-", "a..b", "a.-b", "192.168.0.1", "xn--a", "abc-s3alias", "services",
            String(repeating: "x", count: 64), "a/b",
            "ünï",
        ] {
            #expect(code { try BucketRules.checkName(bad) } == "InvalidBucketName", "\(bad)")
        }
    }

    @Test func listReach() {
        func reach(_ after: String, _ prefix: String = "", _ delimiter: String = "") -> [UInt8] {
            ListQuery(prefix: Array(prefix.utf8), delimiter: Array(delimiter.utf8), after: Array(after.utf8), maxKeys: 1).reach
        }
        #expect(reach("") == [])
        #expect(reach("a") == Array("a".utf8) + [0])
        #expect(reach("a/", "", "/") == Array("a0".utf8))  // '0' follows '/'
        #expect(reach("a/b", "", "/") == Array("a0".utf8))
        #expect(reach("a/b", "a/", "/") == Array("a/b".utf8) + [0])
        #expect(reach("a/b/c", "a/", "/") == Array("a/b0".utf8))
        #expect(ListRange.end(ofPrefix: []) == [0xff])
        #expect(ListRange.end(ofPrefix: Array("ab".utf8)) == Array("ac".utf8))
    }

    @Test func tokens() throws {
        #expect(try ContinuationToken.decode(ContinuationToken.encode([1, 2, 255])) == [1, 2, 255])
        for bad in ["", "AA==", "not base64!", "AQ=="] {
            #expect(code { _ = try ContinuationToken.decode(bad) } == "InvalidArgument", "\(bad)")
        }
    }

    @Test func blobIDs() {
        let id = BlobID(random: Array(0..<16))
        #expect(id.text == "000102030405060708090a0b0c0d0e0f")
        #expect(BlobID(parsing: id.text) == id)
        for bad in ["", "../../etc/passwd", String(repeating: "A", count: 32), String(repeating: "a", count: 31)] {
            #expect(BlobID(parsing: bad) == nil)
        }
    }
}

@Suite struct ACLTests {
    private let alice = String(repeating: "a", count: 64), bob = String(repeating: "b", count: 64)

    @Test func canned() throws {
        func acl(_ name: String) throws -> AccessControlList { try AccessControlList(canned: name, owner: alice, bucketOwner: bob) }
        #expect(try acl("private").allows(.read, caller: alice))
        #expect(try !acl("private").allows(.read, caller: bob))
        #expect(try !acl("private").allows(.read, caller: nil))
        #expect(try acl("public-read").allows(.read, caller: nil))
        #expect(try !acl("public-read").allows(.write, caller: nil))
        #expect(try acl("public-read-write").allows(.write, caller: nil))
        #expect(try acl("authenticated-read").allows(.read, caller: bob))
        #expect(try !acl("authenticated-read").allows(.read, caller: nil))
        #expect(try acl("bucket-owner-read").allows(.read, caller: bob))
        #expect(try !acl("bucket-owner-read").allows(.writeACP, caller: bob))
        #expect(try acl("bucket-owner-full-control").allows(.writeACP, caller: bob))
        #expect(code { _ = try acl("public") } == "InvalidArgument")
    }

    @Test func storedFormKeepsEverything() {
        let acl = AccessControlList([
            .init(.canonicalUser(alice), .fullControl), .init(.allUsers, .read), .init(.authenticatedUsers, .readACP),
            .init(.logDelivery, .write),
        ])
        #expect(AccessControlList(stored: acl.stored) == acl)
    }

    @Test func documents() throws {
        let names = OwnerNames(id: alice, displayName: "alice & co")
        let acl = AccessControlList([.init(.allUsers, .read), .init(.canonicalUser(alice), .fullControl)])
        let bytes = S3Document.accessControl(names, acl, names: [alice: names])
        #expect(
            String(decoding: bytes, as: UTF8.self) == """
                <?xml version="1.0" encoding="UTF-8"?>
                <AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>\(alice)</ID><DisplayName>alice &amp; co</DisplayName></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>\(alice)</ID><DisplayName>alice &amp; co</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>
                """)
        #expect(try ACLParsing.fromDocument(bytes, owner: alice) == acl)
        #expect(code { _ = try ACLParsing.fromDocument(bytes, owner: bob) } == "AccessDenied")
        #expect(code { _ = try ACLParsing.fromDocument(Array("<x/>".utf8), owner: alice) } == "MalformedXML")
        #expect(code { _ = try ACLParsing.fromDocument(Array("<!DOCTYPE a>".utf8), owner: alice) } == "MalformedXML")
    }

    @Test func tags() throws {
        let tags = try Tagging.fromHeader("a=b&c+d=%26")
        #expect(tags.map(\.name) == ["a", "c d"] && tags.map(\.value) == ["b", "&"])
        #expect(code { _ = try Tagging.fromHeader("a=1&a=2") } == "InvalidTag")
        #expect(code { _ = try Tagging.fromHeader((0..<11).map { "k\($0)=v" }.joined(separator: "&")) } == "InvalidTag")
        #expect(code { _ = try Tagging.fromHeader(String(repeating: "k", count: 129) + "=v") } == "InvalidTag")
        #expect(try Tagging.fromDocument(S3Document.tagging(tags), limit: 10).map(\.value) == ["b", "&"])
    }

    @Test func errorDocument() {
        let bytes = S3Document.error(code: "NoSuchKey", message: "It's <gone>", resource: "/b/k", requestID: "r1", extra: [("Key", "k")])
        #expect(
            String(decoding: bytes, as: UTF8.self) == """
                <?xml version="1.0" encoding="UTF-8"?>
                <Error><Code>NoSuchKey</Code><Message>It's &lt;gone&gt;</Message><Key>k</Key><Resource>/b/k</Resource><RequestId>r1</RequestId><HostId>walrus</HostId></Error>
                """)
    }
}

@Suite struct UploadRulesTests {
    private func part(_ n: Int, _ size: Int, checksum: StoredChecksum? = nil) -> PartRecord {
        PartRecord(
            number: n, blob: BlobID(random: [UInt8](repeating: UInt8(n), count: 16)), size: size, etag: Hex.encode(Digest.md5([UInt8(n)])),
            modified: Timestamp(milliseconds: 0), checksum: checksum)
    }
    private func order(_ parts: [(Int, String)]) throws -> CompletionOrder {
        let body = parts.map { "<Part><PartNumber>\($0.0)</PartNumber><ETag>&quot;\($0.1)&quot;</ETag></Part>" }.joined()
        return try CompletionOrder(Array("<CompleteMultipartUpload>\(body)</CompleteMultipartUpload>".utf8))
    }

    @Test func choosing() throws {
        let stored = [part(1, 5 << 20), part(2, 5 << 20), part(4, 3)]
        let chosen = try order([(1, stored[0].etag), (4, stored[2].etag)]).choose(from: stored)
        #expect(chosen.map(\.number) == [1, 4])
        #expect(CompletionOrder.etag(chosen) == Hex.encode(Digest.md5(Digest.md5([1]) + Digest.md5([4]))) + "-2")
        #expect(code { _ = try order([(1, "x")]).choose(from: stored) } == "InvalidPart")
        #expect(code { _ = try order([(3, stored[0].etag)]).choose(from: stored) } == "InvalidPart")
        #expect(code { _ = try order([(4, stored[2].etag), (5, "x")]).choose(from: stored) } == "InvalidPart")
        #expect(code { _ = try order([(2, "x"), (1, "x")]) } == "InvalidPartOrder")
        #expect(try order([(1, "x"), (1, "y")]).parts.map(\.etag) == ["y"])
        #expect(code { _ = try order([]) } == "MalformedXML")
        let small = [part(1, 100), part(2, 100)]
        #expect(code { _ = try order([(1, small[0].etag), (2, small[1].etag)]).choose(from: small) } == "EntityTooSmall")
    }

    @Test func checksumTypes() throws {
        func type(_ a: String?, _ t: String?) throws -> String {
            try UploadChecksum.parse(algorithm: a, type: t).map { "\($0.algorithm.rawValue) \($0.type.rawValue)" } ?? "none"
        }
        #expect(try type(nil, nil) == "none")
        #expect(try type("CRC32", nil) == "CRC32 COMPOSITE")
        #expect(try type("crc32c", "FULL_OBJECT") == "CRC32C FULL_OBJECT")
        #expect(try type("CRC64NVME", nil) == "CRC64NVME FULL_OBJECT")
        for (a, t) in [
            ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"), (nil, "COMPOSITE"), ("CRC32", "HALF"),
        ] {
            #expect(code { _ = try type(a, t) } == "InvalidRequest", "\(a ?? "") \(t)")
        }
    }
}
