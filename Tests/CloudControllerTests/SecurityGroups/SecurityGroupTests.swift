import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

private func permission(
    _ proto: String?, _ from: Int? = nil, _ to: Int? = nil, cidr: [String] = [], cidr6: [String] = [], groups: [EC2.UserIdGroupPair] = []
) -> EC2.IpPermission {
    EC2.IpPermission(
        ipProtocol: proto, fromPort: from, toPort: to, userIdGroupPairs: groups, ipRanges: cidr.map { EC2.IpRange(cidrIp: $0) },
        ipv6Ranges: cidr6.map { EC2.Ipv6Range(cidrIpv6: $0) })
}

private func orders(_ permissions: EC2.IpPermission...) throws -> [RuleOrder] {
    try SecurityGroupRules.orders(EC2.AuthorizeSecurityGroupIngress(groupId: "sg-00000000", ipPermissions: permissions))
}

@Suite struct SecurityGroupRuleTests {
    @Test(arguments: [
        (permission("tcp", 22, 22, cidr: ["0.0.0.0/0"]), "tcp 22 22 4 0.0.0.0/0"),
        (permission("6", 80, 90, cidr: ["10.1.2.3/8"]), "tcp 80 90 4 10.0.0.0/8"),
        (permission("UDP", 0, 65535, cidr: ["1.2.3.4/32"]), "udp 0 65535 4 1.2.3.4/32"),
        (permission("icmp", cidr: ["0.0.0.0/0"]), "icmp -1 -1 4 0.0.0.0/0"),
        (permission("icmp", 8, 0, cidr: ["0.0.0.0/0"]), "icmp 8 0 4 0.0.0.0/0"),
        (permission("-1", 1, 2, cidr: ["0.0.0.0/0"]), "-1 -1 -1 4 0.0.0.0/0"),
        (permission("tcp", 1, 2, cidr6: ["2001:DB8::FFFF/32"]), "tcp 1 2 6 2001:db8::/32"),
        (permission("-1", cidr6: ["::/0"]), "-1 -1 -1 6 ::/0"),
    ]) func accepted(permission: EC2.IpPermission, key: String) throws {
        let parsed = try orders(permission)
        #expect(parsed.count == 1)
        guard case .known(let source)? = parsed.first?.source, let traffic = parsed.first?.traffic else {
            Issue.record("no source")
            return
        }
        #expect(RuleContent(traffic: traffic, source: source).key == key)
    }

