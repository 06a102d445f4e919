import CLibXML2
public import Domain
import Wire

/// WS-Security with X.509 signatures (OASIS SOAP Message Security 1.1, X.509 Token Profile 1.1), the one shape that EC2's clients and
/// our daemons use; everything else is refused.
///
/// The order, cheap checks first: safe parse; root, Header, Body; one Security with a closed set of
/// children; SignedInfo's shape and algorithms from a table; KeyInfo to the one token; the certificate; the signature over the
/// canonical SignedInfo; each reference's node, which must be *the* Body, Timestamp or header block by pointer, and its digest; the
/// required set; freshness; the certificate's registration; only then the replay cache. Every failure looks the same outside.
///
/// What may race with what: nothing; a document belongs to one call, and its nodes are gone before the first suspension.
public enum WSSecurity {
    /// - Parameters:
    ///   - bytes: the HTTP body.
    ///   - replay: shared by all listeners that accept the same certificates.
    ///   - lookup: whether the certificate with this fingerprint (lower-case hexadecimal SHA-256 of its DER) is registered and
    ///     active. Called once, after the signature was found to be right.
    /// - Throws: `.unauthenticated`, `.malformedRequest` and `.requestTooLarge` from the parser, `MustUnderstand`, `VersionMismatch`.
    public static func verify(
        _ bytes: [UInt8], policy: WSSecurityPolicy, now: Timestamp, replay: ReplayCache,
        lookup: (_ fingerprint: String) async throws(CloudError) -> Bool
    ) async throws(CloudError) -> VerifiedMessage {
        let checked = try check(bytes, policy: policy, now: now)
        guard try await lookup(checked.message.certificateFingerprint) else {
            throw CloudError(
                .unauthenticated(.unknownKey), context: "certificate \(checked.message.certificateFingerprint) is not registered here")
        }
        try replay.insert(checked.replayKey, until: checked.message.expires.adding(seconds: policy.skewSeconds), now: now)
        return checked.message
    }

    struct Checked {
        let message: VerifiedMessage
        let replayKey: [UInt8]
    }

    /// All that needs no one else: the message is authentic for its own certificate and fresh. Not for use outside `verify`: who
    /// the certificate belongs to, and whether the message is a replay, is not known yet.
    static func check(_ bytes: [UInt8], policy: WSSecurityPolicy, now: Timestamp) throws(CloudError) -> Checked {
        let document = try ParsedDocument(parsing: bytes, limits: policy.limits)
        // SAFETY: ParsedDocument says what its raw pointers are; it is kept alive until the verification has ended.
        let doc = document.rawDocument.assumingMemoryBound(to: xmlDoc.self)
        let root = document.rawRoot.assumingMemoryBound(to: xmlNode.self)
        defer { withExtendedLifetime(document) {} }
        var verification = Verification(
            document: doc, root: root, policy: policy, now: now, limit: Canonical.limit(for: bytes.count))
        return try verification.run()
    }
}

/// One message on its way through the checks.
private struct Verification {
    let document: xmlDocPtr
    let root: Node
    let policy: WSSecurityPolicy
    let now: Timestamp
    /// Bytes that one canonical subtree may have.
    let limit: Int
    var usedSHA1 = false

    private static let mostReferences = 8
    private static let mostPrefixes = 32

    private typealias Shape = (header: Node, body: Node, security: Node)
    private typealias Token = (timestamp: Node, signature: Node, token: Node)

    init(document: xmlDocPtr, root: Node, policy: WSSecurityPolicy, now: Timestamp, limit: Int) {
        self.document = document
        self.root = root
        self.policy = policy
        self.now = now
        self.limit = limit
    }

