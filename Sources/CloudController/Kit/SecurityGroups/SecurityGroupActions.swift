public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2SecurityGroupsActions {
    public func createSecurityGroup(
        _ request: EC2.CreateSecurityGroup, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateSecurityGroupResponse {
        try SecurityGroupRules.checkName(request.groupName)
        try SecurityGroupRules.checkDescription(request.description, parameter: "GroupDescription")
        if let vpc = request.vpcId, !vpc.isEmpty {
            throw CloudError(.named(code: "InvalidVpcID.NotFound", status: 400), "The vpc ID '\(vpc.prefix(40))' does not exist")
        }
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.securityGroup])[.securityGroup] ?? []
        let group = SecurityGroup(
            id: SecurityGroupID(random: cloud.random.bytes(9)), accountID: op.accountID, name: request.groupName,
            description: request.description)
        let limit = cloud.settings.quotas.securityGroups
        try await cloud.pool.transaction { tx in
            guard try SecurityGroupStore.find(tx, accountID: op.accountID, name: group.name) == nil else {
                throw CloudError(.duplicate(.securityGroup, name: group.name))
            }
            let count = try SecurityGroupStore.count(tx, accountID: op.accountID)
            guard count < limit else { throw CloudError(.limitExceeded(.securityGroups, asked: count + 1, limit: limit)) }
            try SecurityGroupStore.insert(tx, group)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: group.id.text, type: .securityGroup, tags)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "CreateSecurityGroup", resource: group.id.text, detail: group.name)
        }
        return EC2.CreateSecurityGroupResponse(
            result: true, groupId: group.id.text, tags: tags.map(\.wire),
            securityGroupArn: cloud.settings.arn("security-group", group.id.text, account: op.accountID))
    }

    public func deleteSecurityGroup(
        _ request: EC2.DeleteSecurityGroup, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteSecurityGroupResponse {
        let key = try GroupKey(id: request.groupId, name: request.groupName)
        let id = try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            guard group.name != SecurityGroupRules.defaultName else {
                throw CloudError(
                    .named(code: "CannotDelete", status: 400),
                    "the specified group: \"\(group.id)\" name: \"default\" cannot be deleted by a user")
            }
            if let user = try SecurityGroupStore.user(tx, id: group.id) {
                // Callers by name are of the time when this was InvalidGroup.InUse.
                let code = request.groupId == nil ? "InvalidGroup.InUse" : "DependencyViolation"
                throw CloudError(
                    .named(code: code, status: 400), "resource \(group.id) has a dependent object: it is in use by \(user)")
            }
            try op.endDryRun(request.dryRun)
            try SecurityGroupStore.delete(tx, id: group.id)
            try AuditStore.record(tx, op, action: "DeleteSecurityGroup", resource: group.id.text, detail: group.name)
            try NetworkStore.changed(tx)
            return group.id.text
        }
        return EC2.DeleteSecurityGroupResponse(result: true, groupId: id)
    }

    public func describeSecurityGroups(
        _ request: EC2.DescribeSecurityGroups, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSecurityGroupsResponse {
        let filters = try Filters(request.filters, known: SecurityGroupRules.filters)
        for text in request.groupIds { _ = try SecurityGroupID(parsing: text) }
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        // The first look of an account makes its `default`.
        let hasDefault = try await cloud.pool.read { tx in
            try SecurityGroupStore.find(tx, accountID: op.accountID, name: SecurityGroupRules.defaultName) != nil
        }
        if !hasDefault {
            try await cloud.pool.transaction { tx in
                try SecurityGroupStore.ensureDefault(tx, accountID: op.accountID)
            }
        }
        let data = try await cloud.pool.read { tx in
            let groups = try SecurityGroupStore.list(tx, accountID: op.accountID)
            let ids = groups.map(\.id.text)
            let rules = try SecurityGroupStore.rules(tx, groupIDs: ids)
            return GroupListing(
                groups: groups, rules: rules, names: try SecurityGroupStore.names(tx, ids: GroupListing.references(rules)),
                tags: try TagStore.tags(tx, ids))
        }
        if let id = request.groupIds.first(where: { id in !data.groups.contains { $0.id.text == id } }) {
            throw CloudError(.notFound(.securityGroup, id: id))
        }
        // SOAP of the old dates has one list for names and ids.
        let named = Set(request.groupNames + request.groupIds)
        if let name = named.first(where: { name in !data.groups.contains { $0.name == name || $0.id.text == name } }) {
            throw CloudError(.notFound(.securityGroup, id: name))
        }
        let found = data.groups.filter { group in
            (named.isEmpty || named.contains(group.name) || named.contains(group.id.text))
                && filters.match(tags: (data.tags[group.id.text] ?? []).byKey) {
                    SecurityGroupRules.values(group, data.rules[group.id.text] ?? [], names: data.names, $0)
                }
        }
        let page = paging.page(found) { $0.id.text }
        return EC2.DescribeSecurityGroupsResponse(
            securityGroups: page.items.map { data.wire($0, settings: cloud.settings, apiVersion: op.apiVersion) }, nextToken: page.nextToken
        )
    }

    public func authorizeSecurityGroupIngress(
        _ request: EC2.AuthorizeSecurityGroupIngress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AuthorizeSecurityGroupIngressResponse {
        let key = try GroupKey(id: request.groupId, name: request.groupName, userID: request.userId, op)
        let orders = try SecurityGroupRules.orders(request)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.securityGroupRule])[.securityGroupRule] ?? []
        let limit = cloud.settings.quotas.rulesPerGroup
        let random = cloud.random
        let made = try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            var contents = Set((try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []).map(\.content))
            var made: [GroupRule] = []
            for order in orders {
                let content = try SecurityGroupStore.resolve(tx, order, accountID: op.accountID)
                guard contents.insert(content).inserted else { throw SecurityGroupRules.duplicate(content) }
                made.append(
                    GroupRule(
                        id: SecurityGroupRuleID(random: random.bytes(9)), groupID: group.id.text, content: content,
                        description: order.description))
            }
            guard contents.count <= limit else { throw CloudError(.limitExceeded(.rulesPerGroup, asked: contents.count, limit: limit)) }
            for rule in made {
                try SecurityGroupStore.insertRule(tx, accountID: op.accountID, rule)
                try TagStore.insert(tx, accountID: op.accountID, resourceID: rule.id.text, type: .securityGroupRule, tags)
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "AuthorizeSecurityGroupIngress", resource: group.id.text,
                detail: made.map(\.content.key).joined(separator: "; "))
            try NetworkStore.changed(tx)
            return made
        }
        return EC2.AuthorizeSecurityGroupIngressResponse(
            result: true,
            securityGroupRules: made.map { rule in
                let source = RuleWords(rule.content.source)
                return EC2.SecurityGroupRule(
                    securityGroupRuleId: rule.id.text, groupId: rule.groupID, groupOwnerId: op.accountID, isEgress: false,
                    ipProtocol: rule.content.traffic.proto, fromPort: rule.content.traffic.fromPort ?? -1,
                    toPort: rule.content.traffic.toPort ?? -1,
                    cidrIpv4: source.cidr, cidrIpv6: source.cidr6,
                    referencedGroupInfo: source.group.map { EC2.ReferencedSecurityGroup(groupId: $0.id, userId: $0.accountID) },
                    description: rule.description.isEmpty ? nil : rule.description, tags: tags.map(\.wire),
                    securityGroupRuleArn: cloud.settings.arn("security-group-rule", rule.id.text, account: op.accountID))
            })
    }

    public func revokeSecurityGroupIngress(
        _ request: EC2.RevokeSecurityGroupIngress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.RevokeSecurityGroupIngressResponse {
        let key = try GroupKey(id: request.groupId, name: request.groupName, userID: request.userId, op)
        let byID = !request.securityGroupRuleIds.isEmpty
        var orders: [RuleOrder] = []
        if byID {
            guard request.ipPermissions.isEmpty, request.ipProtocol == nil, request.cidrIp == nil, request.sourceSecurityGroupName == nil
            else {
                throw CloudError(.invalidCombination("SecurityGroupRuleId cannot be combined with permissions"))
            }
            for id in request.securityGroupRuleIds { _ = try SecurityGroupRuleID(parsing: id) }
        } else {
            orders = try SecurityGroupRules.orders(request)
        }
        let wanted = orders
        let gone = try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            let rules = try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []
            var gone: [GroupRule] = []
            for id in request.securityGroupRuleIds where !gone.contains(where: { $0.id.text == id }) {
                guard let rule = rules.first(where: { $0.id.text == id }) else { throw SecurityGroupRules.unknownRule(id) }
                gone.append(rule)
            }
            for order in wanted {
                let content: RuleContent
                do throws(CloudError) {
                    content = try SecurityGroupStore.resolve(tx, order, accountID: op.accountID)
                } catch {
                    // A group that is gone cannot stand in a rule.
                    if case .notFound = error.reason { throw SecurityGroupRules.notThere }
                    throw error
                }
                guard let rule = rules.first(where: { $0.content == content }) else { throw SecurityGroupRules.notThere }
                gone.append(rule)
            }
            for rule in gone { try SecurityGroupStore.deleteRule(tx, id: rule.id) }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "RevokeSecurityGroupIngress", resource: group.id.text,
                detail: gone.map(\.content.key).joined(separator: "; "))
            try NetworkStore.changed(tx)
            return gone
        }
        return EC2.RevokeSecurityGroupIngressResponse(
            result: true,
            revokedSecurityGroupRules: gone.map { rule in
                let source = RuleWords(rule.content.source)
                return EC2.RevokedSecurityGroupRule(
                    securityGroupRuleId: rule.id.text, groupId: rule.groupID, isEgress: false, ipProtocol: rule.content.traffic.proto,
                    fromPort: rule.content.traffic.fromPort ?? -1, toPort: rule.content.traffic.toPort ?? -1, cidrIpv4: source.cidr,
                    cidrIpv6: source.cidr6, referencedGroupId: source.group?.id,
                    description: rule.description.isEmpty ? nil : rule.description)
            })
    }
}
