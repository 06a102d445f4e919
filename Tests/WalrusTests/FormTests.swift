import Daemon
import Domain
import Identity
import NIOCore
import Signing
import Synchronization
import TestKit
import Testing
import Workflow

@testable import WalrusKit

@Suite struct FormReaderTests {
    /// A body that comes in pieces of `size` bytes.
    private static func body(_ text: String, by size: Int) -> RequestBody {
        let rest = Mutex(Array(text.utf8)[...])
        return RequestBody {
            rest.withLock { rest in
                guard !rest.isEmpty else { return nil }
                let piece = rest.prefix(size)
                rest = rest.dropFirst(size)
                return ByteBuffer(bytes: piece)
            }
        }
    }

    private static func read(
        _ text: String, by size: Int = 7, type: String = "multipart/form-data; boundary=B"
    ) async throws -> (head: FormReader.Head, file: [UInt8]) {
        let reader = try FormReader(body: body(text, by: size), contentType: type)
        let head = try await reader.head()
        var file: [UInt8] = []
        while let piece = try await reader.next() { file += piece.readableBytesView }
        return (head, file)
    }

    private static let form =
        "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\nb\r\n--B\r\ncontent-disposition: form-data; name=acl\r\n\r\nprivate\r\n"
        + "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\x\\y.txt\"\r\nContent-Type: text/plain\r\n\r\n"
        + "one\r\n--\r\n--A\r\n\r\n--B--\r\nignored"

    @Test func piecesOfAnySize() async throws {
        for size in [1, 2, 3, 5, 13, 64, 10_000] {
            let (head, file) = try await Self.read(Self.form, by: size)
            #expect(head.fields.map(\.name) == ["key", "acl"] && head.fields.map(\.value) == ["a\r\nb", "private"])
            #expect(head.fileName == "y.txt" && head.fileType == "text/plain")
            #expect(String(decoding: file, as: UTF8.self) == "one\r\n--\r\n--A\r\n")
        }
        let (_, quoted) = try await Self.read(Self.form, type: "multipart/form-data; charset=x; boundary=\"B\"")
        #expect(quoted.count == 14)
    }

    @Test func refusals() async throws {
        let long = String(repeating: "x", count: 30_000)
        let cases: [(String, String)] = [
            ("", "MalformedPOSTRequest"), ("--B\r\n", "MalformedPOSTRequest"), ("--B--\r\n", "InvalidArgument"),
            ("--B\r\nno header\r\n\r\nx\r\n--B--", "MalformedPOSTRequest"),
            ("--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nx", "MalformedPOSTRequest"),
            ("--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx", "MalformedPOSTRequest"),
            ("--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n\(long)\r\n--B--", "MaxPostPreDataLengthExceeded"),
            ("--B\r\n\(long)", "MaxPostPreDataLengthExceeded"), (long, "MaxPostPreDataLengthExceeded"),
        ]
        for (text, want) in cases {
            do {
                _ = try await Self.read(text, by: 1000)
                Issue.record("\(text.prefix(60)) was taken")
            } catch let error as CloudError {
                #expect(S3ErrorCode.of(error).code == want, "\(text.prefix(60)): \(error)")
            }
        }
        for type in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"B"] {
            #expect(throws: CloudError.self, "\(type)") { try FormReader(body: RequestBody(bytes: []), contentType: type) }
        }
    }

    @Test func fileNames() {
        #expect(FormUpload.substituting("f.txt", in: "up/${filename}") == "up/f.txt")
        #expect(FormUpload.substituting("${filename}", in: "${filename}${filename}x") == "${filename}${filename}x")
        #expect(FormUpload.substituting("f", in: "${file") == "${file")
    }
}

@Suite struct FormPolicyTests {
    private let now = Timestamp(seconds: 1_000_000_000)
    private func policy(_ conditions: String, expiration: String = "\"2030-01-01T00:00:00Z\"") throws -> FormPolicy {
        try FormPolicy(base64: Base64.encode(Array("{\"expiration\": \(expiration), \"conditions\": [\(conditions)]}".utf8)))
    }
    private func code(_ body: () throws -> Void) -> String {
        do { try body() } catch let error as CloudError { return S3ErrorCode.of(error).code } catch { return "\(error)" }
        return "none"
    }

