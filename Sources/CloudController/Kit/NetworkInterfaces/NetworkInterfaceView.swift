import API
import Database
import Domain

enum NetworkInterfaceRules {
    /// How many groups an interface may have; EC2's highest.
    static let maxGroups = 16

    static func attachmentID(of instanceID: String) -> NetworkInterfaceAttachmentID { VpcRules.id("attachment of \(instanceID)") }

    static let sourceCheck = VpcRules.unsupported(
        "The nodes pin each interface to its addresses: the source/destination check cannot be switched off.")

    static let goesWithInstance = VpcRules.unsupported("An instance's interface is deleted with its instance.")

    static func checkDescription(_ text: String) throws(CloudError) {
        guard text.unicodeScalars.count <= 255, !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else {
            throw CloudError(.invalidParameter("Description"), "A description has at most 255 characters, none of them control characters")
        }
    }
}

/// An interface as EC2 shows it, with its instance's part.
struct NetworkInterfaceView: Described {
    typealias Kind = NetworkInterfaceKind
    let row: NetworkInterface
    let instance: InstanceRow
    let subnet: Subnet
    let groups: [InstanceStore.GroupName]
    let publicAddress: PublicAddress?
    var describedID: String { row.id.text }

    /// Of these instances that have an interface, by instance.
    static func of(_ tx: Transaction, _ instances: [InstanceRow]) throws(CloudError) -> [String: NetworkInterfaceView] {
        let ids = instances.map(\.id)
        let rows = try NetworkInterfaceStore.list(tx, instanceIDs: ids)
        let groups = try InstanceStore.groups(tx, ids: ids)
        let addresses = try AddressStore.publicAddresses(tx, instanceIDs: ids)
        var subnets: [String: Subnet] = [:]
        for account in Set(instances.map(\.accountID)) {
            for subnet in try SubnetStore.list(tx, accountID: account) { subnets[subnet.id.text] = subnet }
        }
        var out: [String: NetworkInterfaceView] = [:]
        for instance in instances {
            guard let row = rows[instance.id], let subnet = subnets[row.subnetID] else { continue }
            out[instance.id] = NetworkInterfaceView(
                row: row, instance: instance, subnet: subnet, groups: groups[instance.id] ?? [], publicAddress: addresses[instance.id])
        }
        return out
    }

    /// Source: EC2 API Reference, DescribeNetworkInterfaces.
    static let filters: Set<String> = [
        "addresses.association.owner-id", "addresses.association.public-ip", "addresses.primary", "addresses.private-ip-address",
        "association.allocation-id", "association.association-id", "association.ip-owner-id", "association.public-dns-name",
        "association.public-ip", "attachment.attach-time", "attachment.attachment-id", "attachment.delete-on-termination",
        "attachment.device-index", "attachment.instance-id", "attachment.instance-owner-id", "attachment.network-card-index",
        "attachment.status", "availability-zone", "description", "group-id", "group-name", "interface-type", "ipv6-addresses.ipv6-address",
        "mac-address", "network-interface-id", "owner-id", "private-dns-name", "private-ip-address", "requester-id", "requester-managed",
        "source-dest-check", "status", "subnet-id", "tag", "vpc-id",
    ]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "addresses.association.owner-id", "association.ip-owner-id": one(association?.ipOwnerId)
        case "addresses.association.public-ip", "association.public-ip": one(publicAddress?.address)
        case "addresses.primary": ["true"]
        case "addresses.private-ip-address", "private-ip-address": [instance.privateAddress]
        case "association.allocation-id": one(publicAddress?.allocationID)
        case "association.association-id": one(publicAddress?.associationID)
        case "association.public-dns-name": one(association?.publicDnsName)
        case "attachment.attach-time": [row.createdAt.iso8601, row.createdAt.iso8601Seconds]
        case "attachment.attachment-id": [row.attachmentID]
        case "attachment.delete-on-termination": ["true"]
        case "attachment.device-index", "attachment.network-card-index": ["0"]
        case "attachment.instance-id": [row.instanceID]
        case "attachment.instance-owner-id", "owner-id": [row.accountID]
        case "attachment.status": ["attached"]
        case "availability-zone": [instance.zone]
        case "description": [row.description]
        case "group-id": groups.map(\.id)
        case "group-name": groups.map(\.name)
        case "interface-type": ["interface"]
        case "mac-address": [instance.macAddress]
        case "network-interface-id": [row.id.text]
        case "private-dns-name": [hostname(of: instance.privateAddress)]
        case "requester-managed": ["false"]
        case "source-dest-check": ["true"]
        case "status": ["in-use"]
        case "subnet-id": [row.subnetID]
        case "vpc-id": [subnet.vpcID]
        default: []
        }
    }

    var association: EC2.NetworkInterfaceAssociation? {
        publicAddress.map {
            EC2.NetworkInterfaceAssociation(
                allocationId: $0.allocationID, associationId: $0.associationID,
                ipOwnerId: $0.allocationID == nil ? "amazon" : row.accountID,
                publicDnsName: $0.address, publicIp: $0.address)
        }
    }

    var groupSet: [EC2.GroupIdentifier] {
        groups.map { EC2.GroupIdentifier(groupId: $0.id, nameAsId: $0.name, groupName: $0.name) }
    }

    var attachment: EC2.NetworkInterfaceAttachment {
        EC2.NetworkInterfaceAttachment(
            attachTime: row.createdAt, attachmentId: row.attachmentID, deleteOnTermination: true, deviceIndex: 0, networkCardIndex: 0,
            instanceId: row.instanceID, instanceOwnerId: row.accountID, status: "attached")
    }

    /// As DescribeInstances shows it.
    var ofInstance: EC2.InstanceNetworkInterface {
        let name = hostname(of: instance.privateAddress)
        let association = association.map {
            EC2.InstanceNetworkInterfaceAssociation(ipOwnerId: $0.ipOwnerId, publicDnsName: $0.publicDnsName, publicIp: $0.publicIp)
        }
        return EC2.InstanceNetworkInterface(
            association: association,
            attachment: EC2.InstanceNetworkInterfaceAttachment(
                attachTime: row.createdAt, attachmentId: row.attachmentID, deleteOnTermination: true, deviceIndex: 0, status: "attached",
                networkCardIndex: 0),
            description: row.description, groups: groupSet, interfaceType: "interface", macAddress: instance.macAddress,
            networkInterfaceId: row.id.text, ownerId: row.accountID, privateDnsName: name, privateIpAddress: instance.privateAddress,
            privateIpAddresses: [
                EC2.InstancePrivateIpAddress(
                    association: association, primary: true, privateDnsName: name, privateIpAddress: instance.privateAddress)
            ], sourceDestCheck: true, status: "in-use", subnetId: row.subnetID, vpcId: subnet.vpcID)
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.NetworkInterface {
        let name = hostname(of: instance.privateAddress)
        return EC2.NetworkInterface(
            association: association, attachment: attachment, availabilityZone: instance.zone, description: row.description,
            groups: groupSet, interfaceType: "interface", ipv6Addresses: [], macAddress: instance.macAddress,
            networkInterfaceId: row.id.text, ownerId: row.accountID, privateDnsName: name, privateIpAddress: instance.privateAddress,
            privateIpAddresses: [
                EC2.NetworkInterfacePrivateIpAddress(
                    association: association, primary: true, privateDnsName: name, privateIpAddress: instance.privateAddress)
            ], requesterManaged: false, sourceDestCheck: true, status: "in-use", subnetId: row.subnetID, tagSet: tags, vpcId: subnet.vpcID)
    }
}
