import Domain
import Identity
import Signing

/// A JSON Web Token of an OpenID Connect provider. Nothing in it counts before its signature was verified.
/// Sources: RFC 7515, RFC 7519; OpenID Connect Core 1.0 §2, §3.1.3.7.
struct WebToken: Sendable {
    let algorithm: WebKey.Algorithm
    let keyID: String?
    let issuer: String
    let subject: String
    let audience: [String]
    /// The party that it was issued to, where it says so: then this is the audience that conditions see.
    let azp: String?
    let methods: [String]?
    let expires: Timestamp
    let notBefore: Timestamp?
    let signed: [UInt8]
    let signature: [UInt8]

    /// Clocks differ.
    static let skewSeconds: Int64 = 60

    init(parsing text: String) throws(CloudError) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Self.object(parts[0]), let claims = Self.object(parts[1]),
            let signature = Self.base64URL(parts[2])
        else { throw Self.invalid("The ID Token provided is not a valid JWT") }
        // Never what the token wishes: two algorithms, each with keys of its own kind. `none` and HMAC are none of them.
        guard let name = header["alg"]?.text, let algorithm = WebKey.Algorithm(rawValue: name), header["crit"] == nil else {
            throw Self.invalid("The algorithm of the token is neither RS256 nor ES256")
        }
        guard let issuer = claims["iss"]?.text, issuer.hasPrefix("https://"), let subject = claims["sub"]?.text, !subject.isEmpty,
            let expiry = Self.seconds(claims["exp"])
        else { throw Self.invalid("The token lacks iss, sub or exp") }
        self.algorithm = algorithm
        keyID = header["kid"]?.text
        self.issuer = issuer
        self.subject = subject
        audience = claims["aud"]?.text.map { [$0] } ?? (claims["aud"]?.items ?? []).compactMap(\.text)
        azp = claims["azp"]?.text
        methods = claims["amr"]?.items.map { $0.compactMap(\.text) }
        expires = expiry
        notBefore = Self.seconds(claims["nbf"]) ?? Self.seconds(claims["iat"])
        signed = Array((parts[0] + "." + parts[1]).utf8)
        self.signature = signature
    }

    /// As the provider's ARN has it.
    var issuerName: String {
        var name = String(issuer.dropFirst(8))
        while name.hasSuffix("/") { name = String(name.dropLast()) }
        return name
    }

    /// What can be said when the signature is good.
    func check(_ provider: OIDCProvider, now: Timestamp) throws(CloudError) {
        guard now < expires.adding(seconds: Self.skewSeconds) else {
            throw CloudError(.named(code: "ExpiredTokenException", status: 400), "Token expired: the web identity token is past its exp.")
        }
        if let notBefore, notBefore > now.adding(seconds: Self.skewSeconds) { throw Self.invalid("The token is not valid yet") }
        let meant = azp.map { [$0] } ?? audience
        guard meant.contains(where: provider.clients.contains) else { throw Self.invalid("Incorrect token audience") }
    }

    static func invalid(_ problem: String) -> CloudError { CloudError(.named(code: "InvalidIdentityToken", status: 400), problem) }

    private static func seconds(_ value: JSONValue?) -> Timestamp? {
        guard case .number(let text)? = value, let number = Double(text), number.isFinite, abs(number) < 1e11 else { return nil }
        return Timestamp(seconds: Int64(number))
    }

    private static func object(_ text: Substring) -> JSONValue? {
        guard let bytes = base64URL(text), let json = try? JSONValue(parsing: bytes), json.members != nil else { return nil }
        return json
    }

    /// Without padding. Source: RFC 4648 §5.
    static func base64URL(_ text: some StringProtocol) -> [UInt8]? {
        var plain = text.utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "+") : $0 == UInt8(ascii: "_") ? UInt8(ascii: "/") : $0 }
        while plain.count % 4 != 0 { plain.append(UInt8(ascii: "=")) }
        return Base64.decode(String(decoding: plain, as: UTF8.self), strict: true)
    }

    static func base64URL(encode bytes: [UInt8]) -> String {
        let plain = Base64.encode(bytes).utf8.filter { $0 != UInt8(ascii: "=") }
        return String(
            decoding: plain.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 },
            as: UTF8.self)
    }
}
