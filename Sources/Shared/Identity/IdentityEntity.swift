public import Domain
import Workflow

/// What IAM names within an account, and hangs policies and tags on.
public enum EntityKind: String, Sendable, CaseIterable {
    case user, group, role
    case instanceProfile = "instance-profile"

    /// Of the unique ids. Source: IAM User Guide, "IAM identifiers".
    var idPrefix: String {
        switch self {
        case .user: "AIDA"
        case .group: "AGPA"
        case .role: "AROA"
        case .instanceProfile: "AIPA"
        }
    }

    var table: String {
        switch self {
        case .user: "identity.users"
        case .group: "identity.groups"
        case .role: "identity.roles"
        case .instanceProfile: "identity.instance_profiles"
        }
    }

    public var words: String { self == .instanceProfile ? "instance profile" : rawValue }

    /// How many an account may have. Source: IAM User Guide, "IAM and STS quotas".
    var limit: Int {
        switch self {
        case .user: 5000
        case .group: 300
        case .role: 1000
        case .instanceProfile: 1000
        }
    }

    /// Characters of a name. Source: the same page.
    var nameLimit: Int { self == .user || self == .role ? 64 : 128 }

    /// Bytes of its inline policies together, white space not counted. Source: the same page.
    var inlineLimit: Int {
        switch self {
        case .user: 2048
        case .group: 5120
        case .role: 10240
        case .instanceProfile: 0
        }
    }
}

/// A user, a group, a role or an instance profile: what they have in common.
public struct Entity: Sendable, Hashable {
    public let kind: EntityKind
    public let id: String
    public let accountID: String
    public let name: String
    /// `/` or `/a/b/`.
    public let path: String
    public let created: Timestamp

    public var arn: String { "arn:aws:iam::\(accountID):\(kind.rawValue)\(path)\(name)" }
}

/// A role with what makes it one.
public struct Role: Sendable, Hashable {
    public let entity: Entity
    public let description: String
    /// Who may assume it, as it was written.
    public let trust: String
    /// The longest session, in seconds.
    public let maxSessionSeconds: Int
    /// The ARN of a managed policy.
    public let boundary: String?
    public let used: Use?

    public struct Use: Sendable, Hashable {
        public let at: Timestamp
        public let region: String
    }
}

/// A managed policy of an account, or one of Amazon's names.
public struct ManagedPolicy: Sendable, Hashable {
    public let arn: String
    public let id: String
    public let name: String
    public let path: String
    public let description: String
    public let defaultVersion: String
    public let created: Timestamp
    public let updated: Timestamp

    public var isOurs: Bool { arn.hasPrefix(AWSManagedPolicies.prefix) }

    public struct Version: Sendable, Hashable {
        public let id: String
        public let document: String
        public let isDefault: Bool
        public let created: Timestamp
    }
}

public struct IdentityTag: Sendable, Hashable {
    public let key, value: String
    public init(key: String, value: String) {
        self.key = key
        self.value = value
    }
}

/// An OpenID Connect provider that an account trusts to say who somebody is.
public struct OIDCProvider: Sendable, Hashable {
    public let arn: String
    public let accountID: String
    /// Without the scheme, as in the ARN.
    public let url: String
    public let clients: [String]
    /// SHA-1 of the certificate at the top of the provider's chain, in hexadecimal.
    public let thumbprints: [String]
    public let created: Timestamp
}
