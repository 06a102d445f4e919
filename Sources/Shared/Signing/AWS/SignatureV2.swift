import Domain

/// AWS Signature Version 2: EC2's in the parameters (libcloud's EC2 driver uses it to this day), S3's in the header or query.
enum SignatureV2 {
    /// What S3's SigV2 signs of the query. One too few is an unsigned change of behaviour, one too many a client that does not
    /// match (S3 API Reference, "Authenticating requests (AWS Signature Version 2)", and the query arguments that came later).
    private static let subresources: Set<String> = [
        "accelerate", "acl", "analytics", "cors", "delete", "encryption", "inventory", "legal-hold", "lifecycle", "location", "logging",
        "metrics", "notification", "object-lock", "ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock",
        "replication", "requestPayment", "restore", "retention", "select", "select-type", "storageClass", "tagging", "torrent", "uploadId",
        "uploads", "versionId", "versioning", "versions", "website", "response-cache-control", "response-content-disposition",
        "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
    ]

    // MARK: EC2

    static func parseEC2Query(
        _ request: SignedRequest, _ query: [(name: [UInt8], value: [UInt8])], _ form: [(String, String)]
    ) throws(CloudError) -> ParsedSignature {
        let all = query + form.map { (Array($0.0.utf8), Array($0.1.utf8)) }
        func only(_ name: String) throws(CloudError) -> String? {
            let found = all.filter { $0.name.elementsEqual(name.utf8) }
            guard found.count <= 1 else { throw malformed("the parameter \(name) is repeated") }
            return found.first.map { String(decoding: $0.value, as: UTF8.self) }
        }
        if let version = try only("SignatureVersion"), version != "2" {
            throw CloudError(
                .invalidParameter("SignatureVersion"),
                "The value '\(version)' of SignatureVersion is not supported: use 2, or Signature Version 4")
        }
        let sha256: Bool
        switch try only("SignatureMethod") {
        case nil, "HmacSHA256": sha256 = true
        case "HmacSHA1": sha256 = false
        case let other?: throw CloudError(.invalidParameter("SignatureMethod"), "The value '\(other)' of SignatureMethod is not supported")
        }
        guard let key = try only("AWSAccessKeyId"), !key.utf8.isEmpty, key.utf8.count <= 128, let text = try only("Signature"),
            let signature = Base64.decode(text), signature.count == (sha256 ? 32 : 20)
        else { throw malformed("AWSAccessKeyId or Signature is missing or malformed") }
        let notBefore: Timestamp?
        let notAfter: Timestamp
        switch (try only("Timestamp"), try only("Expires")) {
        case (let text?, nil):
            guard let moment = moment(text) else {
                throw CloudError(.invalidParameter("Timestamp"), "The Timestamp '\(text)' is not a moment of ISO 8601 in UTC")
            }
            notBefore = moment.adding(seconds: -AWSSignature.skewSeconds)
            notAfter = moment.adding(seconds: AWSSignature.skewSeconds)
        case (nil, let text?):
            guard let moment = moment(text) else {
                throw CloudError(.invalidParameter("Expires"), "The value '\(text)' of Expires is not a moment of ISO 8601 in UTC")
            }
            notBefore = moment.adding(seconds: -AWSSignature.longestV2Expiry)
            notAfter = moment
        case (nil, nil): throw CloudError(.missingParameter("Timestamp"))
        case (_?, _?): throw CloudError(.invalidCombination("A request has a Timestamp or Expires, not both"))
        }
        let pairs = all.filter { !$0.name.elementsEqual("Signature".utf8) }
            .sorted { $0.name == $1.name ? $0.value.lexicographicallyPrecedes($1.value) : $0.name.lexicographicallyPrecedes($1.name) }
            .map { "\(URIEncoding.encode($0.name))=\(URIEncoding.encode($0.value))" }
            .joined(separator: "&")
        guard let host = request.first("host"), request.values("host").count == 1 else { throw malformed("one Host header is needed") }
        let lower = host.collapsedSpaces.asciiLowercased
        let bare = withoutPort(lower)
        let strings = (bare == lower ? [lower] : [lower, bare]).map { "\(request.method)\n\($0)\n\(request.rawPath)\n\(pairs)" }
        return ParsedSignature(
            accessKeyID: key, kind: .v2Query, sessionToken: try only("SecurityToken"), payload: .none, request: request,
            service: .ec2Query,
            form: .v2(
                .init(
                    stringsToSign: strings, sha256: sha256, signature: signature, notBefore: notBefore, notAfter: notAfter,
                    isExpiringURL: false)))
    }

    /// ISO 8601; old clients leave the zone out and mean UTC.
    private static func moment(_ text: String) -> Timestamp? { Timestamp(iso8601: text) ?? Timestamp(iso8601: text + "Z") }

    private static func malformed(_ context: String) -> CloudError { CloudError(.unauthenticated(.malformed), context: context) }

