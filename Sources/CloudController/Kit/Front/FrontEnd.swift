import API
public import Daemon
import Domain
import Identity
import Logging
import Signing
import Wire
import Workflow

/// The outside's one door on port 8773: EC2, IAM and STS, by Query and by SOAP.
///
/// A request goes through the rooms once, in this order: which wire and which service, whose signature, which action, read by its
/// definition, may its caller do that, do it, answer in the form and namespace that was asked. What is refused before the caller is
/// known says as little as possible, and the reason stands in the log under the request's id.
public struct FrontEnd: Sendable {
    /// The body of a Query request. RunInstances with 16 KiB of user data in base64, percent-encoded, needs 70 KB.
    static let queryLimit = 1 << 20
    /// A SOAP envelope. The same request in base64 with a signature needs 40 KB.
    static let soapLimit = 1 << 18

    let cloud: CloudServices
    private let runtime: DaemonRuntime
    private let ec2: EC2Actions
    private let iam: IAMActions
    private let sts: STSActions
    private let replay = ReplayCache()
    private let policy: WSSecurityPolicy
    private let unknown: UnknownActions
    private let authorizer: RequestAuthorizer

    public init(_ cloud: CloudServices, runtime: DaemonRuntime) {
        self.cloud = cloud
        self.runtime = runtime
        ec2 = EC2Actions(cloud)
        iam = IAMActions(cloud)
        sts = STSActions(cloud)
        var policy = WSSecurityPolicy.external(allowSHA1: cloud.settings.allowSHA1, maxBytes: Self.soapLimit)
        // What was accepted before this start is in no cache any more.
        policy.notBefore = runtime.clock.now()
        self.policy = policy
        unknown = UnknownActions(runtime.metrics)
        authorizer = RequestAuthorizer(cloud: cloud)
    }

    public func answer(_ request: HTTPRequest) async -> HTTPReply {
        switch request.method {
        case "GET", "HEAD":
            if Self.wantsWSDL(request) { return wsdl(request) }
            return await query(request)
        case "POST":
            return request.headers.contains("soapaction") ? await soap(request) : await query(request)
        default:
            return HTTPReply(status: 405, headers: [("Allow", "GET, HEAD, POST")], closeConnection: true)
        }
    }

    // MARK: Query

    /// What is known of a request by the time that it fails.
    private struct Progress {
        var route = ServiceRoute.ec2
        var version: RequestVersion?
        var action = "?"
        var caller: AuthenticatedCaller?
    }

    private func query(_ request: HTTPRequest) async -> HTTPReply {
        var progress = Progress()
        let started = runtime.clock.monotonic()
        do throws(CloudError) {
            let body = try await query(request, &progress)
            record(request, progress, nil, started)
            return reply(200, body, request)
        } catch {
            let shown = Self.outward(error, progress.route)
            record(request, progress, error, started)
            let (status, body) = ReplyBody.error(
                shown, service: progress.route.definition, version: progress.version?.date, requestID: request.id)
            return reply(status, body, request)
        }
    }

    private func query(_ request: HTTPRequest, _ progress: inout Progress) async throws(CloudError) -> [UInt8] {
        let byPath = try ServiceRoute.byPath(request.rawPath)
        if let byPath { progress.route = byPath }
        let body = try await request.body.collect(upTo: Self.queryLimit)
        let isForm = request.headers.first("content-type").map { $0.lowercased().hasPrefix("application/x-www-form-urlencoded") } ?? true
        guard body.isEmpty || isForm else {
            throw CloudError(.malformedRequest, "The body of a Query request is a form (application/x-www-form-urlencoded)")
        }
        var limits = QueryParameters.Limits()
        limits.maxBytes = Self.queryLimit
        let parameters = try QueryParameters(parsing: request.rawQuery, body: body, limits: limits)
        progress.action = parameters["Action"].map { String($0.prefix(128)) } ?? "?"
        let signed = SignedRequest(
            method: request.method, rawPath: request.rawPath, rawQuery: request.rawQuery, headers: request.headers.fields,
            isTLS: request.isTLS)
        let form = try QueryParameters(parsing: nil, body: body, limits: limits).pairs.map { ($0.name, $0.value) }
        let parsed = try AWSSignature.parse(signed, form: request.method == "POST" ? form : nil, service: .ec2Query)
        progress.route = byPath ?? ServiceRoute.byContent(version: parameters["Version"], scope: parsed?.claimedScope?.service)
        let now = runtime.clock.now()
        let caller: AuthenticatedCaller
        if let parsed {
            caller = try await authenticate(parsed, body, now)
            progress.caller = caller
            await noteUse(caller, progress.route)
        } else if progress.route == .sts, parameters["Action"] == "AssumeRoleWithWebIdentity" {
            // The one action that nobody signs: the provider's token says who it is.
            caller = AuthenticatedCaller(principal: .nobody)
        } else {
            throw CloudError(.unauthenticated(.missing))
        }
        guard let action = parameters["Action"], !action.isEmpty else {
            throw CloudError(.named(code: "MissingAction", status: 400), "The request must contain the parameter Action")
        }
        let version = try RequestVersion(parameters["Version"], progress.route)
        progress.version = version
        let definition = progress.route.definition
        guard let operation = definition.operations[action], operation.exists(in: version.date) else {
            unknown.count(progress.route, action)
            throw CloudError(.unknownAction(String(action.prefix(128))))
        }
        let input = try decodeQuery(operation.input, parameters, version: version.date)
        let context = OperationContext(
            caller: caller, requestID: request.id, apiVersion: version.asked, now: now, sourceAddress: request.remoteAddress,
            isTLS: request.isTLS, userAgent: request.headers.first("user-agent") ?? "", region: cloud.settings.region)
        let output = try await carryOut(progress.route, operation, input, context)
        guard let namespace = version.namespace else {
            return ReplyBody.query(definition, operation, output, version: version.date, requestID: request.id)
        }
        return Self.declaration
            + ReplyBody.element(definition, operation, output, version: version.date, requestID: request.id, namespace: namespace)
    }

