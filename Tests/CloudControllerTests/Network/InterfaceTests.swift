import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

/// Instances in subnets: their interfaces, and what nodes are told of the borders.
@Suite struct InterfaceTests {
    @Test func eachInstanceHasOne() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run().first)
        await cloud.round(3)
        let instance = try await cloud.describe(id)
        let subnet = try #require(try await ec2.describeSubnets(EC2.DescribeSubnets(), op).subnets.first)
        #expect(instance.subnetId == subnet.subnetId && instance.vpcId == subnet.vpcId)
        let shown = try await ec2.describeNetworkInterfaces(
            EC2.DescribeNetworkInterfaces(filters: [EC2.Filter(name: "attachment.instance-id", values: [id])]), op
        ).networkInterfaces
        let interface = try #require(shown.first)
        #expect(instance.networkInterfaces.map(\.networkInterfaceId) == [interface.networkInterfaceId])
        #expect(interface.privateIpAddress == instance.privateIpAddress && interface.association?.publicIp == instance.publicIpAddress)
        #expect(
            try await ec2.describeInstances(
                EC2.DescribeInstances(filters: [
                    EC2.Filter(name: "network-interface.subnet-id", values: [subnet.subnetId ?? ""])
                ]), op
            ).reservations.count == 1)
        let eni = try #require(interface.networkInterfaceId)

        // Other groups, a description; and what an interface cannot be.
        let web = try #require(
            try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), op).groupId)
        _ = try await ec2.modifyNetworkInterfaceAttribute(
            EC2.ModifyNetworkInterfaceAttribute(networkInterfaceId: eni, groups: [web]), op)
        #expect(try await cloud.describe(id).securityGroups.map(\.groupId) == [web])
        #expect(await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupId: web), op) } == "DependencyViolation")
        _ = try await ec2.modifyNetworkInterfaceAttribute(
            EC2.ModifyNetworkInterfaceAttribute(networkInterfaceId: eni, description: EC2.AttributeValue(value: "front")), op)
        let described = try await ec2.describeNetworkInterfaceAttribute(
            EC2.DescribeNetworkInterfaceAttribute(networkInterfaceId: eni, attribute: "description"), op)
        #expect(described.description?.value == "front")
        let loose = EC2.ModifyNetworkInterfaceAttribute(
            networkInterfaceId: eni, sourceDestCheck: EC2.AttributeBooleanValue(value: false))
        #expect(await code { _ = try await ec2.modifyNetworkInterfaceAttribute(loose, op) } == "UnsupportedOperation")
        #expect(
            await code { _ = try await ec2.deleteNetworkInterface(EC2.DeleteNetworkInterface(networkInterfaceId: eni), op) }
                == "InvalidNetworkInterface.InUse")
        #expect(
            await code {
                _ = try await ec2.attachNetworkInterface(
                    EC2.AttachNetworkInterface(networkInterfaceId: eni, instanceId: id, deviceIndex: 1), op)
            } == "AttachmentLimitExceeded")
        #expect(
            await code { _ = try await ec2.deleteSubnet(EC2.DeleteSubnet(subnetId: subnet.subnetId ?? ""), op) } == "DependencyViolation")
        _ = try await ec2.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), op)
        await cloud.round(4)
        #expect(try await ec2.describeNetworkInterfaces(EC2.DescribeNetworkInterfaces(), op).networkInterfaces.isEmpty)
        _ = try await ec2.deleteSubnet(EC2.DeleteSubnet(subnetId: subnet.subnetId ?? ""), op)
    }

    @Test func launchIntoSubnet() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let vpc = try #require(try await ec2.describeVpcs(EC2.DescribeVpcs(), op).vpcs.first?.vpcId)
        let subnet = try #require(
            try await ec2.createSubnet(EC2.CreateSubnet(vpcId: vpc, cidrBlock: "10.1.200.0/28"), op).subnet?.subnetId)
        let web = try #require(
            try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), op).groupId)
        let id = try #require(
            try await cloud.run { r in
                r.networkInterfaces = [
                    EC2.InstanceNetworkInterfaceSpecification(
                        deviceIndex: 0, subnetId: subnet, description: "first", privateIpAddress: "10.1.200.9", groups: [web])
                ]
            }.first)
        let shown = try await cloud.describe(id)
        #expect(shown.privateIpAddress == "10.1.200.9" && shown.subnetId == subnet && shown.securityGroups.map(\.groupId) == [web])
        // This subnet maps no public address.
        #expect(shown.publicIpAddress == nil)
        let other = try #require(try await cloud.run { $0.subnetId = subnet }.first)
        #expect(try await cloud.describe(other).privateIpAddress == "10.1.200.1")
        #expect(
            await code { _ = try await cloud.run { r in (r.subnetId, r.privateIpAddress) = (subnet, "10.1.200.9") } }
                == "InvalidIPAddress.InUse")
        #expect(
            await code { _ = try await cloud.run { r in (r.subnetId, r.privateIpAddress) = (subnet, "10.1.1.9") } }
                == "InvalidParameterValue")
        #expect(await code { _ = try await cloud.run { $0.subnetId = "subnet-00000000" } } == "InvalidSubnetID.NotFound")
        #expect(
            await code {
                _ = try await cloud.run { r in
                    r.subnetId = subnet
                    r.networkInterfaces = [EC2.InstanceNetworkInterfaceSpecification(deviceIndex: 0)]
                }
            } == "InvalidParameterCombination")
    }

    /// A border that stops nothing is not sent; a closed one is, with all that nodes need.
    @Test func nodesHearOfBorders() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run().first)
        let address = try await cloud.describe(id).privateIpAddress
        let subnet = try #require(try await cloud.describe(id).subnetId)
        func network() async throws -> CC.ClusterNetwork {
            let settings = cloud.cloud.settings
            return try await cloud.cloud.pool.read { tx in
                NetworkReconciler.network(
                    of: "karri-1a",
                    NetworkReconciler.Content(
                        generation: 1, rules: try SecurityGroupStore.nodeRules(tx),
                        egress: try SecurityGroupStore.nodeRules(tx, egress: true),
                        borders: try SubnetBorderStore.borders(tx), placed: try NetworkStore.placed(tx), publicAddresses: [:],
                        controllers: []), settings)
            }
        }
        var sent = try await network()
        #expect(sent.subnets.isEmpty && sent.instances.first?.address?.subnetId == nil)
        #expect(sent.groups.allSatisfy { $0.egressLimited == nil })

        let acl = try #require(try await ec2.describeNetworkAcls(EC2.DescribeNetworkAcls(), op).networkAcls.first?.networkAclId)
        _ = try await ec2.createNetworkAclEntry(
            EC2.CreateNetworkAclEntry(
                networkAclId: acl, ruleNumber: 50, protocol: "6", ruleAction: "deny", egress: false, cidrBlock: "192.0.2.0/24",
                portRange: EC2.PortRange(from: 22, to: 22)), op)
        let table = try #require(try await ec2.describeRouteTables(EC2.DescribeRouteTables(), op).routeTables.first)
        _ = try await ec2.deleteRoute(
            EC2.DeleteRoute(routeTableId: table.routeTableId ?? "", destinationCidrBlock: "0.0.0.0/0"), op)
        let group = try #require(
            try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupNames: ["default"]), op).securityGroups.first?.groupId)
        let everything = EC2.IpPermission(ipProtocol: "-1", ipRanges: [EC2.IpRange(cidrIp: "0.0.0.0/0")])
        _ = try await ec2.revokeSecurityGroupEgress(EC2.RevokeSecurityGroupEgress(groupId: group, ipPermissions: [everything]), op)
        let https = EC2.IpPermission(ipProtocol: "tcp", fromPort: 443, toPort: 443, ipRanges: [EC2.IpRange(cidrIp: "0.0.0.0/0")])
        _ = try await ec2.authorizeSecurityGroupEgress(EC2.AuthorizeSecurityGroupEgress(groupId: group, ipPermissions: [https]), op)

        sent = try await network()
        let border = try #require(sent.subnets.first)
        #expect(border.subnetId == subnet && border.members == [address ?? ""] && sent.instances.first?.address?.subnetId == subnet)
        #expect(border.entriesLimited == true && border.entries.first { $0.allow == false }?.cidr == "192.0.2.0/24")
        #expect(border.routesLimited == true && border.routes.isEmpty)
        #expect(sent.groups.first { $0.groupId == group }?.egressLimited == true)
        #expect(sent.groups.first { $0.groupId == group }?.egress.map(\.toPort) == [443])
    }
}
