import Domain
import Testing
import Wire

@testable import Signing

/// What the six envelopes of other people's stacks, and our own, say to the verifier.
@Suite struct EnvelopeTests {
    static let now = Timestamp(iso8601: "2026-11-22T08:44:00Z") ?? Timestamp(seconds: 0)

    /// 04 is a message between daemons of Eucalyptus: our internal policy, but for SHA-1.
    static var oldInternal: WSSecurityPolicy {
        var policy = WSSecurityPolicy.internalRequest
        policy.allowsSHA1 = true
        return policy
    }

    private func verify(
        _ name: String, policy: WSSecurityPolicy = .external(allowSHA1: true), now: Timestamp = now, replay: ReplayCache = ReplayCache()
    ) async throws -> VerifiedMessage {
        try await WSSecurity.verify(try Golden.bytes("envelopes/\(name)"), policy: policy, now: now, replay: replay) { _ in true }
    }

    @Test(arguments: [
        ("01-zeep-run-instances-2010-08-31-sha1.xml", "RunInstances", "http://ec2.amazonaws.com/doc/2010-08-31/", true),
        ("02-wss4j-describe-instances-2009-11-30-sha1-classic.xml", "DescribeInstances", "http://ec2.amazonaws.com/doc/2009-11-30/", true),
        (
            "03-wss4j-describe-instances-2009-11-30-sha256-inclusivens.xml", "DescribeInstances",
            "http://ec2.amazonaws.com/doc/2009-11-30/", false
        ),
        ("05-zeep-describe-instances-2009-08-15-sha256.xml", "DescribeInstances", "http://ec2.amazonaws.com/doc/2009-08-15/", false),
    ])
    func externalClients(_ name: String, _ operation: String, _ namespace: String, _ sha1: Bool) async throws {
        let certificate = try Certificate(pem: try Golden.text("envelopes/test-cert.pem"))
        let message = try await verify(name)
        #expect(message.certificateFingerprint == certificate.fingerprintSHA256 && message.certificateDER == certificate.der)
        #expect(message.body.operation.name == operation && message.body.operation.namespace == namespace)
        #expect(message.usedSHA1 == sha1 && message.messageID == nil)
        let strict = await refusal { _ = try await verify(name, policy: .external(allowSHA1: false)) }
        #expect((strict != nil) == sha1)
    }

    @Test func theOperationIsWhole() async throws {
        let operation = try await verify("01-zeep-run-instances-2010-08-31-sha1.xml").body.operation
        #expect(operation.first("imageId")?.text == "emi-12345678")
        #expect(operation.first("userData")?.attribute("encoding") == "base64")
        #expect(operation.first("placement")?.first("availabilityZone")?.text == "PARTI00")
        #expect(operation.first("groupSet")?.first("item")?.first("groupId")?.text == "default")
    }

    @Test func internalMessage() async throws {
        let name = "04-wss4j-nc-describe-instances-wsa-signed.xml"
        let message = try await verify(name, policy: Self.oldInternal)
        #expect(message.to == "/axis2/services/EucalyptusNC" && message.action == "EucalyptusNC#ncDescribeInstances")
        #expect(message.messageID == "urn:uuid:0F0E0D0C0B0A09080706050403020100" && message.relatesTo == nil)
        #expect(message.body.operation.first("correlationId")?.text == "c-1")
        // Internally there is no SHA-1; the request is no reply; externally the signed headers are just headers.
        #expect(await refusal { _ = try await verify(name, policy: .internalRequest) } != nil)
        var reply = Self.oldInternal
        reply.addressing = .reply
        #expect(await refusal { _ = try await verify(name, policy: reply) } != nil)
        #expect(try await verify(name).action == nil)
    }

    @Test func timestampIsNeeded() async {
        #expect(await refusal { _ = try await verify("06-NEGATIVE-zeep-no-timestamp.xml") }?.reason == .unauthenticated(.badSignature))
    }

    @Test func externalMessagesAreNoInternalOnes() async {
        for name in ["01-zeep-run-instances-2010-08-31-sha1.xml", "05-zeep-describe-instances-2009-08-15-sha256.xml"] {
            #expect(await refusal { _ = try await verify(name, policy: Self.oldInternal) } != nil)
        }
    }

