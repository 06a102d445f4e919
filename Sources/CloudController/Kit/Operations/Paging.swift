public import Domain
import Signing
public import Wire

/// Pages of a Describe action.
///
/// A token names the last thing of the page before by its sort key, not a position, so that nothing is skipped or doubled when
/// things come and go between two calls. It is bound to the account, the action and all other parameters, authenticated with a key
/// that only the controller has, and lapses. Source: `reference/soap.md` §2.
public struct Paging: Sendable {
    /// Too short: a slow walk of a large account breaks off; too long: tokens outlive the things that they name.
    static let lifetimeSeconds: Int64 = 3600

    private let limit: Int?
    private let after: String?
    private let binding: [UInt8]
    private let key: [UInt8]
    private let now: Timestamp

    /// - Parameters:
    ///   - request: the whole request; `maxResults` and `nextToken` do not count for the binding.
    ///   - key: 32 secret bytes.
    /// - Throws: `.named("InvalidNextToken")` for a token that is not ours, was made for another request, or has lapsed.
    public init(
        maxResults: Int?, nextToken: String?, action: String, accountID: String, request: Value, key: [UInt8], now: Timestamp
    ) throws(CloudError) {
        limit = maxResults
        self.key = key
        self.now = now
        binding = Digest.sha256(Array("\(action)\n\(accountID)\n\(Self.canonical(request))".utf8))
        guard let nextToken, !nextToken.isEmpty else {
            after = nil
            return
        }
        guard nextToken.utf8.count <= 2048, let bytes = Base64.decode(nextToken), bytes.count >= 24 else { throw Self.refused("form") }
        let expiry = bytes[16..<24].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        let cursor = String(decoding: bytes[24...], as: UTF8.self)
        guard constantTimeEqual(Array(bytes[..<16]), Self.code(key, binding, expiry, cursor)) else { throw Self.refused("binding") }
        guard now.seconds <= expiry else { throw Self.refused("expired") }
        after = cursor
    }

    /// The page of `sorted` that is due, and the token for the next one, `nil` at the end.
    /// - Parameter id: unique, and in the order of `sorted`.
    public func page<T>(_ sorted: [T], by id: (T) -> String) -> (items: [T], nextToken: String?) {
        let rest = after.map { after in sorted.drop { id($0) <= after } } ?? sorted[...]
        guard let limit, rest.count > limit else { return (Array(rest), nil) }
        let items = Array(rest.prefix(limit))
        guard let last = items.last else { return ([], nil) }
        let cursor = id(last)
        let expiry = now.seconds + Self.lifetimeSeconds
        var bytes = Self.code(key, binding, expiry, cursor)
        bytes += Self.bigEndian(expiry)
        bytes += Array(cursor.utf8)
        return (items, Base64.encode(bytes))
    }

    private static func code(_ key: [UInt8], _ binding: [UInt8], _ expiry: Int64, _ cursor: String) -> [UInt8] {
        Array(HMAC.sha256(key: key, Array("karri page".utf8) + binding + bigEndian(expiry) + Array(cursor.utf8)).prefix(16))
    }

    private static func bigEndian(_ n: Int64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: n >> (56 - 8 * $0)) } }

    private static func refused(_ why: String) -> CloudError {
        CloudError(.named(code: "InvalidNextToken", status: 400), "The token is invalid.", context: "next token: \(why)")
    }

    /// Equal for equal requests, different for different ones: lengths stand before texts.
    static func canonical(_ value: Value, top: Bool = true) -> String {
        switch value {
        case .text(let text): return "\(text.utf8.count):\(text)"
        case .list(let items): return "[" + items.map { canonical($0, top: false) }.joined() + "]"
        case .record(let fields):
            let parts = fields.sorted { $0.key < $1.key }.filter { !top || ($0.key != "maxResults" && $0.key != "nextToken") }
            return "{" + parts.map { "\($0.key)=" + canonical($0.value, top: false) }.joined() + "}"
        }
    }
}
