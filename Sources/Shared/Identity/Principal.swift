public import Domain

/// Who makes a request: the root of an account, or one of its users.
public struct Principal: Sendable, Hashable {
    /// 12 digits.
    public let accountID: String
    /// The account's name.
    public let accountAlias: String?
    /// `root` for the account's root.
    public let userName: String
    /// `AIDA…`; the account's id for its root, as `sts:GetCallerIdentity` says it.
    public let userID: String
    /// `/` or `/a/b/`.
    public let path: String
    /// S3's id of the account: 64 hexadecimal digits.
    public let canonicalUserID: String
    public let isRoot: Bool

    public init(
        accountID: String, accountAlias: String?, userName: String, userID: String, path: String, canonicalUserID: String, isRoot: Bool
    ) {
        self.accountID = accountID
        self.accountAlias = accountAlias
        self.userName = userName
        self.userID = userID
        self.path = path
        self.canonicalUserID = canonicalUserID
        self.isRoot = isRoot
    }

    /// Our own daemons (snapshots, image parts): may do everything in Walrus.
    public var isSystem: Bool { accountID == Account.systemID }

    public var arn: String {
        isRoot ? "arn:aws:iam::\(accountID):root" : "arn:aws:iam::\(accountID):user\(path)\(userName)"
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
    public let principal: Principal
    /// Those that hang on the user. The root of an account needs none.
    public let policies: [PolicyDocument]
    /// With which key the request was signed, or with which certificate.
    public let accessKeyID: String?
    public let certificateFingerprint: String?

    public init(
        principal: Principal, policies: [PolicyDocument] = [], accessKeyID: String? = nil, certificateFingerprint: String? = nil
    ) {
        self.principal = principal
        self.policies = policies
        self.accessKeyID = accessKeyID
        self.certificateFingerprint = certificateFingerprint
    }
}
