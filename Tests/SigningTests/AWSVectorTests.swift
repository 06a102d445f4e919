import Domain
import Signing
import Testing

/// The examples that Amazon published with its specifications, to the letter.
@Suite struct AWSVectorTests {
    private let key = "AKIAIOSFODNN7EXAMPLE"
    private let host = "examplebucket.s3.amazonaws.com"
    private let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    private func signature(in headers: [(String, String)]) -> String {
        headers.first { $0.0 == "authorization" }?.1.split(separator: "=").last.map(String.init) ?? ""
    }

    private func moment(_ basic: String) throws -> Timestamp { try #require(Timestamp(basic: basic)) }

    /// AWS General Reference, "Examples of the complete SigV4 process": IAM ListUsers.
    @Test func generalReferenceListUsers() throws {
        let request = SignedRequest(
            method: "GET", rawPath: "/", rawQuery: "Action=ListUsers&Version=2010-05-08",
            headers: [
                ("Host", "iam.amazonaws.com"), ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("X-Amz-Date", "20150830T123600Z"),
                (
                    "Authorization",
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
                ),
            ], isTLS: true)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .ec2Query))
        #expect(parsed.accessKeyID == "AKIDEXAMPLE")
        let verified = try parsed.verify(
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", now: moment("20150830T123700Z"), bodySHA256: empty)
        #expect(verified.kind == .v4Header)
        #expect(throws: CloudError.self) { try parsed.verify(secret: "another", now: moment("20150830T123700Z"), bodySHA256: empty) }
    }

    /// From Amazon's aws-sig-v4-test-suite: paths are normalised and encoded, header values trimmed, query sorted.
    @Test(
        arguments: [
            ("GET", "/", "", [], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "//", "", [], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "/./", "", [], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "/example/..", "", [], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "/\u{1234}", "", [], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            ("GET", "/", "Param2=value2&Param1=value1", [], "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            ("POST", "/", "", [], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET", "/", "", [("My-Header1", " value1"), ("My-Header2", "\"a   b   c\"")], "my-header1;my-header2;",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
            ),
        ] as [(String, String, String, [(String, String)], String, String)])
    func testSuite(_ v: (String, String, String, [(String, String)], String, String)) throws {
        let authorization =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;\(v.4)x-amz-date, Signature=\(v.5)"
        let request = SignedRequest(
            method: v.0, rawPath: v.1, rawQuery: v.2,
            headers: [("Host", "example.amazonaws.com"), ("X-Amz-Date", "20150830T123600Z"), ("Authorization", authorization)]
                + v.3.map { ($0.0, $0.1) }, isTLS: true)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .ec2Query))
        _ = try parsed.verify(secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", now: moment("20150830T123600Z"))
    }

