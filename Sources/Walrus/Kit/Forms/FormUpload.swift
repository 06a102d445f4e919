import Daemon
import Domain
import Signing
import Wire

/// How much a POST form's file may hold. Its exact size is known at its end only.
struct FormSizes: Sendable {
    /// The whole body.
    let upperBound: Int
    /// The policy's `content-length-range`.
    let allowed: ClosedRange<Int>

    /// - Throws: `EntityTooLarge`, `EntityTooSmall`.
    func check(_ size: Int) throws(CloudError) {
        if size > allowed.upperBound { throw S3Failure.entityTooLarge(limit: allowed.upperBound) }
        if size < allowed.lowerBound {
            throw S3Failure.named(
                "EntityTooSmall", 400,
                "Your proposed upload is smaller than the minimum allowed size (\(size) bytes, minimum \(allowed.lowerBound))")
        }
    }
}

/// An upload by an HTML form. Source: S3 API reference, POST Object.
///
/// The form is read and checked, and becomes a PUT of its file: headers from its fields, the requester from its signature. So what holds
/// for PUT holds for POST.
struct FormUpload: Sendable {
    let core: WalrusCore

    static func isOne(_ http: HTTPRequest, _ target: S3Target, _ query: S3Query) -> Bool {
        http.method == "POST" && target.bucket != nil && target.key == nil && query.pairs.isEmpty
            && (http.headers.first("content-type") ?? "").lowercased().hasPrefix("multipart/form-data")
    }

    func perform(_ http: HTTPRequest, _ target: S3Target, now: Timestamp) async throws(CloudError) -> HTTPReply {
        guard let bucket = target.bucket else { throw .bug("a form without a bucket") }
        guard !http.headers.contains("authorization") else {
            throw S3Failure.invalidArgument("Only one auth mechanism allowed: a form is signed by its fields")
        }
        guard let declared = http.contentLength else { throw S3Failure.missingContentLength() }
        let reader = try FormReader(body: http.body, contentType: http.headers.first("content-type") ?? "")
        let head = try await reader.head()
        var fields = try Self.byName(head.fields)
        guard let key = fields["key"], !key.isEmpty else {
            throw S3Failure.invalidArgument(
                "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")
        }
        fields["key"] = Self.substituting(head.fileName ?? "", in: key)
        if fields["redirect"] != nil, fields["success_action_redirect"] == nil { fields["success_action_redirect"] = fields["redirect"] }

        let known = try await requester(fields, now)
        var allowed = 0...WriteActions.putLimit
        if known != nil, let text = fields["policy"] {
            let policy = try FormPolicy(base64: text)
            var checked = fields
            checked["bucket"] = bucket
            if head.fields.allSatisfy({ $0.name.lowercased() != "success_action_redirect" }) { checked["success_action_redirect"] = nil }
            try policy.check(checked, now: now)
            allowed = policy.sizes.clamped(to: allowed)
        }

        var place = target
        place.key = Array((fields["key"] ?? "").utf8)
        let headers = try Self.headers(fields, http)
        let put = HTTPRequest(
            id: http.id, method: "PUT", target: http.rawPath, headers: headers, remoteAddress: http.remoteAddress, isTLS: http.isTLS,
            body: RequestBody { try await reader.next() })
        let query = try S3Query(raw: nil)
        var facts = RequestFacts(http: put, query: query, now: now)
        facts.fields = fields
        var request = S3Request(
            http: put, target: place, query: query, requester: Requester(known: known, signature: nil, facts: facts), now: now)
        request.form = FormSizes(upperBound: declared, allowed: allowed)
        let stored = try await WriteActions(core: core).putObject(request)
        return reply(stored, bucket: bucket, key: fields["key"] ?? "", fields, http)
    }

    /// Lower-case names. - Throws: `InvalidArgument` for a name that stands twice: which of them a policy is about would be open.
    private static func byName(_ list: [FormReader.Field]) throws(CloudError) -> [String: String] {
        var fields: [String: String] = [:]
        for field in list {
            guard fields.updateValue(field.value, forKey: field.name.lowercased()) == nil else {
                throw S3Failure.invalidArgument("The form has the field \(field.name) twice")
            }
        }
        return fields
    }

