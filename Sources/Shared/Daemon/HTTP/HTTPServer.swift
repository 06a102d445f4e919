import Domain
import HummingbirdCore
import HummingbirdTLS
import Logging
import NIOCore
import NIOPosix
import NIOSSL
public import ServiceLifecycle
import Synchronization
import Workflow

/// An HTTP/1.1 listener, plain or TLS, on HummingbirdCore.
///
/// The handler gets each request as it came over the wire and answers it; it never throws, because only it knows how its errors look.
/// A graceful stop lets requests under way end and closes idle connections.
public final class HTTPServer: Service {
    private let address: String
    private let port: Int
    private let tls: ServerTLS?
    private let limits: HTTPLimits
    private let runtime: DaemonRuntime
    private let name: String
    private let admin: AdminEndpoints?
    private let trustsRequestID: Bool
    private let onEventLoop: Bool
    private let bindRetryMilliseconds: Int?
    private let handler: @Sendable (HTTPRequest) async -> HTTPReply
    private struct Bound: Sendable {
        var port: Int?
        var waiting: [CheckedContinuation<Int, Never>] = []
    }
    private let bound = Mutex(Bound())

    /// - Parameters:
    ///   - address: what to listen on, such as `0.0.0.0`.
    ///   - port: 0 takes a free one; see `waitUntilListening()`.
    ///   - name: of the listener, in logs, metrics and `/health`.
    ///   - admin: answers `GET /metrics` and `GET /health` here; nil where these paths belong to somebody else (S3 buckets).
    ///   - trustsRequestID: take `X-Request-Id` from the peer (internal listeners).
    ///   - onEventLoop: run the handler on the connection's event loop, for handlers that never block (see `LoopExecutor`).
    ///   - bindRetryMilliseconds: keep trying to bind at this interval (an address that is not there yet); nil: fail at once.
    public init(
        address: String, port: Int, tls: ServerTLS? = nil, limits: HTTPLimits = HTTPLimits(), runtime: DaemonRuntime, name: String,
        admin: AdminEndpoints? = nil, trustsRequestID: Bool = false, onEventLoop: Bool = false, bindRetryMilliseconds: Int? = nil,
        handler: @escaping @Sendable (HTTPRequest) async -> HTTPReply
    ) {
        self.address = address
        self.port = port
        self.tls = tls
        self.limits = limits
        self.runtime = runtime
        self.name = name
        self.admin = admin
        self.trustsRequestID = trustsRequestID
        self.onEventLoop = onEventLoop
        self.bindRetryMilliseconds = bindRetryMilliseconds
        self.handler = handler
        // A listener that waits for its address must not keep the daemon from being ready.
        runtime.health.set("listener \(name)", bindRetryMilliseconds == nil ? .starting : .degraded("not listening yet"))
    }

    /// - Returns: the port, once the listener accepts connections.
    public func waitUntilListening() async -> Int {
        await withCheckedContinuation { waiter in
            let port = bound.withLock { bound -> Int? in
                if bound.port == nil { bound.waiting.append(waiter) }
                return bound.port
            }
            if let port { waiter.resume(returning: port) }
        }
    }

    /// - Throws: when the address cannot be bound, or the certificates cannot be used.
    public func run() async throws {
        while true {
            do {
                return try await listen()
            } catch let error as IOError {
                guard let bindRetryMilliseconds else {
                    runtime.health.set("listener \(name)", .failed("\(error)"))
                    throw CloudError(.unavailable("\(address):\(port)"), context: "cannot listen for \(name): \(error)")
                }
                runtime.health.set("listener \(name)", .degraded("\(error)"))
                do {
                    try await cancelWhenGracefulShutdown { [runtime] in try await runtime.clock.sleep(milliseconds: bindRetryMilliseconds) }
                } catch is CancellationError {
                    return
                }
            }
        }
    }

    private func listen() async throws {
        var logger = Logger(label: "http")
        logger.logLevel = runtime.logger.logLevel
        logger[metadataKey: "listener"] = "\(name)"
        let connection = ServerConnection(
            limits: limits, isTLS: tls != nil, admin: admin, trustsRequestID: trustsRequestID, onEventLoop: onEventLoop,
            random: runtime.random, clock: runtime.clock, statistics: ListenerStatistics(runtime.metrics, listener: name), handler: handler)
        let configuration = ServerConfiguration(
            address: .hostname(address, port: port), backlog: 512,
            availableConnectionsDelegate: MaximumAvailableConnections(limits.connections, logger: logger))
        let started: @Sendable (any Channel) async -> Void = { [self] channel in
            let port = channel.localAddress?.port ?? port
            runtime.health.set("listener \(name)", .ok)
            let waiting = bound.withLock { bound in
                bound.port = port
                defer { bound.waiting = [] }
                return bound.waiting
            }
            for waiter in waiting { waiter.resume(returning: port) }
        }
        let group = MultiThreadedEventLoopGroup.singleton
        if let tls {
            let server = Server(
                childChannelSetup: try TLSChannel(connection, tlsConfiguration: Self.tlsConfiguration(tls)), configuration: configuration,
                onServerRunning: started, eventLoopGroup: group, logger: logger)
            try await Self.run(server)
        } else {
            try await Self.run(
                Server(
                    childChannelSetup: connection, configuration: configuration, onServerRunning: started, eventLoopGroup: group,
                    logger: logger))
        }
        runtime.health.set("listener \(name)", .degraded("stopped"))
    }

    /// Hummingbird's server must not be cancelled while connections wait to be accepted: NIO stops the process when a connection that
    /// nobody took is dropped. So a cancellation first closes the listener, and only then reaches the connections.
    private static func run<Connection: ServerChildChannel>(_ server: Server<Connection>) async throws {
        let running = Task { try await server.run() }
        try await withTaskCancellationHandler {
            try await running.value
        } onCancel: {
            Task {
                async let closing: Void = server.shutdownGracefully()
                try? await Task.sleep(for: .milliseconds(100))
                running.cancel()
                try? await closing
            }
        }
    }

    private static func tlsConfiguration(_ tls: ServerTLS) throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMFile(tls.certificate).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(file: tls.key, format: .pem)))
        configuration.minimumTLSVersion = tls.onlyTLS13 ? .tlsv13 : .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        switch tls.clients {
        case .none:
            configuration.certificateVerification = .none
        case .optional(let ca):
            configuration.certificateVerification = .optionalVerification
            configuration.trustRoots = .file(ca)
        case .required(let ca):
            // Which name stands in the certificate is checked by the listener's owner, who knows the roles.
            configuration.certificateVerification = .noHostnameVerification
            configuration.trustRoots = .file(ca)
        }
        return configuration
    }
}