    @Test func freshness() async throws {
        let name = "05-zeep-describe-instances-2009-08-15-sha256.xml"
        let created = try #require(Timestamp(iso8601: "2026-11-22T08:43:20Z"))
        #expect(await refusal { _ = try await verify(name, now: created.adding(seconds: 300)) } == nil)
        #expect(await refusal { _ = try await verify(name, now: created.adding(seconds: 301)) }?.reason == .unauthenticated(.expired))
        #expect(await refusal { _ = try await verify(name, now: created.adding(seconds: -20)) } == nil)
        #expect(await refusal { _ = try await verify(name, now: created.adding(seconds: -21)) }?.reason == .unauthenticated(.notYetValid))
        var policy = WSSecurityPolicy.external(allowSHA1: true)
        policy.notBefore = created.adding(seconds: 1)
        #expect(await refusal { _ = try await verify(name, policy: policy) }?.reason == .unauthenticated(.expired))
    }

    @Test func replays() async throws {
        let replay = ReplayCache()
        let name = "05-zeep-describe-instances-2009-08-15-sha256.xml"
        _ = try await verify(name, replay: replay)
        #expect(await refusal { _ = try await verify(name, replay: replay) }?.reason == .unauthenticated(.replayed))
        // White space outside what is signed does not make it another message; nor does white space in SignatureValue.
        let text = try Golden.text("envelopes/\(name)")
        for changed in [
            text.replacing("</soap-env:Header>", with: "\n  </soap-env:Header>\n"),
            text.replacing("KxNUb6XrFazXWg3Bj75U", with: "KxNUb6XrFazXWg\n3Bj75U"),
        ] {
            #expect(changed != text)
            let again = await refusal {
                _ = try await WSSecurity.verify(Array(changed.utf8), policy: .external(allowSHA1: true), now: Self.now, replay: replay) {
                    _ in true
                }
            }
            #expect(again?.reason == .unauthenticated(.replayed))
        }
    }

    @Test func unknownCertificatesDoNotFillTheCache() async throws {
        let replay = ReplayCache()
        let bytes = try Golden.bytes("envelopes/05-zeep-describe-instances-2009-08-15-sha256.xml")
        let error = await refusal {
            _ = try await WSSecurity.verify(bytes, policy: .external(allowSHA1: true), now: Self.now, replay: replay) { _ in false }
        }
        #expect(error?.reason == .unauthenticated(.unknownKey) && replay.count == 0)
        let broken = String(decoding: bytes, as: UTF8.self).replacing("i-12345678", with: "i-99999999")
        _ = await refusal {
            _ = try await WSSecurity.verify(Array(broken.utf8), policy: .external(allowSHA1: true), now: Self.now, replay: replay) { _ in
                true
            }
        }
        #expect(replay.count == 0)
    }

    @Test func aFullCacheRefuses() throws {
        let cache = ReplayCache(capacity: 10)
        let start = Timestamp(seconds: 1000)
        func key(_ n: Int) -> [UInt8] { Digest.sha256(Array("\(n)".utf8)) }
        for n in 0..<10 { try cache.insert(key(n), until: start.adding(seconds: Int64(10 + n)), now: start) }
        #expect(
            refusal { try cache.insert(key(11), until: start.adding(seconds: 60), now: start) }?.reason
                == .unavailable("The message service"))
        #expect(refusal { try cache.insert(key(3), until: start, now: start) }?.reason == .unauthenticated(.replayed))
        // What has expired makes room; what has not is still known.
        let later = start.adding(seconds: 14)
        try cache.insert(key(11), until: later.adding(seconds: 60), now: later)
        #expect(cache.count < 10)
        #expect(refusal { try cache.insert(key(8), until: later, now: later) }?.reason == .unauthenticated(.replayed))
        let muchLater = start.adding(seconds: 1_000_000_000)
        try cache.insert(key(12), until: muchLater, now: muchLater)
        #expect(cache.count == 1)
    }
}

