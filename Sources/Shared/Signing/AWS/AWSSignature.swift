public import Domain

/// Amazon's request signatures: version 2 (query of EC2, header and query of S3) and version 4 (header and query of both).
///
/// First `parse`, which gives the access key id; the caller fetches the secret; then `verify`. Sources: AWS General Reference
/// "Signature Version 4", "Signature Version 2"; S3 API Reference "Authenticating requests"; what clients really send is recorded in
/// `Tests/SigningTests/Golden/requests`.
public enum AWSSignature {
    public enum Service: Sendable, Equatable {
        /// EC2, IAM, STS: version 2 in parameters, version 4; paths are normalised.
        case ec2Query
        /// S3: version 2 in the header or query, version 4; paths are as they are.
        case s3
    }

    /// How far clocks may differ. S3 and EC2: 15 minutes.
    public static let skewSeconds: Int64 = 15 * 60
    /// A presigned URL of version 4 lives at most a week.
    public static let longestExpiry = 604_800
    /// `Expires` of an EC2 query of version 2 lies at most this far ahead (AWS had no limit; a replay's window needs one).
    static let longestV2Expiry: Int64 = 15 * 60

    /// Finds the request's signature and checks its form.
    /// - Parameter form: the decoded pairs of a POST form's body, `nil` for other requests (SigV2 signs them).
    /// - Returns: `nil` when the request carries no signature at all (anonymous).
    /// - Throws: a malformed or ambiguous signature never falls through to anonymous.
    public static func parse(_ request: SignedRequest, form: [(String, String)]?, service: Service) throws(CloudError) -> ParsedSignature? {
        let query = URIEncoding.pairs(rawQuery: request.rawQuery)
        let names = Set(query.map { String(decoding: $0.name, as: UTF8.self) })
        let authorizations = request.values("authorization")
        let v4Query = names.contains("X-Amz-Signature") || names.contains("X-Amz-Algorithm") || names.contains("X-Amz-Credential")
        let v2Form = service == .ec2Query && (form ?? []).contains { $0.0 == "Signature" || $0.0 == "AWSAccessKeyId" }
        let v2Query = names.contains("Signature") || names.contains("AWSAccessKeyId") || v2Form
        let mechanisms = (authorizations.isEmpty ? 0 : 1) + (v4Query ? 1 : 0) + (v2Query ? 1 : 0)
        guard mechanisms > 0 else { return nil }
        guard mechanisms == 1, authorizations.count <= 1 else {
            throw refusal(
                service, "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
                    + "string parameter or the Authorization header should be specified")
        }
        if let authorization = authorizations.first {
            if authorization.hasPrefix(CanonicalV4.algorithm + " ") {
                return try v4Header(request, query, String(authorization.dropFirst(CanonicalV4.algorithm.count + 1)), service)
            }
            if authorization.hasPrefix("AWS4-ECDSA-P256-SHA256") {
                throw CloudError(.named(code: "NotImplemented", status: 501), "Asymmetric signatures (SigV4A) are not implemented")
            }
            if service == .s3, authorization.hasPrefix("AWS ") {
                return try SignatureV2.parseHeader(request, String(authorization.dropFirst(4)))
            }
            throw refusal(service, "InvalidArgument", "Unsupported Authorization Type")
        }
        if v4Query { return try self.v4Query(request, query, service) }
        return service == .s3
            ? try SignatureV2.parseS3Query(request, query) : try SignatureV2.parseEC2Query(request, query, form ?? [])
    }

    static func refusal(_ service: Service, _ s3Code: String, _ message: String) -> CloudError {
        switch service {
        case .s3: CloudError(.named(code: s3Code, status: 400), message)
        case .ec2Query: CloudError(.unauthenticated(.malformed), context: message)
        }
    }

    // MARK: Version 4

