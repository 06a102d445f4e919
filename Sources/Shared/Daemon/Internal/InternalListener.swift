public import Domain
import Logging
import NIOCore
public import ServiceLifecycle
import Signing
public import Wire
import Workflow

// The server's end of an internal call: TLS 1.3 with a client certificate, and a WS-Security signature over To, Action, MessageID,
// Timestamp and Body by the very certificate that the TLS peer has shown. Order: TLS → size → signature, freshness, replay →
// To is us, Action is the body's → role may call this operation → decode → dispatch → signed reply.

/// The internal listener of a daemon, for one service.
public final class InternalListener: Service {
    private let server: HTTPServer

    /// - Parameters:
    ///   - service: what is served; no other message is known here.
    ///   - allowedRoles: who may call: by the operation's name, or `*` for all others. Default is nobody.
    ///   - dispatch: as generated: `NC.dispatch(operation, input, handler, context)`.
    public init(
        address: String = "0.0.0.0", port: Int, identity: HostIdentity, service: ServiceDefinition, allowedRoles: [String: Set<String>],
        runtime: DaemonRuntime, limits: HTTPLimits = HTTPLimits(connections: 512),
        dispatch: @escaping @Sendable (String, Value, CallContext) async throws(CloudError) -> Value
    ) {
        let endpoint = InternalEndpoint(
            identity: identity, service: service, allowedRoles: allowedRoles, runtime: runtime, dispatch: dispatch)

        server = HTTPServer(
            address: address, port: port, tls: identity.serverTLS, limits: limits, runtime: runtime, name: service.name.lowercased(),
            admin: runtime.admin(metricsForAnyone: true), trustsRequestID: true
        ) { await endpoint.answer($0) }
    }

    public func waitUntilListening() async -> Int { await server.waitUntilListening() }

    public func run() async throws { try await server.run() }
}

/// What the listener does with a request; apart from the socket, so that tests can hand it bytes.
struct InternalEndpoint: Sendable {
    let identity: HostIdentity
    let service: ServiceDefinition
    let allowedRoles: [String: Set<String>]
    let runtime: DaemonRuntime
    let dispatch: @Sendable (String, Value, CallContext) async throws(CloudError) -> Value
    private let policy: WSSecurityPolicy
    private let replay = ReplayCache()

    init(
        identity: HostIdentity, service: ServiceDefinition, allowedRoles: [String: Set<String>], runtime: DaemonRuntime,
        dispatch: @escaping @Sendable (String, Value, CallContext) async throws(CloudError) -> Value
    ) {
        self.identity = identity
        self.service = service
        self.allowedRoles = allowedRoles
        self.runtime = runtime
        self.dispatch = dispatch
        var policy = WSSecurityPolicy.internalRequest
        // The replay cache is empty after a start: nothing that was made before it is accepted.
        policy.notBefore = runtime.clock.now()
        self.policy = policy
    }

    func answer(_ request: HTTPRequest) async -> HTTPReply {
        guard request.method == "POST" else { return HTTPReply(status: 405, headers: [("Allow", "POST")], closeConnection: true) }
        let started = runtime.clock.monotonic()
        var operation = "?"
        var messageID = ""
        var caller: PeerIdentity?
        let element: [UInt8]
        var failure: CloudError?
        do throws(CloudError) {
            let peer = try peerIdentity(request)
            caller = peer
            let message = try await verify(request)
            messageID = message.messageID ?? ""
            operation = message.body.operation.name
            try check(message, peer)
            let (definition, input) = try InternalMessage.readRequest(service, message.body.operation)
            let output = try await dispatch(definition.name, input, CallContext(requestID: request.id, caller: peer))
            element = InternalMessage.reply(service, definition, output)
        } catch {
            failure = error
            element = InternalFault.element(error)
        }
        record(operation, caller, failure, started)
        let isVerified = !messageID.isEmpty
        // The caller believes only what relates to its message: without this it would learn of a bad reply instead of the refusal.
        let said = request.headers.first(InternalNames.messageHeader) ?? ""
        let relatesTo: String? = isVerified ? messageID : InternalNames.isMessageID(said) ? said : nil
        do {
            let bytes = try WSSecurity.sign(
                body: element, key: identity.key, certificate: identity.certificate,
                wsa: WSSecurity.Addressing(
                    to: caller?.uri ?? "unknown",
                    action: isVerified ? InternalNames.replyAction(service, operation) : InternalNames.refusalAction(service),
                    messageID: InternalNames.messageID(runtime.random.bytes(16)), relatesTo: relatesTo),
                now: runtime.clock.now(), ttl: InternalNames.lifetime)
            return HTTPReply(
                status: failure == nil ? 200 : 500, headers: [("Content-Type", InternalNames.contentType), ("X-Request-Id", request.id)],
                body: .bytes(bytes))
        } catch {
            runtime.logger.error("a reply could not be signed", metadata: ["error": "\(DaemonFailure.text(error))"])
            return HTTPReply(status: 500, closeConnection: true)
        }
    }

