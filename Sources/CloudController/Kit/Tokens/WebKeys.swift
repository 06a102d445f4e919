import Daemon
import Domain
import Identity
import Signing
import Synchronization
import Workflow

/// The keys of OpenID Connect providers, fetched from the addresses that they publish, and kept for a while.
/// Source: OpenID Connect Discovery 1.0 §4.
final class WebKeys: Sendable {
    /// Too long: a key that the provider took back is still good here; too short: each token costs two requests.
    static let lifeSeconds: Int64 = 300
    /// A token with an unknown key id makes us look again, but not more often than this: anybody can send such tokens.
    static let refetchSeconds: Int64 = 30
    private static let limit = 1000

    private struct Known: Sendable {
        let keys: [(id: String?, key: WebKey)]
        let at: Timestamp
    }
    private let http: any HTTPRequesting
    private let clock: any Workflow.Clock
    private let known = Mutex<[String: Known]>([:])

    init(http: any HTTPRequesting, clock: any Workflow.Clock) {
        self.http = http
        self.clock = clock
    }

    /// - Throws: `InvalidIdentityToken`, `IDPCommunicationError`.
    func verify(_ token: WebToken, of provider: OIDCProvider, now: Timestamp) async throws(CloudError) {
        if let cached = known.withLock({ $0[provider.url] }), now < cached.at.adding(seconds: Self.lifeSeconds) {
            if Self.isSigned(token, cached.keys) { return }
            guard now >= cached.at.adding(seconds: Self.refetchSeconds) else { throw Self.refused }
        }
        let fresh = try await fetch(provider)
        known.withLock { table in
            if table.count >= Self.limit { table = [:] }
            table[provider.url] = Known(keys: fresh, at: now)
        }
        guard Self.isSigned(token, fresh) else { throw Self.refused }
    }

    private static let refused = WebToken.invalid(
        "Couldn't retrieve verification key from your identity provider, or the signature is wrong")

    private static func isSigned(_ token: WebToken, _ keys: [(id: String?, key: WebKey)]) -> Bool {
        keys.contains { id, key in
            key.algorithm == token.algorithm && (token.keyID == nil || id == nil || id == token.keyID)
                && key.verify(token.signature, of: token.signed)
        }
    }

    private func fetch(_ provider: OIDCProvider) async throws(CloudError) -> [(id: String?, key: WebKey)] {
        let discovery = try await json("https://\(provider.url)/.well-known/openid-configuration")
        guard let issuer = discovery["issuer"]?.text, Self.same(issuer, "https://\(provider.url)"),
            let address = discovery["jwks_uri"]?.text, address.hasPrefix("https://")
        else { throw Self.unreachable("the discovery document is of another issuer or names no keys") }
        let set = try await json(address)
        var keys: [(id: String?, key: WebKey)] = []
        for item in set["keys"]?.items ?? [] {
            if let use = item["use"]?.text, use != "sig" { continue }
            // Keys of kinds that we do not know stand beside those that we do.
            if let key = Self.key(item) { keys.append((item["kid"]?.text, key)) }
        }
        return keys
    }

    private static func key(_ json: JSONValue) -> WebKey? {
        func bytes(_ name: String) -> [UInt8]? { json[name]?.text.flatMap { WebToken.base64URL($0) } }
        switch json["kty"]?.text {
        case "RSA":
            guard let n = bytes("n"), let e = bytes("e") else { return nil }
            return try? WebKey(rsaModulus: n, exponent: e)
        case "EC":
            guard json["crv"]?.text == "P-256", let x = bytes("x"), let y = bytes("y") else { return nil }
            return try? WebKey(p256X: x, y: y)
        default: return nil
        }
    }

    private static func same(_ a: String, _ b: String) -> Bool {
        func bare(_ text: String) -> Substring { text.hasSuffix("/") ? text.dropLast() : text[...] }
        return bare(a) == bare(b)
    }

    private func json(_ url: String) async throws(CloudError) -> JSONValue {
        let reply: HTTPClientResponse
        do throws(CloudError) {
            reply = try await http.execute(
                HTTPClientRequest(url: url, sink: .memory(limit: 1 << 18), timeoutMilliseconds: 5000, stallSeconds: 5))
        } catch { throw Self.unreachable("\(error.message) \(error.context)") }
        guard reply.status == 200, let json = try? JSONValue(parsing: reply.body) else {
            throw Self.unreachable("\(url): status \(reply.status)")
        }
        return json
    }

    private static func unreachable(_ why: String) -> CloudError {
        CloudError(
            .named(code: "IDPCommunicationError", status: 400),
            "Unable to retrieve the verification keys of the identity provider.", context: why)
    }
}
