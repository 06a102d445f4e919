public import Domain

/// What a session of a role is known by.
public struct RoleSession: Sendable, Hashable {
    public let roleARN: String
    public let roleName: String
    public let sessionName: String

    public init(roleARN: String, roleName: String, sessionName: String) {
        self.roleARN = roleARN
        self.roleName = roleName
        self.sessionName = sessionName
    }
}

/// Who makes a request: the root of an account, one of its users, or a session of a role or of a federated user.
public struct Principal: Sendable, Hashable {
    /// 12 digits.
    public let accountID: String
    /// The account's name.
    public let accountAlias: String?
    /// `root` for the account's root.
    public let userName: String
    /// `AIDA…`; the account's id for its root, as `sts:GetCallerIdentity` says it; `AROA…:session` of a role's session,
    /// `account:name` of a federated user.
    public let userID: String
    /// `/` or `/a/b/`.
    public let path: String
    /// S3's id of the account: 64 hexadecimal digits.
    public let canonicalUserID: String
    public let isRoot: Bool
    /// Of a session of a role.
    public let role: RoleSession?
    /// Of a federated user: the name that it was given.
    public let federatedName: String?

    public init(
        accountID: String, accountAlias: String?, userName: String, userID: String, path: String, canonicalUserID: String, isRoot: Bool,
        role: RoleSession? = nil, federatedName: String? = nil
    ) {
        self.accountID = accountID
        self.accountAlias = accountAlias
        self.userName = userName
        self.userID = userID
        self.path = path
        self.canonicalUserID = canonicalUserID
        self.isRoot = isRoot
        self.role = role
        self.federatedName = federatedName
    }

    /// Whoever asks for something that needs no signature: of no account, with no policies, and so allowed nothing.
    public static let nobody = Principal(
        accountID: "", accountAlias: nil, userName: "anonymous", userID: "", path: "/", canonicalUserID: "", isRoot: false)

    /// An IAM user, not a session of a role or a federated user.
    public var isUser: Bool { !isRoot && role == nil && federatedName == nil }

    /// Our own daemons (snapshots, image parts): may do everything in Walrus.
    public var isSystem: Bool { accountID == Account.systemID }

    public var arn: String {
        if let role { return "arn:aws:sts::\(accountID):assumed-role/\(role.roleName)/\(role.sessionName)" }
        if let federatedName { return "arn:aws:sts::\(accountID):federated-user/\(federatedName)" }
        return isRoot ? "arn:aws:iam::\(accountID):root" : "arn:aws:iam::\(accountID):user\(path)\(userName)"
    }
}

/// An account: owner of everything its users make.
public struct Account: Sendable, Hashable {
    public let id: String
    public let name: String
    public let canonicalUserID: String
    public let created: Timestamp

    /// The account of the cloud's own daemons.
    public static let systemID = "000000000000"
    public static let systemName = "system"

    public init(id: String, name: String, canonicalUserID: String, created: Timestamp) {
        self.id = id
        self.name = name
        self.canonicalUserID = canonicalUserID
        self.created = created
    }

    /// Its root.
    public var root: Principal {
        Principal(
            accountID: id, accountAlias: name, userName: "root", userID: id, path: "/", canonicalUserID: canonicalUserID, isRoot: true)
    }
}

/// A user of an account.
public struct User: Sendable, Hashable {
    public let principal: Principal
    public let created: Timestamp
}

/// An access key without its secret.
public struct AccessKey: Sendable, Hashable {
    public let id: String
    /// `root` for a key of the account's root.
    public let userName: String
    public let isActive: Bool
    public let created: Timestamp
    /// When, for which service and in which region it was used last, as far as it was; to a quarter of an hour.
    public let used: Use?

    public struct Use: Sendable, Hashable {
        public let at: Timestamp
        public let service, region: String
    }
}

/// An access key with its secret. Never logged: its description has no secret.
public struct AccessKeyPair: Sendable, Hashable, CustomStringConvertible {
    public let id: String
    public let secret: String
    public var description: String { id }
}

/// A user's X.509 certificate, whose key signs SOAP messages and bundles.
public struct SigningCertificate: Sendable, Hashable {
    /// SHA-256 of the DER, hexadecimal.
    public let fingerprint: String
    public let userName: String
    public let pem: String
    public let isActive: Bool
    public let created: Timestamp
}

/// Who makes a request, after its signature was verified, and what policies say about them.
public struct AuthenticatedCaller: Sendable {
    /// What is known of a session with temporary credentials.
    public struct Session: Sendable, Hashable {
        public let issued: Timestamp
        public let expires: Timestamp
        /// The ARN of the identity provider, of a role assumed with its token.
        public let federatedProvider: String?

        public init(issued: Timestamp, expires: Timestamp, federatedProvider: String? = nil) {
            self.issued = issued
            self.expires = expires
            self.federatedProvider = federatedProvider
        }
    }

    public let principal: Principal
    /// Those that hang on the user and its groups, or on the role. The root of an account needs none.
    public var policies: [PolicyDocument] { stack.identity }
    /// All that bear on the caller: boundary and session policies too.
    public let stack: PolicyStack
    /// Tags of the user, or of the role and its session.
    public let tags: [String: String]
    /// `nil` for a long-term key or a certificate.
    public let session: Session?
    /// With which key the request was signed, or with which certificate.
    public let accessKeyID: String?
    public let certificateFingerprint: String?
    /// The keys that the policies ask for, in lower case: what costs a look-up is looked up when one of them asks for it.
    public let contextKeys: Set<String>

    public init(
        principal: Principal, policies: [PolicyDocument] = [], accessKeyID: String? = nil, certificateFingerprint: String? = nil
    ) {
        self.init(
            principal: principal, stack: PolicyStack(identity: policies), accessKeyID: accessKeyID,
            certificateFingerprint: certificateFingerprint)
    }

    public init(
        principal: Principal, stack: PolicyStack, tags: [String: String] = [:], session: Session? = nil, accessKeyID: String? = nil,
        certificateFingerprint: String? = nil
    ) {
        self.principal = principal
        self.stack = stack
        self.tags = tags
        self.session = session
        self.accessKeyID = accessKeyID
        self.certificateFingerprint = certificateFingerprint
        contextKeys = stack.contextKeys
    }
}
