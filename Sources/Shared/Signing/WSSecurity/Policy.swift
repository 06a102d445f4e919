public import Domain
public import Wire

/// What a listener demands of a signed message. There are three: clients of EC2, requests and replies between daemons.
public struct WSSecurityPolicy: Sendable {
    /// Which WS-Addressing headers must be there and signed.
    public enum Addressing: Sendable, Equatable {
        /// None is looked at.
        case none
        /// To, Action, MessageID.
        case request
        /// To, Action, MessageID, RelatesTo.
        case reply
    }

    /// SHA-1 in signatures and digests: every classic EC2 client signs rsa-sha1. Internal messages never.
    public var allowsSHA1: Bool
    /// Inclusive C14N 1.0 as a reference's transform, as Amazon's rules allow beside exclusive C14N.
    public var allowsInclusiveC14N: Bool
    public var addressing: Addressing
    /// Whether Header may hold blocks that are not known (and not marked mustUnderstand).
    public var allowsOtherHeaders: Bool
    public var limits: XMLLimits
    /// How far the sender's clock may be ahead of ours. Too high: a message waits in a thief's hands; too low: honest clocks fail.
    public var skewSeconds: Int64
    /// Expires - Created is at most this: the replay cache has to remember for so long.
    public var longestLifetimeSeconds: Int64
    /// Messages created before this moment are refused: the start of the process, whose replay cache is empty.
    public var notBefore: Timestamp?

    /// Requests of EC2's SOAP interface: Timestamp and Body are signed with a registered X.509 certificate.
    public static func external(allowSHA1: Bool, maxBytes: Int = 262_144) -> WSSecurityPolicy {
        WSSecurityPolicy(
            allowsSHA1: allowSHA1, allowsInclusiveC14N: true, addressing: .none, allowsOtherHeaders: true,
            limits: XMLLimits(maxBytes: maxBytes), skewSeconds: 20, longestLifetimeSeconds: 15 * 60, notBefore: nil)
    }

    /// Requests between daemons: To, Action, MessageID, Timestamp and Body are signed, RSA-SHA256 only.
    public static let internalRequest = WSSecurityPolicy(
        allowsSHA1: false, allowsInclusiveC14N: false, addressing: .request, allowsOtherHeaders: false, limits: .internal,
        skewSeconds: 30, longestLifetimeSeconds: 5 * 60, notBefore: nil)

    /// Replies between daemons: RelatesTo too.
    public static let internalReply = WSSecurityPolicy(
        allowsSHA1: false, allowsInclusiveC14N: false, addressing: .reply, allowsOtherHeaders: false, limits: .internal,
        skewSeconds: 30, longestLifetimeSeconds: 5 * 60, notBefore: nil)
}

/// The operation of a message whose signature was found to be right: built from the very node that was digested.
/// Only the verifier makes one, so that nothing else can be dispatched (`ARCHITECTURE.md` §5, "One parse").
public struct VerifiedBody: Sendable {
    /// The only child of Body.
    public let operation: XMLElement
    init(operation: XMLElement) { self.operation = operation }
}

/// A message whose signature, freshness and uniqueness were found to be right.
public struct VerifiedMessage: Sendable {
    public let certificateDER: [UInt8]
    /// Lower-case hexadecimal SHA-256 of the certificate's DER.
    public let certificateFingerprint: String
    public let body: VerifiedBody
    /// WS-Addressing, when the policy asks for it; signed.
    public let to, action, messageID, relatesTo: String?
    public let created, expires: Timestamp
    /// Whether SHA-1 was used anywhere in the signature, for a metric.
    public let usedSHA1: Bool
}

/// Names of namespaces and algorithms.
enum NS {
    static let soap11 = "http://schemas.xmlsoap.org/soap/envelope/"
    static let wsse = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
    static let wsu = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
    static let ds = "http://www.w3.org/2000/09/xmldsig#"
    static let exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
    static let inclusive = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
    static let wsa = "http://www.w3.org/2005/08/addressing"
    static let x509v3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
    static let base64Binary = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
    static let actorNext = "http://schemas.xmlsoap.org/soap/actor/next"
}

enum Algorithms {
    static let rsaSHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
    static let rsaSHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
    static let sha1 = "http://www.w3.org/2000/09/xmldsig#sha1"
    static let sha256 = "http://www.w3.org/2001/04/xmlenc#sha256"

    /// A table, never a name built from what was sent: there is no HMAC, DSA, MD5 or "none" to be talked into.
    static func signature(_ uri: String, allowsSHA1: Bool) -> Digest.Algorithm? {
        if sameBytes(uri, rsaSHA256) { return .sha256 }
        return allowsSHA1 && sameBytes(uri, rsaSHA1) ? .sha1 : nil
    }

    static func digest(_ uri: String, allowsSHA1: Bool) -> Digest.Algorithm? {
        if sameBytes(uri, sha256) { return .sha256 }
        return allowsSHA1 && sameBytes(uri, sha1) ? .sha1 : nil
    }
}
