import Domain
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
import Workflow

// One connection of an HTTP server: a child channel of HummingbirdCore's server that speaks NIO's own HTTP parts instead of
// HTTPTypes. Header order and the raw target stay as sent (signatures need them), a file goes out by sendfile, and a refused upload is
// closed instead of read to its end.

/// Reads the parts of a connection for whoever has the turn: the connection's loop, or the body of the request under way.
final class ConnectionReader: @unchecked Sendable {
    // SAFETY: `iterator` is used by one task at a time. `BodySource` refuses a second reader, and the loop reads only before the handler
    // starts and after `BodySource.abandon()`.
    private var iterator: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator
    init(_ iterator: NIOAsyncChannelInboundStream<HTTPServerRequestPart>.AsyncIterator) { self.iterator = iterator }

    func next() async throws -> HTTPServerRequestPart? {
        try await iterator.next(isolation: nil)
    }
}

struct ServerConnection: ServerChildChannel {
    typealias Value = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>
    typealias Outbound = NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>

    let limits: HTTPLimits
    let isTLS: Bool
    let admin: AdminEndpoints?
    let trustsRequestID: Bool
    /// The handler runs on the connection's event loop (see `LoopExecutor`).
    let onEventLoop: Bool
    let random: any Workflow.Random
    let clock: any Workflow.Clock
    let statistics: ListenerStatistics
    let peers = PeerCounts()
    let handler: @Sendable (HTTPRequest) async -> HTTPReply

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            try? channel.syncOptions?.setOption(
                .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 4096, maximum: 256 * 1024))
            var decoder = NIOHTTPDecoderLimitConfiguration()
            decoder.maxHeaderFieldSize = limits.headerBytes
            decoder.maxHeaderListSize = limits.headerBytes
            decoder.maxHeaderFieldCount = 200
            var encoder = HTTPResponseEncoder.Configuration()
            encoder.automaticallySetFramingHeaders = false
            let state = ConnectionState()
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(ByteWatch(state))
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: true,
                withEncoderConfiguration: encoder, withDecoderLimitConfiguration: decoder)
            try pipeline.addHandler(ConnectionGuard(state, limits: limits, connections: statistics.connections))
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        }
    }

    func handle(value: Value, logger: Logger) async {
        guard onEventLoop else { return await converse(value, logger) }
        await withTaskExecutorPreference(LoopExecutor(value.channel.eventLoop)) { await converse(value, logger) }
    }

    private func converse(_ value: Value, _ logger: Logger) async {
        let peer = value.channel.remoteAddress?.ipAddress ?? ""
        let isWelcome = peers.enter(peer, limit: limits.connectionsPerPeer)
        defer { peers.leave(peer) }
        if !isWelcome { value.channel.close(promise: nil) }
        do {
            try await withTaskCancellationHandler {
                try await value.executeThenClose { inbound, outbound in
                    let reader = ConnectionReader(inbound.makeAsyncIterator())
                    do {
                        try await serve(reader, outbound, value.channel, logger)
                    } catch let error as HTTPParserError {
                        logger.debug("refused what is not HTTP", metadata: ["error": "\(error)"])
                        let status = error == .headerOverflow ? 431 : 400
                        statistics.count(status: status, seconds: 0)
                        try await outbound.write(contentsOf: [.head(Self.closing(status)), .end(nil)])
                    }
                    outbound.finish()
                    try await linger(reader, value.channel)
                }
            } onCancel: {
                value.channel.close(mode: .all, promise: nil)
            }
        } catch {
            logger.debug("connection ended", metadata: ["reason": "\(error)"])
        }
    }

    private func serve(_ reader: ConnectionReader, _ outbound: Outbound, _ channel: any Channel, _ logger: Logger) async throws {
        var peer: PeerFacts?
        while let part = try await reader.next() {
            guard case .head(let head) = part else { continue }
            if peer == nil { peer = await PeerFacts(channel, isTLS: isTLS) }
            guard let peer, try await serveOne(head, peer, reader, outbound, channel, logger) else { return }
        }
    }

    /// - Returns: whether the connection can carry another request.
    private func serveOne(
        _ head: HTTPRequestHead, _ peer: PeerFacts, _ reader: ConnectionReader, _ outbound: Outbound, _ channel: any Channel,
        _ logger: Logger
    ) async throws -> Bool {
        let started = clock.monotonic()
        let headers = HTTPHeaderList(head.headers.map { (name: $0.name, value: $0.value) })
        if let status = refusal(head, headers) {
            statistics.count(status: status, seconds: 0)
            try await outbound.write(contentsOf: [.head(Self.closing(status)), .end(nil)])
            return false
        }
        var id = trustsRequestID ? headers.first("x-request-id") ?? "" : ""
        if !Self.isSound(requestID: id) { id = Self.requestID(random) }
        let expectsContinue = head.version != .http1_0 && headers.first("expect")?.lowercased() == "100-continue"
        let source = BodySource(
            connection: reader,
            declaredLength: headers.contains("transfer-encoding") ? nil : headers.first("content-length").flatMap { Int($0) } ?? 0,
            expectsContinue: expectsContinue
        ) {
            try await outbound.write(.head(HTTPResponseHead(version: .http1_1, status: .continue)))
        }
        let request = HTTPRequest(
            id: id, method: head.method.rawValue, target: head.uri, headers: headers, remoteAddress: peer.address, isTLS: isTLS,
            peerCertificateDER: peer.certificate, body: RequestBody(source: source))
        let reply: HTTPReply
        if let own = admin?.reply(to: request) {
            reply = own
        } else {
            reply = await RequestID.$current.withValue(id) { await handler(request) }
        }
        // A body that the handler left alone is read to its end only when that is cheap.
        let rest = source.abandon()
        var keep = head.isKeepAlive && !reply.closeConnection
        switch rest {
        case .nothing, .some(declared: 0): break
        case .neverSent: keep = false
        case .some(let declared): keep = keep && (declared ?? .max) <= limits.drainBytes
        }
        if let ttl = reply.ttl { try? await Self.setTTL(ttl, channel) }
        try await ReplyWriter(outbound: outbound, channel: channel, isTLS: isTLS, isHead: head.method == .HEAD, version: head.version)
            .write(reply, keepAlive: keep)
        let seconds = Double(clock.monotonic() - started) / 1e9
        statistics.count(status: reply.status, seconds: seconds)
        if logger.logLevel <= .debug {
            logger.debug(
                "request",
                metadata: [
                    "request_id": "\(id)", "method": "\(head.method.rawValue)", "path": "\(request.rawPath)", "status": "\(reply.status)",
                    "peer": "\(peer.address)", "seconds": "\(seconds)",
                ])
        }
        if keep, rest != .nothing { try await drain(reader) }
        return keep
    }

    private func drain(_ reader: ConnectionReader) async throws {
        while let part = try await reader.next() {
            if case .end = part { return }
        }
    }

    /// Closing at once with unread bytes would make the kernel send RST, and the client might lose the reply before it reads it. So the
    /// output is closed first, and for a moment the input is thrown away.
    private func linger(_ reader: ConnectionReader, _ channel: any Channel) async throws {
        let timer = channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) }
        defer { timer.cancel() }
        var left = 4 << 20
        while left > 0, let part = try await reader.next() {
            if case .body(let buffer) = part { left -= buffer.readableBytes }
        }
    }

    /// What the decoder lets through and we do not: forms that two servers could read in two ways (RFC 9112 §6.3, §3.2).
    private func refusal(_ head: HTTPRequestHead, _ headers: HTTPHeaderList) -> Int? {
        if head.version != .http1_0 && head.version != .http1_1 { return 505 }
        // One walk over the fields for all four questions.
        var lengths: [String] = []
        var encodings: [String] = []
        var hosts = 0
        for field in headers {
            switch field.name.utf8.count {
            case 14 where HTTPHeaderList.same(field.name, "content-length"): lengths.append(field.value)
            case 17 where HTTPHeaderList.same(field.name, "transfer-encoding"): encodings.append(field.value)
            case 4 where HTTPHeaderList.same(field.name, "host"): hosts += 1
            default: break
            }
        }
        if lengths.count > 1 || (!lengths.isEmpty && !encodings.isEmpty) { return 400 }
        if let length = lengths.first, length.isEmpty || !length.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) || Int(length) == nil {
            return 400
        }
        if encodings.count > 1 || (encodings.first.map { $0.lowercased() != "chunked" } ?? false) { return 501 }
        if !encodings.isEmpty && head.version == .http1_0 { return 400 }
        if hosts > 1 || (hosts == 0 && head.version != .http1_0) { return 400 }
        // Other expectations than `100-continue` are not met, and not refused either (RFC 9110 §10.1.1 leaves that open; S3 does so).
        let isProxyForm = !head.uri.hasPrefix("/") && head.uri.contains("://")
        if head.method == .CONNECT { return 405 }
        if !head.uri.hasPrefix("/") && !isProxyForm && !(head.method == .OPTIONS && head.uri == "*") { return 400 }
        return nil
    }

    private static func closing(_ status: Int) -> HTTPResponseHead {
        HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: ["Connection": "close", "Content-Length": "0"])
    }

    private static func setTTL(_ ttl: Int, _ channel: any Channel) async throws {
        // 0 is IPPROTO_IP, 2 is IP_TTL (ip(7)); the names are not imported as the types that NIO wants.
        try await channel.setOption(
            ChannelOptions.Types.SocketOption(level: .ip, name: .init(rawValue: 2)), value: max(1, min(255, ttl))
        ).get()
    }

    /// As AWS writes request ids: the form of a UUID.
    static func requestID(_ random: any Workflow.Random) -> String {
        let bytes = random.bytes(16)
        return String(unsafeUninitializedCapacity: 36) { out in
            var at = 0
            for (index, byte) in bytes.enumerated() {
                if index == 4 || index == 6 || index == 8 || index == 10 {
                    out[at] = 0x2d
                    at += 1
                }
                for nibble in [byte >> 4, byte & 15] {
                    out[at] = nibble < 10 ? 0x30 + nibble : 0x57 + nibble
                    at += 1
                }
            }
            return at
        }
    }

    static func isSound(requestID: String) -> Bool {
        (8...64).contains(requestID.utf8.count)
            && requestID.utf8.allSatisfy { c in
                (0x30...0x39).contains(c) || (0x41...0x5a).contains(c) || (0x61...0x7a).contains(c) || c == 0x2d
            }
    }
}

