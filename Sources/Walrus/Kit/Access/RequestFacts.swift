import Daemon
import Domain

/// What the conditions of policies may ask about a request. Made into a `PolicyContext` only when there is a policy that could ask.
///
/// Source: IAM User Guide, "AWS global condition context keys"; Service Authorization Reference, "Condition keys for Amazon S3".
struct RequestFacts: Sendable {
    let http: HTTPRequest
    let query: S3Query
    let now: Timestamp
    /// Tags that the request brings in its body (PutObjectTagging, POST); `nil`: those of the header `x-amz-tagging`.
    var requestTags: [(name: String, value: String)]?
    /// A POST form's fields and others that stand for headers, lower-case names.
    var fields: [String: String] = [:]

    /// Of a question about one key that is answered as a list with this prefix would be.
    var prefix: String?

    init(http: HTTPRequest, query: S3Query, now: Timestamp) {
        self.http = http
        self.query = query
        self.now = now
    }

    /// Headers that are condition keys under their own names: `s3:x-amz-acl` and the like.
    private static let headerKeys = [
        "x-amz-acl", "x-amz-grant-read", "x-amz-grant-write", "x-amz-grant-read-acp", "x-amz-grant-write-acp", "x-amz-grant-full-control",
        "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm", "x-amz-copy-source", "x-amz-metadata-directive", "x-amz-storage-class",
        "x-amz-content-sha256", "x-amz-website-redirect-location", "x-amz-object-ownership",
    ]
    private static let otherHeaders = [
        ("s3:if-match", "if-match"), ("s3:if-none-match", "if-none-match"), ("s3:object-lock-mode", "x-amz-object-lock-mode"),
        ("s3:object-lock-legal-hold", "x-amz-object-lock-legal-hold"), ("aws:UserAgent", "user-agent"), ("aws:Referer", "referer"),
        ("s3:object-lock-retain-until-date", "x-amz-object-lock-retain-until-date"),
    ]
    private static let parameters = [
        ("s3:prefix", "prefix"), ("s3:delimiter", "delimiter"), ("s3:max-keys", "max-keys"), ("s3:versionid", "versionId"),
    ]

    private func header(_ name: String) -> String? { fields[name] ?? http.headers.first(name) }

    /// - Parameters:
    ///   - known: who asks; `nil`: the anonymous.
    ///   - existingTags: of the object that is there.
    func context(_ known: KnownRequester?, existingTags: [(name: String, value: String)]?) -> PolicyContext {
        var values: [String: [String]] = known?.facts ?? ["aws:PrincipalType": ["Anonymous"]]
        values["aws:SourceIp"] = [http.remoteAddress]
        values["aws:SecureTransport"] = [http.isTLS ? "true" : "false"]
        values["aws:CurrentTime"] = [now.iso8601]
        values["aws:EpochTime"] = [String(now.seconds)]
        for name in Self.headerKeys { if let value = header(name) { values["s3:" + name] = [value] } }
        for (key, name) in Self.otherHeaders { if let value = header(name) { values[key] = [value] } }
        for (key, name) in Self.parameters { if let value = query[name] { values[key] = [value] } }
        if let prefix { values["s3:prefix"] = [prefix] }
        // Where nobody asks for less, lists are of a thousand: a limit by policy must see that.
        if values["s3:max-keys"] == nil { values["s3:max-keys"] = ["1000"] }
        if let until = header("x-amz-object-lock-retain-until-date").flatMap({ Timestamp(iso8601: $0) }) {
            values["s3:object-lock-remaining-retention-days"] = [String(max(0, (until.seconds - now.seconds + 86_399) / 86_400))]
        }
        if let source = values["s3:x-amz-copy-source"]?.first, source.hasPrefix("/") {
            values["s3:x-amz-copy-source"] = [String(source.dropFirst())]
        }
        signature(known != nil, &values)
        tags(existingTags, &values)
        return PolicyContext(values)
    }

    /// How the request is signed, read from where the signature stands.
    private func signature(_ isSigned: Bool, _ values: inout [String: [String]]) {
        guard isSigned else { return }
        if let authorization = http.headers.first("authorization") {
            values["s3:authType"] = ["REST-HEADER"]
            values["s3:signatureversion"] = [authorization.hasPrefix("AWS4") ? "AWS4-HMAC-SHA256" : "AWS"]
        } else if query.has("X-Amz-Signature") || query.has("Signature") {
            values["s3:authType"] = ["REST-QUERY-STRING"]
            values["s3:signatureversion"] = [query.has("X-Amz-Signature") ? "AWS4-HMAC-SHA256" : "AWS"]
            if let date = query["X-Amz-Date"].flatMap({ Timestamp(basic: $0) }) {
                values["s3:signatureAge"] = [String(max(0, now.milliseconds - date.milliseconds))]
            }
        } else {
            values["s3:authType"] = ["POST"]
            values["s3:signatureversion"] = [fields["x-amz-algorithm"] == nil ? "AWS" : "AWS4-HMAC-SHA256"]
        }
    }

    private func tags(_ existing: [(name: String, value: String)]?, _ values: inout [String: [String]]) {
        for tag in existing ?? [] { values["s3:ExistingObjectTag/" + tag.name] = [tag.value] }
        var given = requestTags ?? []
        if requestTags == nil, let header = header("x-amz-tagging"), let parsed = try? S3Query(raw: header) {
            given = parsed.pairs.map { ($0.name, $0.value ?? "") }
        }
        guard !given.isEmpty else { return }
        for tag in given { values["s3:RequestObjectTag/" + tag.name] = [tag.value] }
        values["s3:RequestObjectTagKeys"] = given.map(\.name)
    }
}

extension Requester {
    /// The same, asking for a list of what begins with a key.
    func looking(for key: String) -> Requester {
        var facts = self.facts
        facts.prefix = key
        return Requester(known: known, signature: signature, facts: facts)
    }

    /// The same, with tags that came in the body.
    func bringing(tags: [(name: String, value: String)]) -> Requester {
        var facts = self.facts
        facts.requestTags = tags
        return Requester(known: known, signature: signature, facts: facts)
    }
}
