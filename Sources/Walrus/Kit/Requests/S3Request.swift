import Daemon
public import Domain
import Signing

/// Where a request points: the service, a bucket or an object.
///
/// Made from the bytes on the wire: the path is split before it is decoded, so that `%2F` in a bucket's place does not make a key, and no
/// dot segment or double slash is taken away (S3 keys may hold both).
public struct S3Target: Sendable, Equatable {
    public var bucket: String?
    /// Decoded; `nil` for the service and buckets.
    public var key: [UInt8]?
    /// The bucket stood in the `Host` header.
    public var isVirtualHosted: Bool

    /// Where Eucalyptus' clients look for Walrus on its port.
    static let servicePaths = ["/services/Walrus", "/services/objectstorage"]

    /// - Parameters:
    ///   - domain: of virtual-hosted style; empty: path style only.
    /// - Throws: `InvalidURI`, `KeyTooLongError`.
    public init(rawPath: String, host: String?, domain: String) throws(CloudError) {
        var path = Substring(rawPath)
        for prefix in Self.servicePaths where path.hasPrefix(prefix) {
            let rest = path.dropFirst(prefix.count)
            if rest.isEmpty || rest.hasPrefix("/") {
                path = rest
                break
            }
        }
        if path.hasPrefix("/") { path = path.dropFirst() }
        isVirtualHosted = false
        if let name = Self.bucket(ofHost: host, domain: domain) {
            isVirtualHosted = true
            bucket = name
            key = path.isEmpty ? nil : try Self.decode(path)
        } else if path.isEmpty {
            bucket = nil
            key = nil
        } else {
            let slash = path.utf8.firstIndex(of: UInt8(ascii: "/"))
            let name = try Self.decode(path[..<(slash ?? path.endIndex)])
            guard let text = String(validating: name, as: UTF8.self) else { throw S3Failure.invalidURI() }
            bucket = text
            let rest = slash.map { path[path.utf8.index(after: $0)...] } ?? ""
            key = rest.isEmpty ? nil : try Self.decode(rest)
        }
    }

    /// The bucket in `<bucket>.<domain>[:port]`; `nil` when the host is the domain itself, or another one.
    static func bucket(ofHost host: String?, domain: String) -> String? {
        guard let host, !domain.isEmpty else { return nil }
        var name = host.lowercased()
        if let colon = name.lastIndex(of: ":"), !name.hasSuffix("]") { name = String(name[..<colon]) }
        let suffix = "." + domain.lowercased()
        guard name.hasSuffix(suffix), name.count > suffix.count else { return nil }
        return String(name.dropLast(suffix.count))
    }

    /// Percent-decoding of a path: `+` is itself. - Throws: `InvalidURI` for a broken escape.
    static func decode(_ text: Substring, plusIsSpace: Bool = false) throws(CloudError) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(text.utf8.count)
        var bytes = text.utf8.makeIterator()
        while let b = bytes.next() {
            switch b {
            case 0x25:
                guard let high = bytes.next().flatMap(Self.digit), let low = bytes.next().flatMap(Self.digit) else {
                    throw S3Failure.invalidURI()
                }
                out.append(high << 4 | low)
            case 0x2b where plusIsSpace: out.append(0x20)
            default: out.append(b)
            }
        }
        return out
    }

    private static func digit(_ b: UInt8) -> UInt8? {
        switch b {
        case 0x30...0x39: b - 0x30
        case 0x41...0x46: b - 0x41 + 10
        case 0x61...0x66: b - 0x61 + 10
        default: nil
        }
    }
}

/// The query of a request, decoded, in order.
public struct S3Query: Sendable {
    public let pairs: [(name: String, value: String?)]

