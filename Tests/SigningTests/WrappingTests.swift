import CLibXML2
import Domain
import Testing
import Wire

@testable import Signing

/// Signature wrapping: every signed element moved to every place, an evil copy in its stead, with every kind of id. The strict verifier
/// accepts none; a naive one, which resolves ids, checks digests and then takes the first Body, executes half: so the attacks are real.
@Suite struct WrappingTests {
    static let created = Timestamp(iso8601: "2026-11-22T15:00:00Z") ?? Timestamp(seconds: 0)

    private func sign(internally: Bool) throws -> [UInt8] {
        let (key, certificate) = try TestKeys.pair()
        let operation = Array("<TerminateInstances xmlns=\"urn:x\"><id>i-1</id></TerminateInstances>".utf8)
        let wsa = WSSecurity.Addressing(to: "node-1", action: "Terminate", messageID: "urn:uuid:00112233-4455-6677-8899-aabbccddeeff")
        return try WSSecurity.sign(
            body: operation, key: key, certificate: certificate, wsa: internally ? wsa : nil, now: Self.created, ttl: 60)
    }

    private func attack(_ message: [UInt8], _ elements: [Wrapper.Element], _ policy: WSSecurityPolicy, created: Timestamp) async throws -> (
        variants: Int, naive: Int
    ) {
        let soon = created.adding(seconds: 30)
        let late = created.adding(seconds: 86_400)
        #expect(
            await refusal { _ = try await WSSecurity.verify(message, policy: policy, now: soon, replay: ReplayCache()) { _ in true } }
                == nil)
        #expect(try NaiveVerifier.run(message, now: soon).isEvil == false, "the naive verifier takes the honest message")
        var variants = 0
        var naive = 0
        for element in elements {
            let now = element == .timestamp ? late : soon
            for variant in try Wrapper.variants(of: message, moving: element, fresh: late) {
                variants += 1
                let error = await refusal {
                    _ = try await WSSecurity.verify(variant.bytes, policy: policy, now: now, replay: ReplayCache()) { _ in true }
                }
                #expect(error != nil, "accepted: \(variant.name)")
                if let executed = try? NaiveVerifier.run(variant.bytes, now: now) {
                    if element == .timestamp || executed.isEvil { naive += 1 }
                }
            }
        }
        return (variants, naive)
    }

    @Test func externalMessages() async throws {
        let count = try await attack(
            try sign(internally: false), [.body, .timestamp], .external(allowSHA1: false), created: Self.created)
        #expect(count.variants > 500)
        #expect(count.naive > 100)
    }

    @Test func internalMessages() async throws {
        let count = try await attack(
            try sign(internally: true), Wrapper.Element.allCases, .internalRequest, created: Self.created)
        #expect(count.variants > 1500)
        #expect(count.naive > 300)
    }

    @Test(arguments: ["01-zeep-run-instances-2010-08-31-sha1.xml", "02-wss4j-describe-instances-2009-11-30-sha1-classic.xml"])
    func otherProducers(_ name: String) async throws {
        let created = try #require(Timestamp(iso8601: "2026-11-22T08:43:19Z"))
        let count = try await attack(
            try Golden.bytes("envelopes/\(name)"), [.body, .timestamp], .external(allowSHA1: true), created: created)
        #expect(count.variants > 500)
        #expect(count.naive > 100)
    }

    /// The forms that are not a moved element: doubled Header and Security, an envelope in an envelope, another's token.
    @Test func wholeForms() async throws {
        let text = String(decoding: try sign(internally: false), as: UTF8.self)
        let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        let envelope = text.replacing(declaration, with: "")
        let opened = "<soapenv:Envelope xmlns:soapenv=\"\(NS.soap11)\">"
        let evil = "<soapenv:Body><TerminateInstances xmlns=\"urn:x\"><id>evil</id></TerminateInstances></soapenv:Body>"
        let start = try #require(text.firstRange(of: "<soapenv:Header>"))
        let end = try #require(text.firstRange(of: "</soapenv:Header>"))
        let header = String(text[start.lowerBound..<end.upperBound])
        let security = String(header.dropFirst("<soapenv:Header>".utf8.count).dropLast("</soapenv:Header>".utf8.count))
        let forms = [
            opened + "<soapenv:Header>\(envelope)</soapenv:Header>\(evil)</soapenv:Envelope>",
            opened + envelope + evil + "</soapenv:Envelope>",
            opened + header + "<soapenv:Body>\(envelope)</soapenv:Body></soapenv:Envelope>", text.replacing(header, with: header + header),
            text.replacing(header, with: "<soapenv:Header/>" + header), text.replacing(security, with: security + security),
            text.replacing(security, with: "<wsse:Security xmlns:wsse=\"\(NS.wsse)\"/>" + security),
            text.replacing(security, with: security + "<wsse:Security xmlns:wsse=\"\(NS.wsse)\" soapenv:actor=\"urn:other\"/>"),
            text.replacing(header, with: ""), text.replacing(security, with: ""),
            text.replacing("</soapenv:Envelope>", with: evil + "</soapenv:Envelope>"),
            text.replacing(header, with: header + evil), text.replacing("</soapenv:Envelope>", with: "x</soapenv:Envelope>"),
            text.replacing(
                "xmlns:soapenv=\"\(NS.soap11)\"><soapenv:Header>",
                with: "xmlns:soapenv=\"\(NS.soap11)\" xmlns:wsu=\"urn:evil\"><soapenv:Header>") + "<x/>",
        ]
        for form in forms {
            #expect(form != text)
            let error = await refusal {
                _ = try await WSSecurity.verify(
                    Array(form.utf8), policy: .external(allowSHA1: true), now: Self.created, replay: ReplayCache()
                ) { _ in true }
            }
            #expect(error != nil, "accepted: \(form)")
        }
    }

    /// Whoever signs a whole message with a key of their own is that somebody, and nobody else.
    @Test func theSignerIsTheIdentity() async throws {
        let (key, certificate) = try TestKeys.otherPair()
        let bytes = try WSSecurity.sign(body: Array("<a/>".utf8), key: key, certificate: certificate, wsa: nil, now: Self.created, ttl: 60)
        let message = try await WSSecurity.verify(bytes, policy: .external(allowSHA1: true), now: Self.created, replay: ReplayCache()) {
            _ in true
        }
        #expect(message.certificateFingerprint == certificate.fingerprintSHA256)
        let mine = try TestKeys.pair().certificate.fingerprintSHA256
        let error = await refusal {
            _ = try await WSSecurity.verify(bytes, policy: .external(allowSHA1: true), now: Self.created, replay: ReplayCache()) {
                $0 == mine
            }
        }
        #expect(error?.reason == .unauthenticated(.unknownKey))
    }
}

