import Domain
import Testing

@testable import Signing

/// What boto3 sent (Golden/make_requests.py), and what becomes of it when somebody touches it.
@Suite struct RecordedRequestTests {
    static let names = (try? Golden.names(in: "requests")) ?? []

    private func load(_ name: String) throws -> RecordedRequest { try RecordedRequest(try Golden.bytes("requests/\(name)")) }

    @Test func thereAreRequests() { #expect(Self.names.count >= 29) }

    @Test(arguments: names) func isAccepted(_ name: String) throws {
        let recorded = try load(name)
        let verified = try recorded.verify()
        #expect(verified.accessKeyID == "AKIAKARRIEXAMPLE0001")
        #expect(verified.kind == recorded.kind)
        #expect((verified.sessionToken == "TOKEN/+==") == name.contains("token"))
        if verified.payload.isChunked {
            var decoder = try ChunkDecoder(
                verified: verified,
                decodedLength: recorded.request.first("x-amz-decoded-content-length").flatMap { Int($0.collapsedSpaces) },
                trailers: [recorded.request.first("x-amz-trailer") ?? ""])
            _ = try decoder.feed(recorded.body)
            #expect(try decoder.finish().map(\.name) == ["x-amz-checksum-crc32"])
        }
    }

    @Test(arguments: names) func anotherSecretIsRefused(_ name: String) throws {
        let recorded = try load(name)
        #expect(refusal { _ = try recorded.verify(secret: exampleSecret + "x") }?.reason == .unauthenticated(.badSignature))
    }

    @Test(arguments: names) func anHourLaterItIsRefused(_ name: String) throws {
        let recorded = try load(name)
        let day = name.contains("presigned-token")
        let later = recorded.now.adding(seconds: day ? 604_801 : 3601)
        let late = refusal { _ = try recorded.verify(now: later) }
        #expect(late?.reason == .unauthenticated(.expired) || late?.reason == .named(code: "AccessDenied", status: 403))
        if !name.contains("s3-v2-presigned") {
            #expect(refusal { _ = try recorded.verify(now: recorded.now.adding(seconds: -901)) } != nil)
        }
    }

    /// Each change of what is signed is noticed: the method, the path, the query, a form's field, each signed header.
    @Test(arguments: names) func changesAreNoticed(_ name: String) throws {
        let recorded = try load(name)
        var changed = recorded
        changed.request.method = recorded.request.method == "GET" ? "DELETE" : "GET"
        if recorded.service == .s3 { #expect(refusal { _ = try changed.verify() } != nil) }
        changed = recorded
        changed.request.rawPath += "x"
        #expect(refusal { _ = try changed.verify() } != nil)
        changed = recorded
        changed.request.rawQuery += recorded.request.rawQuery.isEmpty ? "acl" : "&acl"
        #expect(refusal { _ = try changed.verify() } != nil)
        if recorded.service == .ec2Query, recorded.request.method == "POST" {
            changed = recorded
            changed.body += Array("&InstanceId.9=i-99999999".utf8)
            #expect(refusal { _ = try changed.verify() } != nil)
        }
        if recorded.kind == .v4Header, let authorization = recorded.request.first("authorization") {
            let list = try #require(authorization.split(separator: "SignedHeaders=").last?.split(separator: ",").first)
            for header in list.split(separator: ";") where header != "x-amz-date" {
                changed = recorded
                changed.request.headers = recorded.request.headers.map { $0.name == header ? ($0.name, $0.value + "0") : $0 }
                #expect(refusal { _ = try changed.verify() } != nil, "header \(header)")
            }
        }
        if recorded.service == .s3 {
            changed = recorded
            changed.request.headers.append(("x-amz-acl", "public-read-write"))
            #expect(refusal { _ = try changed.verify() } != nil)
        }
    }

    /// Proxies and clients differ on the port in the host.
    @Test func hostWithoutPortIsAccepted() throws {
        let now = Timestamp(seconds: 1_795_359_600)
        let added = SignV4.headers(
            method: "GET", host: "cloud", path: "/", query: [("Action", "DescribeZones")], payloadHash: CanonicalV4.emptySHA256,
            accessKeyID: "AK", secret: "s", region: "any", service: "thing", now: now)
        let request = SignedRequest(
            method: "GET", rawPath: "", rawQuery: "Action=DescribeZones", headers: [("Host", "cloud:8773")] + added, isTLS: false)
        let parsed = try #require(try AWSSignature.parse(request, form: nil, service: .ec2Query))
        _ = try parsed.verify(secret: "s", now: now)
        #expect(parsed.claimedScope?.region == "any" && parsed.claimedScope?.service == "thing")
        #expect(SignatureV2.withoutPort("[::1]:80") == "[::1]" && SignatureV2.withoutPort("[::1]") == "[::1]")
        #expect(SignatureV2.withoutPort("a:b") == "a:b" && SignatureV2.withoutPort("::1") == "::1")
    }

    @Test func canonicalForms() {
        #expect(CanonicalV4.normalized(path: "/a/./b/../c//d/") == "/a/c/d/")
        #expect(CanonicalV4.normalized(path: "/../..") == "/")
        #expect(CanonicalV4.normalized(path: "/") == "/")
        #expect("  a   b\t c ".collapsedSpaces == "a b c")
        #expect(URIEncoding.encode("a b/ü~*") == "a%20b%2F%C3%BC~%2A")
        #expect(URIEncoding.decode("%zz%4", plusIsSpace: true) == Array("%zz%4".utf8))
        let pairs = URIEncoding.pairs(rawQuery: "b=2&a&b=1&a=%20+&=")
        #expect(CanonicalV4.query(pairs) == "=&a=&a=%20%20&b=1&b=2")
    }
}

/// Signatures that are malformed, doubled, or claim what they must not.
@Suite struct HostileRequestTests {
    private let now = Timestamp(seconds: 1_795_359_600)

    private func signed(
        _ service: String = "s3", path: String = "/bucket/key", headers: [(String, String)] = [], payload: String? = nil, tls: Bool = true
    ) -> SignedRequest {
        let added = SignV4.headers(
            method: "PUT", host: "h", path: path, headers: headers, payloadHash: payload ?? CanonicalV4.emptySHA256, accessKeyID: "AK",
            secret: "s", region: "r", service: service, now: now)
        return SignedRequest(
            method: "PUT", rawPath: path, headers: [("host", "h")] + headers.map { ($0.0, $0.1) } + added.map { ($0.0, $0.1) }, isTLS: tls)
    }

    private func verify(_ request: SignedRequest, _ service: AWSSignature.Service = .s3, body: String? = nil) throws -> VerifiedSignature? {
        try AWSSignature.parse(request, form: nil, service: service)?.verify(secret: "s", now: now, bodySHA256: body)
    }

    private func code(_ request: SignedRequest, _ service: AWSSignature.Service = .s3, body: String? = nil) -> String? {
        let error = refusal { _ = try verify(request, service, body: body) }
        return switch error?.reason {
        case .named(let code, _): code
        case .unauthenticated(let why): why.rawValue
        case .none: nil
        default: "other"
        }
    }

    @Test func anonymous() throws {
        let request = SignedRequest(method: "GET", rawPath: "/", rawQuery: "acl", headers: [("Host", "h")], isTLS: false)
        #expect(try AWSSignature.parse(request, form: nil, service: .s3) == nil)
        #expect(try AWSSignature.parse(request, form: [("Action", "X")], service: .ec2Query) == nil)
    }

    @Test func aGoodOnePasses() throws {
        #expect(try verify(signed()) != nil)
        #expect(code(signed(), body: CanonicalV4.emptySHA256) == nil)
        #expect(code(signed(), body: SignV4.payloadHash(Array("x".utf8))) == "XAmzContentSHA256Mismatch")
    }

    @Test func twoMechanisms() {
        var request = signed()
        request.rawQuery = "X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        #expect(code(request) == "InvalidArgument")
        request = signed()
        request.rawQuery = "AWSAccessKeyId=AK&Signature=x&Expires=1"
        #expect(code(request) == "InvalidArgument")
        request = signed()
        request.headers.append(("authorization", "AWS AK:x"))
        #expect(code(request) == "InvalidArgument")
        #expect(code(request, .ec2Query) == "malformed")
    }

    @Test func malformedHeadersNeverBecomeAnonymous() {
        for text in [
            "", "Basic YTpi", "AWS", "AWS ", "AWS AK", "AWS :x", "AWS AK:", "AWS AK:%%%", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256 Credential=AK", "AWS4-HMAC-SHA256 Credential=AK/20261122/r/s3/aws4_request,SignedHeaders=host,Signature=zz",
            "AWS4-HMAC-SHA256 Credential=AK/2026/r/s3/aws4_request,SignedHeaders=host,Signature=\(CanonicalV4.emptySHA256)",
            "AWS4-HMAC-SHA256 Credential=AK/20261122/r/s3/aws5_request,SignedHeaders=host,Signature=\(CanonicalV4.emptySHA256)",
            "AWS4-HMAC-SHA256 Credential=/20261122/r/s3/aws4_request,SignedHeaders=host,Signature=\(CanonicalV4.emptySHA256)",
            "AWS4-HMAC-SHA256 Credential=A/20261122/r/s3/aws4_request,Credential=B/20261122/r/s3/aws4_request,SignedHeaders=host,Signature=\(CanonicalV4.emptySHA256)",
            "AWS4-ECDSA-P256-SHA256 Credential=AK",
        ] {
            let request = SignedRequest(
                method: "GET", rawPath: "/", headers: [("host", "h"), ("authorization", text), ("x-amz-date", now.basic)], isTLS: true)
            #expect(code(request) != nil, "\(text)")
            #expect(code(request, .ec2Query) != nil, "\(text)")
        }
    }

    @Test(arguments: [
        "host;host;x-amz-content-sha256;x-amz-date", "x-amz-date;host;x-amz-content-sha256", "Host;x-amz-content-sha256;x-amz-date",
        "x-amz-content-sha256;x-amz-date", "", ";host",
    ])
    func signedHeadersAreStrict(_ list: String) {
        var request = signed()
        request.headers = request.headers.map {
            $0.name == "authorization" ? ($0.name, $0.value.replacing("host;x-amz-content-sha256;x-amz-date", with: list)) : $0
        }
        #expect(code(request) != nil && code(request) != "badSignature")
    }

    /// What is not signed cannot be added: `x-amz-acl`, a second `Host`.
    @Test func addedHeaders() {
        for (name, value) in [("x-amz-acl", "public-read"), ("x-amz-copy-source", "/a/b")] {
            var request = signed()
            request.headers.append((name, value))
            #expect(code(request) == "AccessDenied", "\(name)")
        }
        var request = signed()
        request.headers.append(("host", "other"))
        #expect(code(request) == "AuthorizationHeaderMalformed")
        request = signed()
        request.headers.append(("x-amz-date", now.basic))
        #expect(code(request) == "AccessDenied")
        request = signed()
        request.headers.append(("user-agent", "anything"))
        #expect(code(request) == nil)
    }

    @Test func payloadKinds() {
        #expect(code(signed(payload: "UNSIGNED-PAYLOAD")) == nil)
        #expect(code(signed(payload: "UNSIGNED-PAYLOAD", tls: false)) == "InvalidRequest")
        #expect(code(signed(payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", tls: false)) == "InvalidRequest")
        #expect(code(signed(payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", tls: false)) == nil)
        #expect(code(signed(payload: "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")) == "NotImplemented")
        #expect(code(signed(payload: "unsigned-payload")) == "InvalidArgument")
        #expect(code(signed(payload: "abc")) == "InvalidArgument")
        var request = signed()
        request.headers.removeAll { $0.name == "x-amz-content-sha256" }
        #expect(code(request) == "InvalidRequest")
    }

    @Test func theDayOfTheScopeIsTheDayOfTheDate() {
        var request = signed()
        request.headers = request.headers.map {
            $0.name == "authorization" ? ($0.name, $0.value.replacing("20261122", with: "20261121")) : $0
        }
        #expect(code(request) == "AuthorizationHeaderMalformed")
    }

    /// EC2's signature covers the body itself: `UNSIGNED-PAYLOAD` is no way out.
    @Test func ec2SignsTheBody() {
        let body = SignV4.payloadHash(Array("Action=X".utf8))
        #expect(code(signed("ec2", path: "/", payload: body), .ec2Query, body: body) == nil)
        #expect(code(signed("ec2", path: "/", payload: "UNSIGNED-PAYLOAD"), .ec2Query, body: body) == "badSignature")
        #expect(code(signed("ec2", path: "/", payload: body), .ec2Query, body: CanonicalV4.emptySHA256) == "badSignature")
    }

    private func presigned(_ change: (inout String) -> Void = { _ in }, headers: [(String, String)] = [], expires: Int = 60)
        -> SignedRequest
    {
        let url = Presign.url(
            method: "PUT", endpoint: "http://h", path: "/bucket/key", query: [("partNumber", "1")], accessKeyID: "AK", secret: "s",
            region: "r", expires: expires, now: now)
        var query = String(url.split(separator: "?")[1])
        change(&query)
        return SignedRequest(
            method: "PUT", rawPath: "/bucket/key", rawQuery: query, headers: [("host", "h")] + headers.map { ($0.0, $0.1) }, isTLS: false)
    }

    @Test func presignedURLs() {
        #expect(code(presigned()) == nil)
        #expect(code(presigned(headers: [("content-type", "text/plain")])) == nil)
        #expect(code(presigned(headers: [("x-amz-acl", "public-read")])) == "AccessDenied")
        #expect(code(presigned({ $0 += "&response-content-type=text/html" })) == "badSignature")
        for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
            #expect(code(presigned({ $0 = $0.replacing("X-Amz-\(name)=", with: "X-Other=") })) != nil, "\(name)")
            #expect(code(presigned({ $0 += "&X-Amz-\(name)=1" })) == "AuthorizationQueryParametersError", "\(name)")
        }
        for seconds in ["0", "-1", "604801", "9999999", "+5", "1.5", ""] {
            let request = presigned({ $0 = $0.replacing("X-Amz-Expires=60", with: "X-Amz-Expires=\(seconds)") })
            #expect(code(request) == "AuthorizationQueryParametersError", "\(seconds)")
        }
    }

    @Test func version2() throws {
        func query(_ change: [String: String?] = [:], duplicate: String? = nil, secret: String = "s") -> SignedRequest {
            var fields: [String: String] = [
                "Action": "DescribeInstances", "AWSAccessKeyId": "AK", "SignatureVersion": "2", "SignatureMethod": "HmacSHA256",
                "Timestamp": now.iso8601Seconds,
            ]
            for (name, value) in change { fields[name] = value }
            let sorted = fields.sorted { byteOrder($0.key, $1.key) }
                .map { "\(URIEncoding.encode($0.key))=\(URIEncoding.encode($0.value))" }.joined(separator: "&")
            let text = Array("GET\nh\n/\n\(sorted)".utf8)
            let code =
                fields["SignatureMethod"] == "HmacSHA1"
                ? HMAC.sha1(key: Array(secret.utf8), text) : HMAC.sha256(key: Array(secret.utf8), text)
            var raw = sorted + "&Signature=\(URIEncoding.encode(Base64.encode(code)))"
            if let duplicate { raw += "&\(duplicate)=\(fields[duplicate] ?? "x")" }
            return SignedRequest(method: "GET", rawPath: "/", rawQuery: raw, headers: [("Host", "h:8773")], isTLS: false)
        }
        #expect(code(query(), .ec2Query) == nil)
        #expect(code(query(["SignatureMethod": "HmacSHA1"]), .ec2Query) == nil)
        #expect(code(query(["SignatureMethod": "HmacMD5"]), .ec2Query) == "other")
        #expect(code(query(["SignatureVersion": "1"]), .ec2Query) == "other")
        #expect(code(query(["SignatureVersion": "0"]), .ec2Query) == "other")
        #expect(code(query(["Timestamp": nil]), .ec2Query) == "other")
        #expect(code(query(["Timestamp": "yesterday"]), .ec2Query) == "other")
        #expect(code(query(["Expires": now.iso8601Seconds]), .ec2Query) == "other")
        #expect(code(query(["Timestamp": nil, "Expires": now.adding(seconds: 60).iso8601Seconds]), .ec2Query) == nil)
        #expect(code(query(["Timestamp": nil, "Expires": now.adding(seconds: -1).iso8601Seconds]), .ec2Query) == "expired")
        #expect(code(query(["Timestamp": nil, "Expires": now.adding(seconds: 86_400).iso8601Seconds]), .ec2Query) == "notYetValid")
        #expect(code(query(["Timestamp": now.adding(seconds: -901).iso8601Seconds]), .ec2Query) == "expired")
        #expect(code(query(secret: "t"), .ec2Query) == "badSignature")
        for name in ["AWSAccessKeyId", "Signature", "Timestamp", "SignatureVersion", "SignatureMethod"] {
            #expect(code(query(duplicate: name), .ec2Query) == "malformed", "\(name)")
        }
    }
}