    /// `${filename}` becomes the file's name.
    static func substituting(_ fileName: String, in key: String) -> String {
        let mark = Array("${filename}".utf8)
        var out: [UInt8] = []
        var rest = Array(key.utf8)[...]
        while !rest.isEmpty {
            if rest.starts(with: mark) {
                out += fileName.utf8
                rest = rest.dropFirst(mark.count)
            } else {
                out.append(rest.removeFirst())
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private func requester(_ fields: [String: String], _ now: Timestamp) async throws(CloudError) -> KnownRequester? {
        guard let signature = try PolicySignature.parse({ fields[$0] }) else { return nil }
        let found = try await core.directory.signer(signature.accessKeyID, sessionToken: signature.sessionToken)
        try signature.verify(secret: found.secret, now: now)
        return found.requester
    }

    private static let plain: Set<String> = [
        "cache-control", "content-type", "content-disposition", "content-encoding", "content-language", "expires", "content-md5",
    ]
    /// Fields that are of the signature or would change what kind of request this is.
    private static let notHeaders: Set<String> = [
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token", "x-amz-content-sha256",
        "x-amz-decoded-content-length", "x-amz-trailer", "x-amz-copy-source", "x-amz-sdk-checksum-algorithm",
    ]

    /// The headers of the PUT that the form stands for.
    private static func headers(_ fields: [String: String], _ http: HTTPRequest) throws(CloudError) -> HTTPHeaderList {
        var headers = HTTPHeaderList()
        for name in ["host", "user-agent", "referer"] {
            if let value = http.headers.first(name) { headers.append(name, value) }
        }
        for name in fields.keys.sorted() {
            guard let value = fields[name] else { continue }
            let isHeader = plain.contains(name) || (name.hasPrefix("x-amz-") && !notHeaders.contains(name))
            guard isHeader || name == "acl" else { continue }
            guard !value.utf8.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7f }) else {
                throw S3Failure.invalidArgument("The field \(name) holds control characters")
            }
            headers.append(name == "acl" ? "x-amz-acl" : name, value)
        }
        if let document = fields["tagging"] {
            let tags = try Tagging.fromDocument(Array(document.utf8), limit: Tagging.objectLimit)
            headers.append(
                "x-amz-tagging",
                tags.map { S3Encoding.url(Array($0.name.utf8)) + "=" + S3Encoding.url(Array($0.value.utf8)) }.joined(separator: "&"))
        }
        return headers
    }

    private func reply(_ stored: HTTPReply, bucket: String, key: String, _ fields: [String: String], _ http: HTTPRequest) -> HTTPReply {
        let etag = stored.headers.first { $0.0 == "ETag" }?.1 ?? ""
        var reply = stored
        if let redirect = fields["success_action_redirect"], Self.isURL(redirect) {
            let query = [("bucket", bucket), ("key", key), ("etag", etag)].map { "\($0.0)=\(Self.encoded($0.1))" }.joined(separator: "&")
            reply.status = 303
            reply.headers.append(("Location", redirect + (redirect.utf8.contains(0x3f) ? "&" : "?") + query))
            return reply
        }
        let location = "\(http.isTLS ? "https" : "http")://\(http.headers.first("host") ?? "")/\(bucket)/\(S3Encoding.url(Array(key.utf8)))"
        reply.headers.append(("Location", location))
        switch fields["success_action_status"] {
        case "200": reply.status = 200
        case "201":
            let document = S3Document.bare("PostResponse") { xml in
                xml.element("Location", location)
                xml.element("Bucket", bucket)
                xml.element("Key", key)
                xml.element("ETag", etag)
            }
            reply.status = 201
            reply.headers.append(("Content-Type", "application/xml"))
            reply.body = .bytes(document)
        default: reply.status = 204
        }
        return reply
    }

    /// For a query: the slash is encoded too.
    private static func encoded(_ text: String) -> String {
        S3Encoding.url(Array(text.utf8)).split(separator: "/", omittingEmptySubsequences: false).joined(separator: "%2F")
    }

    private static func isURL(_ text: String) -> Bool {
        let lower = text.lowercased()
        return (lower.hasPrefix("http://") || lower.hasPrefix("https://")) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }
}
