import API
import Domain
import Testing

@testable import CloudControllerKit

/// Rules as objects, in both directions.
@Suite struct SecurityGroupRuleObjectTests {
    private func permission(_ port: Int, _ cidr: String, _ description: String? = nil) -> EC2.IpPermission {
        EC2.IpPermission(
            ipProtocol: "tcp", fromPort: port, toPort: port, ipRanges: [EC2.IpRange(cidrIp: cidr, description: description)])
    }

    /// What Terraform does to every new group: the rule for everything must be there once, and the one for IPv6 must not.
    @Test func everythingOutGoesOnce() async throws {
        let test = try await TestCloud()
        let (ec2, alice) = (test.actions, test.alice)
        let id = try #require(try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), alice).groupId)
        let all4 = EC2.RevokeSecurityGroupEgress(
            groupId: id, ipPermissions: [EC2.IpPermission(ipProtocol: "-1", ipRanges: [EC2.IpRange(cidrIp: "0.0.0.0/0")])])
        let all6 = EC2.RevokeSecurityGroupEgress(
            groupId: id, ipPermissions: [EC2.IpPermission(ipProtocol: "-1", ipv6Ranges: [EC2.Ipv6Range(cidrIpv6: "::/0")])])
        _ = try await ec2.revokeSecurityGroupEgress(all4, alice)
        #expect(await code { _ = try await ec2.revokeSecurityGroupEgress(all4, alice) } == "InvalidPermission.NotFound")
        #expect(await code { _ = try await ec2.revokeSecurityGroupEgress(all6, alice) } == "InvalidPermission.NotFound")
        let shown = try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupIds: [id]), alice).securityGroups.first
        #expect(shown?.ipPermissionsEgress.isEmpty == true)
    }

    @Test func rulesAreObjects() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        let id = try #require(try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), alice).groupId)
        // The same words in both directions are two rules.
        let inward = try await ec2.authorizeSecurityGroupIngress(
            EC2.AuthorizeSecurityGroupIngress(
                groupId: id, ipPermissions: [permission(22, "10.0.0.0/8", "ssh")],
                tagSpecifications: [EC2.TagSpecification(resourceType: "security-group-rule", tags: [EC2.Tag(key: "a", value: "b")])]),
            alice
        ).securityGroupRules
        let outward = try await ec2.authorizeSecurityGroupEgress(
            EC2.AuthorizeSecurityGroupEgress(groupId: id, ipPermissions: [permission(22, "10.0.0.0/8")]), alice
        ).securityGroupRules
        let rule = try #require(inward.first?.securityGroupRuleId)
        #expect(outward.first?.isEgress == true && outward.first?.securityGroupRuleId != rule)
        let byTag = EC2.DescribeSecurityGroupRules(filters: [EC2.Filter(name: "tag:a", values: ["b"])])
        #expect(try await ec2.describeSecurityGroupRules(byTag, alice).securityGroupRules.map(\.securityGroupRuleId) == [rule])
        let ofGroup = EC2.DescribeSecurityGroupRules(filters: [EC2.Filter(name: "group-id", values: [id])])
        #expect(try await ec2.describeSecurityGroupRules(ofGroup, alice).securityGroupRules.count == 3)
        #expect(
            await code {
                _ = try await ec2.describeSecurityGroupRules(EC2.DescribeSecurityGroupRules(securityGroupRuleIds: [rule]), bob)
            } == "InvalidSecurityGroupRuleId.NotFound")

        func modify(_ rule: String, _ cidr: String, dryRun: Bool? = nil) -> EC2.ModifySecurityGroupRules {
            EC2.ModifySecurityGroupRules(
                groupId: id,
                securityGroupRules: [
                    EC2.SecurityGroupRuleUpdate(
                        securityGroupRuleId: rule,
                        securityGroupRule: EC2.SecurityGroupRuleRequest(
                            ipProtocol: "tcp", fromPort: 2222, toPort: 2222, cidrIpv4: cidr, description: "new"))
                ], dryRun: dryRun)
        }
        #expect(
            await code { _ = try await ec2.modifySecurityGroupRules(modify(rule, "192.0.2.0/24", dryRun: true), alice) }
                == "DryRunOperation")
        _ = try await ec2.modifySecurityGroupRules(modify(rule, "192.0.2.0/24"), alice)
        let changed = try await ec2.describeSecurityGroupRules(
            EC2.DescribeSecurityGroupRules(securityGroupRuleIds: [rule]), alice
        ).securityGroupRules.first
        #expect(changed?.fromPort == 2222 && changed?.cidrIpv4 == "192.0.2.0/24" && changed?.description == "new")
        #expect(changed?.tags == [EC2.Tag(key: "a", value: "b")])
        #expect(
            await code { _ = try await ec2.modifySecurityGroupRules(modify("sgr-00000000", "192.0.2.0/24"), alice) }
                == "InvalidSecurityGroupRuleId.NotFound")
        _ = try await ec2.updateSecurityGroupRuleDescriptionsEgress(
            EC2.UpdateSecurityGroupRuleDescriptionsEgress(groupId: id, ipPermissions: [permission(22, "10.0.0.0/8", "out")]), alice)
        #expect(
            await code {
                _ = try await ec2.updateSecurityGroupRuleDescriptionsIngress(
                    EC2.UpdateSecurityGroupRuleDescriptionsIngress(groupId: id, ipPermissions: [permission(22, "10.0.0.0/8", "x")]), alice)
            } == "InvalidPermission.NotFound")
        let egress = try await ec2.describeSecurityGroupRules(ofGroup, alice).securityGroupRules.first { $0.fromPort == 22 }
        #expect(egress?.description == "out" && egress?.isEgress == true)
    }
}