    @Test func conditions() throws {
        let p = try policy(
            #"{"bucket": "b", "acl": "private"}, ["starts-with", "$key", "u/"], ["EQ", "$x-amz-meta-a", "1"], ["content-length-range", 1, "10"]"#
        )
        #expect(p.sizes == 1...10)
        let good = ["bucket": "b", "acl": "private", "key": "u/x", "x-amz-meta-a": "1"]
        #expect(code { try p.check(good, now: now) } == "none")
        #expect(code { try p.check(good.merging(["signature": "s", "policy": "p", "x-ignore-me": "1"]) { $1 }, now: now) } == "none")
        // Each member of an object counts, not only the last.
        for (field, value) in [
            ("bucket", "c"), ("acl", "public-read"), ("key", "v/x"), ("x-amz-meta-a", "2"), ("x-amz-meta-b", "1"), ("tagging", ""),
        ] {
            #expect(code { try p.check(good.merging([field: value]) { $1 }, now: now) } == "AccessDenied", "\(field)")
        }
        for field in good.keys {
            var less = good
            less[field] = nil
            #expect(code { try p.check(less, now: now) } == "AccessDenied", "without \(field)")
        }
        #expect(code { try p.check(good, now: Timestamp(iso8601: "2030-01-01T00:00:01Z") ?? now) } == "AccessDenied")
        #expect(code { try policy(#"["starts-with", "$k\$ey", ""]"#).check(["k$ey": "any"], now: now) } == "none")
    }