    /// S3 API Reference, "Examples: Signature Calculations": the same requests, signed by us and verified.
    @Test(
        arguments: [
            ("GET", "/test.txt", [], [("range", "bytes=0-9")], "", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            (
                "PUT", "/test%24file.text", [], [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                "Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            ),
            ("GET", "/", [("lifecycle", "")], [], "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("GET", "/", [("max-keys", "2"), ("prefix", "J")], [], "", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] as [(String, String, [(String, String)], [(String, String)], String, String)])
    func s3HeaderExamples(_ v: (String, String, [(String, String)], [(String, String)], String, String)) throws {
        let now = try moment("20130524T000000Z")
        let added = SignV4.headers(
            method: v.0, host: host, path: v.1, query: v.2, headers: v.3, payloadHash: SignV4.payloadHash(Array(v.4.utf8)),
            accessKeyID: key, secret: exampleSecret, region: "us-east-1", now: now)
        #expect(signature(in: added) == v.5)
        let request = SignedRequest(
            method: v.0, rawPath: v.1, rawQuery: v.2.map { "\($0.0)=\($0.1)" }.joined(separator: "&"),
            headers: [("Host", host)] + v.3 + added, isTLS: true)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .s3))
        let verified = try parsed.verify(secret: exampleSecret, now: now, bodySHA256: SignV4.payloadHash(Array(v.4.utf8)))
        #expect(verified.accessKeyID == key)
    }

    /// S3 API Reference, "Authenticating Requests: Using Query Parameters".
    @Test func s3PresignedExample() throws {
        let now = try moment("20130524T000000Z")
        let url = Presign.url(
            method: "GET", endpoint: "https://examplebucket.s3.amazonaws.com", path: "/test.txt", accessKeyID: key, secret: exampleSecret,
            region: "us-east-1", expires: 86_400, now: now)
        #expect(url.hasSuffix("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"))
        let query = try #require(url.split(separator: "?").last)
        let request = SignedRequest(method: "GET", rawPath: "/test.txt", rawQuery: String(query), headers: [("Host", host)], isTLS: true)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .s3))
        #expect(parsed.kind == .v4Query)
        _ = try parsed.verify(secret: exampleSecret, now: now.adding(seconds: 86_400))
        let late = refusal { _ = try parsed.verify(secret: exampleSecret, now: now.adding(seconds: 86_401)) }
        #expect(late?.reason == .named(code: "AccessDenied", status: 403))
    }

    /// S3 Developer Guide, "Signing and Authenticating REST Requests" (version 2).
    @Test(
        arguments: [
            (
                "GET", "/photos/puppy.jpg", "", [("Host", "johnsmith.s3.amazonaws.com"), ("Date", "Tue, 27 Mar 2007 19:36:42 +0000")],
                "johnsmith", "bWq2s1WEIj+Ydj0vQ697zp+IXMU="
            ),
            (
                "PUT", "/photos/puppy.jpg", "",
                [
                    ("Content-Type", "image/jpeg"), ("Content-Length", "94328"), ("Host", "johnsmith.s3.amazonaws.com"),
                    ("Date", "Tue, 27 Mar 2007 21:15:45 +0000"),
                ], "johnsmith", "MyyxeRY7whkBe+bq8fHCL/2kKUg="
            ),
            (
                "GET", "/", "prefix=photos&max-keys=50&marker=puppy",
                [("User-Agent", "Mozilla/5.0"), ("Host", "johnsmith.s3.amazonaws.com"), ("Date", "Tue, 27 Mar 2007 19:42:41 +0000")],
                "johnsmith", "htDYFYduRNen8P9ZfE/s9SuKy0U="
            ),
            (
                "GET", "/", "acl", [("Host", "johnsmith.s3.amazonaws.com"), ("Date", "Tue, 27 Mar 2007 19:44:46 +0000")], "johnsmith",
                "c2WLPFtWHVgbEmeEG93a4cG37dM="
            ),
            (
                "PUT", "/db-backup.dat.gz", "",
                [
                    ("User-Agent", "curl/7.15.5"), ("Host", "static.johnsmith.net:8080"), ("Date", "Tue, 27 Mar 2007 21:06:08 +0000"),
                    ("x-amz-acl", "public-read"), ("content-type", "application/x-download"), ("Content-MD5", "4gJE4saaMU4BqNR0kLY+lw=="),
                    ("X-Amz-Meta-ReviewedBy", "joe@johnsmith.net"), ("X-Amz-Meta-ReviewedBy", "jane@johnsmith.net"),
                    ("X-Amz-Meta-FileChecksum", "0x02661779"), ("X-Amz-Meta-ChecksumAlgorithm", "crc32"),
                ], "static.johnsmith.net", "ilyl83RwaSoYIEdixDQcA4OnAnc="
            ),
            (
                "GET", "/", "", [("Host", "s3.amazonaws.com"), ("Date", "Wed, 28 Mar 2007 01:29:59 +0000")], "",
                "qGdzdERIC03wnaRNKh6OqZehG9s="
            ),
            (
                "GET", "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re", "",
                [("Host", "s3.amazonaws.com"), ("Date", "Wed, 28 Mar 2007 01:49:49 +0000")],
                "", "DNEZGsoieTZ92F3bUfSPQcbGmlM="
            ),
        ] as [(String, String, String, [(String, String)], String, String)])
    func s3Version2Examples(_ v: (String, String, String, [(String, String)], String, String)) throws {
        let request = SignedRequest(
            method: v.0, rawPath: v.1, rawQuery: v.2, headers: v.3.map { ($0.0, $0.1) } + [("Authorization", "AWS \(key):\(v.5)")],
            isTLS: false,
            virtualBucket: v.4.isEmpty ? nil : v.4)
        let date = try #require(Timestamp(httpDate: v.3.first { $0.0 == "Date" }?.1 ?? ""))
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .s3))
        #expect(parsed.kind == .v2Header)
        _ = try parsed.verify(secret: exampleSecret, now: date)
        #expect(
            refusal { _ = try parsed.verify(secret: exampleSecret, now: date.adding(seconds: 901)) }?.reason == .unauthenticated(.expired))
        #expect(
            refusal { _ = try parsed.verify(secret: exampleSecret, now: date.adding(seconds: -901)) }?.reason
                == .unauthenticated(.notYetValid))
    }

    /// The same guide, "Query String Request Authentication".
    @Test func s3Version2Query() throws {
        let request = SignedRequest(
            method: "GET", rawPath: "/photos/puppy.jpg",
            rawQuery: "AWSAccessKeyId=\(key)&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620",
            headers: [("Host", "johnsmith.s3.amazonaws.com")], isTLS: false, virtualBucket: "johnsmith")
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .s3))
        _ = try parsed.verify(secret: exampleSecret, now: Timestamp(seconds: 1_175_139_620))
        #expect(throws: CloudError.self) { try parsed.verify(secret: exampleSecret, now: Timestamp(seconds: 1_175_139_621)) }
    }

    /// AWS General Reference, "Signature Version 2 signing process": the zone is missing in its Timestamp.
    @Test func queryVersion2Example() throws {
        let request = SignedRequest(
            method: "GET", rawPath: "/",
            rawQuery:
                "AWSAccessKeyId=\(key)&Action=DescribeJobFlows&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2011-10-03T15%3A19%3A30&Version=2009-03-31&Signature=i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf%2FMj6vPxyYIs%3D",
            headers: [("Host", "elasticmapreduce.amazonaws.com")], isTLS: true)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .ec2Query))
        #expect(parsed.kind == .v2Query)
        _ = try parsed.verify(secret: exampleSecret, now: moment("20111003T152000Z"))
    }

    // MARK: Streams

    private func streamed(trailer: Bool) throws -> VerifiedSignature {
        let kind = trailer ? "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" : "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
        var headers = [
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"), ("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", "66560"),
        ]
        if trailer {
            headers.append(("x-amz-trailer", "x-amz-checksum-crc32c"))
        } else {
            headers.append(("content-length", "66824"))
        }
        let now = try moment("20130524T000000Z")
        let added = SignV4.headers(
            method: "PUT", host: "s3.amazonaws.com", path: "/examplebucket/chunkObject.txt", headers: headers, payloadHash: kind,
            accessKeyID: key, secret: exampleSecret, region: "us-east-1", now: now)
        #expect(
            signature(in: added)
                == (trailer
                    ? "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
                    : "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"))
        let request = SignedRequest(
            method: "PUT", rawPath: "/examplebucket/chunkObject.txt",
            headers: [("host", "s3.amazonaws.com")] + headers.map { ($0.0, $0.1) } + added.map { ($0.0, $0.1) }, isTLS: false)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .s3))
        #expect(parsed.payload == .streamingSigned(trailer: trailer))
        return try parsed.verify(secret: exampleSecret, now: now)
    }

    private func body(_ signatures: [String], end: String) -> [UInt8] {
        let a = [UInt8](repeating: 0x61, count: 65_536)
        return Array("10000;chunk-signature=\(signatures[0])\r\n".utf8) + a + Array("\r\n400;chunk-signature=\(signatures[1])\r\n".utf8)
            + a.prefix(1024) + Array("\r\n0;chunk-signature=\(signatures[2])\r\n".utf8) + Array(end.utf8)
    }

    private let plain = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    private let trailing = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    private let trailerEnd =
        "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"

    /// S3 API Reference, "Signature calculations: transferring payload in multiple chunks", cut into pieces of every awkward size.
    @Test(arguments: [1, 7, 64, 1000, 65_536, 1_000_000]) func chunkedExample(_ step: Int) throws {
        let whole = body(plain, end: "\r\n")
        var decoder = try ChunkDecoder(verified: try streamed(trailer: false), decodedLength: 66_560)
        var data = 0
        var i = 0
        while i < whole.count {
            for piece in try decoder.feed(whole[i..<min(i + step, whole.count)]) {
                #expect(piece.allSatisfy { $0 == 0x61 })
                data += piece.count
            }
            i += step
        }
        #expect(try decoder.finish().isEmpty)
        #expect(data == 66_560)
    }

    /// The same reference, "with trailing headers".
    @Test(arguments: [3, 70_000]) func trailerExample(_ step: Int) throws {
        let whole = body(trailing, end: trailerEnd)
        var decoder = try ChunkDecoder(verified: try streamed(trailer: true), decodedLength: 66_560, trailers: ["x-amz-checksum-crc32c"])
        var i = 0
        while i < whole.count {
            _ = try decoder.feed(whole[i..<min(i + step, whole.count)])
            i += step
        }
        let trailers = try decoder.finish()
        #expect(trailers.count == 1)
        #expect(trailers.first?.name == "x-amz-checksum-crc32c" && trailers.first?.value == "sOO8/Q==")
    }

    private func outcome(_ bytes: [UInt8], trailer: Bool, length: Int? = 66_560, announced: [String] = ["x-amz-checksum-crc32c"]) throws
        -> CloudError?
    {
        var decoder = try ChunkDecoder(verified: try streamed(trailer: trailer), decodedLength: length, trailers: trailer ? announced : [])
        return refusal {
            _ = try decoder.feed(bytes)
            _ = try decoder.finish()
        }
    }

    @Test func brokenStreamsAreRefused() throws {
        let whole = body(plain, end: "\r\n")
        #expect(try outcome(whole, trailer: false) == nil)
        var changed = whole
        changed[5000] ^= 1
        #expect(try outcome(changed, trailer: false)?.reason == .unauthenticated(.badSignature))
        // A changed byte in the second chunk, and chunks in another order.
        changed = whole
        changed[66_000] ^= 1
        #expect(try outcome(changed, trailer: false)?.reason == .unauthenticated(.badSignature))
        #expect(try outcome(body([plain[1], plain[0], plain[2]], end: "\r\n"), trailer: false)?.reason == .unauthenticated(.badSignature))
        // Cut anywhere: in the data, before the last chunk, in its line. (Without the very last CR LF it is still whole.)
        for cut in [10, 40_000, 65_600, whole.count - 86, whole.count - 30, whole.count - 3] {
            #expect(try outcome(Array(whole.prefix(cut)), trailer: false) != nil, "cut at \(cut)")
        }
        #expect(try outcome(whole + [0x61], trailer: false) != nil)
        #expect(try outcome(whole, trailer: false, length: 66_559) != nil)
        #expect(try outcome(whole, trailer: false, length: 66_561) != nil)
        let last = body([plain[0], plain[1], plain[0]], end: "\r\n")
        #expect(try outcome(last, trailer: false)?.reason == .unauthenticated(.badSignature))
        for size in ["", "-1", "+1", "ffffffffffffffff", "0x10", "10000000000000", "g", " 1"] {
            #expect(try outcome(Array("\(size);chunk-signature=\(plain[0])\r\n".utf8), trailer: false) != nil, "size \(size)")
        }
        #expect(try outcome(Array("10000\r\n".utf8), trailer: false) != nil)
        #expect(try outcome([UInt8](repeating: 0x30, count: 2000), trailer: false) != nil)
    }

    @Test func brokenTrailersAreRefused() throws {
        #expect(try outcome(body(trailing, end: trailerEnd), trailer: true) == nil)
        let changed = body(trailing, end: trailerEnd.replacing("sOO8", with: "sOO9"))
        #expect(try outcome(changed, trailer: true)?.reason == .unauthenticated(.badSignature))
        #expect(try outcome(body(trailing, end: "\r\n"), trailer: true) != nil)
        #expect(try outcome(body(trailing, end: ""), trailer: true) != nil)
        #expect(try outcome(body(trailing, end: "x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n"), trailer: true) != nil)
        #expect(try outcome(body(trailing, end: "x-amz-meta-a:b\r\n" + trailerEnd), trailer: true) != nil)
        #expect(try outcome(body(trailing, end: trailerEnd), trailer: true, announced: ["x-amz-checksum-crc32"]) != nil)
        #expect(try outcome(body(trailing, end: trailerEnd), trailer: true, announced: ["x-amz-checksum-crc32c", "x-amz-other"]) != nil)
        #expect(try outcome(body(plain, end: "x-amz-meta-a:b\r\n\r\n"), trailer: false) != nil)
    }
}
