import API
import Domain

/// A part of the private network, in one zone, from which instances take their addresses.
struct Subnet: Sendable, Equatable {
    let id: SubnetID
    let accountID: String
    let vpcID: String
    let zone: String
    let cidr: CIDR
    let isDefault: Bool
    /// Whether an instance gets a public address when the launch does not say.
    var mapPublic: Bool
    let aclID: String
    let aclAssociationID: NetworkAclAssociationID
}

/// A subnet as EC2 shows it.
struct SubnetView: Described {
    typealias Kind = SubnetKind
    let row: Subnet
    /// Addresses that nobody has. The network is one for all accounts, so this is what the whole cloud has left here.
    let available: Int
    let zoneID: String
    let arn: String
    var describedID: String { row.id.text }

    /// Source: EC2 API Reference, DescribeSubnets.
    static let filters: Set<String> = [
        "availability-zone", "availabilityZone", "availability-zone-id", "availabilityZoneId", "available-ip-address-count", "cidr-block",
        "cidr", "cidrBlock", "default-for-az", "defaultForAz", "enable-dns64", "ipv6-native", "map-public-ip-on-launch", "owner-id",
        "state", "subnet-arn", "subnet-id", "tag", "vpc-id",
    ]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "availability-zone", "availabilityZone": [row.zone]
        case "availability-zone-id", "availabilityZoneId": [zoneID]
        case "available-ip-address-count": [String(available)]
        case "cidr-block", "cidr", "cidrBlock": [row.cidr.description]
        case "default-for-az", "defaultForAz": [String(row.isDefault)]
        case "enable-dns64", "ipv6-native": ["false"]
        case "map-public-ip-on-launch": [String(row.mapPublic)]
        case "owner-id": [row.accountID]
        case "state": ["available"]
        case "subnet-arn": [arn]
        case "subnet-id": [row.id.text]
        case "vpc-id": [row.vpcID]
        default: []
        }
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.Subnet {
        EC2.Subnet(
            subnetId: row.id.text, subnetArn: arn, state: "available", vpcId: row.vpcID, cidrBlock: row.cidr.description,
            availableIpAddressCount: available, availabilityZone: row.zone, availabilityZoneId: zoneID, defaultForAz: row.isDefault,
            mapPublicIpOnLaunch: row.mapPublic, assignIpv6AddressOnCreation: false, enableDns64: false, ipv6Native: false,
            mapCustomerOwnedIpOnLaunch: false,
            privateDnsNameOptionsOnLaunch: EC2.PrivateDnsNameOptionsOnLaunch(
                hostnameType: "ip-name", enableResourceNameDnsARecord: false, enableResourceNameDnsAAAARecord: false),
            ownerId: row.accountID, tags: tags)
    }
}

enum SubnetRules {
    /// Longer than EC2's /28, for private networks that are small themselves.
    static let lengths = 16...30

    /// - Throws: `InvalidSubnet.Range` outside of the VPC's block, `InvalidSubnet.Conflict` over another subnet.
    static func check(_ cidr: CIDR, in vpc: Vpc, others: [Subnet]) throws(CloudError) {
        guard vpc.cidr.contains(cidr) else {
            throw CloudError(
                .named(code: "InvalidSubnet.Range", status: 400), "The CIDR '\(cidr)' is invalid: it is not within \(vpc.cidr).")
        }
        guard let other = others.first(where: { $0.cidr.overlaps(cidr) }) else { return }
        throw CloudError(
            .named(code: "InvalidSubnet.Conflict", status: 400), "The CIDR '\(cidr)' conflicts with another subnet (\(other.id))")
    }

    static func unknownZone(_ name: String) -> CloudError {
        CloudError(
            .invalidParameter("availabilityZone"),
            "Value (\(name.prefix(60))) for parameter availabilityZone is invalid. There is no such zone.")
    }
}
