public import Domain
import Signing
public import Wire
public import Workflow

/// The caller's end of an internal call: curl with TLS 1.3 and our certificate, a signed request, and a reply that must be signed by
/// the TLS peer, have the role of the service that was called, and relate to this very request.
public final class InternalTransport: MessageTransport {
    private let identity: HostIdentity
    private let http: any HTTPRequesting
    private let clock: any Clock
    private let random: any Random
    private let timeoutMilliseconds: Int
    private let replay = ReplayCache()

    /// - Parameters:
    ///   - http: `HTTPClient(tls: identity.clientTLS)` when nil.
    ///   - timeoutMilliseconds: for a whole call. Too low: a busy node looks dead; too high: callers hang on a dead one.
    public init(
        identity: HostIdentity, clock: any Clock, random: any Random, http: (any HTTPRequesting)? = nil, timeoutMilliseconds: Int = 30_000
    ) {
        self.identity = identity
        self.clock = clock
        self.random = random
        self.http = http ?? HTTPClient(tls: identity.clientTLS)
        self.timeoutMilliseconds = timeoutMilliseconds
    }

    public func call(
        _ service: ServiceDefinition, _ operation: Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value {
        do throws(CloudError) {
            return try await attempt(service, operation, input, endpoint, context)
        } catch {
            guard case .unauthenticated(let why) = error.reason else { throw error }
            let refused = "\(service.name).\(operation.name) at \(endpoint) refused the message: \(why.rawValue)"
            // Written before the other side began (it was just started), or sent again by curl after a connection broke: it was not
            // carried out, or what it did may be repeated as any call may. A new message says whether there is more to it.
            guard why == .expired || why == .replayed else { throw unsound(endpoint, refused) }
            do throws(CloudError) {
                return try await attempt(service, operation, input, endpoint, context)
            } catch {
                guard case .unauthenticated = error.reason else { throw error }
                throw unsound(endpoint, refused)
            }
        }
    }

    /// - Throws: `.unauthenticated` when the other side refuses the message before it looks at what is asked.
    private func attempt(
        _ service: ServiceDefinition, _ operation: Operation, _ input: Value, _ endpoint: String, _ context: CallContext
    ) async throws(CloudError) -> Value {
        let messageID = InternalNames.messageID(random.bytes(16))
        let body = try WSSecurity.sign(
            body: InternalMessage.request(service, operation, input), key: identity.key, certificate: identity.certificate,
            wsa: WSSecurity.Addressing(
                to: InternalNames.to(endpoint), action: InternalNames.action(service, operation.name), messageID: messageID),
            now: clock.now(), ttl: InternalNames.lifetime)
        let response = try await http.execute(
            HTTPClientRequest(
                "POST", url: InternalNames.to(endpoint),
                headers: [
                    ("Content-Type", InternalNames.contentType), ("SOAPAction", "\"\(InternalNames.action(service, operation.name))\""),
                    ("X-Request-Id", context.requestID), (InternalNames.messageHeader, messageID),
                ],
                body: .bytes(body), sink: .memory(limit: WSSecurityPolicy.internalReply.limits.maxBytes),
                timeoutMilliseconds: timeoutMilliseconds))
        let place = "\(service.name).\(operation.name) at \(endpoint)"
        guard response.status == 200 || response.status == 500 else {
            throw unsound(endpoint, "\(place) answered with HTTP status \(response.status)")
        }
        let reply = try await verified(response, endpoint, place)
        try check(reply, service, operation, messageID, endpoint)
        return try InternalMessage.readReply(service, operation, reply.body.operation)
    }

    private func verified(_ response: HTTPClientResponse, _ endpoint: String, _ place: String) async throws(CloudError) -> VerifiedMessage {
        guard let der = response.peerCertificateDER, let certificate = try? Certificate(der: der) else {
            throw unsound(endpoint, "\(place): the connection shows no certificate")
        }
        do throws(CloudError) {
            return try await WSSecurity.verify(response.body, policy: .internalReply, now: clock.now(), replay: replay) {
                (fingerprint: String) throws(CloudError) -> Bool in fingerprint == certificate.fingerprintSHA256
            }
        } catch {
            throw unsound(endpoint, "\(place): the reply is not sound: \(DaemonFailure.text(error))")
        }
    }

    private func check(
        _ reply: VerifiedMessage, _ service: ServiceDefinition, _ operation: Operation, _ messageID: String, _ endpoint: String
    ) throws(CloudError) {
        guard let signer = try? Certificate(der: reply.certificateDER), let peer = HostIdentity.identity(of: signer),
            peer.cloud == identity.identity.cloud, peer.role == InternalNames.role(of: service)
        else { throw unsound(endpoint, "\(endpoint) is no \(service.name) of this cloud") }
        guard reply.relatesTo == messageID, reply.to == identity.identity.uri else {
            throw unsound(endpoint, "\(peer) answered another message")
        }
        let isRefusal = reply.action == InternalNames.refusalAction(service) && InternalFault.error(from: reply.body.operation) != nil
        guard isRefusal || reply.action == InternalNames.replyAction(service, operation.name) else {
            throw unsound(endpoint, "\(peer) answered \(operation.name) with \(reply.action ?? "")")
        }
    }

    private func unsound(_ endpoint: String, _ context: String) -> CloudError {
        CloudError(.unavailable("The service at \(endpoint)"), context: context)
    }
}
