import API
import Domain

/// What a launch says about the one interface of each instance.
struct LaunchNetwork: Sendable {
    /// `nil`: the default subnet of the zone.
    let subnetID: SubnetID?
    let privateAddress: IPv4Address?
    let groupIDs: [String]
    let description: String
    /// `nil`: as the subnet says.
    let wantsPublicAddress: Bool?

    /// From the flat parameters, or from `NetworkInterface.1` in their place.
    init(_ r: EC2.RunInstances) throws(CloudError) {
        guard let interface = r.networkInterfaces.first else {
            subnetID = try Self.subnet(r.subnetId)
            privateAddress = try Self.address(r.privateIpAddress, count: r.maxCount)
            groupIDs = []
            description = ""
            wantsPublicAddress = r.addressingType.map { $0 != "private" }
            return
        }
        guard r.networkInterfaces.count == 1 else {
            throw CloudError(
                .named(code: "AttachmentLimitExceeded", status: 400), "Interface count \(r.networkInterfaces.count) exceeds the limit of 1")
        }
        guard r.subnetId == nil, r.privateIpAddress == nil, r.securityGroupIds.isEmpty, r.securityGroups.isEmpty else {
            throw CloudError(
                .invalidCombination(
                    "Network interfaces and an instance-level subnet ID, address or security groups may not be specified on the same "
                        + "request"
                ))
        }
        guard interface.deviceIndex ?? 0 == 0 else {
            throw CloudError(.invalidParameter("NetworkInterface.DeviceIndex"), "The first interface has the device index 0")
        }
        guard interface.deleteOnTermination != false else { throw NetworkInterfaceRules.goesWithInstance }
        try NetworkInterfaceRules.checkDescription(interface.description ?? "")
        subnetID = try Self.subnet(interface.subnetId)
        privateAddress = try Self.address(interface.privateIpAddress, count: r.maxCount)
        groupIDs = interface.groups
        description = interface.description ?? ""
        wantsPublicAddress = interface.associatePublicIpAddress ?? r.addressingType.map { $0 != "private" }
    }

    private static func subnet(_ text: String?) throws(CloudError) -> SubnetID? {
        guard let text, !text.isEmpty else { return nil }
        return try SubnetID(parsing: text)
    }

    private static func address(_ text: String?, count: Int) throws(CloudError) -> IPv4Address? {
        guard let text, !text.isEmpty else { return nil }
        guard let address = IPv4Address(parsing: text) else {
            throw CloudError(.invalidParameter("PrivateIpAddress"), "Value (\(text.prefix(40))) is no IPv4 address")
        }
        guard count == 1 else {
            throw CloudError(.invalidCombination("A private address can be given to one instance only"))
        }
        return address
    }

    /// The subnet of a launch: the one named, or the zone's default.
    /// - Throws: `.notFound(.subnet)`; `.invalidParameter` for one in another zone, or an address that is not in it; `MissingInput` when
    ///   there is no default one.
    func choose(_ subnets: [Subnet], zone: String?, standardZone: String) throws(CloudError) -> Subnet {
        let subnet: Subnet
        if let subnetID {
            guard let found = subnets.first(where: { $0.id == subnetID }) else {
                throw CloudError(.notFound(.subnet, id: subnetID.text))
            }
            if let zone, zone != found.zone {
                throw CloudError(
                    .invalidParameter("subnetId"), "The subnet \(subnetID) is in the availability zone \(found.zone), not in \(zone)")
            }
            subnet = found
        } else {
            let wanted = zone ?? standardZone
            guard let found = subnets.first(where: { $0.isDefault && $0.zone == wanted }) else {
                throw CloudError(
                    .named(code: "MissingInput", status: 400),
                    "No default subnet for availability zone: '\(wanted.prefix(60))'. Please specify a subnet.")
            }
            subnet = found
        }
        if let privateAddress, !subnet.cidr.hosts.contains(privateAddress.value) {
            throw CloudError(
                .invalidParameter("privateIpAddress"), "Address \(privateAddress) does not fall within the subnet's block \(subnet.cidr)")
        }
        return subnet
    }
}
