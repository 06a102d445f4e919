public import Domain
public import NIOCore
import NIOHTTP1
import Synchronization

/// Header fields in the order in which they came, with names compared without regard to case (RFC 9110 §5.1).
public struct HTTPHeaderList: Sendable, Sequence, ExpressibleByArrayLiteral {
    public private(set) var fields: [(name: String, value: String)]

    public init(_ fields: [(name: String, value: String)] = []) { self.fields = fields }
    public init(arrayLiteral elements: (String, String)...) { fields = elements.map { (name: $0.0, value: $0.1) } }

    public func first(_ name: String) -> String? { fields.first { Self.same($0.name, name) }?.value }
    public func all(_ name: String) -> [String] { fields.filter { Self.same($0.name, name) }.map(\.value) }
    public func contains(_ name: String) -> Bool { fields.contains { Self.same($0.name, name) } }
    public mutating func append(_ name: String, _ value: String) { fields.append((name: name, value: value)) }
    public mutating func set(_ name: String, _ value: String) {
        fields.removeAll { Self.same($0.name, name) }
        fields.append((name: name, value: value))
    }
    public func makeIterator() -> IndexingIterator<[(name: String, value: String)]> { fields.makeIterator() }

    static func same(_ a: String, _ b: String) -> Bool {
        let a = a.utf8
        let b = b.utf8
        guard a.count == b.count else { return false }
        // Both are the decoder's own strings: contiguous, so that this is a walk over bytes. It runs some hundred times for each request.
        let fast = a.withContiguousStorageIfAvailable { a in
            b.withContiguousStorageIfAvailable { b in
                for index in a.indices {
                    let (x, y) = (a[index], b[index])
                    if x != y && (x | 0x20 != y | 0x20 || x | 0x20 < 0x61 || x | 0x20 > 0x7a) { return false }
                }
                return true
            }
        }
        if let fast, let fast { return fast }
        return zip(a, b).allSatisfy { x, y in x == y || (x | 0x20 == y | 0x20 && (0x61...0x7a).contains(x | 0x20)) }
    }
}

/// One request as it came over the wire. Nothing is decoded: signatures are over the raw bytes.
public struct HTTPRequest: Sendable {
    /// Made here, or taken from `X-Request-Id` where the listener trusts its peers.
    public let id: String
    public let method: String
    /// The request target as sent.
    public let target: String
    /// The target up to the first `?`, undecoded. Of an absolute target, without scheme and authority.
    public let rawPath: String
    /// What follows the first `?`, undecoded; `nil` without one.
    public let rawQuery: String?
    public let headers: HTTPHeaderList
    /// The peer's address, without the port.
    public let remoteAddress: String
    public let isTLS: Bool
    /// The client's certificate, when it showed one and the listener asked for it.
    public let peerCertificateDER: [UInt8]?
    public let body: RequestBody

    public init(
        id: String, method: String, target: String, headers: HTTPHeaderList, remoteAddress: String, isTLS: Bool = false,
        peerCertificateDER: [UInt8]? = nil, body: RequestBody = RequestBody(bytes: [])
    ) {
        self.id = id
        self.method = method
        self.target = target
        self.headers = headers
        self.remoteAddress = remoteAddress
        self.isTLS = isTLS
        self.peerCertificateDER = peerCertificateDER
        self.body = body
        var origin = Substring(target)
        if !target.hasPrefix("/") {
            for scheme in ["http://", "https://"] where target.lowercased().hasPrefix(scheme) {
                let rest = target.dropFirst(scheme.count)
                origin = rest.firstIndex(where: { $0 == "/" || $0 == "?" }).map { rest[$0...] } ?? "/"
            }
        }
        // By bytes: a search by characters would look for the edges of grapheme clusters.
        if let question = origin.utf8.firstIndex(of: UInt8(ascii: "?")) {
            rawPath = question == origin.startIndex ? "/" : String(origin[..<question])
            rawQuery = String(origin[origin.utf8.index(after: question)...])
        } else {
            rawPath = String(origin)
            rawQuery = nil
        }
    }

    /// The declared length of the body; `nil` for a chunked one. 0 for a request without a body.
    public var contentLength: Int? {
        if let text = headers.first("content-length") { return Int(text) }
        return headers.contains("transfer-encoding") ? nil : 0
    }
}

