import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

/// The default network of an account: made at the first look, changed and deleted by its parts.
@Suite struct DefaultNetworkTests {
    struct Made {
        let test: TestCloud
        let vpc, subnet, table, gateway, acl: String
        var ec2: EC2Actions { test.actions }
        var alice: OperationContext { test.alice }

        init() async throws {
            test = try await TestCloud()
            let (ec2, alice) = (test.actions, test.alice)
            vpc = try #require(try await ec2.describeVpcs(EC2.DescribeVpcs(), alice).vpcs.first?.vpcId)
            subnet = try #require(try await ec2.describeSubnets(EC2.DescribeSubnets(), alice).subnets.first?.subnetId)
            table = try #require(try await ec2.describeRouteTables(EC2.DescribeRouteTables(), alice).routeTables.first?.routeTableId)
            gateway = try #require(
                try await ec2.describeInternetGateways(EC2.DescribeInternetGateways(), alice).internetGateways.first?.internetGatewayId)
            acl = try #require(try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(), alice).networkAcls.first?.networkAclId)
        }
    }

    @Test func firstLookMakesIt() async throws {
        let made = try await Made()
        let (ec2, alice, bob) = (made.ec2, made.alice, made.test.bob)
        let vpcs = try await ec2.describeVpcs(EC2.DescribeVpcs(filters: [EC2.Filter(name: "isDefault", values: ["true"])]), alice).vpcs
        #expect(vpcs.map(\.vpcId) == [made.vpc])
        #expect(vpcs.first?.cidrBlock == "10.1.0.0/16" && vpcs.first?.isDefault == true)
        let subnets = try await ec2.describeSubnets(
            EC2.DescribeSubnets(filters: [EC2.Filter(name: "default-for-az", values: ["true"])]), alice
        ).subnets
        #expect(subnets.map(\.availabilityZone) == ["karri-1a"])
        // A quarter of the network, less its first and last address and the gateway's.
        #expect(subnets.first?.cidrBlock == "10.1.0.0/18" && subnets.first?.availableIpAddressCount == 16_381)
        let table = try #require(try await ec2.describeRouteTables(EC2.DescribeRouteTables(), alice).routeTables.first)
        #expect(table.routes.map(\.gatewayId) == ["local", made.gateway] && table.associations.first?.main == true)
        let acl = try #require(try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(), alice).networkAcls.first)
        #expect(acl.isDefault == true && acl.associations.map(\.subnetId) == [made.subnet])
        #expect(acl.entries.map(\.ruleNumber) == [100, 32767, 100, 32767])
        let groups = try await ec2.describeSecurityGroups(
            EC2.DescribeSecurityGroups(filters: [EC2.Filter(name: "vpc-id", values: [made.vpc])]), alice
        ).securityGroups
        #expect(groups.map(\.groupName) == ["default"])
        #expect(groups.first?.ipPermissionsEgress.first?.ipRanges.map(\.cidrIp) == ["0.0.0.0/0"])
        // The other account has its own, and cannot see this one.
        let other = try await ec2.describeVpcs(EC2.DescribeVpcs(), bob).vpcs
        #expect(other.count == 1 && other.first?.vpcId != made.vpc)
        #expect(await code { _ = try await ec2.describeVpcs(EC2.DescribeVpcs(vpcIds: [made.vpc]), bob) } == "InvalidVpcID.NotFound")
        let attributes = try await ec2.describeAccountAttributes(
            EC2.DescribeAccountAttributes(attributeNames: ["supported-platforms", "default-vpc"]), alice
        ).accountAttributes
        #expect(attributes.flatMap { $0.attributeValues.map(\.attributeValue) } == ["VPC", made.vpc])
    }

    @Test func secondVpcIsRefused() async throws {
        let made = try await Made()
        let (ec2, alice) = (made.ec2, made.alice)
        #expect(await code { _ = try await ec2.createVpc(EC2.CreateVpc(cidrBlock: "10.2.0.0/16"), alice) } == "VpcLimitExceeded")
        #expect(
            await code { _ = try await ec2.createVpc(EC2.CreateVpc(cidrBlock: "10.2.0.0/16", dryRun: true), alice) } == "DryRunOperation")
        #expect(await code { _ = try await ec2.createVpc(EC2.CreateVpc(cidrBlock: "10.0.0.0/8"), alice) } == "InvalidVpc.Range")
        #expect(await code { _ = try await ec2.createVpc(EC2.CreateVpc(cidrBlock: "10.0.0"), alice) } == "InvalidParameterValue")
        #expect(await code { _ = try await ec2.deleteVpc(EC2.DeleteVpc(vpcId: made.vpc), alice) } == "DependencyViolation")
        for (attribute, value) in [("enableDnsSupport", false), ("enableDnsHostnames", false)] {
            let answer = try await ec2.describeVpcAttribute(EC2.DescribeVpcAttribute(attribute: attribute, vpcId: made.vpc), alice)
            #expect((answer.enableDnsSupport ?? answer.enableDnsHostnames)?.value == value)
        }
        let wish = EC2.ModifyVpcAttribute(vpcId: made.vpc, enableDnsHostnames: EC2.AttributeBooleanValue(value: true))
        #expect(await code { _ = try await ec2.modifyVpcAttribute(wish, alice) } == "OperationNotPermitted")
    }

    /// All parts deleted one after the other, then the whole, then made anew with other ids.
    @Test func takenApartAndMadeAnew() async throws {
        let made = try await Made()
        let (ec2, alice) = (made.ec2, made.alice)
        #expect(
            await code { _ = try await ec2.deleteInternetGateway(EC2.DeleteInternetGateway(internetGatewayId: made.gateway), alice) }
                == "DependencyViolation")
        _ = try await ec2.detachInternetGateway(EC2.DetachInternetGateway(internetGatewayId: made.gateway, vpcId: made.vpc), alice)
        let routes = try await ec2.describeRouteTables(EC2.DescribeRouteTables(), alice).routeTables.first?.routes
        #expect(routes?.map(\.state) == ["active", "blackhole"])
        #expect(
            await code {
                _ = try await ec2.detachInternetGateway(EC2.DetachInternetGateway(internetGatewayId: made.gateway, vpcId: made.vpc), alice)
            } == "Gateway.NotAttached")
        _ = try await ec2.deleteInternetGateway(EC2.DeleteInternetGateway(internetGatewayId: made.gateway), alice)
        _ = try await ec2.deleteSubnet(EC2.DeleteSubnet(subnetId: made.subnet), alice)
        _ = try await ec2.deleteVpc(EC2.DeleteVpc(vpcId: made.vpc), alice)
        // What was deleted is not made again by looking.
        #expect(try await ec2.describeVpcs(EC2.DescribeVpcs(), alice).vpcs.isEmpty)
        #expect(try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(), alice).networkAcls.isEmpty)
        let new = try await ec2.createDefaultVpc(EC2.CreateDefaultVpc(), alice).vpc
        #expect(new?.vpcId != made.vpc)
        #expect(await code { _ = try await ec2.createDefaultVpc(EC2.CreateDefaultVpc(), alice) } == "DefaultVpcAlreadyExists")
        #expect(try await ec2.describeSubnets(EC2.DescribeSubnets(), alice).subnets.count == 1)
    }

    @Test func subnets() async throws {
        let made = try await Made()
        let (ec2, alice) = (made.ec2, made.alice)
        func create(_ cidr: String, zone: String? = nil, dryRun: Bool? = nil) -> EC2.CreateSubnet {
            EC2.CreateSubnet(
                vpcId: made.vpc, cidrBlock: cidr, availabilityZone: zone,
                tagSpecifications: [EC2.TagSpecification(resourceType: "subnet", tags: [EC2.Tag(key: "Name", value: "db")])],
                dryRun: dryRun)
        }
        #expect(await code { _ = try await ec2.createSubnet(create("10.1.0.0/24"), alice) } == "InvalidSubnet.Conflict")
        #expect(await code { _ = try await ec2.createSubnet(create("10.2.0.0/24"), alice) } == "InvalidSubnet.Range")
        #expect(await code { _ = try await ec2.createSubnet(create("10.1.255.0/24", zone: "x"), alice) } == "InvalidParameterValue")
        #expect(await code { _ = try await ec2.createSubnet(create("10.1.255.0/24", dryRun: true), alice) } == "DryRunOperation")
        let id = try #require(try await ec2.createSubnet(create("10.1.255.0/24"), alice).subnet?.subnetId)
        let shown = try await ec2.describeSubnets(
            EC2.DescribeSubnets(filters: [EC2.Filter(name: "tag:Name", values: ["d?"])]), alice
        ).subnets
        #expect(shown.map(\.subnetId) == [id])
        #expect(shown.first?.mapPublicIpOnLaunch == false && shown.first?.availableIpAddressCount == 254)
        let map = EC2.ModifySubnetAttribute(subnetId: id, mapPublicIpOnLaunch: EC2.AttributeBooleanValue(value: true))
        _ = try await ec2.modifySubnetAttribute(map, alice)
        #expect(
            try await ec2.describeSubnets(EC2.DescribeSubnets(subnetIds: [id]), alice).subnets.first?.mapPublicIpOnLaunch == true)
        let ipv6 = EC2.ModifySubnetAttribute(subnetId: id, enableDns64: EC2.AttributeBooleanValue(value: true))
        #expect(await code { _ = try await ec2.modifySubnetAttribute(ipv6, alice) } == "UnsupportedOperation")
        #expect(
            await code { _ = try await ec2.createDefaultSubnet(EC2.CreateDefaultSubnet(availabilityZone: "karri-1a"), alice) }
                == "DefaultSubnetAlreadyExistsInAvailabilityZone")
        _ = try await ec2.deleteSubnet(EC2.DeleteSubnet(subnetId: id), alice)
        #expect(await code { _ = try await ec2.deleteSubnet(EC2.DeleteSubnet(subnetId: id), alice) } == "InvalidSubnetID.NotFound")
        #expect(try await ec2.describeTags(EC2.DescribeTags(), alice).tags.isEmpty)
    }

    @Test func routeTables() async throws {
        let made = try await Made()
        let (ec2, alice) = (made.ec2, made.alice)
        let order = EC2.CreateRouteTable(vpcId: made.vpc, clientToken: "once")
        let id = try #require(try await ec2.createRouteTable(order, alice).routeTable?.routeTableId)
        #expect(try await ec2.createRouteTable(order, alice).routeTable?.routeTableId == id)
        func route(_ cidr: String, _ gateway: String? = nil) -> EC2.CreateRoute {
            EC2.CreateRoute(routeTableId: id, destinationCidrBlock: cidr, gatewayId: gateway ?? made.gateway)
        }
        #expect(await code { _ = try await ec2.createRoute(route("10.1.0.0/16"), alice) } == "RouteAlreadyExists")
        #expect(await code { _ = try await ec2.createRoute(route("10.1.1.0/24"), alice) } == "InvalidParameterValue")
        #expect(await code { _ = try await ec2.createRoute(route("192.0.2.0/24", "vgw-1"), alice) } == "InvalidGatewayID.NotFound")
        #expect(
            await code { _ = try await ec2.createRoute(route("192.0.2.0/24", "igw-00000000"), alice) }
                == "InvalidInternetGatewayID.NotFound")
        _ = try await ec2.createRoute(route("192.0.2.0/24"), alice)
        #expect(await code { _ = try await ec2.createRoute(route("192.0.2.0/24"), alice) } == "RouteAlreadyExists")
        let first = try await ec2.associateRouteTable(EC2.AssociateRouteTable(subnetId: made.subnet, routeTableId: id), alice)
        let association = try #require(first.associationId)
        #expect(
            await code { _ = try await ec2.associateRouteTable(EC2.AssociateRouteTable(subnetId: made.subnet, routeTableId: id), alice) }
                == "Resource.AlreadyAssociated")
        #expect(await code { _ = try await ec2.deleteRouteTable(EC2.DeleteRouteTable(routeTableId: id), alice) } == "DependencyViolation")
        let back = EC2.ReplaceRouteTableAssociation(associationId: association, routeTableId: made.table)
        let second = try #require(try await ec2.replaceRouteTableAssociation(back, alice).newAssociationId)
        _ = try await ec2.disassociateRouteTable(EC2.DisassociateRouteTable(associationId: second), alice)
        #expect(
            await code { _ = try await ec2.disassociateRouteTable(EC2.DisassociateRouteTable(associationId: second), alice) }
                == "InvalidAssociationID.NotFound")
        _ = try await ec2.deleteRoute(EC2.DeleteRoute(routeTableId: id, destinationCidrBlock: "192.0.2.0/24"), alice)
        #expect(
            await code { _ = try await ec2.deleteRoute(EC2.DeleteRoute(routeTableId: id, destinationCidrBlock: "192.0.2.0/24"), alice) }
                == "InvalidRoute.NotFound")
        _ = try await ec2.deleteRouteTable(EC2.DeleteRouteTable(routeTableId: id), alice)
        #expect(
            await code { _ = try await ec2.deleteRouteTable(EC2.DeleteRouteTable(routeTableId: id), alice) }
                == "InvalidRouteTableID.NotFound")
    }

    @Test func networkAcls() async throws {
        let made = try await Made()
        let (ec2, alice) = (made.ec2, made.alice)
        let id = try #require(try await ec2.createNetworkAcl(EC2.CreateNetworkAcl(vpcId: made.vpc), alice).networkAcl?.networkAclId)
        func entry(_ number: Int, _ proto: String = "6", ports: (Int, Int)? = (22, 22), cidr: String = "0.0.0.0/0")
            -> EC2.CreateNetworkAclEntry
        {
            EC2.CreateNetworkAclEntry(
                networkAclId: id, ruleNumber: number, protocol: proto, ruleAction: "allow", egress: false, cidrBlock: cidr,
                portRange: ports.map { EC2.PortRange(from: $0.0, to: $0.1) })
        }
        _ = try await ec2.createNetworkAclEntry(entry(100), alice)
        #expect(await code { _ = try await ec2.createNetworkAclEntry(entry(100), alice) } == "NetworkAclEntryAlreadyExists")
        for bad in [entry(0), entry(32767), entry(5, "300"), entry(5, ports: (5, 4)), entry(5, cidr: "x")] {
            #expect(await code { _ = try await ec2.createNetworkAclEntry(bad, alice) } == "InvalidParameterValue")
        }
        #expect(await code { _ = try await ec2.createNetworkAclEntry(entry(5, ports: nil), alice) } == "MissingParameter")
        var acl = try #require(
            try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(networkAclIds: [id]), alice).networkAcls.first)
        #expect(acl.entries.filter { $0.egress == false }.map(\.ruleNumber) == [100, 32767])
        let association = try #require(
            try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(networkAclIds: [made.acl]), alice).networkAcls.first?.associations
                .first?.networkAclAssociationId)
        _ = try await ec2.replaceNetworkAclAssociation(
            EC2.ReplaceNetworkAclAssociation(associationId: association, networkAclId: id), alice)
        #expect(await code { _ = try await ec2.deleteNetworkAcl(EC2.DeleteNetworkAcl(networkAclId: id), alice) } == "DependencyViolation")
        #expect(
            await code { _ = try await ec2.deleteNetworkAcl(EC2.DeleteNetworkAcl(networkAclId: made.acl), alice) }
                == "InvalidParameterValue")
        acl = try #require(try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(networkAclIds: [id]), alice).networkAcls.first)
        #expect(acl.associations.map(\.subnetId) == [made.subnet])
        _ = try await ec2.deleteNetworkAclEntry(
            EC2.DeleteNetworkAclEntry(networkAclId: id, ruleNumber: 100, egress: false), alice)
        #expect(
            await code {
                _ = try await ec2.deleteNetworkAclEntry(
                    EC2.DeleteNetworkAclEntry(networkAclId: id, ruleNumber: 100, egress: false), alice)
            } == "InvalidNetworkAclEntry.NotFound")
    }

    @Test func blocks() {
        let network = CIDR(network: IPv4Address(0x0a01_0000), prefixLength: 16)
        #expect(VpcRules.defaultBlocks(of: network, zones: 1).map(\.description).prefix(2) == ["10.1.0.0/18", "10.1.64.0/18"])
        #expect(VpcRules.defaultBlocks(of: network, zones: 5).count == 16)
        let small = CIDR(network: IPv4Address(0x0a01_0000), prefixLength: 29)
        #expect(VpcRules.defaultBlocks(of: small, zones: 1) == [small])
    }
}