/// Our own signer against our own verifier.
@Suite struct RoundTripTests {
    let now = Timestamp(milliseconds: 1_795_359_600_123)
    let operation = Array(
        "<n:RunInstance xmlns:n=\"urn:karri:nc:1\" b='2' a=\"1\"><n:id>i-1&lt;&amp;é</n:id><n:e/><![CDATA[x<y]]></n:RunInstance>".utf8)
    let addressing = WSSecurity.Addressing(
        to: "karri://cloud/nc/node-1", action: "urn:karri:nc:1#RunInstance", messageID: "urn:uuid:00112233-4455-6677-8899-aabbccddeeff")

    private func verify(_ bytes: [UInt8], _ policy: WSSecurityPolicy) async throws -> VerifiedMessage {
        try await WSSecurity.verify(bytes, policy: policy, now: now, replay: ReplayCache()) { _ in true }
    }

    @Test func requests() async throws {
        let (key, certificate) = try TestKeys.pair()
        let bytes = try WSSecurity.sign(body: operation, key: key, certificate: certificate, wsa: addressing, now: now, ttl: 60)
        let message = try await verify(bytes, .internalRequest)
        #expect(message.to == addressing.to && message.action == addressing.action && message.messageID == addressing.messageID)
        #expect(message.created == now && message.expires == now.adding(seconds: 60))
        #expect(message.body.operation.first("id")?.text == "i-1<&é" && message.body.operation.text == "x<y")
        #expect(message.body.operation.attribute("a") == "1")
        #expect(await refusal { _ = try await verify(bytes, .internalReply) } != nil, "a request is no reply")
        #expect(
            await refusal {
                _ = try await WSSecurity.verify(bytes, policy: .internalRequest, now: now.adding(seconds: 61), replay: ReplayCache()) { _ in
                    true
                }
            }?.reason == .unauthenticated(.expired))
    }

    @Test func replies() async throws {
        let (key, certificate) = try TestKeys.pair()
        var wsa = addressing
        wsa.relatesTo = "urn:uuid:ffeeddccbbaa99887766554433221100"
        wsa.to = "a<b>&\r\n\"c"
        let bytes = try WSSecurity.sign(body: operation, key: key, certificate: certificate, wsa: wsa, now: now, ttl: 60)
        let message = try await verify(bytes, .internalReply)
        #expect(message.relatesTo == wsa.relatesTo && message.to == wsa.to)
        #expect(await refusal { _ = try await verify(bytes, .internalRequest) } != nil, "a reply is no request")
    }

    @Test(arguments: [Digest.Algorithm.sha1, .sha256]) func externalForm(_ digest: Digest.Algorithm) async throws {
        let (key, certificate) = try TestKeys.pair()
        let bytes = try WSSecurity.sign(body: operation, key: key, certificate: certificate, wsa: nil, now: now, ttl: 300, digest: digest)
        #expect(try await verify(bytes, .external(allowSHA1: true)).usedSHA1 == (digest == .sha1))
        #expect((await refusal { _ = try await verify(bytes, .external(allowSHA1: false)) } != nil) == (digest == .sha1))
    }

    @Test func bodiesMustBeOneElement() throws {
        let (key, certificate) = try TestKeys.pair()
        for body in ["<a>", "<a></a></soapenv:Body>", "<!DOCTYPE a><a/>", "<x:a/>"] {
            #expect(throws: CloudError.self) {
                try WSSecurity.sign(body: Array(body.utf8), key: key, certificate: certificate, wsa: nil, now: now, ttl: 60)
            }
        }
    }

    /// Every single byte of a signed message, changed: refused, or changed outside of what is signed (white space, the declaration).
    @Test func everyByteMatters() async throws {
        let (key, certificate) = try TestKeys.pair()
        let small = Array("<a xmlns=\"urn:a\"><b>1</b></a>".utf8)
        let bytes = try WSSecurity.sign(body: small, key: key, certificate: certificate, wsa: addressing, now: now, ttl: 60)
        let original = try await verify(bytes, .internalRequest)
        var accepted: [String] = []
        for i in 0..<bytes.count where i % 3 == 0 {
            var changed = bytes
            changed[i] = changed[i] == 0x41 ? 0x42 : 0x41
            let message = try? await WSSecurity.verify(changed, policy: .internalRequest, now: now, replay: ReplayCache()) {
                $0 == certificate.fingerprintSHA256
            }
            if let message {
                #expect(message.body.operation == original.body.operation && message.action == original.action && message.to == original.to)
                accepted.append(String(decoding: bytes[max(0, i - 20)..<min(bytes.count, i + 10)], as: UTF8.self))
            }
        }
        // The names of unsigned attributes: mustUnderstand, EncodingType, ValueType of the reference, an id nobody uses.
        #expect(accepted.count <= 40, "\(accepted)")
    }
}