    @Test(arguments: [
        (permission(nil, 22, 22, cidr: ["0.0.0.0/0"]), "MissingParameter"),
        (permission("tcp", nil, 22, cidr: ["0.0.0.0/0"]), "MissingParameter"),
        (permission("tcp", 23, 22, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("tcp", -1, -1, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("tcp", 1, 65536, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("icmp", -1, 3, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("icmp", 256, 0, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("ospf", 1, 1, cidr: ["0.0.0.0/0"]), "InvalidParameterValue"),
        (permission("tcp", 22, 22, cidr: ["0.0.0.0"]), "InvalidParameterValue"),
        (permission("tcp", 22, 22, cidr: ["0.0.0.0/33"]), "InvalidParameterValue"),
        (permission("tcp", 22, 22, cidr6: ["1.2.3.4/8"]), "InvalidParameterValue"),
        (permission("tcp", 22, 22, cidr6: ["::/129"]), "InvalidParameterValue"),
        (permission("tcp", 22, 22), "InvalidPermission.Malformed"),
        (permission("tcp", 22, 22, groups: [EC2.UserIdGroupPair(userId: "1")]), "MissingParameter"),
        (permission("tcp", 22, 22, groups: [EC2.UserIdGroupPair(groupId: "sg-x")]), "InvalidGroupId.Malformed"),
        (permission("tcp", 22, 22, cidr: ["0.0.0.0/0", "0.0.0.0/0"]), "InvalidParameterValue"),
    ]) func refused(permission: EC2.IpPermission, expected: String) {
        #expect(code { _ = try orders(permission) } == expected)
    }

    /// The forms of 2006: one range, or all traffic of a group.
    @Test func flatForm() throws {
        let range = try SecurityGroupRules.orders(
            EC2.AuthorizeSecurityGroupIngress(cidrIp: "0.0.0.0/0", fromPort: 22, groupName: "web", ipProtocol: "tcp", toPort: 22))
        #expect(range.count == 1 && range[0].traffic.proto == "tcp")
        let group = try SecurityGroupRules.orders(
            EC2.AuthorizeSecurityGroupIngress(groupName: "web", sourceSecurityGroupName: "db", sourceSecurityGroupOwnerId: "123456789012"))
        #expect(group.map(\.source) == [.named(groupID: nil, groupName: "db", userID: "123456789012")])
        #expect(group[0].traffic.proto == "-1")
        #expect(code { _ = try SecurityGroupRules.orders(EC2.AuthorizeSecurityGroupIngress(groupName: "web")) } == "MissingParameter")
    }
}

@Suite struct SecurityGroupTests {
    @Test func lifeOfAGroup() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        let id = try #require(
            try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "servers"), alice).groupId)
        // A new group lets nothing in.
        var shown = try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupIds: [id]), alice).securityGroups
        #expect(shown.map(\.groupName) == ["web"])
        #expect(shown.first?.ipPermissions.isEmpty == true)
        #expect(
            await code { _ = try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "x"), alice) }
                == "InvalidGroup.Duplicate")
        #expect(
            await code { _ = try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "default", description: "x"), alice) }
                == "InvalidGroup.Reserved")
        #expect(
            await code {
                _ = try await ec2.createSecurityGroup(
                    EC2.CreateSecurityGroup(groupName: "a", description: "x", vpcId: "vpc-01234567"), alice)
            } == "InvalidVpcID.NotFound")

        let ssh = permission("tcp", 22, 22, cidr: ["0.0.0.0/0", "10.0.0.0/8"])
        let made = try await ec2.authorizeSecurityGroupIngress(EC2.AuthorizeSecurityGroupIngress(groupId: id, ipPermissions: [ssh]), alice)
        #expect(made.securityGroupRules.count == 2)
        // Again, also beside something new: refused, and nothing of it is there.
        let again = EC2.AuthorizeSecurityGroupIngress(
            groupName: "web",
            ipPermissions: [permission("tcp", 80, 80, cidr: ["0.0.0.0/0"]), permission("tcp", 22, 22, cidr: ["10.1.1.1/8"])])
        #expect(await code { _ = try await ec2.authorizeSecurityGroupIngress(again, alice) } == "InvalidPermission.Duplicate")
        shown = try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupNames: ["web"]), alice).securityGroups
        #expect(shown.first?.ipPermissions == [permission("tcp", 22, 22, cidr: ["0.0.0.0/0", "10.0.0.0/8"])])

        // Someone else's group: not known, not changed.
        #expect(
            await code { _ = try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupIds: [id]), bob) }
                == "InvalidGroup.NotFound")
        #expect(
            await code {
                _ = try await ec2.authorizeSecurityGroupIngress(
                    EC2.AuthorizeSecurityGroupIngress(groupId: id, ipPermissions: [permission("tcp", 1, 1, cidr: ["0.0.0.0/0"])]), bob)
            } == "InvalidGroup.NotFound")
        #expect(await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupId: id), bob) } == "InvalidGroup.NotFound")

        // Taking away: what is not there refuses the whole request.
        let both = EC2.RevokeSecurityGroupIngress(groupId: id, ipPermissions: [ssh, permission("tcp", 443, 443, cidr: ["0.0.0.0/0"])])
        #expect(await code { _ = try await ec2.revokeSecurityGroupIngress(both, alice) } == "InvalidPermission.NotFound")
        let first = try #require(made.securityGroupRules.first?.securityGroupRuleId)
        _ = try await ec2.revokeSecurityGroupIngress(EC2.RevokeSecurityGroupIngress(groupId: id, securityGroupRuleIds: [first]), alice)
        #expect(
            await code {
                _ = try await ec2.revokeSecurityGroupIngress(
                    EC2.RevokeSecurityGroupIngress(groupId: id, securityGroupRuleIds: [first]), alice)
            }
                == "InvalidSecurityGroupRuleId.NotFound")
        _ = try await ec2.revokeSecurityGroupIngress(
            EC2.RevokeSecurityGroupIngress(cidrIp: "10.0.0.0/8", fromPort: 22, groupName: "web", ipProtocol: "tcp", toPort: 22), alice)
        _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupName: "web"), alice)
        #expect(
            await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupName: "web"), alice) }
                == "InvalidGroup.NotFound")
    }

    /// `default` is there when first looked for, lets its members in and cannot be deleted.
    @Test func defaultGroup() async throws {
        let test = try await TestCloud()
        let (ec2, alice) = (test.actions, test.alice)
        let shown = try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(), alice).securityGroups
        let group = try #require(shown.first)
        #expect(shown.count == 1 && group.groupName == "default")
        #expect(
            group.ipPermissions.first?.userIdGroupPairs == [
                EC2.UserIdGroupPair(userId: alice.accountID, groupName: "default", groupId: group.groupId)
            ])
        #expect(
            await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupName: "default"), alice) } == "CannotDelete")
        let launched = try await test.cloud.pool.transaction { tx in
            try SecurityGroupStore.resolve(tx, ids: [], names: [], accountID: alice.accountID)
        }
        #expect(launched.map(\.id) == [group.groupId])
        let again = try await test.cloud.pool.transaction { tx in
            try SecurityGroupStore.resolve(tx, ids: [], names: ["default", group.groupId ?? ""], accountID: alice.accountID)
        }
        #expect(again.count == 1)
        // The old dates' descriptions demand ports.
        let old = OperationContext(caller: alice.caller, requestID: "", apiVersion: "2009-08-15", now: alice.now)
        #expect(
            try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(), old).securityGroups.first?.ipPermissions.first?.fromPort
                == -1)
    }

    @Test func groupsReferToEachOther() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        let web = try #require(
            try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), alice).groupId)
        let db = try #require(try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "db", description: "d"), alice).groupId)
        let foreign = try #require(
            try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "far", description: "f"), bob).groupId)
        let pairs = [
            EC2.UserIdGroupPair(groupName: "web"), EC2.UserIdGroupPair(groupId: db),
            EC2.UserIdGroupPair(userId: bob.accountID, groupName: "far"),
        ]
        _ = try await ec2.authorizeSecurityGroupIngress(
            EC2.AuthorizeSecurityGroupIngress(groupId: db, ipPermissions: [permission("tcp", 5432, 5432, groups: pairs)]), alice)
        let shown = try await ec2.describeSecurityGroups(
            EC2.DescribeSecurityGroups(filters: [EC2.Filter(name: "ip-permission.group-id", values: [web])]), alice
        ).securityGroups
        #expect(shown.map(\.groupId) == [db])
        #expect(shown.first?.ipPermissions.first?.userIdGroupPairs.map(\.groupId) == [web, db, foreign])
        #expect(shown.first?.ipPermissions.first?.userIdGroupPairs.map(\.groupName) == ["web", "db", "far"])
        let unknown = permission("tcp", 1, 1, groups: [EC2.UserIdGroupPair(groupName: "none")])
        #expect(
            await code {
                _ = try await ec2.authorizeSecurityGroupIngress(
                    EC2.AuthorizeSecurityGroupIngress(groupId: db, ipPermissions: [unknown]), alice)
            } == "InvalidGroup.NotFound")
        // In use by a rule of another group; a group's own rules do not hold it.
        #expect(await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupId: web), alice) } == "DependencyViolation")
        #expect(
            await code { _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupName: "far"), bob) } == "InvalidGroup.InUse")
        _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupId: db), alice)
        _ = try await ec2.deleteSecurityGroup(EC2.DeleteSecurityGroup(groupId: web), alice)
    }

    /// Each change raises the network's generation, and the nodes' rules follow.
    @Test func nodesHearOfChanges() async throws {
        let test = try await TestCloud()
        let (ec2, alice) = (test.actions, test.alice)
        let read = { @Sendable () async throws in
            try await test.cloud.pool.read { tx in (try NetworkStore.generation(tx), try SecurityGroupStore.nodeRules(tx)) }
        }
        let id = try #require(try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "web", description: "w"), alice).groupId)
        let before = try await read()
        let rules = [
            permission("tcp", 22, 23, cidr: ["10.0.0.0/8"], cidr6: ["::/0"]), permission("-1", groups: [EC2.UserIdGroupPair(groupId: id)]),
        ]
        _ = try await ec2.authorizeSecurityGroupIngress(EC2.AuthorizeSecurityGroupIngress(groupId: id, ipPermissions: rules), alice)
        let after = try await read()
        #expect(after.0 > before.0)
        #expect(after.1[id]?.map(\.proto) == ["tcp", "-1"])
        #expect(after.1[id]?.first?.cidr == "10.0.0.0/8")
        #expect(after.1[id]?.last?.sourceGroupId == id)
    }

    @Test func limits() async throws {
        var settings = CloudSettings()
        settings.quotas.rulesPerGroup = 3
        // The default group counts too.
        settings.quotas.securityGroups = 3
        let test = try await TestCloud(settings: settings)
        let (ec2, alice) = (test.actions, test.alice)
        _ = try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "a", description: "a"), alice)
        _ = try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "b", description: "b"), alice)
        #expect(
            await code { _ = try await ec2.createSecurityGroup(EC2.CreateSecurityGroup(groupName: "c", description: "c"), alice) }
                == "SecurityGroupLimitExceeded")
        let four = permission("tcp", 1, 1, cidr: ["1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"])
        #expect(
            await code {
                _ = try await ec2.authorizeSecurityGroupIngress(
                    EC2.AuthorizeSecurityGroupIngress(groupName: "a", ipPermissions: [four]), alice)
            } == "RulesPerSecurityGroupLimitExceeded")
        #expect(
            try await ec2.describeSecurityGroups(EC2.DescribeSecurityGroups(groupNames: ["a"]), alice).securityGroups.first?.ipPermissions
                .isEmpty == true)
    }
}
