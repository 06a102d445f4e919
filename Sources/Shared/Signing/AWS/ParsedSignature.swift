public import Domain

/// A signature as the request claims it: well formed, not yet known to be right.
public struct ParsedSignature: Sendable {
    public let accessKeyID: String
    public let kind: SignatureKind
    public let sessionToken: String?
    /// What it says of the body. For EC2 the hash is that of the body itself (see `verify`).
    public let payload: PayloadKind
    let request: SignedRequest
    let service: AWSSignature.Service
    let form: Form

    enum Form: Sendable {
        case v4(V4)
        case v2(V2)
    }
    struct V4: Sendable {
        let scope: CredentialScope
        let date: Timestamp
        let dateText: String
        let expires: Int?
        let signedHeaders: [String]
        /// `nil`: the hash of the body.
        let payloadText: String?
        let query: String
        let signature: [UInt8]
    }
    struct V2: Sendable {
        /// All that the client may have signed; more than one because clients differ on the port in the host.
        let stringsToSign: [String]
        let sha256: Bool
        let signature: [UInt8]
        let notBefore: Timestamp?
        let notAfter: Timestamp
        /// S3 names this error apart from a clock's.
        let isExpiringURL: Bool
    }

    /// The region and service that the client claims (SigV4); anything goes, but S3 clients look at it in errors.
    public var claimedScope: (region: String, service: String)? {
        if case .v4(let v4) = form { (v4.scope.region, v4.scope.service) } else { nil }
    }

    /// Compares the signature in constant time, then the moment with the clock.
    /// - Parameters:
    ///   - bodySHA256: hexadecimal SHA-256 of the body. EC2: needed for SigV4 (`nil` is an empty body). S3: compared with the
    ///     signed hash when given; a caller that streams the body passes `nil` and compares at the body's end (`payload`).
    /// - Throws: `.unauthenticated` (`badSignature`, `expired`, `notYetValid`), `AccessDenied` for an expired URL of S3,
    ///   `XAmzContentSHA256Mismatch`.
    public func verify(secret: String, now: Timestamp, bodySHA256: String? = nil) throws(CloudError) -> VerifiedSignature {
        switch form {
        case .v4(let v4): try verify(v4, secret, now, bodySHA256)
        case .v2(let v2): try verify(v2, secret, now)
        }
    }

    private func verify(_ v4: V4, _ secret: String, _ now: Timestamp, _ bodySHA256: String?) throws(CloudError) -> VerifiedSignature {
        guard v4.dateText.hasPrefix(v4.scope.day) else {
            throw AWSSignature.refusal(
                service, kind == .v4Query ? "AuthorizationQueryParametersError" : "AuthorizationHeaderMalformed",
                "Invalid credential date \"\(v4.scope.day)\". This date is not the same as X-Amz-Date: \"\(v4.dateText.prefix(8))\".")
        }
        let key = CanonicalV4.signingKey(secret: secret, day: v4.scope.day, region: v4.scope.region, service: v4.scope.service)
        let body = bodySHA256 ?? CanonicalV4.emptySHA256
        let payloadText = v4.payloadText ?? body
        let signedHeaders = v4.signedHeaders.joined(separator: ";")
        var right = false
        attempts: for host in hosts {
            let headers = v4.signedHeaders.map { name in
                (name: name, value: name == "host" ? host : CanonicalV4.value(request.values(name)))
            }
            for path in paths {
                let canonical = CanonicalV4.request(
                    method: request.method, path: path, query: v4.query, headers: headers, signedHeaders: signedHeaders,
                    payload: payloadText)
                let text = CanonicalV4.stringToSign(date: v4.dateText, scope: v4.scope.scope, canonicalRequest: canonical)
                if constantTimeEqual(CanonicalV4.signature(key: key, text), v4.signature) {
                    right = true
                    break attempts
                }
            }
        }
        guard right else { throw CloudError(.unauthenticated(.badSignature), context: "SigV4 of \(accessKeyID) does not match") }
        let age = now.milliseconds - v4.date.milliseconds
        if let expires = v4.expires {
            guard age <= Int64(expires) * 1000 else { throw late("Request has expired") }
            guard age >= -AWSSignature.skewSeconds * 1000 else { throw late("Request is not valid yet") }
        } else {
            guard age <= AWSSignature.skewSeconds * 1000 else {
                throw CloudError(.unauthenticated(.expired), context: "signed at \(v4.date), now \(now)")
            }
            guard age >= -AWSSignature.skewSeconds * 1000 else {
                throw CloudError(.unauthenticated(.notYetValid), context: "signed at \(v4.date), now \(now)")
            }
        }
        let verified: PayloadKind = service == .ec2Query ? .hash(body) : payload
        if case .hash(let expected) = verified, let bodySHA256, !sameBytes(expected, bodySHA256.asciiLowercased) {
            throw CloudError(
                .named(code: "XAmzContentSHA256Mismatch", status: 400),
                "The provided 'x-amz-content-sha256' header does not match what was computed.")
        }
        return VerifiedSignature(
            accessKeyID: accessKeyID, kind: kind, sessionToken: sessionToken, payload: verified,
            seed: .init(signature: Hex.encode(v4.signature), signingKey: key, date: v4.dateText, scope: v4.scope.scope))
    }

    private func verify(_ v2: V2, _ secret: String, _ now: Timestamp) throws(CloudError) -> VerifiedSignature {
        // S3 looks at the time first, which tells nobody anything.
        if v2.notAfter.milliseconds < 0 { throw late("AWS authentication requires a valid Date or x-amz-date header") }
        guard now <= v2.notAfter else {
            throw v2.isExpiringURL
                ? late("Request has expired") : CloudError(.unauthenticated(.expired), context: "valid until \(v2.notAfter)")
        }
        if let notBefore = v2.notBefore, now < notBefore {
            throw CloudError(.unauthenticated(.notYetValid), context: "valid from \(notBefore)")
        }
        let key = Array(secret.utf8)
        let right = v2.stringsToSign.contains { text in
            constantTimeEqual(v2.sha256 ? HMAC.sha256(key: key, text.utf8) : HMAC.sha1(key: key, text.utf8), v2.signature)
        }
        guard right else { throw CloudError(.unauthenticated(.badSignature), context: "SigV2 of \(accessKeyID) does not match") }
        return VerifiedSignature(accessKeyID: accessKeyID, kind: kind, sessionToken: sessionToken, payload: payload, seed: nil)
    }

    private func late(_ message: String) -> CloudError {
        switch service {
        case .s3: CloudError(.named(code: "AccessDenied", status: 403), message)
        case .ec2Query: CloudError(.unauthenticated(.expired), context: message)
        }
    }

    /// The host as received, and without its port: clients differ on whether they sign it.
    private var hosts: [String] {
        let host = CanonicalV4.value(request.values("host"))
        let bare = SignatureV2.withoutPort(host)
        return bare == host ? [host] : [host, bare]
    }

    /// S3: the raw path, encoded once by the client; a client that left `!'()*` bare may have signed them encoded. EC2: the raw
    /// path, and normalised and encoded again (for the plain paths in use these are all the same).
    private var paths: [String] {
        let raw = request.rawPath
        let other =
            service == .s3
            ? URIEncoding.encode(URIEncoding.decode(raw, plusIsSpace: false), keepingSlash: true)
            : URIEncoding.encode(CanonicalV4.normalized(path: raw), keepingSlash: true)
        return sameBytes(other, raw) ? [raw] : [raw, other]
    }
}
