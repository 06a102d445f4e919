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
        let vpcID = try request.vpcId.flatMap { $0.isEmpty ? nil : $0 }.map { text throws(CloudError) in try VpcID(parsing: text) }
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.securityGroup])[.securityGroup] ?? []
        let group = SecurityGroup(
            id: SecurityGroupID(random: cloud.random.bytes(9)), accountID: op.accountID, name: request.groupName,
            description: request.description)
        let settings = cloud.settings
        let egress = SecurityGroupRuleID(random: cloud.random.bytes(9))
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            if let vpcID { _ = try VpcStore.fetch(tx, id: vpcID, accountID: op.accountID) }
            guard try SecurityGroupStore.find(tx, accountID: op.accountID, name: group.name) == nil else {
                throw CloudError(.duplicate(.securityGroup, name: group.name))
            }
            let count = try SecurityGroupStore.count(tx, accountID: op.accountID)
            let limit = try settings.quotas(tx, accountID: op.accountID).securityGroups
            guard count < limit else { throw CloudError(.limitExceeded(.securityGroups, asked: count + 1, limit: limit)) }
            try SecurityGroupStore.insert(tx, group)
            try SecurityGroupStore.insertRule(
                tx, accountID: op.accountID, SecurityGroupRules.everythingOut(of: group.id.text, egress))
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
        try await cloud.ensureNetwork(op)
        let data = try await cloud.pool.read { tx in
            let groups = try SecurityGroupStore.list(tx, accountID: op.accountID)
            let ids = groups.map(\.id.text)
            let rules = try SecurityGroupStore.rules(tx, groupIDs: ids)
            return GroupListing(
                groups: groups, vpcID: try VpcStore.find(tx, accountID: op.accountID)?.id.text, rules: rules,
                names: try SecurityGroupStore.names(tx, ids: GroupListing.references(rules)),
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
                    SecurityGroupRules.values(group, data.rules[group.id.text] ?? [], names: data.names, vpcID: data.vpcID, $0)
                }
        }
        let page = paging.page(found) { $0.id.text }
        return EC2.DescribeSecurityGroupsResponse(
            securityGroups: page.items.map { data.wire($0, settings: cloud.settings, apiVersion: op.apiVersion) }, nextToken: page.nextToken
        )
    }
}
