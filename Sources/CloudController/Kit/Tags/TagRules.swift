public import API
public import Domain

/// A tag that keeps EC2's rules.
public struct ResourceTag: Sendable, Hashable {
    public let key, value: String

    /// The most tags that one resource may have. Source: EC2 User Guide, "Tag restrictions".
    public static let limitPerResource = 50

    /// - Throws: `.invalidParameter` for lengths (key 1 to 128 characters, value up to 256) and for keys that begin with `aws:`.
    public init(key: String, value: String) throws(CloudError) {
        guard !key.isEmpty, key.unicodeScalars.count <= 128 else {
            throw CloudError(.invalidParameter("Tag.Key"), "A tag's key has 1 to 128 characters: '\(key.prefix(140))'")
        }
        guard value.unicodeScalars.count <= 256 else {
            throw CloudError(.invalidParameter("Tag.Value"), "A tag's value has at most 256 characters (key '\(key)')")
        }
        guard !key.lowercased().hasPrefix("aws:") else {
            throw CloudError(.invalidParameter("Tag.Key"), "Tag keys starting with 'aws:' are reserved for internal use")
        }
        guard !(key + value).unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else {
            throw CloudError(.invalidParameter("Tag"), "A tag holds control characters (key '\(key)')")
        }
        self.key = key
        self.value = value
    }

    /// As stored.
    init(stored key: String, _ value: String) {
        self.key = key
        self.value = value
    }

    var wire: EC2.Tag { EC2.Tag(key: key, value: value) }
}

/// What can be tagged: EC2's name of the type, and the prefix of its ids.
public enum TaggableType: String, Sendable, CaseIterable {
    case dhcpOptions = "dhcp-options"
    case elasticIP = "elastic-ip"
    case image
    case instance
    case internetGateway = "internet-gateway"
    case keyPair = "key-pair"
    case launchTemplate = "launch-template"
    case networkAcl = "network-acl"
    case networkInterface = "network-interface"
    case routeTable = "route-table"
    case securityGroup = "security-group"
    case securityGroupRule = "security-group-rule"
    case snapshot
    case subnet
    case volume
    case vpc

    /// The type that an id of this form has; `nil` for what cannot be tagged.
    public init?(id: String) {
        guard let prefix = id.split(separator: "-").first else { return nil }
        switch prefix {
        case "acl": self = .networkAcl
        case "dopt": self = .dhcpOptions
        case "eipalloc": self = .elasticIP
        case "eni": self = .networkInterface
        case "igw": self = .internetGateway
        case "lt": self = .launchTemplate
        case "rtb": self = .routeTable
        case "subnet": self = .subnet
        case "vpc": self = .vpc
        case "emi", "eki", "eri": self = .image
        case "i": self = .instance
        case "key": self = .keyPair
        case "sg": self = .securityGroup
        case "sgr": self = .securityGroupRule
        case "snap": self = .snapshot
        case "vol": self = .volume
        default: return nil
        }
    }

    /// Whether the id is well formed, whatever exists.
    func isWellFormed(_ id: String) -> Bool {
        let digits = id.utf8.drop { $0 != 0x2d }.dropFirst()
        return (digits.count == 8 || digits.count == 17)
            && digits.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
    }
}

public enum TagRules {
    /// Tags given with the request that creates a resource.
    /// - Parameter types: what the request creates; each type at most once in the request.
    /// - Returns: the tags by type.
    /// - Throws: `.invalidParameter` for other types, a type or key twice, too many tags.
    public static func onCreate(
        _ specifications: [EC2.TagSpecification], of types: Set<TaggableType>
    ) throws(CloudError) -> [TaggableType: [ResourceTag]] {
        var out: [TaggableType: [ResourceTag]] = [:]
        for specification in specifications {
            guard let name = specification.resourceType else { throw CloudError(.missingParameter("TagSpecification.ResourceType")) }
            guard let type = TaggableType(rawValue: name), types.contains(type) else {
                throw CloudError(.invalidParameter("TagSpecification.ResourceType"), "'\(name.prefix(60))' is not a type that this creates")
            }
            guard out[type] == nil else {
                throw CloudError(.invalidParameter("TagSpecification"), "There is more than one tag specification for '\(name)'")
            }
            out[type] = try parse(specification.tags)
        }
        return out
    }

    /// - Throws: `.invalidParameter` for a key twice; `TagLimitExceeded`.
    public static func parse(_ tags: [EC2.Tag]) throws(CloudError) -> [ResourceTag] {
        var out: [ResourceTag] = []
        var keys: Set<String> = []
        for tag in tags {
            guard let key = tag.key else { throw CloudError(.missingParameter("Tag.Key")) }
            let parsed = try ResourceTag(key: key, value: tag.value ?? "")
            guard keys.insert(key).inserted else {
                throw CloudError(.invalidParameter("Tag.Key"), "Tag keys must be unique: '\(key)' is there twice")
            }
            out.append(parsed)
        }
        try checkCount(out.count)
        return out
    }

    static func checkCount(_ count: Int) throws(CloudError) {
        guard count <= ResourceTag.limitPerResource else {
            throw CloudError(
                .named(code: "TagLimitExceeded", status: 400),
                "The maximum number of tags for a resource is \(ResourceTag.limitPerResource); this would make \(count)")
        }
    }

    /// The resources of a CreateTags or DeleteTags request, each once.
    /// - Throws: `.named("InvalidID")` for ids that cannot be tagged.
    static func resources(_ ids: [String]) throws(CloudError) -> [(id: String, type: TaggableType)] {
        guard !ids.isEmpty else { throw CloudError(.missingParameter("ResourceId")) }
        var out: [(id: String, type: TaggableType)] = []
        var seen: Set<String> = []
        for id in ids where seen.insert(id).inserted {
            guard let type = TaggableType(id: id), type.isWellFormed(id) else { throw invalidID(id) }
            out.append((id, type))
        }
        return out
    }

    static func invalidID(_ id: String) -> CloudError {
        CloudError(.named(code: "InvalidID", status: 400), "The ID '\(id.prefix(100))' is not valid")
    }

    static let filters: Set<String> = ["key", "resource-id", "resource-type", "value", "tag"]
}
