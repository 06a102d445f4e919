import Daemon
import Domain
import Logging
import Signing
import Workflow

/// The way of a request: target, signature, route, action; and of an error, to S3's document.
struct Gateway: Sendable {
    let core: WalrusCore
    let metrics: MetricsRegistry
    let served: RequestMetrics
    let health: HealthRegistry
    /// Whether others than this host may read `/metrics`.
    let metricsForAnyone: Bool
    /// Whether a body that no signature covers may come over plain HTTP. Whoever carries it could change it; but the network that carries
    /// plain HTTP is the administrator's choice, and rclone sends nothing else.
    let unsignedPayloadOnHTTP: Bool

    func handle(_ http: HTTPRequest) async -> HTTPReply {
        if let reply = admin(http) { return reply }
        let began = core.clock.monotonic()
        var operation = "Unknown"
        var reply: HTTPReply
        var refused: CloudError?
        let trace = RequestTrace()
        do throws(CloudError) {
            if let site = Website.bucket(http, core) {
                operation = "Website"
                reply = await Website(core: core).reply(http, bucket: site, trace)
            } else {
                reply = try await answer(http, trace, &operation)
            }
        } catch {
            refused = error
            reply = Self.refusal(error, http)
        }
        reply.headers.append(("x-amz-request-id", http.id))
        reply.headers.append(("x-amz-id-2", "walrus"))
        reply.headers.append(("Server", "Walrus"))
        if !reply.headers.contains(where: { $0.0 == "Date" }) { reply.headers.append(("Date", core.clock.now().httpDate)) }
        let seconds = Double(core.clock.monotonic() - began) / 1e9
        await Aftermath(core: core).finish(&reply, http, trace, operation: operation, refused: refused, seconds: seconds)
        served.count(operation: operation, status: reply.status, seconds: seconds)
        log(http, operation, reply.status, seconds, refused)
        return reply
    }

    private func answer(_ http: HTTPRequest, _ trace: RequestTrace, _ operation: inout String) async throws(CloudError) -> HTTPReply {
        let target = try S3Target(rawPath: http.rawPath, host: http.headers.first("host"), domain: core.domain)
        let query = try S3Query(raw: http.rawQuery)
        let now = core.clock.now()
        if http.method == "OPTIONS" {
            operation = "PreflightRequest"
            return try await CORS.preflight(http, target, core)
        }
        if FormUpload.isOne(http, target, query) {
            operation = "PostObject"
            return try await FormUpload(core: core).perform(http, target, now: now)
        }
        let requester = try await authenticate(http, target, query, now)
        trace.requester = requester.known
        let request = S3Request(http: http, target: target, query: query, requester: requester, now: now, trace: trace)
        let route = try Route(request)
        operation = route.name
        return try await Dispatch(core: core).perform(route, request)
    }

    private func log(_ http: HTTPRequest, _ operation: String, _ status: Int, _ seconds: Double, _ error: CloudError?) {
        let level: Logger.Level = status >= 500 && status != 501 && status != 507 ? .error : .debug
        guard core.logger.logLevel <= level else { return }
        var metadata: Logger.Metadata = [
            "request": "\(http.id)", "operation": "\(operation)", "status": "\(status)", "ms": "\(Int(seconds * 1000))",
            "path": "\(http.rawPath)",
            "from": "\(http.remoteAddress)",
        ]
        if let error { metadata["error"] = "\(DaemonFailure.text(error))" }
        core.logger.log(level: level, "request", metadata: metadata)
    }

    /// `/health` and `/metrics` share the listener with buckets of these names: only unsigned requests without a query are ours, and an
    /// anonymous list of such a bucket is what is lost.
    private func admin(_ http: HTTPRequest) -> HTTPReply? {
        guard http.method == "GET", http.rawQuery == nil, !http.headers.contains("authorization") else { return nil }
        return AdminEndpoints(metrics: metrics, health: health, metricsForAnyone: metricsForAnyone).reply(to: http)
    }

    private func authenticate(
        _ http: HTTPRequest, _ target: S3Target, _ query: S3Query, _ now: Timestamp
    ) async throws(CloudError) -> Requester {
        let signed = SignedRequest(
            method: http.method, rawPath: http.rawPath, rawQuery: http.rawQuery, headers: http.headers.fields,
            isTLS: http.isTLS || unsignedPayloadOnHTTP,
            virtualBucket: target.isVirtualHosted ? target.bucket : nil)
        guard let parsed = try AWSSignature.parse(signed, form: nil, service: .s3) else {
            return Requester(known: nil, signature: nil, facts: RequestFacts(http: http, query: query, now: now))
        }
        let known = try await core.directory.signer(parsed.accessKeyID, sessionToken: parsed.sessionToken)
        let verified = try parsed.verify(secret: known.secret, now: now)
        return Requester(known: known.requester, signature: verified, facts: RequestFacts(http: http, query: query, now: now))
    }

    /// HEAD has no body, and 304 neither; S3 tells HEAD's errors by the status alone.
    /// - Parameter headers: what the refusal says beside its document.
    static func refusal(_ error: CloudError, _ http: HTTPRequest, headers more: [(String, String)] = []) -> HTTPReply {
        let (code, status) = S3ErrorCode.of(error)
        var headers = more
        if status == 503 { headers.append(("Retry-After", "1")) }
        if http.method == "HEAD" { return HTTPReply(status: status, headers: headers) }
        headers.append(("Content-Type", "application/xml"))
        let body = S3Document.error(
            code: code, message: S3ErrorMessage.of(error), resource: http.rawPath, requestID: http.id,
            extra: S3ErrorMessage.extra(error, http))
        return HTTPReply(status: status, headers: headers, body: .bytes(body))
    }
}

/// What S3 says in words. Clients show these; some look for parts of them.
enum S3ErrorMessage {
    static func of(_ error: CloudError) -> String {
        guard case .unauthenticated(let failure) = error.reason else { return error.message }
        switch failure {
        case .badSignature:
            return "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        case .unknownKey: return "The AWS Access Key Id you provided does not exist in our records."
        case .expired, .notYetValid: return "The difference between the request time and the server's time is too large."
        case .malformed: return "The authorization header is malformed."
        case .missing, .insecure, .replayed: return "Access Denied"
        }
    }

    static func extra(_ error: CloudError, _ http: HTTPRequest) -> [(String, String)] {
        guard case .named(let code, _) = error.reason else { return [] }
        switch code {
        case "PreconditionFailed" where !error.context.isEmpty: return [("Condition", error.context)]
        case "InvalidRange": return [("RangeRequested", http.headers.first("range") ?? "")]
        default: return []
        }
    }
}