/// Messages that are validly signed by their own sender, but by a construction that is not accepted.
@Suite struct ConstructionTests {
    let forge: Forge
    init() throws { forge = try Forge() }

    private func outcome(_ bytes: [UInt8], _ policy: WSSecurityPolicy = .external(allowSHA1: true)) async -> CloudError? {
        await refusal { _ = try await WSSecurity.verify(bytes, policy: policy, now: forge.now, replay: ReplayCache()) { _ in true } }
    }

    @Test func theForgeItselfIsAccepted() async throws { #expect(await outcome(try forge.make()) == nil) }

    @Test(arguments: [
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1", "http://www.w3.org/2001/04/xmldsig-more#rsa-md5",
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", "none", "",
        "rsa-sha256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256 ", "HTTP://WWW.W3.ORG/2001/04/XMLDSIG-MORE#RSA-SHA256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256#",
    ])
    func signatureAlgorithms(_ uri: String) async throws {
        #expect(await outcome(try forge.make { $0.signatureMethod = uri })?.reason == .unauthenticated(.badSignature))
    }

    @Test(arguments: [
        "http://www.w3.org/2001/04/xmldsig-more#md5", "http://www.w3.org/2001/04/xmlenc#sha512", "", "sha256",
        "http://www.w3.org/2001/04/xmlenc#sha256 ", "http://www.w3.org/2000/09/xmldsig#sha1",
    ])
    func digestAlgorithms(_ uri: String) async throws {
        // The digests are of SHA-256: under any other name they must not pass.
        #expect(await outcome(try forge.make { $0.digestMethod = uri }) != nil)
    }

    @Test(arguments: [
        "", "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath>not(ancestor::x)</ds:XPath></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2002/06/xmldsig-filter2\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#base64\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#WithComments\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:Transform><ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"></ds:Transform>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"><ds:XPath>1</ds:XPath></ds:Transform>",
    ])
    func transforms(_ xml: String) async throws {
        #expect(await outcome(try forge.make { $0.transforms = xml })?.reason == .unauthenticated(.badSignature))
    }

    @Test(arguments: [
        "", "Body", "#", "##Body", "#xpointer(/)", "#xpointer(id('Body'))", "http://127.0.0.1:1/x", "file:///etc/passwd", "cid:1", "#Body#",
        "#Nowhere", "#%42ody", "#1", "# Body",
    ])
    func references(_ uri: String) async throws {
        #expect(await outcome(try forge.make { $0.bodyURI = uri })?.reason == .unauthenticated(.badSignature))
        #expect(await outcome(try forge.make { $0.tokenURI = uri })?.reason == .unauthenticated(.badSignature))
    }

    @Test(arguments: [
        "<ds:KeyValue><ds:RSAKeyValue/></ds:KeyValue>", "<ds:KeyName>x</ds:KeyName>", "<ds:X509Data/>",
        "<ds:RetrievalMethod URI=\"http://127.0.0.1:1/\"/>", "",
        "<wsse:SecurityTokenReference><wsse:KeyIdentifier>x</wsse:KeyIdentifier></wsse:SecurityTokenReference>",
        "<wsse:SecurityTokenReference><wsse:Embedded/></wsse:SecurityTokenReference>",
        "<wsse:SecurityTokenReference><wsse:Reference URI=\"#Token\" ValueType=\"x\"/></wsse:SecurityTokenReference>",
        "<wsse:SecurityTokenReference><wsse:Reference URI=\"#Token\"/></wsse:SecurityTokenReference><ds:KeyName>x</ds:KeyName>",
    ])
    func keyInfos(_ xml: String) async throws {
        #expect(await outcome(try forge.make { $0.keyInfo = xml })?.reason == .unauthenticated(.badSignature))
    }

    @Test func partialSigning() async throws {
        #expect(await outcome(try forge.make { $0.signsTimestamp = false }) != nil)
        #expect(await outcome(try forge.make { $0.signsBody = false }) != nil)
        #expect(
            await outcome(
                try forge.make {
                    $0.signsBody = false; $0.signsTimestamp = false
                }) != nil)
        #expect(await outcome(try forge.make { $0.references = 3 }) != nil, "an element referenced twice")
        #expect(await outcome(try forge.make { $0.references = 10_000 }) != nil)
    }

