import Domain

@testable import Signing

/// Signs messages that break the rules: whatever the plan says is written, and the signature over it is right.
struct Forge {
    struct Plan {
        var canonicalization = NS.exclusive
        var signatureMethod = Algorithms.rsaSHA256
        var digestMethod = Algorithms.sha256
        var transforms = "<ds:Transform Algorithm=\"\(NS.exclusive)\"></ds:Transform>"
        var bodyURI = "#Body"
        var tokenURI = "#Token"
        var keyInfo: String?
        var token: String?
        var tokenType = NS.x509v3
        var signsBody = true
        var signsTimestamp = true
        /// How often Body is referenced, at least.
        var references = 1
        var created = "2026-11-22T15:00:00Z"
        var expires = "2026-11-22T15:05:00Z"
        var timestampContent: String?
        var body = "<a xmlns=\"urn:a\"><b>good</b></a>"
        var headers = ""
        /// Digests are of the inclusive canonical form.
        var inclusive = false
        var changeSignature: @Sendable ([UInt8]) -> [UInt8] = { $0 }
    }

    let key: PrivateKey
    let certificate: Certificate
    let now = Timestamp(iso8601: "2026-11-22T15:00:30Z") ?? Timestamp(seconds: 0)

    init() throws { (key, certificate) = try TestKeys.pair() }

    func make(_ change: (inout Plan) -> Void = { _ in }) throws -> [UInt8] {
        var plan = Plan()
        change(&plan)
        let times = plan.timestampContent ?? "<wsu:Created>\(plan.created)</wsu:Created><wsu:Expires>\(plan.expires)</wsu:Expires>"
        let timestamp = "<wsu:Timestamp xmlns:wsu=\"\(NS.wsu)\" wsu:Id=\"Timestamp\">\(times)</wsu:Timestamp>"
        let body = "<soapenv:Body xmlns:soapenv=\"\(NS.soap11)\" xmlns:wsu=\"\(NS.wsu)\" wsu:Id=\"Body\">\(plan.body)</soapenv:Body>"
        // The inclusive form adds the namespaces that are in scope, at the place where the namespaces stand, sorted by prefix.
        let scope = "xmlns:wsse=\"\(NS.wsse)\" "
        let digestedTimestamp =
            plan.inclusive
            ? timestamp.replacing("<wsu:Timestamp xmlns:wsu", with: "<wsu:Timestamp xmlns:soapenv=\"\(NS.soap11)\" \(scope)xmlns:wsu")
            : timestamp
        var parts: [(String, String)] = []
        if plan.signsTimestamp { parts.append(("#Timestamp", digestedTimestamp)) }
        if plan.signsBody { for _ in 0..<plan.references { parts.append((plan.bodyURI, body)) } }
        var info =
            "<ds:SignedInfo xmlns:ds=\"\(NS.ds)\"><ds:CanonicalizationMethod Algorithm=\"\(plan.canonicalization)\"></ds:CanonicalizationMethod>"
        info += "<ds:SignatureMethod Algorithm=\"\(plan.signatureMethod)\"></ds:SignatureMethod>"
        for (uri, text) in parts {
            info +=
                "<ds:Reference URI=\"\(uri)\"><ds:Transforms>\(plan.transforms)</ds:Transforms><ds:DigestMethod Algorithm=\"\(plan.digestMethod)\"></ds:DigestMethod>"
            info += "<ds:DigestValue>\(Base64.encode(Digest.sha256(text.utf8)))</ds:DigestValue></ds:Reference>"
        }
        info += "</ds:SignedInfo>"
        let signature = plan.changeSignature(try key.sign(info.utf8, .sha256))
        let keyInfo =
            plan.keyInfo
            ?? "<wsse:SecurityTokenReference><wsse:Reference URI=\"\(plan.tokenURI)\" ValueType=\"\(NS.x509v3)\"/></wsse:SecurityTokenReference>"
        let text = """
            <soapenv:Envelope xmlns:soapenv="\(NS.soap11)"><soapenv:Header><wsse:Security xmlns:wsse="\(NS.wsse)">\
            <wsse:BinarySecurityToken xmlns:wsu="\(NS.wsu)" ValueType="\(plan.tokenType)" wsu:Id="Token">\(plan.token ?? Base64.encode(certificate.der))</wsse:BinarySecurityToken>\
            <ds:Signature xmlns:ds="\(NS.ds)">\(info)<ds:SignatureValue>\(Base64.encode(signature))</ds:SignatureValue><ds:KeyInfo>\(keyInfo)</ds:KeyInfo></ds:Signature>\
            \(timestamp)</wsse:Security>\(plan.headers)</soapenv:Header>\(body)</soapenv:Envelope>
            """
        return Array(text.utf8)
    }
}