    private func peerIdentity(_ request: HTTPRequest) throws(CloudError) -> PeerIdentity {
        guard let der = request.peerCertificateDER, let certificate = try? Certificate(der: der),
            let peer = HostIdentity.identity(of: certificate), peer.cloud == identity.identity.cloud
        else { throw CloudError(.unauthenticated(.unknownKey), context: "the TLS peer is no daemon of this cloud") }
        return peer
    }

    private func verify(_ request: HTTPRequest) async throws(CloudError) -> VerifiedMessage {
        let bytes = try await request.body.collect(upTo: policy.limits.maxBytes)
        let peerFingerprint = Hex.encode(Digest.sha256(request.peerCertificateDER ?? []))
        return try await WSSecurity.verify(bytes, policy: policy, now: runtime.clock.now(), replay: replay) {
            (fingerprint: String) throws(CloudError) -> Bool in
            // Channel binding: who signed must be who is at the other end of the connection, whom TLS has verified.
            fingerprint == peerFingerprint
        }
    }

    private func check(_ message: VerifiedMessage, _ peer: PeerIdentity) throws(CloudError) {
        let name = message.body.operation.name
        guard message.action == InternalNames.action(service, name) else {
            throw CloudError(.unauthenticated(.malformed), context: "Action \(message.action ?? "") is not that of the body, \(name)")
        }
        guard let host = Self.host(of: message.to ?? ""), identity.answers(to: host) else {
            throw CloudError(.unauthenticated(.malformed), context: "the message is for \(message.to ?? ""), not for \(identity.identity)")
        }
        guard (allowedRoles[name] ?? allowedRoles["*"])?.contains(peer.role) == true else {
            throw CloudError(.forbidden(action: "\(service.name):\(name)"), context: "\(peer) may not call \(service.name).\(name)")
        }
    }

    private static func host(of to: String) -> String? {
        guard to.hasPrefix("https://"), to.hasSuffix("/") else { return nil }
        let authority = to.dropFirst(8).dropLast()
        guard let colon = authority.lastIndex(of: ":") else { return nil }
        return String(authority[..<colon])
    }

    private func record(_ operation: String, _ caller: PeerIdentity?, _ failure: CloudError?, _ started: Int64) {
        // An unknown name from outside must not make a metric of its own.
        let known = service.operations[operation] == nil ? "unknown" : operation
        let labels = ["service": service.name, "operation": known]
        runtime.metrics.histogram("karri_internal_call_seconds", labels, help: "Internal calls answered")
            .observe(Double(runtime.clock.monotonic() - started) / 1e9)
        guard let failure else { return }
        runtime.metrics.counter("karri_internal_faults_total", labels, help: "Internal calls answered with a fault").increment()
        runtime.logger.log(
            level: failure.reason == .bug ? .error : .info, "internal call failed",
            metadata: [
                "operation": "\(service.name).\(known)", "caller": "\(caller.map(\.uri) ?? "unknown")",
                "error": "\(DaemonFailure.text(failure))",
            ])
    }
}