    mutating func run() throws(CloudError) -> WSSecurity.Checked {
        let shape = try envelope()
        let ids = try uniqueIDs()
        let parts = try security(shape.security)
        let blocks = try headerBlocks(shape.header, shape.security)
        let pieces = try Tree.children(parts.signature)
        guard pieces.count == 3, Tree.isElement(pieces[0], NS.ds, "SignedInfo"), Tree.isElement(pieces[1], NS.ds, "SignatureValue"),
            Tree.isElement(pieces[2], NS.ds, "KeyInfo")
        else { throw Tree.refused("Signature does not hold exactly SignedInfo, SignatureValue and KeyInfo") }
        let signed = try signedInfo(pieces[0])
        let certificate = try certificate(keyInfo: pieces[2], token: parts.token, ids: ids)
        let canonical = try Canonical.bytes(
            document: document, root: pieces[0], method: signed.canonicalization, limit: limit)
        guard let signature = Base64.decode(try Tree.text(pieces[1])) else { throw Tree.refused("SignatureValue is not base64") }
        guard certificate.verify(signature: signature, of: canonical, digest: signed.algorithm) else {
            throw Tree.refused("the signature is wrong")
        }
        // The nodes that the signature covers, each found to be unchanged and to stand where it must.
        var covered: [Node] = []
        for reference in signed.references {
            guard let node = ids[Array(reference.id.utf8)] ?? nil else { throw Tree.refused("a reference leads nowhere") }
            guard !covered.contains(node) else { throw Tree.refused("an element is referenced twice") }
            let isKnown = node == shape.body || node == parts.timestamp || node == parts.token || blocks.all.contains(node)
            guard isKnown else { throw Tree.refused("a signed element stands in an odd place") }
            let bytes = try Canonical.bytes(document: document, root: node, method: reference.method, limit: limit)
            guard constantTimeEqual(Digest.digest(bytes, reference.algorithm), reference.digest) else {
                throw Tree.refused("a digest is wrong")
            }
            covered.append(node)
        }
        for node in [shape.body, parts.timestamp] + blocks.required where !covered.contains(node) {
            throw Tree.refused("\(Tree.string(node.pointee.name)) is not signed")
        }
        let (created, expires) = try freshness(parts.timestamp)
        let operations = try Tree.children(shape.body)
        guard operations.count == 1 else { throw CloudError(.malformedRequest, "Body must hold exactly one element") }
        let fingerprint = certificate.fingerprintSHA256
        let message = VerifiedMessage(
            certificateDER: certificate.der, certificateFingerprint: fingerprint,
            body: VerifiedBody(operation: ParsedDocument.element(at: UnsafeMutableRawPointer(operations[0]))),
            to: try blocks.to.map(Tree.text), action: try blocks.action.map(Tree.text), messageID: try blocks.messageID.map(Tree.text),
            relatesTo: try blocks.relatesTo.map(Tree.text), created: created, expires: expires, usedSHA1: usedSHA1)
        if policy.addressing != .none { try checkAddressing(message) }
        // Not SignatureValue's text: white space in it may change.
        let key = Digest.sha256(fingerprint.utf8 + [0] + Array((message.messageID ?? "").utf8) + [0] + Digest.sha256(canonical))
        return WSSecurity.Checked(message: message, replayKey: key)
    }

    // MARK: Shapes

    /// Envelope of SOAP 1.1 with exactly one Header and then exactly one Body; one Security for us.
    private func envelope() throws(CloudError) -> Shape {
        guard Tree.isElement(root, NS.soap11, "Envelope") else {
            if Tree.same(root.pointee.name, "Envelope") {
                throw CloudError(.named(code: "VersionMismatch", status: 500), "The envelope must be one of SOAP 1.1")
            }
            throw CloudError(.malformedRequest, "The document is not a SOAP envelope")
        }
        let parts = try Tree.children(root)
        guard let body = parts.last, Tree.isElement(body, NS.soap11, "Body"), parts.count <= 2 else {
            throw Tree.refused("Envelope does not hold exactly one Header and one Body")
        }
        guard parts.count == 2, Tree.isElement(parts[0], NS.soap11, "Header") else {
            throw CloudError(.unauthenticated(.missing), context: "WS-Security: no Header")
        }
        let blocks = try Tree.children(parts[0])
        let securities = blocks.filter { Tree.isElement($0, NS.wsse, "Security") }
        guard let security = securities.first else { throw CloudError(.unauthenticated(.missing), context: "WS-Security: no Security") }
        guard securities.count == 1 else { throw Tree.refused("more than one Security") }
        if let actor = Tree.attribute(security, "actor", NS.soap11), !actor.utf8.isEmpty, !sameBytes(actor, NS.actorNext) {
            throw Tree.refused("Security is meant for another actor")
        }
        return (parts[0], body, security)
    }