/// Makes the variants.
enum Wrapper {
    enum Element: String, CaseIterable {
        case body, timestamp, to, action, messageID
        var name: (namespace: String, local: String) {
            switch self {
            case .body: (NS.soap11, "Body")
            case .timestamp: (NS.wsu, "Timestamp")
            case .to: (NS.wsa, "To")
            case .action: (NS.wsa, "Action")
            case .messageID: (NS.wsa, "MessageID")
            }
        }
    }
    /// Where the honest element goes.
    enum Place: String, CaseIterable {
        case envelope, header, security, signature, object, signedInfo, keyInfo, tokenReference, token, timestamp, evilCopy, operation,
            beside
    }
    /// The id of the evil copy.
    enum ID: String, CaseIterable { case same, none, new, plainId, upperID, lowerID, xmlID, wsuID }

    struct Variant {
        let name: String
        let bytes: [UInt8]
    }

    static func variants(of message: [UInt8], moving element: Element, fresh: Timestamp) throws -> [Variant] {
        var out: [Variant] = []
        for place in Place.allCases {
            for first in [true, false] {
                for wrapped in place == .beside ? [false] : [false, true] {
                    for id in ID.allCases {
                        guard let bytes = try make(message, element, place, first, wrapped, id, fresh) else { continue }
                        out.append(
                            Variant(
                                name: "\(element) into \(place), \(first ? "first" : "last"), wrapped \(wrapped), id \(id)", bytes: bytes))
                    }
                }
            }
        }
        return out
    }