    private static func v4Header(
        _ request: SignedRequest, _ query: [(name: [UInt8], value: [UInt8])], _ text: String, _ service: Service
    ) throws(CloudError) -> ParsedSignature {
        let malformed = "AuthorizationHeaderMalformed"
        var fields: [String: String] = [:]
        for part in text.split(separator: ",") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, fields.updateValue(String(pair[1]).collapsedSpaces, forKey: String(pair[0]).collapsedSpaces) == nil
            else {
                throw refusal(service, malformed, "The authorization header is malformed: a component has no value or is repeated")
            }
        }
        guard let credential = fields["Credential"], let scope = CredentialScope(credential: credential) else {
            throw refusal(service, malformed, "The authorization header is malformed; the Credential is malformed")
        }
        guard let signature = Self.signature(hex: fields["Signature"]), let signedHeaders = fields["SignedHeaders"] else {
            throw refusal(
                service, malformed, "The authorization header requires three components: Credential, SignedHeaders, and Signature")
        }
        let signed = try Self.signedHeaders(signedHeaders, request, service, presigned: false)
        let dateHeader = request.first("x-amz-date") != nil ? "x-amz-date" : "date"
        let dates = request.values(dateHeader)
        guard dates.count == 1, signed.contains(dateHeader),
            let date = Timestamp(basic: dates[0]) ?? (dateHeader == "date" ? Timestamp(httpDate: dates[0]) : nil)
        else {
            throw service == .s3
                ? CloudError(.named(code: "AccessDenied", status: 403), "AWS authentication requires a valid Date or x-amz-date header")
                : CloudError(.unauthenticated(.malformed), context: "no signed x-amz-date or Date header")
        }
        let payload: PayloadKind
        let payloadText: String?
        if service == .s3 {
            let values = request.values("x-amz-content-sha256")
            guard values.count == 1 else {
                throw refusal(service, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
            }
            payload = try PayloadKind(header: values[0])
            payloadText = values[0]
        } else {
            payload = .hash("")
            payloadText = nil
        }
        try refuseUnsignedOnPlainHTTP(payload, request)
        return ParsedSignature(
            accessKeyID: scope.accessKeyID, kind: .v4Header, sessionToken: request.first("x-amz-security-token"), payload: payload,
            request: request, service: service,
            form: .v4(
                .init(
                    scope: scope, date: date, dateText: date.basic, expires: nil, signedHeaders: signed, payloadText: payloadText,
                    query: CanonicalV4.query(query), signature: signature)))
    }