    /// One walk over the document: every attribute whose local name is `id` in any case and any namespace must have a value of its own
    /// (two readers may hold different ones for "the id"); only those of wsu can be referenced. And the elements that decide occur
    /// once in the whole document, wherever somebody may look for them.
    ///
    /// - Returns: bytes of the id → the element, `nil` for an id that is not `wsu:Id`.
    private func uniqueIDs() throws(CloudError) -> [[UInt8]: Node?] {
        var ids: [[UInt8]: Node?] = [:]
        var seen: Set<String> = []
        let single: [(String, [String])] = [
            (NS.soap11, ["Envelope", "Header", "Body"]), (NS.wsse, ["Security", "BinarySecurityToken", "SecurityTokenReference"]),
            (NS.wsu, ["Timestamp"]), (NS.ds, ["Signature", "SignedInfo", "KeyInfo"]), (NS.wsa, ["To", "Action", "MessageID", "RelatesTo"]),
        ]
        try Tree.walk(root) { (node) throws(CloudError) in
            for (namespace, names) in single {
                for name in names where Tree.isElement(node, namespace, name) {
                    guard seen.insert(namespace + name).inserted else { throw Tree.refused("\(name) occurs twice") }
                }
            }
            var next = node.pointee.properties
            while let attribute = next {
                if Tree.string(attribute.pointee.name).asciiLowercased == "id" {
                    let isWSU = Tree.same(attribute.pointee.name, "Id") && Tree.same(attribute.pointee.ns?.pointee.href, NS.wsu)
                    let value = Array(Tree.value(attribute).utf8)
                    guard ids.updateValue(isWSU ? node : nil, forKey: value) == nil else { throw Tree.refused("an id occurs twice") }
                }
                next = attribute.pointee.next
            }
        }
        return ids
    }

    private func security(_ security: Node) throws(CloudError) -> Token {
        var timestamp: Node?
        var signature: Node?
        var token: Node?
        for child in try Tree.children(security) {
            if Tree.isElement(child, NS.wsu, "Timestamp"), timestamp == nil {
                timestamp = child
            } else if Tree.isElement(child, NS.ds, "Signature"), signature == nil {
                signature = child
            } else if Tree.isElement(child, NS.wsse, "BinarySecurityToken"), token == nil {
                token = child
            } else {
                throw Tree.refused("Security holds \(Tree.string(child.pointee.name))")
            }
        }
        guard let timestamp, let signature, let token else {
            throw Tree.refused("Security lacks its Timestamp, Signature or BinarySecurityToken")
        }
        return (timestamp, signature, token)
    }

    private struct Blocks {
        var to, action, messageID, relatesTo: Node?
        /// Header blocks beside Security.
        var all: [Node] = []
        /// Those that have to be signed.
        var required: [Node] = []
    }

    private func headerBlocks(_ header: Node, _ security: Node) throws(CloudError) -> Blocks {
        var blocks = Blocks()
        for child in try Tree.children(header) where child != security {
            blocks.all.append(child)
            if policy.addressing != .none {
                // Each occurs once in the document (`uniqueIDs`).
                if Tree.isElement(child, NS.wsa, "To") { blocks.to = child; continue }
                if Tree.isElement(child, NS.wsa, "Action") { blocks.action = child; continue }
                if Tree.isElement(child, NS.wsa, "MessageID") { blocks.messageID = child; continue }
                if Tree.isElement(child, NS.wsa, "RelatesTo"), policy.addressing == .reply { blocks.relatesTo = child; continue }
            }
            guard policy.allowsOtherHeaders else { throw Tree.refused("Header holds \(Tree.string(child.pointee.name))") }
            let actor = Tree.attribute(child, "actor", NS.soap11) ?? ""
            let must = Tree.attribute(child, "mustUnderstand", NS.soap11) ?? "0"
            if must == "1" || must == "true", actor.utf8.isEmpty || sameBytes(actor, NS.actorNext) {
                throw CloudError(
                    .named(code: "MustUnderstand", status: 500), "The header block \(Tree.string(child.pointee.name)) is not understood")
            }
        }
        switch policy.addressing {
        case .none: break
        case .request, .reply:
            guard let to = blocks.to, let action = blocks.action, let id = blocks.messageID else {
                throw Tree.refused("To, Action or MessageID is missing")
            }
            blocks.required = [to, action, id]
            if policy.addressing == .reply {
                guard let relatesTo = blocks.relatesTo else { throw Tree.refused("RelatesTo is missing") }
                blocks.required.append(relatesTo)
            }
        }
        return blocks
    }

    private struct Reference {
        let id: String
        let method: Canonical.Method
        let algorithm: Digest.Algorithm
        let digest: [UInt8]
    }

