public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2VpcsActions {
    public func describeVpcs(_ request: EC2.DescribeVpcs, _ op: OperationContext) async throws(CloudError) -> EC2.DescribeVpcsResponse {
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: request.vpcIds, filters: request.filters, maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun
        ) { tx in try VpcStore.find(tx, accountID: op.accountID).map { [$0] } ?? [] }
        return EC2.DescribeVpcsResponse(vpcs: page.items.map { $0.wire(page.tags($0.id.text)) }, nextToken: page.nextToken)
    }

    public func describeVpcAttribute(
        _ request: EC2.DescribeVpcAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVpcAttributeResponse {
        let vpc = try await vpc(request.vpcId, op)
        try op.endDryRun(request.dryRun)
        var answer = EC2.DescribeVpcAttributeResponse(vpcId: vpc.id.text)
        switch request.attribute {
        case "enableDnsSupport": answer.enableDnsSupport = EC2.AttributeBooleanValue(value: hasNameServers)
        case "enableDnsHostnames": answer.enableDnsHostnames = EC2.AttributeBooleanValue(value: false)
        default: answer.enableNetworkAddressUsageMetrics = EC2.AttributeBooleanValue(value: false)
        }
        return answer
    }

    /// What is so already can be asked for; the rest has no counterpart here.
    public func modifyVpcAttribute(
        _ request: EC2.ModifyVpcAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyVpcAttributeResponse {
        let asked = [
            (request.enableDnsSupport?.value, hasNameServers), (request.enableDnsHostnames?.value, false),
            (request.enableNetworkAddressUsageMetrics?.value, false),
        ].compactMap { value, current in value.map { ($0, current) } }
        guard let (value, current) = asked.first else { throw CloudError(.missingParameter("EnableDnsSupport")) }
        guard asked.count == 1 else { throw CloudError(.invalidCombination("One attribute can be changed at a time")) }
        _ = try await vpc(request.vpcId, op)
        guard value == current else { throw VpcRules.notPermitted(VpcRules.dnsNote) }
        return EC2.ModifyVpcAttributeResponse(result: true)
    }

    public func createVpc(_ request: EC2.CreateVpc, _ op: OperationContext) async throws(CloudError) -> EC2.CreateVpcResponse {
        guard let text = request.cidrBlock else { throw CloudError(.missingParameter("CidrBlock")) }
        _ = try VpcRules.block(text, range: "InvalidVpc.Range")
        if request.instanceTenancy == "dedicated" { throw VpcRules.unsupported("Dedicated tenancy is not supported by this cloud.") }
        _ = try TagRules.onCreate(request.tagSpecifications, of: [.vpc])
        try await cloud.ensureNetwork(op)
        try op.endDryRun(request.dryRun)
        throw VpcRules.limitReached
    }

    public func createDefaultVpc(
        _ request: EC2.CreateDefaultVpc, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateDefaultVpcResponse {
        try await cloud.ensureNetwork(op)
        let settings = cloud.settings
        let seed = Hex.encode(cloud.random.bytes(9))
        let vpc = try await cloud.pool.transaction { tx in
            if let old = try VpcStore.find(tx, accountID: op.accountID) {
                throw CloudError(.duplicate(.vpc, name: old.id.text), "A Default VPC already exists for this account in this region.")
            }
            try op.endDryRun(request.dryRun)
            let vpc = try VpcStore.make(tx, accountID: op.accountID, seed: seed, settings: settings, now: op.now)
            let zones = try VpcStore.zones(tx, settings)
            for zone in zones { _ = try SubnetStore.makeDefault(tx, vpc, zone: zone, zones: zones.count, seed: seed) }
            try AuditStore.record(tx, op, action: "CreateDefaultVpc", resource: vpc.id.text)
            try NetworkStore.changed(tx)
            return vpc
        }
        return EC2.CreateDefaultVpcResponse(vpc: vpc.wire([]))
    }

    public func deleteVpc(_ request: EC2.DeleteVpc, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteVpcResponse {
        let id = try VpcID(parsing: request.vpcId)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let vpc = try VpcStore.fetch(tx, id: id, accountID: op.accountID)
            if let user = try VpcStore.user(tx, vpc) {
                throw CloudError(
                    .named(code: "DependencyViolation", status: 400),
                    "The vpc '\(id)' has dependencies and cannot be deleted: \(user).")
            }
            try op.endDryRun(request.dryRun)
            try VpcStore.delete(tx, vpc)
            try AuditStore.record(tx, op, action: "DeleteVpc", resource: id.text)
        }
        return EC2.DeleteVpcResponse(result: true)
    }

    public func associateVpcCidrBlock(
        _ request: EC2.AssociateVpcCidrBlock, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AssociateVpcCidrBlockResponse {
        _ = try await vpc(request.vpcId, op)
        guard request.amazonProvidedIpv6CidrBlock != true else {
            throw VpcRules.notPermitted("Instances of this cloud have no IPv6 addresses.")
        }
        guard let text = request.cidrBlock else { throw CloudError(.missingParameter("CidrBlock")) }
        _ = try VpcRules.block(text, range: "InvalidVpc.Range")
        throw CloudError(
            .named(code: "CidrBlockLimitExceeded", status: 400),
            "This network has reached its limit of CIDR blocks: the private network of this cloud is one block.")
    }

    public func disassociateVpcCidrBlock(
        _ request: EC2.DisassociateVpcCidrBlock, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisassociateVpcCidrBlockResponse {
        try await cloud.ensureNetwork(op)
        let vpc = try await cloud.pool.read { tx in try VpcStore.find(tx, accountID: op.accountID) }
        guard let vpc, vpc.cidrAssociationID.text == request.associationId else {
            throw CloudError(
                .named(code: "InvalidCidrBlock.NotFound", status: 400),
                "The vpc CIDR block with association ID \(request.associationId.prefix(60)) does not exist")
        }
        throw VpcRules.notPermitted(
            "The vpc CIDR block with association ID \(request.associationId.prefix(60)) may not be disassociated. "
                + "It is the primary IPv4 CIDR block of the VPC")
    }

    public func describeAccountAttributes(
        _ request: EC2.DescribeAccountAttributes, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeAccountAttributesResponse {
        try op.endDryRun(request.dryRun)
        try await cloud.ensureNetwork(op)
        let vpc = try await cloud.pool.read { tx in try VpcStore.find(tx, accountID: op.accountID) }
        let quotas = cloud.settings.quotas
        let all = [
            ("supported-platforms", "VPC"), ("default-vpc", vpc?.id.text ?? "none"), ("max-instances", String(quotas.instances)),
            ("vpc-max-security-groups-per-interface", String(NetworkInterfaceRules.maxGroups)),
            ("max-elastic-ips", String(quotas.addresses)), ("vpc-max-elastic-ips", String(quotas.addresses)),
        ]
        let wanted = request.attributeNames
        return EC2.DescribeAccountAttributesResponse(
            accountAttributes: all.filter { wanted.isEmpty || wanted.contains($0.0) }.map { name, value in
                EC2.AccountAttribute(attributeName: name, attributeValues: [EC2.AccountAttributeValue(attributeValue: value)])
            })
    }

    public func describeDhcpOptions(
        _ request: EC2.DescribeDhcpOptions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeDhcpOptionsResponse {
        try await cloud.ensureNetwork(op)
        let servers = cloud.settings.dns
        let page = try await cloud.describe(
            request, op, ids: request.dhcpOptionsIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in try VpcStore.find(tx, accountID: op.accountID).map { [DhcpOptions(vpc: $0, servers: servers)] } ?? [] }
        return EC2.DescribeDhcpOptionsResponse(
            dhcpOptions: page.items.map { options in
                EC2.DhcpOptions(
                    dhcpOptionsId: options.describedID, ownerId: options.vpc.accountID,
                    dhcpConfigurations: servers.isEmpty
                        ? []
                        : [
                            EC2.DhcpConfiguration(
                                key: "domain-name-servers", values: servers.map { EC2.AttributeValue(value: $0) })
                        ], tags: page.tags(options.describedID))
            }, nextToken: page.nextToken)
    }

    private var hasNameServers: Bool { !cloud.settings.dns.isEmpty }

    private func vpc(_ text: String, _ op: OperationContext) async throws(CloudError) -> Vpc {
        let id = try VpcID(parsing: text)
        try await cloud.ensureNetwork(op)
        return try await cloud.pool.read { tx in try VpcStore.fetch(tx, id: id, accountID: op.accountID) }
    }
}
