import API
import Domain
import Signing

/// An account's virtual private cloud: its part of the one private network. Addresses are those that instances really have, so every
/// account shows the same block.
struct Vpc: Sendable, Equatable {
    let id: VpcID
    let accountID: String
    let cidr: CIDR
    let createdAt: Timestamp

    /// Two ids that follow from it: each has one of them, for as long as it is there.
    var dhcpOptionsID: DhcpOptionsID { VpcRules.id("dhcp options of \(id)") }
    var cidrAssociationID: VpcCidrAssociationID { VpcRules.id("block of \(id)") }
}

enum VpcRules {
    /// An id that follows from what the thing is, so that it is the same whoever makes it first.
    static func id<Kind: IdentifierKind>(_ words: String) -> Identifier<Kind> {
        Identifier(random: Digest.sha256(Array(words.utf8)))
    }

    static let dnsNote = "The nodes hand the cloud's name servers to instances and give no names of their own."

    /// A VPC's or a subnet's block, as EC2 wants it: with its length, which is between `lengths`, and in canonical form.
    /// - Throws: `.invalidParameter("cidrBlock")`, or `range` for the wrong size.
    static func block(_ text: String, range: String, lengths: ClosedRange<Int> = 16...28) throws(CloudError) -> CIDR {
        guard text.utf8.contains(0x2f), let cidr = CIDR(parsing: text) else {
            throw CloudError(
                .invalidParameter("cidrBlock"),
                "Value (\(text.prefix(60))) for parameter cidrBlock is invalid. This is not a valid CIDR block.")
        }
        guard lengths.contains(cidr.prefixLength) else {
            throw CloudError(.named(code: range, status: 400), "The CIDR '\(text.prefix(60))' is invalid.")
        }
        return cidr
    }

    /// How the private network is cut into default subnets: the blocks, the first zone's first. At least half of them stay free for subnets
    /// that are made later. A network too small for that is one subnet.
    static func defaultBlocks(of network: CIDR, zones: Int) -> [CIDR] {
        var bits = 2
        while 1 << bits < 2 * zones { bits += 1 }
        let length = network.prefixLength + bits
        guard length <= 30 else { return [network] }
        return (0..<1 << bits).map { i in
            CIDR(network: IPv4Address(network.network.value + UInt32(i) << UInt32(32 - length)), prefixLength: length)
        }
    }

    static let limitReached = CloudError(
        .named(code: "VpcLimitExceeded", status: 400), "The maximum number of VPCs has been reached: each account has one, the default.")

    static func unsupported(_ what: String) -> CloudError { CloudError(.named(code: "UnsupportedOperation", status: 400), what) }

    static func notPermitted(_ what: String) -> CloudError { CloudError(.named(code: "OperationNotPermitted", status: 400), what) }

    static func dependency(_ id: String, _ what: String) -> CloudError {
        CloudError(.named(code: "DependencyViolation", status: 400), "The \(what) '\(id)' has dependencies and cannot be deleted.")
    }
}

extension Vpc: Described {
    typealias Kind = VpcKind
    var describedID: String { id.text }

    /// Source: EC2 API Reference, DescribeVpcs.
    static let filters: Set<String> = [
        "cidr", "cidr-block-association.cidr-block", "cidr-block-association.association-id", "cidr-block-association.state",
        "dhcp-options-id", "ipv6-cidr-block-association.ipv6-cidr-block", "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.state", "is-default", "isDefault", "owner-id", "state", "tag", "vpc-id",
    ]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "cidr", "cidr-block-association.cidr-block": [cidr.description]
        case "cidr-block-association.association-id": [cidrAssociationID.text]
        case "cidr-block-association.state": ["associated"]
        case "dhcp-options-id": [dhcpOptionsID.text]
        case "is-default", "isDefault": ["true"]
        case "owner-id": [accountID]
        case "state": ["available"]
        case "vpc-id": [id.text]
        default: []
        }
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.Vpc {
        EC2.Vpc(
            vpcId: id.text, state: "available", cidrBlock: cidr.description, dhcpOptionsId: dhcpOptionsID.text, ownerId: accountID,
            instanceTenancy: "default", isDefault: true, cidrBlockAssociationSet: [association], tags: tags)
    }

    var association: EC2.VpcCidrBlockAssociation {
        EC2.VpcCidrBlockAssociation(
            associationId: cidrAssociationID.text, cidrBlock: cidr.description,
            cidrBlockState: EC2.VpcCidrBlockState(state: "associated"))
    }
}

/// What the nodes' DHCP servers tell.
struct DhcpOptions: Described {
    typealias Kind = DhcpOptionsKind
    let vpc: Vpc
    let servers: [String]
    var describedID: String { vpc.dhcpOptionsID.text }
    static let filters: Set<String> = ["dhcp-options-id", "key", "value", "owner-id", "tag"]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "dhcp-options-id": [describedID]
        case "key": servers.isEmpty ? [] : ["domain-name-servers"]
        case "value": servers
        case "owner-id": [vpc.accountID]
        default: []
        }
    }
}
