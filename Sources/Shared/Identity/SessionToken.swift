public import Domain
import Signing
import Workflow

/// Temporary credentials, as a client gets them.
public struct SessionCredentials: Sendable, CustomStringConvertible {
    public let accessKeyID: String
    public let secret: String
    public let token: String
    public let expires: Timestamp
    /// The secret is in no log.
    public var description: String { accessKeyID }
}

/// What a session token says: whose it is, how far it reaches, until when. It is the token itself, sealed with a key that only the
/// cloud's daemons have: no row is needed to honour it, and what it stands for (a user, a role) is still looked up at each use.
public struct SessionToken: Sendable, Equatable {
    public enum Subject: Sendable, Equatable {
        /// A user or, with `nil`, the root: GetSessionToken.
        case user(id: String?)
        /// By the role's id: a role of the same name made later is another.
        case role(id: String, session: String)
        /// With the policies of the user (`nil`: the root) that vouches: GetFederationToken.
        case federated(name: String, by: String?)
    }

    public let accountID: String
    public let subject: Subject
    /// `nil`: no bound by the session.
    public let policies: [String]?
    public let tags: [IdentityTag]
    public let federatedProvider: String?
    public let issued: Timestamp
    public let expires: Timestamp

    public init(
        accountID: String, subject: Subject, policies: [String]? = nil, tags: [IdentityTag] = [], federatedProvider: String? = nil,
        issued: Timestamp, expires: Timestamp
    ) {
        self.accountID = accountID
        self.subject = subject
        self.policies = policies
        self.tags = tags
        self.federatedProvider = federatedProvider
        self.issued = issued
        self.expires = expires
    }

    /// Longer is not ours: the largest has two kilobytes of policies and 50 tags.
    static let maxLength = 32 * 1024

    /// Keys of their own for the token and for the secrets that go with it.
    struct Keys: Sendable {
        let token: [UInt8]
        let secret: [UInt8]
        init(_ cloudSecret: [UInt8]) {
            token = HMAC.sha256(key: cloudSecret, Array("karri session token".utf8))
            secret = HMAC.sha256(key: cloudSecret, Array("karri session secret".utf8))
        }
    }

    func credentials(_ keys: Keys, _ random: any Workflow.Random) throws(CloudError) -> SessionCredentials {
        let id = IdentityRules.sessionKeyID(random)
        let sealed = try AES.seal(Array(json.encoded.utf8), key: keys.token, context: Array(id.utf8))
        return SessionCredentials(accessKeyID: id, secret: Self.secret(id, keys), token: Base64.encode(sealed), expires: expires)
    }

    static func secret(_ accessKeyID: String, _ keys: Keys) -> String {
        String(Base64.encode(HMAC.sha256(key: keys.secret, Array(accessKeyID.utf8))).prefix(40))
    }

    /// `nil` for what is no token of ours, or belongs to another access key.
    static func open(_ text: String, accessKeyID: String, _ keys: Keys) -> SessionToken? {
        guard text.utf8.count <= maxLength, let sealed = Base64.decode(text),
            let plain = try? AES.open(sealed, key: keys.token, context: Array(accessKeyID.utf8)),
            let json = try? JSONValue(parsing: plain)
        else { return nil }
        return SessionToken(json)
    }

    private var json: JSONValue {
        var members: [JSONValue.Member] = [
            .init("a", .string(accountID)), .init("i", .number(String(issued.milliseconds))),
            .init("e", .number(String(expires.milliseconds))),
        ]
        switch subject {
        case .user(let id): members += [.init("k", "u"), .init("s", .string(id ?? ""))]
        case .role(let id, let session): members += [.init("k", "r"), .init("s", .string(id)), .init("n", .string(session))]
        case .federated(let name, let by): members += [.init("k", "f"), .init("s", .string(by ?? "")), .init("n", .string(name))]
        }
        if let policies { members.append(.init("p", .array(policies.map { .string($0) }))) }
        if let federatedProvider { members.append(.init("o", .string(federatedProvider))) }
        if !tags.isEmpty { members.append(.init("t", .array(tags.map { .array([.string($0.key), .string($0.value)]) }))) }
        return .object(members)
    }

    private init?(_ json: JSONValue) {
        guard let account = json["a"]?.text, let kind = json["k"]?.text, let of = json["s"]?.text, let issued = json["i"]?.integer,
            let expires = json["e"]?.integer
        else { return nil }
        let name = json["n"]?.text ?? ""
        switch kind {
        case "u": subject = .user(id: of.isEmpty ? nil : of)
        case "r": subject = .role(id: of, session: name)
        case "f": subject = .federated(name: name, by: of.isEmpty ? nil : of)
        default: return nil
        }
        accountID = account
        self.issued = Timestamp(milliseconds: Int64(issued))
        self.expires = Timestamp(milliseconds: Int64(expires))
        policies = json["p"]?.items.map { $0.compactMap(\.text) }
        federatedProvider = json["o"]?.text
        tags = (json["t"]?.items ?? []).compactMap { pair in
            guard let items = pair.items, items.count == 2, let key = items[0].text, let value = items[1].text else { return nil }
            return IdentityTag(key: key, value: value)
        }
    }
}
