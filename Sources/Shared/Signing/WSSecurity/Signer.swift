import CLibXML2
public import Domain
import Wire

/// Signing of messages: a whole envelope around an operation.
///
/// Every signed part is written in its exclusive canonical form with its own namespace declarations, so that what is digested is
/// what is sent, and where it stands does not matter; only the operation, which comes from elsewhere, goes through libxml2 first.
extension WSSecurity {
    /// WS-Addressing headers of a message between daemons.
    public struct Addressing: Sendable, Equatable {
        public var to, action, messageID: String
        /// The request's MessageID, in a reply.
        public var relatesTo: String?
        /// - Parameters:
        ///   - to: the endpoint's identity.
        ///   - action: the operation, `urn:karri:nc:1#RunInstance`.
        ///   - messageID: `urn:uuid:` and 32 hexadecimal digits.
        public init(to: String, action: String, messageID: String, relatesTo: String? = nil) {
            self.to = to
            self.action = action
            self.messageID = messageID
            self.relatesTo = relatesTo
        }
    }

    /// - Parameters:
    ///   - body: the operation's element in XML, without a declaration; its namespaces are declared in it.
    ///   - wsa: `nil` for EC2's external form (Timestamp and Body signed).
    ///   - ttl: seconds until the message expires.
    ///   - digest: `.sha256`; `.sha1` writes what classic EC2 clients write.
    /// - Returns: the whole document.
    /// - Throws: `.malformedRequest` when `body` is not one XML element.
    public static func sign(
        body: [UInt8], key: PrivateKey, certificate: Certificate, wsa: Addressing?, now: Timestamp, ttl: Int,
        digest: Digest.Algorithm = .sha256
    ) throws(CloudError) -> [UInt8] {
        let open = "<soapenv:Body xmlns:soapenv=\"\(NS.soap11)\" xmlns:wsu=\"\(NS.wsu)\" wsu:Id=\"Body\">"
        let canonicalBody = try canonical(element: Array(open.utf8) + body + Array("</soapenv:Body>".utf8))
        var parts: [(id: String, bytes: [UInt8])] = []
        var headers: [UInt8] = []
        if let wsa {
            func block(_ name: String, _ value: String) {
                let text =
                    "<wsa:\(name) xmlns:wsa=\"\(NS.wsa)\" xmlns:wsu=\"\(NS.wsu)\" wsu:Id=\"\(name)\">\(escape(value))</wsa:\(name)>"
                parts.append((name, Array(text.utf8)))
                headers += text.utf8
            }
            block("To", wsa.to)
            block("Action", wsa.action)
            block("MessageID", wsa.messageID)
            if let relatesTo = wsa.relatesTo { block("RelatesTo", relatesTo) }
        }
        let expires = now.adding(seconds: Int64(ttl))
        let timestamp =
            "<wsu:Timestamp xmlns:wsu=\"\(NS.wsu)\" wsu:Id=\"Timestamp\"><wsu:Created>\(now.iso8601)</wsu:Created>"
            + "<wsu:Expires>\(expires.iso8601)</wsu:Expires></wsu:Timestamp>"
        parts.append(("Timestamp", Array(timestamp.utf8)))
        parts.append(("Body", canonicalBody))
        let (signatureMethod, digestMethod) =
            digest == .sha1 ? (Algorithms.rsaSHA1, Algorithms.sha1) : (Algorithms.rsaSHA256, Algorithms.sha256)
        var info =
            "<ds:SignedInfo xmlns:ds=\"\(NS.ds)\"><ds:CanonicalizationMethod Algorithm=\"\(NS.exclusive)\"></ds:CanonicalizationMethod>"
            + "<ds:SignatureMethod Algorithm=\"\(signatureMethod)\"></ds:SignatureMethod>"
        for part in parts {
            info +=
                "<ds:Reference URI=\"#\(part.id)\"><ds:Transforms>"
                + "<ds:Transform Algorithm=\"\(NS.exclusive)\"></ds:Transform></ds:Transforms>"
                + "<ds:DigestMethod Algorithm=\"\(digestMethod)\"></ds:DigestMethod><ds:DigestValue>"
                + Base64.encode(Digest.digest(part.bytes, digest == .sha1 ? .sha1 : .sha256)) + "</ds:DigestValue></ds:Reference>"
        }
        info += "</ds:SignedInfo>"
        let signature = Base64.encode(try key.sign(info.utf8, digest == .sha1 ? .sha1 : .sha256))
        var out: [UInt8] = []
        out.reserveCapacity(4096 + canonicalBody.count)
        out +=
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"\(NS.soap11)\"><soapenv:Header>".utf8
        out += "<wsse:Security xmlns:wsse=\"\(NS.wsse)\" soapenv:mustUnderstand=\"1\">".utf8
        out += "<wsse:BinarySecurityToken xmlns:wsu=\"\(NS.wsu)\" EncodingType=\"\(NS.base64Binary)\" ".utf8
        out += "ValueType=\"\(NS.x509v3)\" wsu:Id=\"Token\">\(Base64.encode(certificate.der))</wsse:BinarySecurityToken>".utf8
        out += "<ds:Signature xmlns:ds=\"\(NS.ds)\">\(info)<ds:SignatureValue>\(signature)</ds:SignatureValue>".utf8
        out += "<ds:KeyInfo><wsse:SecurityTokenReference><wsse:Reference URI=\"#Token\" ValueType=\"\(NS.x509v3)\"/>".utf8
        out += "</wsse:SecurityTokenReference></ds:KeyInfo></ds:Signature>\(timestamp)</wsse:Security>".utf8
        out += headers
        out += "</soapenv:Header>".utf8
        out += canonicalBody
        out += "</soapenv:Envelope>".utf8
        return out
    }

    private static func canonical(element: [UInt8]) throws(CloudError) -> [UInt8] {
        let document = try ParsedDocument(parsing: element, limits: .internal)
        defer { withExtendedLifetime(document) {} }
        let doc = document.rawDocument.assumingMemoryBound(to: xmlDoc.self)
        let root = document.rawRoot.assumingMemoryBound(to: xmlNode.self)
        return try Canonical.bytes(
            document: doc, root: root, method: .exclusive(prefixes: []), limit: Canonical.limit(for: element.count))
    }

    /// Text as Canonical XML writes it (§2.3).
    private static func escape(_ text: String) -> String {
        var out = ""
        for c in text.unicodeScalars {
            switch c {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\r": out += "&#xD;"
            default: out.unicodeScalars.append(c)
            }
        }
        return out
    }
}
