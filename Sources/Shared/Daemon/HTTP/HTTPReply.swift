import Glibc
public import NIOCore

/// What a handler answers. Framing headers (`Content-Length`, `Transfer-Encoding`, `Connection`) are written by the server; a
/// `Content-Length` given for a HEAD request is kept.
public struct HTTPReply: Sendable {
    public enum Body: Sendable {
        case empty
        case bytes([UInt8])
        /// A part of a file: sendfile(2) on plain connections, pread(2) on TLS. The descriptor is closed when `source` is released.
        case file(FileSource, offset: Int, length: Int)
        /// Written as it is made. `length`: bytes, when they are known; else chunked. A thrown error breaks the connection, so that
        /// the client cannot take a part for the whole.
        case stream(length: Int?, @Sendable (BodyWriter) async throws -> Void)
    }
    public var status: Int
    public var headers: [(String, String)]
    public var body: Body
    /// Close the connection after this reply.
    public var closeConnection: Bool
    /// IP time to live of the reply's packets (the hop limit of instance metadata).
    public var ttl: Int?

    public init(status: Int, headers: [(String, String)] = [], body: Body = .empty, closeConnection: Bool = false, ttl: Int? = nil) {
        self.status = status
        self.headers = headers
        self.body = body
        self.closeConnection = closeConnection
        self.ttl = ttl
    }

    public static func text(_ status: Int, _ text: String, type: String = "text/plain") -> HTTPReply {
        HTTPReply(status: status, headers: [("Content-Type", type)], body: .bytes(Array(text.utf8)))
    }
}

/// Owns a file descriptor until the last reply that uses it is written.
public final class FileSource: Sendable {
    public let descriptor: Int32
    /// Takes ownership of `descriptor`.
    public init(descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
}

/// Takes the bytes of a streamed reply. `write` waits while the client is slow.
public struct BodyWriter: Sendable {
    let put: @Sendable (ByteBuffer) async throws -> Void
    /// For tests and in-process use.
    public init(_ put: @escaping @Sendable (ByteBuffer) async throws -> Void) { self.put = put }
    public func write(_ buffer: ByteBuffer) async throws { try await put(buffer) }
    public func write(_ bytes: [UInt8]) async throws { try await put(ByteBuffer(bytes: bytes)) }
}

/// Limits of one listener. Each says what goes wrong when it is too high and too low.
public struct HTTPLimits: Sendable {
    /// Connections at once. Too high: out of descriptors. Too low: clients wait in the backlog.
    public var connections: Int
    /// Connections at once from one address; more are closed at once. Too high: one client takes all of `connections` from the others.
    public var connectionsPerPeer: Int
    /// Bytes of all header fields. Too high: memory for anybody. Too low: long signed URLs and metadata headers fail.
    public var headerBytes: Int
    /// How long a connection may lie idle, or take to send the head of a request. Too high: idle connections use up `connections`.
    public var idleSeconds: Int
    /// A client that sends or takes less than `slowBytes` in this time is cut off. Too low: mobile clients fail.
    public var slowSeconds: Int
    public var slowBytes: Int
    /// What is left of a refused body and is read to keep the connection; larger rests close it.
    public var drainBytes: Int

    public init(
        connections: Int = 1024, connectionsPerPeer: Int = .max, headerBytes: Int = 64 * 1024, idleSeconds: Int = 60,
        slowSeconds: Int = 30, slowBytes: Int = 256, drainBytes: Int = 64 * 1024
    ) {
        self.connections = connections
        self.connectionsPerPeer = connectionsPerPeer
        self.headerBytes = headerBytes
        self.idleSeconds = idleSeconds
        self.slowSeconds = slowSeconds
        self.slowBytes = slowBytes
        self.drainBytes = drainBytes
    }
}

/// The certificates of a TLS listener.
public struct ServerTLS: Sendable {
    public enum Clients: Sendable {
        /// No client certificate is asked for.
        case none
        /// Asked for and verified when shown.
        case optional(ca: String)
        /// No connection without one.
        case required(ca: String)
    }
    public var certificate: String
    public var key: String
    public var clients: Clients
    /// TLS 1.3 only (internal listeners); otherwise 1.2 and 1.3.
    public var onlyTLS13: Bool

    /// - Parameters: paths of PEM files.
    public init(certificate: String, key: String, clients: Clients = .none, onlyTLS13: Bool = false) {
        self.certificate = certificate
        self.key = key
        self.clients = clients
        self.onlyTLS13 = onlyTLS13
    }
}

/// `GET /metrics` and `GET /health` on a listener.
public struct AdminEndpoints: Sendable {
    let metrics: MetricsRegistry
    let health: HealthRegistry
    let metricsForAnyone: Bool

    public init(metrics: MetricsRegistry, health: HealthRegistry, metricsForAnyone: Bool) {
        self.metrics = metrics
        self.health = health
        self.metricsForAnyone = metricsForAnyone
    }

    /// Strangers learn whether the daemon serves; why it does not (endpoints of the inside are in it) and metrics are for the host itself.
    /// - Returns: nil when the request is not for these.
    public func reply(to request: HTTPRequest) -> HTTPReply? {
        guard request.method == "GET" || request.method == "HEAD" else { return nil }
        let trusted = metricsForAnyone || request.remoteAddress == "127.0.0.1" || request.remoteAddress == "::1"
        switch request.rawPath {
        case "/health":
            return .text(health.isServing ? 200 : 503, health.json(reasons: trusted), type: "application/json")
        case "/metrics":
            guard trusted else { return nil }
            return .text(200, metrics.text(), type: "text/plain; version=0.0.4; charset=utf-8")
        default:
            return nil
        }
    }
}