    private static let declaration = Array("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".utf8)

    private func authenticate(_ parsed: ParsedSignature, _ body: [UInt8], _ now: Timestamp) async throws(CloudError) -> AuthenticatedCaller
    {
        let known = try await cloud.identity.credential(accessKeyID: parsed.accessKeyID, sessionToken: parsed.sessionToken)
        // An unknown key costs as much as a wrong signature, so that the time does not tell them apart.
        let secret = known?.secret ?? "no such key, and no such secret 00000000"
        let hash = Hex.encode(Digest.sha256(body))
        do throws(CloudError) {
            _ = try parsed.verify(secret: secret, now: now, bodySHA256: hash)
        } catch {
            guard known != nil else {
                throw CloudError(.unauthenticated(.unknownKey), context: "access key \(parsed.accessKeyID.prefix(40))")
            }
            throw error
        }
        guard let known else { throw CloudError(.unauthenticated(.unknownKey), context: "access key \(parsed.accessKeyID.prefix(40))") }
        return known.caller
    }

    /// When a key or a role was used last: a note that fails is no reason to refuse.
    private func noteUse(_ caller: AuthenticatedCaller, _ route: ServiceRoute) async {
        let region = cloud.settings.region
        if let role = caller.principal.role, let id = caller.principal.userID.split(separator: ":").first {
            try? await cloud.identity.roleUsed(role.roleARN, roleID: String(id), region: region)
        } else if caller.session == nil, let key = caller.accessKeyID {
            try? await cloud.identity.accessKeyUsed(key, service: route.rawValue, region: region)
        }
    }

    // MARK: SOAP

    private func soap(_ request: HTTPRequest) async -> HTTPReply {
        var progress = Progress()
        let started = runtime.clock.monotonic()
        do throws(CloudError) {
            let body = try await soap(request, &progress)
            record(request, progress, nil, started)
            return reply(200, body, request)
        } catch {
            record(request, progress, error, started)
            let (status, body) = ExternalFault.envelope(Self.outward(error, progress.route), requestID: request.id)
            return reply(status, body, request)
        }
    }

    private func soap(_ request: HTTPRequest, _ progress: inout Progress) async throws(CloudError) -> [UInt8] {
        let byPath = try ServiceRoute.byPath(request.rawPath)
        if let byPath { progress.route = byPath }
        let soapActions = request.headers.all("soapaction")
        guard soapActions.count == 1 else { throw CloudError(.malformedRequest, "The request has more than one SOAPAction") }
        let bytes = try await request.body.collect(upTo: Self.soapLimit)
        let now = runtime.clock.now()
        let identity = cloud.identity
        let message = try await WSSecurity.verify(bytes, policy: policy, now: now, replay: replay) { fingerprint throws(CloudError) in
            try await identity.caller(certificateFingerprint: fingerprint) != nil
        }
        guard let caller = try await identity.caller(certificateFingerprint: message.certificateFingerprint) else {
            throw CloudError(.unauthenticated(.unknownKey), context: "certificate \(message.certificateFingerprint)")
        }
        progress.caller = caller
        let element = message.body.operation
        progress.action = String(element.name.prefix(128))
        guard let (route, date) = ServiceRoute.byNamespace(element.namespace), byPath == nil || byPath == route else {
            unknown.count(progress.route, element.name)
            throw CloudError(.unknownAction(String(element.name.prefix(128))), "The namespace of the operation is not one of this service.")
        }
        progress.route = route
        let version = try RequestVersion(date, route)
        progress.version = version
        let definition = route.definition
        let operation: Operation
        let namespace: String
        do throws(CloudError) {
            (operation, _, namespace) = try SOAPEnvelope.action(of: element, service: definition, soapAction: soapActions[0])
        } catch {
            if case .unknownAction = error.reason { unknown.count(route, element.name) }
            throw error
        }
        let input = try decodeSOAP(operation.input, element, version: version.date)
        let context = OperationContext(
            caller: caller, requestID: request.id, apiVersion: version.asked, now: now, sourceAddress: request.remoteAddress,
            isTLS: request.isTLS, userAgent: request.headers.first("user-agent") ?? "", region: cloud.settings.region)
        let output = try await carryOut(route, operation, input, context)
        return SOAPEnvelope.wrap(
            ReplyBody.element(definition, operation, output, version: version.date, requestID: request.id, namespace: namespace))
    }