    public init(raw: String?) throws(CloudError) {
        var pairs: [(name: String, value: String?)] = []
        for part in (raw ?? "").utf8.split(separator: UInt8(ascii: "&")).map({ Substring($0) }) {
            let equals = part.utf8.firstIndex(of: UInt8(ascii: "="))
            let name = try S3Target.decode(part[..<(equals ?? part.endIndex)], plusIsSpace: true)
            let value = try equals.map { index throws(CloudError) in
                try S3Target.decode(part[part.utf8.index(after: index)...], plusIsSpace: true)
            }
            pairs.append((String(decoding: name, as: UTF8.self), value.map { String(decoding: $0, as: UTF8.self) }))
        }
        self.pairs = pairs
    }

    public func has(_ name: String) -> Bool { pairs.contains { $0.name == name } }
    /// The value, empty for a name without one; `nil` when the name is not there.
    public subscript(name: String) -> String? { pairs.first { $0.name == name }.map { $0.value ?? "" } }
    public func nonEmpty(_ name: String) -> String? { self[name].flatMap { $0.isEmpty ? nil : $0 } }

    /// - Throws: `InvalidArgument` when it is not a number in the range.
    public func integer(_ name: String, _ range: ClosedRange<Int>) throws(CloudError) -> Int? {
        guard let text = nonEmpty(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw S3Failure.invalidArgument("Argument \(name) must be an integer between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }
}

/// A request of S3, parsed and authenticated.
struct S3Request: Sendable {
    let http: HTTPRequest
    let target: S3Target
    let query: S3Query
    let requester: Requester
    let now: Timestamp
    /// What is learned on the way, for what is done after the answer.
    var trace = RequestTrace()
    /// Set for the PUT that a POST form stands for.
    var form: FormSizes?

    var method: String { http.method }
    func header(_ name: String) -> String? { http.headers.first(name) }

    /// The bucket's name. Only for requests that are routed to a bucket or an object.
    func bucketName() throws(CloudError) -> String {
        guard let name = target.bucket else { throw .bug("a bucket's request without a bucket") }
        return name
    }

    func key() throws(CloudError) -> ObjectKey {
        guard let bytes = target.key else { throw .bug("an object's request without a key") }
        return try ObjectKey(bytes)
    }

    /// The version that the query names; `nil`: the current one. - Throws: `InvalidArgument`.
    func versionID() throws(CloudError) -> String? {
        try query["versionId"].map { text throws(CloudError) in try VersionID.parse(text) }
    }

    /// The same, with tags that came in the body.
    func bringing(tags: [(name: String, value: String)]) -> S3Request {
        S3Request(http: http, target: target, query: query, requester: requester.bringing(tags: tags), now: now, trace: trace)
    }

    /// The `If-…` headers. An HTTP date that cannot be read is no condition (RFC 9110 §13.1.3).
    var preconditions: Preconditions {
        Preconditions(
            ifMatch: header("if-match"), ifNoneMatch: header("if-none-match"),
            ifModifiedSince: header("if-modified-since").flatMap { Timestamp(httpDate: $0) },
            ifUnmodifiedSince: header("if-unmodified-since").flatMap { Timestamp(httpDate: $0) })
    }

    /// Reads a small XML body, with `Content-MD5`, the signed hash and checksum headers verified.
    /// - Parameters:
    ///   - needsDigest: S3 demands one of Content-MD5 and a checksum header (DeleteObjects and others).
    ///   - aboutBody: see `IntakePlan`.
    func document(limit: Int, needsDigest: Bool = false, aboutBody: Bool = true) async throws(CloudError) -> [UInt8] {
        let plan = try IntakePlan(self, limit: limit, needsDigest: needsDigest, aboutBody: aboutBody)
        return try await Intake.small(self, plan)
    }
}

/// Who asks.
struct Requester: Sendable {
    /// `nil`: anonymous.
    let known: KnownRequester?
    /// For the framing of `aws-chunked` bodies.
    let signature: VerifiedSignature?
    /// What conditions of policies may ask about the request.
    let facts: RequestFacts

    init(known: KnownRequester?, signature: VerifiedSignature?, facts: RequestFacts) {
        self.known = known
        self.signature = signature
        self.facts = facts
    }

    var isSystem: Bool { known?.isSystem ?? false }
    var accountID: String? { known?.accountID }
    var canonicalID: String? { known?.canonicalID }
}