    private static func make(
        _ message: [UInt8], _ element: Element, _ place: Place, _ first: Bool, _ wrapped: Bool, _ id: ID, _ fresh: Timestamp
    ) throws -> [UInt8]? {
        let document = try ParsedDocument(parsing: message)
        defer { withExtendedLifetime(document) {} }
        let doc = document.rawDocument.assumingMemoryBound(to: xmlDoc.self)
        let root = document.rawRoot.assumingMemoryBound(to: xmlNode.self)
        guard let honest = find(root, element.name.namespace, element.name.local), let evil = xmlDocCopyNode(honest, doc, 1) else {
            return nil
        }
        corrupt(evil, element, fresh)
        setID(evil, id)
        // The evil copy takes the honest element's stand.
        if place == .beside {
            if first { xmlAddPrevSibling(honest, evil) } else { xmlAddNextSibling(honest, evil) }
            return dump(doc)
        }
        xmlAddPrevSibling(honest, evil)
        xmlUnlinkNode(honest)
        let target: xmlNodePtr? =
            switch place {
            case .envelope: root
            case .header: find(root, NS.soap11, "Header")
            case .security: find(root, NS.wsse, "Security")
            case .signature: find(root, NS.ds, "Signature")
            case .object: find(root, NS.ds, "Signature").map { added(to: $0, "Object", NS.ds) }
            case .signedInfo: find(root, NS.ds, "SignedInfo")
            case .keyInfo: find(root, NS.ds, "KeyInfo")
            case .tokenReference: find(root, NS.wsse, "SecurityTokenReference")
            case .token: find(root, NS.wsse, "BinarySecurityToken")
            case .timestamp: find(root, NS.wsu, "Timestamp")
            case .evilCopy: evil
            case .operation: find(root, NS.soap11, "Body").flatMap { firstElement($0) }
            case .beside: nil
            }
        guard var host = target else {
            xmlFreeNode(honest)
            return nil
        }
        if wrapped { host = added(to: host, "Wrapper", "urn:evil", first: first) }
        if first, let child = host.pointee.children { xmlAddPrevSibling(child, honest) } else { xmlAddChild(host, honest) }
        return dump(doc)
    }

    private static func corrupt(_ evil: xmlNodePtr, _ element: Element, _ fresh: Timestamp) {
        switch element {
        case .body:
            if let operation = firstElement(evil) { _ = xmlNewChild(operation, nil, "evil", nil) }
        case .timestamp:
            if let created = find(evil, NS.wsu, "Created") { xmlNodeSetContent(created, fresh.iso8601) }
            if let expires = find(evil, NS.wsu, "Expires") { xmlNodeSetContent(expires, fresh.adding(seconds: 60).iso8601) }
        case .to, .action: xmlNodeSetContent(evil, "evil")
        case .messageID: xmlNodeSetContent(evil, "urn:uuid:eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee")
        }
    }

    private static func setID(_ evil: xmlNodePtr, _ id: ID) {
        var attribute = evil.pointee.properties
        while let a = attribute, !Tree.same(a.pointee.name, "Id") { attribute = a.pointee.next }
        guard let attribute, let space = attribute.pointee.ns else { return }
        let value = Tree.value(attribute)
        if id == .same { return }
        xmlRemoveProp(attribute)
        switch id {
        case .same, .none: break
        case .new: xmlSetNsProp(evil, space, "Id", "evil")
        case .plainId: xmlSetProp(evil, "Id", value)
        case .upperID: xmlSetProp(evil, "ID", value)
        case .lowerID: xmlSetProp(evil, "id", value)
        case .xmlID: xmlSetProp(evil, "xml:id", value)
        case .wsuID: xmlSetNsProp(evil, space, "ID", value)
        }
    }

    private static func added(to parent: xmlNodePtr, _ name: String, _ namespace: String, first: Bool = false) -> xmlNodePtr {
        let node = xmlNewDocNode(parent.pointee.doc, nil, name, nil)
        let made = xmlNewNs(node, namespace, "w")
        xmlSetNs(node, made)
        if first, let child = parent.pointee.children { xmlAddPrevSibling(child, node) } else { xmlAddChild(parent, node) }
        return node ?? parent
    }

    static func find(_ root: xmlNodePtr, _ namespace: String, _ name: String) -> xmlNodePtr? {
        var found: xmlNodePtr?
        try? Tree.walk(root) { (node) throws(CloudError) in if found == nil, Tree.isElement(node, namespace, name) { found = node } }
        return found
    }

    static func firstElement(_ node: xmlNodePtr) -> xmlNodePtr? {
        var child = node.pointee.children
        while let c = child, c.pointee.type != XML_ELEMENT_NODE { child = c.pointee.next }
        return child
    }

