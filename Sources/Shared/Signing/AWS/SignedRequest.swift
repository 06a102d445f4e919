import Domain

/// An HTTP request as its signature covers it: the bytes as they came on the wire, before any library decodes a path (`%2F`, `+`
/// and `;` mean different things decoded and not).
public struct SignedRequest: Sendable {
    public var method: String
    /// Undecoded, without the query; `/` when empty.
    public var rawPath: String
    /// Undecoded, without the `?`; empty when there is none.
    public var rawQuery: String
    /// In the order of the wire, duplicates included.
    public var headers: [(name: String, value: String)]
    /// Whether the bytes came over TLS (or from a proxy that is trusted to have ended it).
    public var isTLS: Bool
    /// The bucket that the `Host` header names (virtual-hosted style), which SigV2 of S3 signs in front of the path.
    public var virtualBucket: String?

    public init(
        method: String, rawPath: String, rawQuery: String? = nil, headers: [(name: String, value: String)], isTLS: Bool,
        virtualBucket: String? = nil
    ) {
        self.method = method
        self.rawPath = rawPath.utf8.isEmpty ? "/" : rawPath
        self.rawQuery = rawQuery ?? ""
        self.headers = headers.map { ($0.name.asciiLowercased, $0.value) }
        self.isTLS = isTLS
        self.virtualBucket = virtualBucket
    }

    /// The values of a header (`name` in lower case), in order.
    func values(_ name: String) -> [String] { headers.filter { $0.name == name }.map(\.value) }
    func first(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// What the payload's hash in the signature stands for.
public enum PayloadKind: Sendable, Equatable {
    /// Lower-case hexadecimal SHA-256 that the body must have.
    case hash(String)
    case unsigned
    /// `aws-chunked`, each chunk signed.
    case streamingSigned(trailer: Bool)
    /// `aws-chunked`, chunks unsigned, with a trailing checksum.
    case streamingUnsignedTrailer
    /// The signature says nothing of the body (SigV2 of S3).
    case none

    /// Whether the body comes in `aws-chunked` framing and goes through `ChunkDecoder`.
    public var isChunked: Bool {
        switch self {
        case .streamingSigned, .streamingUnsignedTrailer: true
        case .hash, .unsigned, .none: false
        }
    }

    /// - Throws: `NotImplemented` for SigV4A, `InvalidArgument` for anything unknown.
    init(header text: String) throws(CloudError) {
        switch text {
        case "UNSIGNED-PAYLOAD": self = .unsigned
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": self = .streamingSigned(trailer: false)
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": self = .streamingSigned(trailer: true)
        case "STREAMING-UNSIGNED-PAYLOAD-TRAILER": self = .streamingUnsignedTrailer
        case "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER":
            throw CloudError(.named(code: "NotImplemented", status: 501), "Asymmetric signatures (SigV4A) are not implemented")
        default:
            let lower = text.asciiLowercased
            guard lower.utf8.count == 64, Hex.decode(lower) != nil else {
                throw CloudError(
                    .named(code: "InvalidArgument", status: 400),
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-..., or a valid sha256 value.")
            }
            self = .hash(lower)
        }
    }
}

/// Which of Amazon's signatures a request carries.
public enum SignatureKind: Sendable, Equatable { case v2Query, v2Header, v4Header, v4Query }

/// A signature that was found to be right. Only `ParsedSignature.verify` makes one.
public struct VerifiedSignature: Sendable {
    public let accessKeyID: String
    public let kind: SignatureKind
    public let sessionToken: String?
    public let payload: PayloadKind
    /// What the chunks of a signed stream are chained to; `nil` for SigV2.
    let seed: Seed?

    struct Seed: Sendable {
        let signature: String
        let signingKey: [UInt8]
        let date: String
        let scope: String
    }

    init(accessKeyID: String, kind: SignatureKind, sessionToken: String?, payload: PayloadKind, seed: Seed?) {
        self.accessKeyID = accessKeyID
        self.kind = kind
        self.sessionToken = sessionToken
        self.payload = payload
        self.seed = seed
    }
}