    private static func v4Query(
        _ request: SignedRequest, _ query: [(name: [UInt8], value: [UInt8])], _ service: Service
    ) throws(CloudError) -> ParsedSignature {
        let code = "AuthorizationQueryParametersError"
        func only(_ name: String) throws(CloudError) -> String? {
            let found = query.filter { $0.name.elementsEqual(name.utf8) }
            guard found.count <= 1 else { throw refusal(service, code, "The query parameter \(name) is repeated") }
            return found.first.map { String(decoding: $0.value, as: UTF8.self) }
        }
        guard let algorithm = try only("X-Amz-Algorithm"), let credential = try only("X-Amz-Credential"),
            let dateText = try only("X-Amz-Date"), let signedHeaders = try only("X-Amz-SignedHeaders"),
            let signatureText = try only("X-Amz-Signature")
        else {
            throw refusal(
                service, code,
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
                    + "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
        }
        if algorithm == "AWS4-ECDSA-P256-SHA256" {
            throw CloudError(.named(code: "NotImplemented", status: 501), "Asymmetric signatures (SigV4A) are not implemented")
        }
        guard algorithm == CanonicalV4.algorithm else { throw refusal(service, code, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"") }
        guard let scope = CredentialScope(credential: credential) else {
            throw refusal(service, code, "Error parsing the X-Amz-Credential parameter; the Credential is malformed")
        }
        guard let date = Timestamp(basic: dateText) else {
            throw refusal(service, code, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        }
        guard let signature = Self.signature(hex: signatureText) else { throw refusal(service, code, "X-Amz-Signature is malformed") }
        var expires: Int?
        if let text = try only("X-Amz-Expires") {
            guard text.utf8.count <= 6, let seconds = Int(text), seconds >= 1, seconds <= longestExpiry, text.utf8.first != 0x2b else {
                // S3's documents say 400, RGW and ceph's s3-tests 403: a URL that was never valid is refused as one that is not any more.
                let message = "X-Amz-Expires must be between 1 and \(longestExpiry) seconds"
                throw service == .s3 ? CloudError(.named(code: code, status: 403), message) : refusal(service, code, message)
            }
            expires = seconds
        } else if service == .s3 {
            throw refusal(service, code, "Query-string authentication version 4 requires the X-Amz-Expires parameter")
        }
        let signed = try Self.signedHeaders(signedHeaders, request, service, presigned: true)
        let payload: PayloadKind
        let payloadText: String?
        if service == .s3 {
            let fromQuery = try only("X-Amz-Content-Sha256")
            let text = request.first("x-amz-content-sha256") ?? fromQuery ?? "UNSIGNED-PAYLOAD"
            payload = try PayloadKind(header: text)
            payloadText = text
        } else {
            payload = .hash("")
            payloadText = nil
        }
        let tokenInQuery = try only("X-Amz-Security-Token")
        return ParsedSignature(
            accessKeyID: scope.accessKeyID, kind: .v4Query, sessionToken: tokenInQuery ?? request.first("x-amz-security-token"),
            payload: payload, request: request, service: service,
            form: .v4(
                .init(
                    scope: scope, date: date, dateText: dateText, expires: expires, signedHeaders: signed, payloadText: payloadText,
                    query: CanonicalV4.query(query, excluding: "X-Amz-Signature"), signature: signature)))
    }

    /// A body that nothing signs may be changed by whoever carries it: over TLS only. A presigned URL is meant to be used so, plain
    /// HTTP included (its holder could send any body anyway).
    private static func refuseUnsignedOnPlainHTTP(_ payload: PayloadKind, _ request: SignedRequest) throws(CloudError) {
        switch payload {
        case .unsigned, .streamingUnsignedTrailer:
            guard request.isTLS else {
                throw CloudError(
                    .named(code: "InvalidRequest", status: 400),
                    "An unsigned payload is accepted over TLS only; sign the payload or use https")
            }
        case .hash, .streamingSigned, .none: break
        }
    }

    private static func signature(hex: String?) -> [UInt8]? {
        guard let hex, hex.utf8.count == 64 else { return nil }
        return Hex.decode(hex)
    }

    /// Lower case, sorted, unique, `host` among them, and every header that changes what an S3 request does: without this rule
    /// whoever carries the request could add `x-amz-acl` to it.
    private static func signedHeaders(
        _ text: String, _ request: SignedRequest, _ service: Service, presigned: Bool
    ) throws(CloudError) -> [String] {
        let names = text.split(separator: ";", omittingEmptySubsequences: false).map(String.init)
        let code = presigned ? "AuthorizationQueryParametersError" : "AuthorizationHeaderMalformed"
        guard names.count <= 64, names.allSatisfy({ !$0.utf8.isEmpty && $0.asciiLowercased == $0 && !$0.utf8.contains(0x20) }) else {
            throw refusal(service, code, "SignedHeaders is malformed: names are in lower case, separated by semicolons")
        }
        for (a, b) in zip(names, names.dropFirst()) where !byteOrder(a, b) {
            throw refusal(service, code, "SignedHeaders is malformed: names are sorted, and each occurs once")
        }
        guard names.contains("host") else { throw refusal(service, code, "SignedHeaders must contain host") }
        guard request.values("host").count == 1 else { throw refusal(service, code, "The request must have one Host header") }
        let signed = Set(names)
        for header in request.headers where !signed.contains(header.name) {
            let matters =
                service == .s3
                // Not `content-type`: AWS says that it must be signed, does not insist, and minio-go (restic, velero) does not sign it.
                ? header.name.hasPrefix("x-amz-")
                : header.name == "x-amz-date" || header.name == "x-amz-security-token"
            // Presigned and not S3: the date in the query is the signed one.
            if matters, !(presigned && service == .ec2Query) {
                throw service == .s3
                    ? CloudError(
                        .named(code: "AccessDenied", status: 403),
                        "There were headers present in the request which were not signed: \(header.name)")
                    : refusal(service, code, "The header \(header.name) is not signed")
            }
        }
        return names
    }
}