    @Test func signedInfoHasNoOtherCanonicalization() async throws {
        for uri in ["http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments", ""] {
            #expect(await outcome(try forge.make { $0.canonicalization = uri }) != nil)
        }
    }

    @Test func prefixLists() async throws {
        let many = (0..<33).map { "p\($0)" }.joined(separator: " ")
        for list in [many, String(repeating: "x", count: 1025), "a:b", "-"] {
            let xml =
                "<ds:Transform Algorithm=\"\(NS.exclusive)\"><ec:InclusiveNamespaces xmlns:ec=\"\(NS.exclusive)\" PrefixList=\"\(list)\"></ec:InclusiveNamespaces></ds:Transform>"
            #expect(await outcome(try forge.make { $0.transforms = xml }) != nil)
        }
        let good =
            "<ds:Transform Algorithm=\"\(NS.exclusive)\"><ec:InclusiveNamespaces xmlns:ec=\"\(NS.exclusive)\" PrefixList=\"q #default\"></ec:InclusiveNamespaces></ds:Transform>"
        #expect(await outcome(try forge.make { $0.transforms = good }) == nil)
    }

    /// Amazon's rules allow it for clients; our daemons do not use it.
    @Test func inclusiveCanonicalization() async throws {
        let xml = "<ds:Transform Algorithm=\"\(NS.inclusive)\"></ds:Transform>"
        let bytes = try forge.make {
            $0.transforms = xml; $0.inclusive = true
        }
        #expect(await outcome(bytes) == nil)
        var strict = WSSecurityPolicy.external(allowSHA1: true)
        strict.allowsInclusiveC14N = false
        #expect(await outcome(bytes, strict) != nil)
    }

    @Test(arguments: [
        ("2026-11-22T15:00:00Z", "2026-11-22T14:59:00Z"), ("2026-11-22T15:00:00Z", "2026-11-22T15:00:00Z"),
        ("2026-11-22T15:00:00Z", "2036-11-22T15:00:00Z"), ("2026-11-22T14:00:00Z", "2026-11-22T14:05:00Z"),
        ("2026-11-22T15:01:00Z", "2026-11-22T15:05:00Z"), ("2026-11-22T15:00:00", "2026-11-22T15:05:00"),
        ("2026-11-22T15:00:00-00:00", "2026-11-22T15:05:00-00:00"), ("2026-11-22T15:00:00+01:00", "2026-11-22T16:05:00+01:00"),
        ("2026-11-22T15:00:00.0123456789Z", "2026-11-22T15:05:00Z"), ("2026-11-22T24:00:00Z", "2026-11-23T00:05:00Z"),
        ("2026-11-22T14:59:60Z", "2026-11-22T15:05:00Z"), ("2026-11-22T15:00:00Z", "10000-01-01T00:00:00Z"),
        ("-2026-11-22T15:00:00Z", "2026-11-22T15:05:00Z"), ("２０２６-11-22T15:00:00Z", "2026-11-22T15:05:00Z"), ("", ""),
        ("2026-11-22T15:00:00Z ", "2026-11-22T15:05:00Z"),
    ])
    func timestamps(_ created: String, _ expires: String) async throws {
        let error = await outcome(
            try forge.make {
                $0.created = created; $0.expires = expires
            })
        #expect(error != nil)
        if case .unauthenticated = error?.reason {} else { Issue.record("\(String(describing: error))") }
    }