    @Test func malformed() {
        for conditions in [
            "{}", "[]", #"["eq", "key", "x"]"#, #"["eq", "$key"]"#, #"["like", "$key", "x"]"#, #"{"key": 1}"#,
            #"["content-length-range", 1]"#,
            #"["content-length-range", 5, 1]"#, #"["content-length-range", "a", 1]"#,
            #"["content-length-range", 1, 2], ["content-length-range", 5, 6]"#,
            "null",
        ] {
            #expect(code { _ = try policy(conditions) } == "InvalidPolicyDocument", "\(conditions)")
        }
        #expect(code { _ = try policy("", expiration: "\"soon\"") } == "InvalidPolicyDocument")
        #expect(code { _ = try policy("", expiration: "5") } == "InvalidPolicyDocument")
        for text in ["!", "", Base64.encode(Array("[]".utf8)), Base64.encode(Array(#"{"expiration": "2030-01-01T00:00:00Z"}"#.utf8))] {
            #expect(code { _ = try FormPolicy(base64: text) } == "InvalidPolicyDocument", "\(text)")
        }
    }
}

@Suite(.serialized) struct FormServerTests {
    private static func form(_ fields: [(String, String)], file: [UInt8], name: String = "f.bin") -> [UInt8] {
        var body = ""
        for (field, value) in fields { body += "--edge\r\nContent-Disposition: form-data; name=\"\(field)\"\r\n\r\n\(value)\r\n" }
        body += "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(name)\"\r\n\r\n"
        return Array(body.utf8) + file + Array("\r\n--edge\r\nContent-Disposition: form-data; name=\"late\"\r\n\r\nx\r\n--edge--\r\n".utf8)
    }

    private static func post(_ w: TestWalrus, _ bucket: String, _ body: [UInt8]) async throws -> HTTPClientResponse {
        try await HTTPClient().execute(
            HTTPClientRequest(
                "POST", url: "\(w.endpoint)/\(bucket)", headers: [("Content-Type", "multipart/form-data; boundary=edge")],
                body: .bytes(body)))
    }

    /// The fields of a policy of version 4.
    private static func signed(_ w: TestWalrus, _ conditions: String) -> [(String, String)] {
        let date = SystemClock().now().basic
        let credential = "\(w.alice.key.id)/\(date.prefix(8))/karri-1/s3/aws4_request"
        let text = """
            {"expiration": "2099-01-01T00:00:00Z", "conditions": [{"x-amz-algorithm": "AWS4-HMAC-SHA256"}, {"x-amz-credential": "\(credential)"},
            {"x-amz-date": "\(date)"}, \(conditions)]}
            """
        let policy = Base64.encode(Array(text.utf8))
        var key = HMAC.sha256(key: Array("AWS4\(w.alice.key.secret)".utf8), date.prefix(8).utf8)
        for part in ["karri-1", "s3", "aws4_request"] { key = HMAC.sha256(key: key, part.utf8) }
        return [
            ("policy", policy), ("x-amz-algorithm", "AWS4-HMAC-SHA256"), ("x-amz-credential", credential), ("x-amz-date", date),
            ("x-amz-signature", Hex.encode(HMAC.sha256(key: key, policy.utf8))),
        ]
    }

    @Test func uploads() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/forms").status == 200)
            let conditions =
                #"{"bucket": "forms"}, ["starts-with", "$key", "up/"], ["content-length-range", 3, 3000000], ["starts-with", "$", ""]"#
            #expect(throws: CloudError.self) { try FormPolicy(base64: Base64.encode(Array("{\"conditions\": [\(conditions)]}".utf8))) }
            let rules =
                #"{"bucket": "forms"}, ["starts-with", "$key", "up/"], ["content-length-range", 3, 3000000], ["starts-with", "$x-amz-meta-who", ""],"#
                + #"["starts-with", "$tagging", ""], ["starts-with", "$success_action_status", ""], ["starts-with", "$x-amz-checksum-xxhash3", ""],"#
                + #"["starts-with", "$x-amz-server-side-encryption", ""], ["starts-with", "$success_action_redirect", ""]"#
            let fields = Self.signed(w, rules)
            for size in [3, 20_000, 2_000_001] {
                let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 13) }
                let checksum = Base64.encode(ChecksumAlgorithm.xxhash3.of(data))
                let more = [
                    ("key", "up/${filename}"), ("x-amz-meta-who", "me"), ("success_action_status", "201"),
                    ("x-amz-server-side-encryption", "AES256"),
                    ("tagging", "<Tagging><TagSet><Tag><Key>a b</Key><Value>c/d</Value></Tag></TagSet></Tagging>"),
                    ("x-amz-checksum-xxhash3", checksum),
                ]
                let reply = try await Self.post(w, "forms", Self.form(fields + more, file: data, name: "n\(size)"))
                let text = String(decoding: reply.body, as: UTF8.self)
                #expect(
                    reply.status == 201 && text.contains("<Key>up/n\(size)</Key>") && text.contains("<Bucket>forms</Bucket>"), "\(text)")
                let got = try await s3("GET", "/forms/up/n\(size)", headers: [("x-amz-checksum-mode", "ENABLED")])
                #expect(got.body == data && got.header("x-amz-meta-who") == "me" && got.header("x-amz-checksum-xxhash3") == checksum)
                #expect(got.header("x-amz-server-side-encryption") == "AES256")
                #expect(try await s3("GET", "/forms/up/n\(size)", [("tagging", "")]).text.contains("<Key>a b</Key><Value>c/d</Value>"))
                let wrong = more.dropLast() + [("x-amz-checksum-xxhash3", Base64.encode([0, 0, 0, 0, 0, 0, 0, 0]))]
                #expect(try await Self.post(w, "forms", Self.form(fields + wrong, file: data, name: "wrong")).status == 400)
            }
            let target = ("success_action_redirect", "http://example.com/done?x=1")
            let redirect = try await Self.post(w, "forms", Self.form(fields + [("key", "up/a b"), target], file: [1, 2, 3]))
            let etag = Hex.encode(Digest.md5([1, 2, 3]))
            #expect(
                redirect.status == 303
                    && redirect.headers.first("location") == "http://example.com/done?x=1&bucket=forms&key=up%2Fa%20b&etag=%22\(etag)%22")
            for (more, file, status) in [
                ([("key", "other/x")], [UInt8](repeating: 1, count: 3), 403), ([("key", "up/x")], [1], 400),
                ([("key", "up/x")], [UInt8](repeating: 1, count: 3_000_001), 400),
                ([("key", "up/x"), ("acl", "public-read")], [1, 2, 3], 403),
                ([], [1, 2, 3], 400), ([("key", "up/x"), ("KEY", "up/y")], [1, 2, 3], 400),
            ] as [([(String, String)], [UInt8], Int)] {
                let reply = try await Self.post(w, "forms", Self.form(fields + more, file: file))
                #expect(reply.status == status, "\(more): \(String(decoding: reply.body, as: UTF8.self))")
            }
            #expect(try await s3("HEAD", "/forms/up/x").status == 404)
            // Half a signature, a wrong one, none.
            let key = [("key", "up/x")]
            #expect(try await Self.post(w, "forms", Self.form(key + fields.dropLast(), file: [1, 2, 3])).status == 400)
            let wrong = fields.dropLast() + [("x-amz-signature", String(repeating: "0", count: 64))]
            #expect(try await Self.post(w, "forms", Self.form(key + wrong, file: [1, 2, 3])).status == 403)
            #expect(try await Self.post(w, "forms", Self.form(key, file: [1, 2, 3])).status == 403)
        }
    }
}
