public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2SubnetsActions {
    public func describeSubnets(
        _ request: EC2.DescribeSubnets, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSubnetsResponse {
        try await cloud.ensureNetwork(op)
        let settings = cloud.settings
        let page = try await cloud.describe(
            request, op, ids: request.subnetIds, filters: request.filters, maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun
        ) { tx in try Self.views(tx, try SubnetStore.list(tx, accountID: op.accountID), settings) }
        return EC2.DescribeSubnetsResponse(
            subnets: page.items.map { $0.wire(page.tags($0.describedID)) }, nextToken: page.nextToken)
    }

    public func createSubnet(_ request: EC2.CreateSubnet, _ op: OperationContext) async throws(CloudError) -> EC2.CreateSubnetResponse {
        let vpcID = try VpcID(parsing: request.vpcId)
        let cidr = try VpcRules.block(request.cidrBlock, range: "InvalidSubnet.Range", lengths: SubnetRules.lengths)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.subnet])[.subnet] ?? []
        let id = SubnetID(random: cloud.random.bytes(9))
        let association = NetworkAclAssociationID(random: cloud.random.bytes(9))
        let settings = cloud.settings
        try await cloud.ensureNetwork(op)
        let view = try await cloud.pool.transaction { tx in
            let vpc = try VpcStore.fetch(tx, id: vpcID, accountID: op.accountID)
            let zone = try Self.zone(tx, name: request.availabilityZone, id: request.availabilityZoneId, settings)
            try SubnetRules.check(cidr, in: vpc, others: try SubnetStore.list(tx, accountID: op.accountID))
            guard let acl = try NetworkAclStore.standard(tx, vpc) else { throw CloudError.bug("\(vpc.id) has no default ACL") }
            let subnet = Subnet(
                id: id, accountID: op.accountID, vpcID: vpc.id.text, zone: zone, cidr: cidr, isDefault: false, mapPublic: false,
                aclID: acl.id.text, aclAssociationID: association)
            try SubnetStore.insert(tx, subnet)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: id.text, type: .subnet, tags)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "CreateSubnet", resource: id.text, detail: "\(cidr) \(zone)")
            return try Self.views(tx, [subnet], settings)[0]
        }
        return EC2.CreateSubnetResponse(subnet: view.wire(tags.map(\.wire)))
    }

    public func createDefaultSubnet(
        _ request: EC2.CreateDefaultSubnet, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateDefaultSubnetResponse {
        guard request.availabilityZone != nil || request.availabilityZoneId != nil else {
            throw CloudError(.missingParameter("AvailabilityZone"))
        }
        let settings = cloud.settings
        let seed = Hex.encode(cloud.random.bytes(9))
        try await cloud.ensureNetwork(op)
        let view = try await cloud.pool.transaction { tx in
            guard let vpc = try VpcStore.find(tx, accountID: op.accountID) else {
                throw CloudError(.named(code: "DefaultVpcDoesNotExist", status: 400), "No default VPC exists for this account.")
            }
            let zone = try Self.zone(tx, name: request.availabilityZone, id: request.availabilityZoneId, settings)
            let others = try SubnetStore.list(tx, accountID: op.accountID)
            if let old = others.first(where: { $0.isDefault && $0.zone == zone }) {
                throw CloudError(
                    .named(code: "DefaultSubnetAlreadyExistsInAvailabilityZone", status: 400),
                    "'\(old.id)' is already the default subnet in \(zone).")
            }
            let zones = try VpcStore.zones(tx, settings)
            guard let subnet = try SubnetStore.makeDefault(tx, vpc, zone: zone, zones: zones.count, seed: seed) else {
                throw CloudError(
                    .named(code: "InvalidSubnet.Conflict", status: 400), "No block of \(vpc.cidr) is free for a default subnet.")
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "CreateDefaultSubnet", resource: subnet.id.text, detail: zone)
            return try Self.views(tx, [subnet], settings)[0]
        }
        return EC2.CreateDefaultSubnetResponse(subnet: view.wire([]))
    }

    public func deleteSubnet(_ request: EC2.DeleteSubnet, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteSubnetResponse {
        let id = try SubnetID(parsing: request.subnetId)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let subnet = try SubnetStore.fetch(tx, id: id, accountID: op.accountID)
            guard try NetworkInterfaceStore.count(tx, subnetID: id) == 0 else { throw VpcRules.dependency(id.text, "subnet") }
            try op.endDryRun(request.dryRun)
            try SubnetStore.delete(tx, id: id)
            try AuditStore.record(tx, op, action: "DeleteSubnet", resource: id.text, detail: subnet.cidr.description)
        }
        return EC2.DeleteSubnetResponse(result: true)
    }

    public func modifySubnetAttribute(
        _ request: EC2.ModifySubnetAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifySubnetAttributeResponse {
        let id = try SubnetID(parsing: request.subnetId)
        let switches = [
            ("AssignIpv6AddressOnCreation", request.assignIpv6AddressOnCreation), ("EnableDns64", request.enableDns64),
        ].compactMap { name, value in value.map { (name, $0.value) } }
        guard switches.count + (request.mapPublicIpOnLaunch == nil ? 0 : 1) == 1 else {
            throw CloudError(.invalidCombination("One attribute can be changed at a time, and one must be"))
        }
        if let (name, value) = switches.first, value == true { throw VpcRules.unsupported("\(name): this cloud has no IPv6.") }
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            _ = try SubnetStore.fetch(tx, id: id, accountID: op.accountID)
            guard let map = request.mapPublicIpOnLaunch?.value else { return }
            try SubnetStore.setMapPublic(tx, id: id, map)
            try AuditStore.record(tx, op, action: "ModifySubnetAttribute", resource: id.text, detail: "mapPublicIpOnLaunch \(map)")
        }
        return EC2.ModifySubnetAttributeResponse(result: true)
    }

    static func views(_ tx: Transaction, _ subnets: [Subnet], _ settings: CloudSettings) throws(CloudError) -> [SubnetView] {
        let available = try SubnetStore.available(tx, subnets, settings: settings)
        let zones = try VpcStore.zones(tx, settings)
        return subnets.map { subnet in
            SubnetView(
                row: subnet, available: available[subnet.id] ?? 0,
                zoneID: ZoneRules.id(of: subnet.zone, among: zones, region: settings.region),
                arn: settings.arn("subnet", subnet.id.text, account: subnet.accountID))
        }
    }

    /// The zone that a request names by name or id; the cloud's own when it names none.
    private static func zone(_ tx: Transaction, name: String?, id: String?, _ settings: CloudSettings) throws(CloudError) -> String {
        let zones = try VpcStore.zones(tx, settings)
        if let name {
            guard zones.contains(name) else { throw SubnetRules.unknownZone(name) }
            return name
        }
        guard let id else { return zones.contains(settings.zone) ? settings.zone : zones.first ?? settings.zone }
        guard let zone = zones.first(where: { ZoneRules.id(of: $0, among: zones, region: settings.region) == id }) else {
            throw SubnetRules.unknownZone(id)
        }
        return zone
    }
}