    private mutating func signedInfo(
        _ node: Node
    ) throws(CloudError) -> (canonicalization: Canonical.Method, algorithm: Digest.Algorithm, references: [Reference]) {
        let children = try Tree.children(node)
        guard children.count >= 3, children.count <= 2 + Self.mostReferences,
            Tree.isElement(children[0], NS.ds, "CanonicalizationMethod"), Tree.isElement(children[1], NS.ds, "SignatureMethod")
        else { throw Tree.refused("SignedInfo has another shape") }
        guard sameBytes(Tree.attribute(children[0], "Algorithm") ?? "", NS.exclusive) else {
            throw Tree.refused("SignedInfo is not canonicalised by exclusive C14N")
        }
        let canonicalization = Canonical.Method.exclusive(prefixes: try prefixes(children[0]))
        guard let algorithm = Algorithms.signature(Tree.attribute(children[1], "Algorithm") ?? "", allowsSHA1: policy.allowsSHA1),
            try Tree.children(children[1]).isEmpty
        else { throw Tree.refused("the signature's algorithm is not accepted") }
        if algorithm == .sha1 { usedSHA1 = true }
        var references: [Reference] = []
        for child in children.dropFirst(2) {
            guard Tree.isElement(child, NS.ds, "Reference") else { throw Tree.refused("SignedInfo holds more than references") }
            references.append(try reference(child))
        }
        return (canonicalization, algorithm, references)
    }

    private mutating func reference(_ node: Node) throws(CloudError) -> Reference {
        guard let id = Self.fragment(Tree.attribute(node, "URI")) else { throw Tree.refused("a reference leads out of the document") }
        let children = try Tree.children(node)
        guard children.count == 3, Tree.isElement(children[0], NS.ds, "Transforms"), Tree.isElement(children[1], NS.ds, "DigestMethod"),
            Tree.isElement(children[2], NS.ds, "DigestValue")
        else { throw Tree.refused("a reference has another shape") }
        let transforms = try Tree.children(children[0])
        guard transforms.count == 1, Tree.isElement(transforms[0], NS.ds, "Transform") else {
            throw Tree.refused("a reference has not exactly one transform")
        }
        let method: Canonical.Method
        let uri = Tree.attribute(transforms[0], "Algorithm") ?? ""
        if sameBytes(uri, NS.exclusive) {
            method = .exclusive(prefixes: try prefixes(transforms[0]))
        } else if policy.allowsInclusiveC14N, sameBytes(uri, NS.inclusive), try Tree.children(transforms[0]).isEmpty {
            method = .inclusive
        } else {
            throw Tree.refused("a transform is not accepted")
        }
        guard let algorithm = Algorithms.digest(Tree.attribute(children[1], "Algorithm") ?? "", allowsSHA1: policy.allowsSHA1),
            try Tree.children(children[1]).isEmpty
        else { throw Tree.refused("a digest's algorithm is not accepted") }
        if algorithm == .sha1 { usedSHA1 = true }
        guard let digest = Base64.decode(try Tree.text(children[2])), digest.count == algorithm.length else {
            throw Tree.refused("a DigestValue has a wrong length")
        }
        return Reference(id: id, method: method, algorithm: algorithm, digest: digest)
    }