/// Open connections by the peer's address.
final class PeerCounts: Sendable {
    private let counts = Mutex<[String: Int]>([:])

    /// - Returns: whether this one is within the limit. `leave` is due in both cases.
    func enter(_ peer: String, limit: Int) -> Bool {
        counts.withLock { counts in
            counts[peer, default: 0] += 1
            return counts[peer, default: 0] <= limit
        }
    }

    func leave(_ peer: String) {
        counts.withLock { counts in
            let left = (counts[peer] ?? 1) - 1
            counts[peer] = left > 0 ? left : nil
        }
    }
}

/// What is known of the client for the whole connection.
struct PeerFacts: Sendable {
    let address: String
    let certificate: [UInt8]?

    init(_ channel: any Channel, isTLS: Bool) async {
        address = channel.remoteAddress?.ipAddress ?? ""
        if isTLS, let shown = try? await channel.nioSSL_peerCertificate().get() {
            certificate = try? shown.toDERBytes()
        } else {
            certificate = nil
        }
    }
}

struct ListenerStatistics: Sendable {
    let connections: Gauge
    private let counters: ByStatus
    private let latency: Histogram

    /// Counters by status, made when a status is first seen.
    final class ByStatus: Sendable {
        private let made = Mutex<[Int: Counter]>([:])
        private let make: @Sendable (Int) -> Counter
        init(_ make: @escaping @Sendable (Int) -> Counter) { self.make = make }
        subscript(status: Int) -> Counter {
            made.withLock { made in
                if let there = made[status] { return there }
                let counter = make(status)
                made[status] = counter
                return counter
            }
        }
    }

    init(_ registry: MetricsRegistry, listener: String) {
        connections = registry.gauge("karri_http_connections", ["listener": listener], help: "Open connections")
        latency = registry.histogram(
            "karri_http_request_seconds", ["listener": listener], help: "From the head of a request to the end of its reply")
        counters = ByStatus { status in
            registry.counter("karri_http_requests_total", ["listener": listener, "status": "\(status)"], help: "Requests answered")
        }
    }

    func count(status: Int, seconds: Double) {
        counters[status].increment()
        latency.observe(seconds)
    }
}
