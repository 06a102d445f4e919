/// Typed ids, one alphabetical registry: `vol-` and `snap-` do not mix, by the compiler.
///
/// An id is its prefix, a hyphen and 8 (Eucalyptus) or 17 (EC2 since 2016) lower-case hexadecimal digits. Karri makes 17 and
/// accepts both. Source: EC2 User Guide, "Resource IDs".
public protocol IdentifierKind: Sendable {
    static var prefix: String { get }
    static var resource: ResourceKind { get }
}

public enum AddressAllocationKind: IdentifierKind {
    public static let prefix = "eipalloc"
    public static let resource = ResourceKind.address
}
public enum AddressAssociationKind: IdentifierKind {
    public static let prefix = "eipassoc"
    public static let resource = ResourceKind.addressAssociation
}
public enum AttachmentKind: IdentifierKind {
    public static let prefix = "attach"
    public static let resource = ResourceKind.attachment
}
public enum BundleTaskKind: IdentifierKind {
    public static let prefix = "bun"
    public static let resource = ResourceKind.bundleTask
}
public enum DhcpOptionsKind: IdentifierKind {
    public static let prefix = "dopt"
    public static let resource = ResourceKind.dhcpOptions
}
public enum InstanceKind: IdentifierKind {
    public static let prefix = "i"
    public static let resource = ResourceKind.instance
}
public enum InternetGatewayKind: IdentifierKind {
    public static let prefix = "igw"
    public static let resource = ResourceKind.internetGateway
}
public enum KernelImageKind: IdentifierKind {
    public static let prefix = "eki"
    public static let resource = ResourceKind.image
}
public enum KeyPairKind: IdentifierKind {
    public static let prefix = "key"
    public static let resource = ResourceKind.keyPair
}
public enum LaunchTemplateKind: IdentifierKind {
    public static let prefix = "lt"
    public static let resource = ResourceKind.launchTemplate
}
public enum MachineImageKind: IdentifierKind {
    public static let prefix = "emi"
    public static let resource = ResourceKind.image
}
public enum NetworkAclAssociationKind: IdentifierKind {
    public static let prefix = "aclassoc"
    public static let resource = ResourceKind.networkAcl
}
public enum NetworkAclKind: IdentifierKind {
    public static let prefix = "acl"
    public static let resource = ResourceKind.networkAcl
}
public enum NetworkInterfaceAttachmentKind: IdentifierKind {
    public static let prefix = "eni-attach"
    public static let resource = ResourceKind.attachment
}
public enum NetworkInterfaceKind: IdentifierKind {
    public static let prefix = "eni"
    public static let resource = ResourceKind.networkInterface
}
public enum PlacementGroupKind: IdentifierKind {
    public static let prefix = "pg"
    public static let resource = ResourceKind.placementGroup
}
public enum RamdiskImageKind: IdentifierKind {
    public static let prefix = "eri"
    public static let resource = ResourceKind.image
}
public enum ReservationKind: IdentifierKind {
    public static let prefix = "r"
    public static let resource = ResourceKind.reservation
}
public enum RouteTableAssociationKind: IdentifierKind {
    public static let prefix = "rtbassoc"
    public static let resource = ResourceKind.addressAssociation
}
public enum RouteTableKind: IdentifierKind {
    public static let prefix = "rtb"
    public static let resource = ResourceKind.routeTable
}
public enum SecurityGroupKind: IdentifierKind {
    public static let prefix = "sg"
    public static let resource = ResourceKind.securityGroup
}
public enum SecurityGroupRuleKind: IdentifierKind {
    public static let prefix = "sgr"
    public static let resource = ResourceKind.securityGroupRule
}
public enum SnapshotKind: IdentifierKind {
    public static let prefix = "snap"
    public static let resource = ResourceKind.snapshot
}
public enum SubnetKind: IdentifierKind {
    public static let prefix = "subnet"
    public static let resource = ResourceKind.subnet
}
public enum VolumeKind: IdentifierKind {
    public static let prefix = "vol"
    public static let resource = ResourceKind.volume
}
public enum VpcCidrAssociationKind: IdentifierKind {
    public static let prefix = "vpc-cidr-assoc"
    public static let resource = ResourceKind.addressAssociation
}
public enum VpcKind: IdentifierKind {
    public static let prefix = "vpc"
    public static let resource = ResourceKind.vpc
}

public typealias AddressAllocationID = Identifier<AddressAllocationKind>
public typealias AddressAssociationID = Identifier<AddressAssociationKind>
public typealias AttachmentID = Identifier<AttachmentKind>
public typealias BundleTaskID = Identifier<BundleTaskKind>
public typealias DhcpOptionsID = Identifier<DhcpOptionsKind>
public typealias InstanceID = Identifier<InstanceKind>
public typealias InternetGatewayID = Identifier<InternetGatewayKind>
public typealias KernelImageID = Identifier<KernelImageKind>
public typealias KeyPairID = Identifier<KeyPairKind>
public typealias LaunchTemplateID = Identifier<LaunchTemplateKind>
public typealias MachineImageID = Identifier<MachineImageKind>
public typealias NetworkAclAssociationID = Identifier<NetworkAclAssociationKind>
public typealias NetworkAclID = Identifier<NetworkAclKind>
public typealias NetworkInterfaceAttachmentID = Identifier<NetworkInterfaceAttachmentKind>
public typealias NetworkInterfaceID = Identifier<NetworkInterfaceKind>
public typealias PlacementGroupID = Identifier<PlacementGroupKind>
public typealias RamdiskImageID = Identifier<RamdiskImageKind>
public typealias ReservationID = Identifier<ReservationKind>
public typealias RouteTableAssociationID = Identifier<RouteTableAssociationKind>
public typealias RouteTableID = Identifier<RouteTableKind>
public typealias SecurityGroupID = Identifier<SecurityGroupKind>
public typealias SecurityGroupRuleID = Identifier<SecurityGroupRuleKind>
public typealias SnapshotID = Identifier<SnapshotKind>
public typealias SubnetID = Identifier<SubnetKind>
public typealias VolumeID = Identifier<VolumeKind>
public typealias VpcCidrAssociationID = Identifier<VpcCidrAssociationKind>
public typealias VpcID = Identifier<VpcKind>

/// An id of one kind of resource. `text` is always well formed.
public struct Identifier<Kind: IdentifierKind>: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let text: String

    /// - Throws: `.malformedID` when `text` is not `prefix-` and 8 or 17 lower-case hexadecimal digits.
    public init(parsing text: String) throws(CloudError) {
        let bytes = text.utf8
        let head = Kind.prefix.utf8.count + 1
        let digits = bytes.dropFirst(head)
        guard text.hasPrefix(Kind.prefix + "-"), digits.count == 8 || digits.count == 17,
            digits.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) })
        else { throw CloudError(.malformedID(Kind.resource, id: text)) }
        self.text = text
    }

    /// Makes an id from 9 random bytes (the caller's `Random`); the first 17 hexadecimal digits are used.
    public init(random bytes: [UInt8]) {
        precondition(bytes.count >= 9, "17 hexadecimal digits need 9 bytes")
        text = Kind.prefix + "-" + String(Hex.encode(bytes).prefix(17))
    }

    public var description: String { text }
    public static func < (a: Self, b: Self) -> Bool { a.text < b.text }
}