/// The body of a request, to be read once, piece by piece. The client is told to go on (`100 Continue`) by the first read, so a
/// request that is refused before has not sent its body.
///
/// Reading applies back-pressure: what is not asked for stays in the client.
public struct RequestBody: AsyncSequence, Sendable {
    public typealias Element = ByteBuffer
    public struct AsyncIterator: AsyncIteratorProtocol {
        let source: BodySource
        public mutating func next() async throws -> ByteBuffer? { try await source.next() }
    }
    let source: BodySource

    init(source: BodySource) { self.source = source }

    /// A body for tests and in-process calls.
    public init(bytes: [UInt8]) { source = BodySource(bytes: bytes) }

    /// A body that is made from another one (a part of a form).
    public init(_ pull: @escaping @Sendable () async throws -> ByteBuffer?) { source = BodySource(pull: pull) }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(source: source) }

    /// Reads the whole body.
    /// - Throws: `.requestTooLarge` as soon as it is clear that there is more than `limit`; `.unavailable` when the client went away.
    public func collect(upTo limit: Int) async throws(CloudError) -> [UInt8] {
        if let declared = source.declaredLength, declared > limit { throw CloudError(.requestTooLarge(limit: limit)) }
        var bytes: [UInt8] = []
        do {
            while let piece = try await source.next() {
                if bytes.count + piece.readableBytes > limit { throw CloudError(.requestTooLarge(limit: limit)) }
                bytes += piece.readableBytesView
            }
        } catch let error as CloudError {
            throw error
        } catch {
            throw CloudError(.unavailable("The client's connection"), context: "reading the request body: \(error)")
        }
        return bytes
    }
}

/// Where a body comes from. One reader at a time, and none after the reply: both are checked.
final class BodySource: Sendable {
    enum Failure: Error { case usedTwiceAtOnce, usedAfterReply, connectionClosed }
    struct State: Sendable {
        var isReading = false
        var isOver = false
        var isAbandoned = false
        var wantsContinue = false
        var received = 0
        var memory: ByteBuffer?
    }
    private let state: Mutex<State>
    private let connection: ConnectionReader?
    private let pull: (@Sendable () async throws -> ByteBuffer?)?
    private let sayContinue: (@Sendable () async throws -> Void)?
    let declaredLength: Int?

    init(pull: @escaping @Sendable () async throws -> ByteBuffer?) {
        connection = nil
        self.pull = pull
        sayContinue = nil
        declaredLength = nil
        state = Mutex(State())
    }

    init(bytes: [UInt8]) {
        connection = nil
        pull = nil
        sayContinue = nil
        declaredLength = bytes.count
        state = Mutex(State(memory: bytes.isEmpty ? nil : ByteBuffer(bytes: bytes)))
    }

    init(
        connection: ConnectionReader, declaredLength: Int?, expectsContinue: Bool, sayContinue: @escaping @Sendable () async throws -> Void
    ) {
        self.connection = connection
        pull = nil
        self.declaredLength = declaredLength
        self.sayContinue = sayContinue
        state = Mutex(State(wantsContinue: expectsContinue))
    }

    func next() async throws -> ByteBuffer? {
        let goOn = try state.withLock { state throws -> Bool? in
            if state.isAbandoned { throw Failure.usedAfterReply }
            if state.isReading { throw Failure.usedTwiceAtOnce }
            if state.isOver { return nil }
            state.isReading = true
            defer { state.wantsContinue = false }
            return state.wantsContinue
        }
        guard let goOn else { return nil }
        defer { state.withLock { $0.isReading = false } }
        if let pull {
            let piece = try await pull()
            if piece == nil { state.withLock { $0.isOver = true } }
            return piece
        }
        guard let connection else {
            return state.withLock { state in
                defer {
                    state.memory = nil
                    state.isOver = true
                }
                return state.memory
            }
        }
        if goOn, let sayContinue { try await sayContinue() }
        switch try await connection.next() {
        case .body(let buffer):
            state.withLock { $0.received += buffer.readableBytes }
            return buffer
        case .end:
            state.withLock { $0.isOver = true }
            return nil
        case .head, nil:
            throw Failure.connectionClosed
        }
    }

    /// After the reply: no more reads by the handler.
    /// - Returns: how much of the body is still to come; `.nothing` when the connection can carry the next request.
    enum Rest: Equatable { case nothing, some(declared: Int?), neverSent }
    func abandon() -> Rest {
        state.withLock { state in
            state.isAbandoned = true
            if state.isOver { return .nothing }
            if state.wantsContinue { return .neverSent }
            return .some(declared: declaredLength.map { max(0, $0 - state.received) })
        }
    }
}