    @Test(arguments: [
        "<wsu:Created>A</wsu:Created>", "<wsu:Expires>A</wsu:Expires>",
        "<wsu:Created>A</wsu:Created><wsu:Created>A</wsu:Created><wsu:Expires>B</wsu:Expires>",
        "<wsu:Created>A</wsu:Created><wsu:Expires>B</wsu:Expires><wsu:Expires>B</wsu:Expires>",
        "<wsu:Created>A</wsu:Created><wsu:Expires>B</wsu:Expires><x></x>", "",
    ])
    func timestampShapes(_ shape: String) async throws {
        let xml = shape.replacing("A", with: "2026-11-22T15:00:00Z").replacing("B", with: "2026-11-22T15:05:00Z")
        #expect(await outcome(try forge.make { $0.timestampContent = xml }) != nil)
    }

    @Test func bodies() async throws {
        for body in ["", "<a></a><a></a>", "text<a></a>", "<a></a>text"] {
            #expect(await outcome(try forge.make { $0.body = body }) != nil, "\(body)")
        }
        #expect(await outcome(try forge.make { $0.body = " <a></a>\n" }) == nil)
    }

    @Test func headersThatMustBeUnderstood() async throws {
        func with(_ block: String) async throws -> CloudError? { await outcome(try forge.make { $0.headers = block }) }
        let must = CloudError.Reason.named(code: "MustUnderstand", status: 500)
        #expect(try await with("<x:a xmlns:x=\"urn:x\" soapenv:mustUnderstand=\"1\"/>")?.reason == must)
        #expect(
            try await with("<x:a xmlns:x=\"urn:x\" soapenv:mustUnderstand=\"true\" soapenv:actor=\"\(NS.actorNext)\"/>")?.reason == must)
        #expect(try await with("<x:a xmlns:x=\"urn:x\" soapenv:mustUnderstand=\"1\" soapenv:actor=\"urn:other\"/>") == nil)
        #expect(try await with("<x:a xmlns:x=\"urn:x\" soapenv:mustUnderstand=\"0\"/>") == nil)
        #expect(try await with("<x:a xmlns:x=\"urn:x\"/>") == nil)
        #expect(try await with("text") != nil)
        #expect(try await with("<wsse:Security/>") != nil)
    }

    @Test func tokens() async throws {
        let der = Base64.encode(forge.certificate.der)
        let pem = Base64.encode(Array(forge.certificate.pem.utf8))
        for token in [Base64.encode(forge.certificate.der + [0]), pem, "", "AAAA", "\(der)<x/>", String(repeating: "A", count: 40_000)] {
            #expect(await outcome(try forge.make { $0.token = token })?.reason == .unauthenticated(.badSignature))
        }
        for kind in ["http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509PKIPathv1", "", "x"] {
            #expect(await outcome(try forge.make { $0.tokenType = kind }) != nil)
        }
        // Somebody else's certificate with our signature.
        let other = try TestKeys.otherPair().certificate
        #expect(await outcome(try forge.make { $0.token = Base64.encode(other.der) })?.reason == .unauthenticated(.badSignature))
    }

    @Test func signatureValues() async throws {
        let good = try forge.make()
        #expect(await outcome(good) == nil)
        for change in [
            { (s: [UInt8]) in [0] + s }, { Array($0.dropLast()) }, { $0 + [0] }, { _ in [] }, { _ in [UInt8](repeating: 0, count: 256) },
            { _ in [UInt8](repeating: 255, count: 256) },
        ] as [@Sendable ([UInt8]) -> [UInt8]] {
            #expect(await outcome(try forge.make { $0.changeSignature = change })?.reason == .unauthenticated(.badSignature))
        }
    }

    @Test func otherEnvelopes() async throws {
        let text = String(decoding: try forge.make(), as: UTF8.self)
        let soap12 = "http://www.w3.org/2003/05/soap-envelope"
        #expect(await outcome(Array(text.replacing(NS.soap11, with: soap12).utf8))?.reason == .named(code: "VersionMismatch", status: 500))
        #expect(await outcome(Array("<a/>".utf8))?.reason == .malformedRequest)
        #expect(await outcome([]) != nil)
        let bare = "<e:Envelope xmlns:e=\"\(NS.soap11)\"><e:Body><a/></e:Body></e:Envelope>"
        #expect(await outcome(Array(bare.utf8))?.reason == .unauthenticated(.missing))
        let empty = "<e:Envelope xmlns:e=\"\(NS.soap11)\"><e:Header/><e:Body><a/></e:Body></e:Envelope>"
        #expect(await outcome(Array(empty.utf8))?.reason == .unauthenticated(.missing))
    }

    /// Every failure of the signature looks the same from outside.
    @Test func oneOutwardMessage() async throws {
        var messages: Set<String> = []
        for make in [
            { $0.signatureMethod = "x" }, { $0.transforms = "" }, { $0.bodyURI = "#x" }, { $0.keyInfo = "" }, { $0.signsBody = false },
            { $0.token = "AAAA" }, { $0.changeSignature = { $0.reversed() } },
        ] as [(inout Forge.Plan) -> Void] {
            messages.insert(await outcome(try forge.make(make))?.message ?? "accepted")
        }
        messages.insert(
            await refusal {
                _ = try await WSSecurity.verify(try forge.make(), policy: .external(allowSHA1: true), now: forge.now, replay: ReplayCache())
                { _ in false }
            }?.message ?? "accepted")
        #expect(messages.count == 1)
    }
}

