public import Domain

/// A request that one of our daemons makes.
public struct HTTPClientRequest: Sendable {
    public enum Body: Sendable {
        case none
        case bytes([UInt8])
        /// A part of a file, read while it is sent.
        case file(path: String, offset: Int, length: Int)
    }
    /// Where the body of a reply with a 2xx status goes. Every other reply's body is kept in memory (up to 64 KiB), so that errors can
    /// be read.
    public enum Sink: Sendable {
        /// Kept in `HTTPClientResponse.body`; a larger reply is an error.
        case memory(limit: Int)
        /// Written to this file, which is made or emptied first.
        case file(String)
        /// Given piece by piece, on the client's own thread: be quick. Returning false ends the transfer with an error.
        case consumer(@Sendable (UnsafeRawBufferPointer) -> Bool)
    }
    public var url: String
    public var method: String
    public var headers: [(String, String)]
    public var body: Body
    public var sink: Sink
    /// For the whole transfer; 0: no limit (a stalled one still ends, see `stallSeconds`).
    public var timeoutMilliseconds: Int
    /// Less than a byte a second for so long ends the transfer.
    public var stallSeconds: Int

    public init(
        _ method: String = "GET", url: String, headers: [(String, String)] = [], body: Body = .none,
        sink: Sink = .memory(limit: 16 << 20), timeoutMilliseconds: Int = 60_000, stallSeconds: Int = 60
    ) {
        self.url = url
        self.method = method
        self.headers = headers
        self.body = body
        self.sink = sink
        self.timeoutMilliseconds = timeoutMilliseconds
        self.stallSeconds = stallSeconds
    }
}

public struct HTTPClientResponse: Sendable {
    public let status: Int
    public let headers: HTTPHeaderList
    /// What was kept in memory.
    public let body: [UInt8]
    /// Bytes that came, wherever they went.
    public let received: Int
    /// The certificate of a TLS server.
    public let peerCertificateDER: [UInt8]?

    public var isSuccess: Bool { (200..<300).contains(status) }

    public init(
        status: Int, headers: HTTPHeaderList = HTTPHeaderList(), body: [UInt8] = [], received: Int = 0, peerCertificateDER: [UInt8]? = nil
    ) {
        self.status = status
        self.headers = headers
        self.body = body
        self.received = received
        self.peerCertificateDER = peerCertificateDER
    }
}

/// Trust and identity of a TLS client.
public struct ClientTLS: Sendable {
    /// PEM file of the CAs to trust; nil: the system's.
    public var ca: String?
    public var certificate: String?
    public var key: String?
    /// Check that the server's certificate is for the host of the address.
    public var verifiesHost: Bool
    public var onlyTLS13: Bool

    public init(ca: String?, certificate: String? = nil, key: String? = nil, verifiesHost: Bool = true, onlyTLS13: Bool = false) {
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.verifiesHost = verifiesHost
        self.onlyTLS13 = onlyTLS13
    }
}

/// Makes HTTP requests. The daemons' is `HTTPClient`; tests answer themselves.
public protocol HTTPRequesting: Sendable {
    /// - Returns: the reply, whatever its status.
    /// - Throws: `.unavailable` when there is no (whole) reply; its context says why. `.requestTooLarge` when a reply does not fit.
    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse
}
