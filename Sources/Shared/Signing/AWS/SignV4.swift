public import Domain

/// Signs our own requests with version 4, headers form.
public enum SignV4 {
    /// - Parameters:
    ///   - host: as the `Host` header will say it, with the port if there is one.
    ///   - path: as it will go on the wire (encoded).
    ///   - query: decoded pairs.
    ///   - headers: further headers to sign (names in any case); `host` is added.
    ///   - payloadHash: hexadecimal SHA-256 of the body, or `UNSIGNED-PAYLOAD`.
    /// - Returns: the headers to add: `x-amz-date`, `x-amz-content-sha256`, the token's if there is one, `authorization`.
    public static func headers(
        method: String, host: String, path: String, query: [(String, String)] = [], headers: [(String, String)] = [],
        payloadHash: String, accessKeyID: String, secret: String, sessionToken: String? = nil, region: String, service: String = "s3",
        now: Timestamp
    ) -> [(String, String)] {
        let date = now.basic
        let day = String(date.prefix(8))
        var added = [("x-amz-date", date), ("x-amz-content-sha256", payloadHash)]
        if let sessionToken { added.append(("x-amz-security-token", sessionToken)) }
        var all: [String: [String]] = ["host": [host]]
        for (name, value) in headers + added where name.asciiLowercased != "host" { all[name.asciiLowercased, default: []].append(value) }
        let names = all.keys.sorted(by: byteOrder)
        let signedHeaders = names.joined(separator: ";")
        // S3 takes the path as it is; all others want it encoded once more (nothing happens to the plain paths that they have).
        let canonicalPath = service == "s3" ? path : URIEncoding.encode(CanonicalV4.normalized(path: path), keepingSlash: true)
        let canonical = CanonicalV4.request(
            method: method, path: canonicalPath, query: CanonicalV4.query(query.map { (Array($0.0.utf8), Array($0.1.utf8)) }),
            headers: names.map { (name: $0, value: CanonicalV4.value(all[$0] ?? [])) }, signedHeaders: signedHeaders, payload: payloadHash)
        let scope = "\(day)/\(region)/\(service)/aws4_request"
        let text = CanonicalV4.stringToSign(date: date, scope: scope, canonicalRequest: canonical)
        let key = CanonicalV4.signingKey(secret: secret, day: day, region: region, service: service)
        let signature = Hex.encode(CanonicalV4.signature(key: key, text))
        let authorization =
            "\(CanonicalV4.algorithm) Credential=\(accessKeyID)/\(scope), SignedHeaders=\(signedHeaders), Signature=\(signature)"
        return added + [("authorization", authorization)]
    }

    /// The payload hash of a body.
    public static func payloadHash(_ body: some Collection<UInt8>) -> String { Hex.encode(Digest.sha256(body)) }
}

/// Makes presigned URLs (version 4, query form).
public enum Presign {
    /// - Parameters:
    ///   - endpoint: `http://host:port`, without a path and without a final slash.
    ///   - path: as it will go on the wire: begins with `/` and is encoded (`Presign.encode(path:)`).
    ///   - query: further decoded pairs, signed with the rest.
    ///   - headers: headers that whoever uses the URL must send as given.
    ///   - expires: seconds from `now`, 1...604,800.
    public static func url(
        method: String, endpoint: String, path: String, query: [(String, String)] = [], headers: [(String, String)] = [],
        accessKeyID: String, secret: String, sessionToken: String? = nil, region: String, service: String = "s3", expires: Int,
        now: Timestamp
    ) -> String {
        let date = now.basic
        let day = String(date.prefix(8))
        let scope = "\(day)/\(region)/\(service)/aws4_request"
        var host = endpoint
        if let scheme = endpoint.firstRange(of: "://") { host = String(endpoint[scheme.upperBound...]) }
        if host.hasSuffix("/") { host.removeLast() }
        var all: [String: [String]] = ["host": [host]]
        for (name, value) in headers where name.asciiLowercased != "host" { all[name.asciiLowercased, default: []].append(value) }
        let names = all.keys.sorted(by: byteOrder)
        let signedHeaders = names.joined(separator: ";")
        var pairs =
            query + [
                ("X-Amz-Algorithm", CanonicalV4.algorithm), ("X-Amz-Credential", "\(accessKeyID)/\(scope)"), ("X-Amz-Date", date),
                ("X-Amz-Expires", String(min(max(expires, 1), AWSSignature.longestExpiry))), ("X-Amz-SignedHeaders", signedHeaders),
            ]
        if let sessionToken { pairs.append(("X-Amz-Security-Token", sessionToken)) }
        let canonicalQuery = CanonicalV4.query(pairs.map { (Array($0.0.utf8), Array($0.1.utf8)) })
        let canonical = CanonicalV4.request(
            method: method, path: path, query: canonicalQuery, headers: names.map { (name: $0, value: CanonicalV4.value(all[$0] ?? [])) },
            signedHeaders: signedHeaders, payload: service == "s3" ? "UNSIGNED-PAYLOAD" : CanonicalV4.emptySHA256)
        let text = CanonicalV4.stringToSign(date: date, scope: scope, canonicalRequest: canonical)
        let key = CanonicalV4.signingKey(secret: secret, day: day, region: region, service: service)
        let base = endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
        return "\(base)\(path)?\(canonicalQuery)&X-Amz-Signature=\(Hex.encode(CanonicalV4.signature(key: key, text)))"
    }

    /// A path as S3 wants it on the wire: each byte that is not unreserved is encoded, slashes stay.
    public static func encode(path: String) -> String { URIEncoding.encode(path, keepingSlash: true) }
    /// One name or value of a query.
    public static func encode(component: String) -> String { URIEncoding.encode(component) }
}