    /// `PrefixList` of the only child that a canonicalisation may have.
    private func prefixes(_ node: Node) throws(CloudError) -> [String] {
        let children = try Tree.children(node)
        guard let child = children.first else { return [] }
        guard children.count == 1, Tree.isElement(child, NS.exclusive, "InclusiveNamespaces"), try Tree.children(child).isEmpty,
            let list = Tree.attribute(child, "PrefixList"), list.utf8.count <= 1024
        else { throw Tree.refused("a canonicalisation has parameters that are not known") }
        let names = list.utf8.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a || $0 == 0x0d }.map { String(Substring($0)) }
        guard names.count <= Self.mostPrefixes, names.allSatisfy({ $0 == "#default" || Self.isName($0) }) else {
            throw Tree.refused("a PrefixList is malformed or too long")
        }
        return names
    }

    /// `#name`: nothing else is looked up anywhere.
    private static func fragment(_ uri: String?) -> String? {
        guard let uri, uri.utf8.first == 0x23, uri.utf8.count <= 257 else { return nil }
        let name = String(uri.dropFirst())
        return isName(name) ? name : nil
    }

    private static func isName(_ name: String) -> Bool {
        guard let first = name.utf8.first, first == 0x5f || first >= 0x80 || isLetter(first) else { return false }
        return name.utf8.allSatisfy { isLetter($0) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2d || $0 == 0x2e || $0 == 0x5f || $0 >= 0x80 }
    }

    private static func isLetter(_ c: UInt8) -> Bool { (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) }

    /// KeyInfo leads by one reference to the one token, whose bytes are exactly one X.509 certificate with a strong RSA key.
    private func certificate(keyInfo: Node, token: Node, ids: [[UInt8]: Node?]) throws(CloudError) -> Certificate {
        let references = try Tree.children(keyInfo)
        guard references.count == 1, Tree.isElement(references[0], NS.wsse, "SecurityTokenReference") else {
            throw Tree.refused("KeyInfo does not hold exactly a SecurityTokenReference")
        }
        let inner = try Tree.children(references[0])
        guard inner.count == 1, Tree.isElement(inner[0], NS.wsse, "Reference"), try Tree.children(inner[0]).isEmpty,
            let id = Self.fragment(Tree.attribute(inner[0], "URI")), let target = ids[Array(id.utf8)] ?? nil, target == token
        else { throw Tree.refused("KeyInfo does not lead to the BinarySecurityToken") }
        if let kind = Tree.attribute(inner[0], "ValueType"), !sameBytes(kind, NS.x509v3) {
            throw Tree.refused("KeyInfo's reference is not one to an X509v3 token")
        }
        guard sameBytes(Tree.attribute(token, "ValueType") ?? "", NS.x509v3) else { throw Tree.refused("the token is not of type X509v3") }
        if let encoding = Tree.attribute(token, "EncodingType"), !sameBytes(encoding, NS.base64Binary) {
            throw Tree.refused("the token is not in base64")
        }
        guard let der = Base64.decode(try Tree.text(token)), der.count <= 16_384, let certificate = try? Certificate(der: der),
            let key = try? certificate.publicKey
        else { throw Tree.refused("the token is not a certificate") }
        guard key.isStrongRSA else { throw Tree.refused("the certificate's key is not RSA of at least 2048 bits") }
        return certificate
    }

    // MARK: Time and addresses

    private func freshness(_ timestamp: Node) throws(CloudError) -> (created: Timestamp, expires: Timestamp) {
        let children = try Tree.children(timestamp)
        guard children.count == 2, let createdNode = children.first(where: { Tree.isElement($0, NS.wsu, "Created") }),
            let expiresNode = children.first(where: { Tree.isElement($0, NS.wsu, "Expires") }),
            let created = Timestamp(iso8601: try Tree.text(createdNode)), let expires = Timestamp(iso8601: try Tree.text(expiresNode))
        else { throw Tree.refused("Timestamp does not hold exactly one Created and one Expires in UTC") }
        guard created < expires, expires.milliseconds - created.milliseconds <= policy.longestLifetimeSeconds * 1000 else {
            throw CloudError(
                .unauthenticated(.expired), context: "WS-Security: the lifetime from \(created) to \(expires) is not accepted")
        }
        guard created <= now.adding(seconds: policy.skewSeconds) else {
            throw CloudError(.unauthenticated(.notYetValid), context: "WS-Security: created \(created), now \(now)")
        }
        guard now <= expires else { throw CloudError(.unauthenticated(.expired), context: "WS-Security: expired \(expires), now \(now)") }
        if let notBefore = policy.notBefore, created < notBefore {
            throw CloudError(
                .unauthenticated(.expired), context: "WS-Security: created \(created), before this process began at \(notBefore)")
        }
        return (created, expires)
    }

    private func checkAddressing(_ message: VerifiedMessage) throws(CloudError) {
        guard let id = message.messageID, Self.isUUID(id), let to = message.to, !to.utf8.isEmpty, to.utf8.count <= 512,
            let action = message.action, !action.utf8.isEmpty, action.utf8.count <= 256
        else { throw Tree.refused("To, Action or MessageID is malformed") }
        if policy.addressing == .reply {
            guard let relatesTo = message.relatesTo, Self.isUUID(relatesTo) else { throw Tree.refused("RelatesTo is malformed") }
        }
    }

    /// `urn:uuid:` and 32 hexadecimal digits, with or without hyphens.
    private static func isUUID(_ text: String) -> Bool {
        guard text.hasPrefix("urn:uuid:"), text.utf8.count <= 45 else { return false }
        let digits = text.utf8.dropFirst(9).filter { $0 != 0x2d }
        return digits.count == 32 && Hex.decode(String(decoding: Array(digits), as: UTF8.self)) != nil
    }
}