/// Documents made to burn time or memory, each answered quickly.
@Suite struct BombTests {
    private func seconds(_ text: String, limit: Double = 3) async -> CloudError? {
        let clock = ContinuousClock()
        var error: CloudError?
        let time = await clock.measure {
            error = await refusal {
                _ = try await WSSecurity.verify(
                    Array(text.utf8), policy: .external(allowSHA1: true), now: EnvelopeTests.now, replay: ReplayCache()
                ) { _ in true }
            }
        }
        #expect(time < .seconds(limit), "took \(time)")
        return error
    }

    private func wrapped(_ inner: String) -> String {
        "<e:Envelope xmlns:e=\"\(NS.soap11)\"><e:Header/><e:Body>\(inner)</e:Body></e:Envelope>"
    }

    @Test func documents() async {
        for text in [
            wrapped(String(repeating: "<a>", count: 20_000)),
            wrapped(String(repeating: "<a>", count: 65) + String(repeating: "</a>", count: 65)),
            wrapped("<a " + (0..<8000).map { "a\($0)='1'" }.joined(separator: " ") + "/>"),
            wrapped("<a " + (0..<4000).map { "xmlns:a\($0)='u:\($0)'" }.joined(separator: " ") + "/>"),
            wrapped(String(repeating: "<a/>", count: 30_000)), String(repeating: "x", count: 300_000),
            wrapped(String(repeating: "x", count: 262_144)),
            "<!DOCTYPE a [<!ENTITY b \"c\">]>" + wrapped("&b;"), "<!DOCTYPE a SYSTEM \"file:///etc/passwd\">" + wrapped("<a/>"),
            "<!DOCTYPE a>" + wrapped("<a/>"),
            wrapped("<a>&b;</a>"), wrapped("<!-- x -->"), wrapped("<?x y?>"), "<?xml-stylesheet href='x'?>" + wrapped("<a/>"),
            wrapped("<a/>") + "<b/>",
            wrapped("<a/>") + "<!-- -->", wrapped("<a x='1' x='2'/>"), "<?xml version='1.0' encoding='UTF-16'?>" + wrapped("<a/>"),
            wrapped("<a>\u{0}</a>"),
            wrapped("<q:a/>"),
        ] {
            let error = await seconds(text)
            #expect(error != nil)
        }
    }

    @Test func commentsNeverHideInValues() async throws {
        let good = try Golden.text("envelopes/05-zeep-describe-instances-2009-08-15-sha256.xml")
        for (from, to) in [
            ("i-12345678", "i-1<!-- -->2345678"), ("2026-11-22T08:48:20Z", "2026-11-22T08:48:20Z<!-- -->"), ("zTDLDJ", "zTD<!-- -->LDJ"),
            ("MIIDSTCC", "MIID<?x?>STCC"),
        ] {
            #expect(await seconds(good.replacing(from, with: to)) != nil)
        }
    }
}