    // MARK: the common part

    private func carryOut(
        _ route: ServiceRoute, _ operation: Operation, _ input: Value, _ context: OperationContext
    ) async throws(CloudError) -> Value {
        try await authorizer.authorize(route, operation, input, context)
        switch route {
        case .ec2: return try await EC2.dispatch(operation.name, input, ec2, context)
        case .iam: return try await IAM.dispatch(operation.name, input, iam, context)
        case .sts: return try await STS.dispatch(operation.name, input, sts, context)
        }
    }

    /// What the outside may learn of a failed authentication: never whether a key exists. EC2 answers all of it as AuthFailure.
    private static func outward(_ error: CloudError, _ route: ServiceRoute) -> CloudError {
        // EC2 knows one word for all that is too late. Source: EC2's error codes, RequestExpired.
        if route == .ec2, case .named("ExpiredToken", _) = error.reason {
            return CloudError(.named(code: "RequestExpired", status: 400), error.message)
        }
        guard case .unauthenticated(let failure) = error.reason else { return error }
        switch failure {
        case .missing, .expired, .notYetValid: return CloudError(.unauthenticated(failure))
        case .badSignature, .unknownKey, .replayed, .malformed, .insecure: return CloudError(.unauthenticated(.unknownKey))
        }
    }

    private func reply(_ status: Int, _ body: [UInt8], _ request: HTTPRequest) -> HTTPReply {
        HTTPReply(
            status: status,
            headers: [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-RequestId", request.id), ("Cache-Control", "no-store")],
            body: .bytes(body))
    }

    private func record(_ request: HTTPRequest, _ progress: Progress, _ error: CloudError?, _ started: Int64) {
        let known = progress.route.definition.operations[progress.action] != nil
        let action = known ? progress.action : "unknown"
        let seconds = Double(runtime.clock.monotonic() - started) / 1e9
        let status = error.map { String(EC2ErrorCode.code(for: $0.reason).code) } ?? "ok"
        runtime.metrics.counter(
            "karri_api_requests_total", ["service": progress.route.rawValue, "action": action, "result": status],
            help: "Requests by outcome"
        ).increment()
        runtime.metrics.histogram(
            "karri_api_request_seconds", ["service": progress.route.rawValue], help: "Time from the request's head to its reply"
        ).observe(seconds)
        var metadata: Logger.Metadata = [
            "action": "\(progress.action)", "service": "\(progress.route.rawValue)", "result": "\(status)",
            "ms": "\(Int(seconds * 1000))", "from": "\(request.remoteAddress)",
        ]
        if let caller = progress.caller { metadata["principal"] = "\(caller.principal.arn)" }
        guard let error else {
            runtime.logger.info("api", metadata: metadata)
            return
        }
        metadata["error"] = "\(error.message) \(error.context)"
        if case .bug = error.reason {
            runtime.logger.error("api", metadata: metadata)
        } else {
            runtime.logger.notice("api", metadata: metadata)
        }
    }

    // MARK: WSDL

    /// `?wsdl` on any path of a service, or a path that ends in `.wsdl`.
    private static func wantsWSDL(_ request: HTTPRequest) -> Bool {
        if request.rawPath.lowercased().hasSuffix(".wsdl") { return true }
        guard let query = request.rawQuery else { return false }
        return query.split(separator: "&").contains { $0.lowercased() == "wsdl" || $0.lowercased().hasPrefix("wsdl=") }
    }

    private func wsdl(_ request: HTTPRequest) -> HTTPReply {
        do throws(CloudError) {
            let parameters = try QueryParameters(parsing: request.rawQuery)
            // `/doc/2009-08-15/AmazonEC2.wsdl`, as Amazon's were found.
            let inPath = request.rawPath.split(separator: "/").map { String($0) }.first { APIDate.isDate($0) }
            let isFile = request.rawPath.lowercased().hasSuffix(".wsdl")
            let route = isFile ? .ec2 : try ServiceRoute.byPath(request.rawPath) ?? .ec2
            let host = request.headers.first("host") ?? "\(cloud.settings.serviceHost):\(cloud.settings.servicePort)"
            let endpoint = "\(request.isTLS ? "https" : "http")://\(host)\(isFile ? "/" : request.rawPath)"
            let document = try WSDL.document(
                route.definition, version: parameters["Version"] ?? inPath ?? route.onlyVersion, endpoint: endpoint)
            return HTTPReply(status: 200, headers: [("Content-Type", "text/xml;charset=UTF-8")], body: .bytes(document))
        } catch {
            let (status, body) = ReplyBody.ec2Error(error, requestID: request.id)
            return reply(status, body, request)
        }
    }
}