    private static func dump(_ doc: xmlDocPtr) -> [UInt8] {
        var text: UnsafeMutablePointer<xmlChar>?
        var length: Int32 = 0
        xmlDocDumpMemory(doc, &text, &length)
        defer { karri_xml_free(text) }
        return Array(UnsafeBufferPointer(start: text, count: Int(length)))
    }
}

/// The verifier as it is written at the first attempt: cryptographically right, and wrong. For comparison only.
enum NaiveVerifier {
    struct Executed {
        var isEvil = false
    }

    static func run(_ bytes: [UInt8], now: Timestamp) throws -> Executed {
        let document = try ParsedDocument(parsing: bytes)
        defer { withExtendedLifetime(document) {} }
        let doc = document.rawDocument.assumingMemoryBound(to: xmlDoc.self)
        let root = document.rawRoot.assumingMemoryBound(to: xmlNode.self)
        let info = try need(Wrapper.find(root, NS.ds, "SignedInfo"))
        let token = try need(Wrapper.find(root, NS.wsse, "BinarySecurityToken"))
        let certificate = try Certificate(der: try need(Base64.decode(try ownText(token))))
        let value = try need(Wrapper.find(root, NS.ds, "SignatureValue"))
        let method = Tree.attribute(try need(Wrapper.find(info, NS.ds, "SignatureMethod")), "Algorithm") ?? ""
        let canonical = try Canonical.bytes(document: doc, root: info, method: .exclusive(prefixes: []), limit: 1 << 22)
        guard
            certificate.verify(
                signature: try need(Base64.decode(try ownText(value))), of: canonical, digest: method.hasSuffix("sha1") ? .sha1 : .sha256)
        else { throw CloudError(.bug) }
        var signed: Set<String> = []
        for reference in children(info) where Tree.isElement(reference, NS.ds, "Reference") {
            let id = String((Tree.attribute(reference, "URI") ?? "").dropFirst())
            var target: xmlNodePtr?
            try Tree.walk(root) { (node) throws(CloudError) in
                if target == nil, Tree.attribute(node, "Id", NS.wsu).map({ $0 == id }) ?? false { target = node }
            }
            let found = try need(target)
            let digest = Base64.decode(try ownText(try need(Wrapper.find(reference, NS.ds, "DigestValue"))))
            let sha1 = (Tree.attribute(try need(Wrapper.find(reference, NS.ds, "DigestMethod")), "Algorithm") ?? "").hasSuffix("sha1")
            let text = try Canonical.bytes(document: doc, root: found, method: .exclusive(prefixes: []), limit: 1 << 22)
            guard digest == Digest.digest(text, sha1 ? .sha1 : .sha256) else { throw CloudError(.bug) }
            signed.insert(Tree.string(found.pointee.name))
        }
        guard signed.isSuperset(of: ["Body", "Timestamp"]) else { throw CloudError(.bug) }
        let timestamp = try need(Wrapper.find(try need(Wrapper.find(root, NS.wsse, "Security")), NS.wsu, "Timestamp"))
        let expires = try need(Timestamp(iso8601: try ownText(try need(Wrapper.find(timestamp, NS.wsu, "Expires")))))
        guard now <= expires else { throw CloudError(.bug) }
        // "The" Body, "the" headers: the first there are.
        var executed = Executed()
        let body = try need(children(root).first { Tree.isElement($0, NS.soap11, "Body") })
        if let operation = Wrapper.firstElement(body), children(operation).contains(where: { Tree.same($0.pointee.name, "evil") }) {
            executed.isEvil = true
        }
        if let header = Wrapper.find(root, NS.soap11, "Header") {
            for block in children(header) where Tree.same(block.pointee.ns?.pointee.href, NS.wsa) {
                let text = (try? ownText(block)) ?? ""
                if text.hasSuffix("evil") || text.hasPrefix("urn:uuid:eeee") { executed.isEvil = true }
            }
        }
        return executed
    }

    private static func children(_ node: xmlNodePtr) -> [xmlNodePtr] {
        var out: [xmlNodePtr] = []
        var child = node.pointee.children
        while let c = child {
            if c.pointee.type == XML_ELEMENT_NODE { out.append(c) }
            child = c.pointee.next
        }
        return out
    }

    private static func ownText(_ node: xmlNodePtr) throws -> String {
        var out = ""
        var child = node.pointee.children
        while let c = child {
            if c.pointee.type == XML_TEXT_NODE { out += Tree.string(c.pointee.content) }
            child = c.pointee.next
        }
        return out
    }
}