    static func withoutPort(_ host: String) -> String {
        guard let colon = host.utf8.lastIndex(of: 0x3a), !host.hasSuffix("]") else { return host }
        let port = host.utf8[host.utf8.index(after: colon)...]
        guard !port.isEmpty, port.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return host }
        // A bare IPv6 address has colons of its own.
        let head = String(host[..<colon])
        return head.utf8.contains(0x3a) && !head.hasSuffix("]") ? host : head
    }

    // MARK: S3

    static func parseHeader(
        _ request: SignedRequest, _ text: String
    ) throws(CloudError) -> ParsedSignature {
        let credential = text.collapsedSpaces
        guard let colon = credential.utf8.lastIndex(of: 0x3a), colon != credential.utf8.startIndex,
            let signature = Base64.decode(credential[credential.utf8.index(after: colon)...], strict: true), signature.count == 20
        else {
            throw CloudError(
                .named(code: "InvalidArgument", status: 400), "AWS authorization header is invalid. Expected AwsAccessKeyId:signature")
        }
        let amzDate = request.first("x-amz-date")
        guard let dateText = amzDate ?? request.first("date"),
            let date = Timestamp(httpDate: dateText) ?? Timestamp(basic: dateText) ?? Timestamp(iso8601: dateText), date.milliseconds >= 0
        else {
            throw CloudError(
                .named(code: "AccessDenied", status: 403), "AWS authentication requires a valid Date or x-amz-date header")
        }
        let key = String(credential[..<colon])
        return ParsedSignature(
            accessKeyID: key, kind: .v2Header, sessionToken: request.first("x-amz-security-token"), payload: .none, request: request,
            service: .s3,
            form: .v2(
                .init(
                    stringsToSign: s3Strings(request, date: amzDate == nil ? dateText : ""), sha256: false, signature: signature,
                    notBefore: date.adding(seconds: -AWSSignature.skewSeconds), notAfter: date.adding(seconds: AWSSignature.skewSeconds),
                    isExpiringURL: false)))
    }

    static func parseS3Query(
        _ request: SignedRequest, _ query: [(name: [UInt8], value: [UInt8])]
    ) throws(CloudError) -> ParsedSignature {
        func only(_ name: String) throws(CloudError) -> String {
            let found = query.filter { $0.name.elementsEqual(name.utf8) }
            guard found.count == 1 else {
                throw CloudError(
                    .named(code: "AccessDenied", status: 403),
                    "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
            }
            return String(decoding: found[0].value, as: UTF8.self)
        }
        let key = try only("AWSAccessKeyId")
        let expires = try only("Expires")
        guard let signature = Base64.decode(try only("Signature"), strict: true), signature.count == 20, !key.utf8.isEmpty,
            expires.utf8.count <= 12, expires.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let seconds = Int64(expires)
        else {
            throw CloudError(.named(code: "AccessDenied", status: 403), "Invalid Expires or Signature in the query")
        }
        return ParsedSignature(
            accessKeyID: key, kind: .v2Query, sessionToken: request.first("x-amz-security-token"), payload: .none, request: request,
            service: .s3,
            form: .v2(
                .init(
                    stringsToSign: s3Strings(request, date: expires), sha256: false, signature: signature, notBefore: nil,
                    notAfter: Timestamp(seconds: seconds), isExpiringURL: true)))
    }

    /// Boto signs a bucket's path with a slash at its end whether it sends one or not. Only a bucket's: an object's name with a slash
    /// is another object.
    private static func s3Strings(_ request: SignedRequest, date: String) -> [String] {
        var path = request.rawPath[...]
        for service in ["/services/Walrus/", "/services/objectstorage/"] where path.hasPrefix(service) {
            path = path.dropFirst(service.utf8.count - 1)
        }
        let isBucket = path.utf8.count > 1 && !path.utf8.dropFirst().contains(0x2f) && request.virtualBucket == nil
        let paths = isBucket ? [request.rawPath, request.rawPath + "/"] : [request.rawPath]
        return paths.map { s3String(request, path: $0, date: date) }
    }

    /// Verb, Content-MD5, Content-Type, date (empty when `x-amz-date` is there), the `x-amz-` headers, the resource.
    private static func s3String(_ request: SignedRequest, path: String, date: String) -> String {
        var text = "\(request.method)\n"
        text += (request.first("content-md5") ?? "").collapsedSpaces + "\n"
        text += (request.first("content-type") ?? "").collapsedSpaces + "\n"
        text += date + "\n"
        let names = Set(request.headers.lazy.map(\.name).filter { $0.hasPrefix("x-amz-") }).sorted(by: byteOrder)
        for name in names { text += "\(name):\(request.values(name).map(\.collapsedSpaces).joined(separator: ","))\n" }
        if let bucket = request.virtualBucket { text += "/" + bucket }
        text += path
        // A sub-resource without `=` has none in the signature either; values are signed decoded.
        var signed: [(String, String)] = []
        for part in request.rawQuery.split(separator: "&") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(decoding: URIEncoding.decode(pair[0], plusIsSpace: true), as: UTF8.self)
            guard subresources.contains(name) else { continue }
            let value = pair.count > 1 ? "=" + String(decoding: URIEncoding.decode(pair[1], plusIsSpace: true), as: UTF8.self) : ""
            signed.append((name, value))
        }
        signed.sort { byteOrder($0.0, $1.0) }
        if !signed.isEmpty { text += "?" + signed.map { $0.0 + $0.1 }.joined(separator: "&") }
        return text
    }
}
