public import API
import Database
public import Domain
import Workflow

// Rules are objects: each has an id, tags and a description, whichever of the actions made it. Those for what goes in and those for what
// goes out are the same but for their direction.

extension EC2Actions {
    public func authorizeSecurityGroupIngress(
        _ request: EC2.AuthorizeSecurityGroupIngress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AuthorizeSecurityGroupIngressResponse {
        let key = try GroupKey(id: request.groupId, name: request.groupName, userID: request.userId, op)
        let made = try await authorize(
            key, try SecurityGroupRules.orders(request), egress: false, request.tagSpecifications, dryRun: request.dryRun, op)
        return EC2.AuthorizeSecurityGroupIngressResponse(result: true, securityGroupRules: made)
    }

    public func revokeSecurityGroupIngress(
        _ request: EC2.RevokeSecurityGroupIngress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.RevokeSecurityGroupIngressResponse {
        let key = try GroupKey(id: request.groupId, name: request.groupName, userID: request.userId, op)
        let gone = try await revoke(
            key, request, ids: request.securityGroupRuleIds, egress: false, dryRun: request.dryRun, op)
        return EC2.RevokeSecurityGroupIngressResponse(result: true, revokedSecurityGroupRules: gone)
    }

    private func authorize(
        _ key: GroupKey, _ orders: [RuleOrder], egress: Bool, _ tagSpecifications: [EC2.TagSpecification], dryRun: Bool?,
        _ op: OperationContext
    ) async throws(CloudError) -> [EC2.SecurityGroupRule] {
        let tags = try TagRules.onCreate(tagSpecifications, of: [.securityGroupRule])[.securityGroupRule] ?? []
        let limit = cloud.settings.quotas.rulesPerGroup
        let random = cloud.random
        let made = try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            let rules = try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []
            var contents = Set(rules.filter { $0.egress == egress }.map(\.content))
            var made: [GroupRule] = []
            for order in orders {
                let content = try SecurityGroupStore.resolve(tx, order, accountID: op.accountID)
                guard contents.insert(content).inserted else { throw SecurityGroupRules.duplicate(content) }
                made.append(
                    GroupRule(
                        id: SecurityGroupRuleID(random: random.bytes(9)), groupID: group.id.text, content: content,
                        description: order.description, egress: egress))
            }
            guard contents.count <= limit else { throw CloudError(.limitExceeded(.rulesPerGroup, asked: contents.count, limit: limit)) }
            for rule in made {
                try SecurityGroupStore.insertRule(tx, accountID: op.accountID, rule)
                try TagStore.insert(tx, accountID: op.accountID, resourceID: rule.id.text, type: .securityGroupRule, tags)
            }
            try op.endDryRun(dryRun)
            try AuditStore.record(
                tx, op, action: egress ? "AuthorizeSecurityGroupEgress" : "AuthorizeSecurityGroupIngress", resource: group.id.text,
                detail: made.map(\.content.key).joined(separator: "; "))
            try NetworkStore.changed(tx)
            return made
        }
        return made.map { SecurityGroupRuleView(rule: $0, accountID: op.accountID, settings: cloud.settings).wire(tags.map(\.wire)) }
    }

    private func revoke(
        _ key: GroupKey, _ request: some PermissionRequest, ids: [String], egress: Bool, dryRun: Bool?, _ op: OperationContext
    ) async throws(CloudError) -> [EC2.RevokedSecurityGroupRule] {
        var orders: [RuleOrder] = []
        if ids.isEmpty {
            orders = try SecurityGroupRules.orders(request)
        } else {
            guard request.ipPermissions.isEmpty, request.ipProtocol == nil, request.cidrIp == nil, request.sourceSecurityGroupName == nil
            else {
                throw CloudError(.invalidCombination("SecurityGroupRuleId cannot be combined with permissions"))
            }
            for id in ids { _ = try SecurityGroupRuleID(parsing: id) }
        }
        let wanted = orders
        let gone = try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            let rules = (try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []).filter { $0.egress == egress }
            var gone: [GroupRule] = []
            for id in ids where !gone.contains(where: { $0.id.text == id }) {
                guard let rule = rules.first(where: { $0.id.text == id }) else { throw SecurityGroupRules.unknownRule(id) }
                gone.append(rule)
            }
            for order in wanted { gone.append(try Self.rule(tx, order, among: rules, op)) }
            for rule in gone { try SecurityGroupStore.deleteRule(tx, id: rule.id) }
            try op.endDryRun(dryRun)
            try AuditStore.record(
                tx, op, action: egress ? "RevokeSecurityGroupEgress" : "RevokeSecurityGroupIngress", resource: group.id.text,
                detail: gone.map(\.content.key).joined(separator: "; "))
            try NetworkStore.changed(tx)
            return gone
        }
        return gone.map { rule in
            let source = RuleWords(rule.content.source)
            return EC2.RevokedSecurityGroupRule(
                securityGroupRuleId: rule.id.text, groupId: rule.groupID, isEgress: egress, ipProtocol: rule.content.traffic.proto,
                fromPort: rule.content.traffic.fromPort ?? -1, toPort: rule.content.traffic.toPort ?? -1, cidrIpv4: source.cidr,
                cidrIpv6: source.cidr6, referencedGroupId: source.group?.id,
                description: rule.description.isEmpty ? nil : rule.description)
        }
    }

    /// The rule that a request names by its content.
    /// - Throws: `InvalidPermission.NotFound`.
    private static func rule(
        _ tx: Transaction, _ order: RuleOrder, among rules: [GroupRule], _ op: OperationContext
    ) throws(CloudError) -> GroupRule {
        let content: RuleContent
        do throws(CloudError) {
            content = try SecurityGroupStore.resolve(tx, order, accountID: op.accountID)
        } catch {
            // A group that is gone cannot stand in a rule.
            if case .notFound = error.reason { throw SecurityGroupRules.notThere }
            throw error
        }
        guard let rule = rules.first(where: { $0.content == content }) else { throw SecurityGroupRules.notThere }
        return rule
    }
}

extension EC2Actions: EC2SecurityGroupRulesActions {
    public func authorizeSecurityGroupEgress(
        _ request: EC2.AuthorizeSecurityGroupEgress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AuthorizeSecurityGroupEgressResponse {
        let made = try await authorize(
            try GroupKey(id: request.groupId, name: nil), try SecurityGroupRules.orders(request), egress: true, request.tagSpecifications,
            dryRun: request.dryRun, op)
        return EC2.AuthorizeSecurityGroupEgressResponse(result: true, securityGroupRules: made)
    }

    public func revokeSecurityGroupEgress(
        _ request: EC2.RevokeSecurityGroupEgress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.RevokeSecurityGroupEgressResponse {
        let gone = try await revoke(
            try GroupKey(id: request.groupId, name: nil), request, ids: request.securityGroupRuleIds, egress: true,
            dryRun: request.dryRun, op)
        return EC2.RevokeSecurityGroupEgressResponse(result: true, revokedSecurityGroupRules: gone)
    }

    public func describeSecurityGroupRules(
        _ request: EC2.DescribeSecurityGroupRules, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSecurityGroupRulesResponse {
        try await cloud.ensureNetwork(op)
        let settings = cloud.settings
        for id in request.securityGroupRuleIds { _ = try SecurityGroupRuleID(parsing: id) }
        let page: DescribedPage<SecurityGroupRuleView>
        do throws(CloudError) {
            page = try await cloud.describe(
                request, op, ids: request.securityGroupRuleIds, filters: request.filters, maxResults: request.maxResults,
                nextToken: request.nextToken, dryRun: request.dryRun
            ) { tx in
                let groups = try SecurityGroupStore.list(tx, accountID: op.accountID).map(\.id.text)
                return try SecurityGroupStore.rules(tx, groupIDs: groups).values.joined().map {
                    SecurityGroupRuleView(rule: $0, accountID: op.accountID, settings: settings)
                }
            }
        } catch {
            // The permission of an old request and the rule of a new one have different codes.
            if case .notFound(.securityGroupRule, let id) = error.reason { throw SecurityGroupRules.unknownRule(id) }
            throw error
        }
        return EC2.DescribeSecurityGroupRulesResponse(
            securityGroupRules: page.items.map { $0.wire(page.tags($0.describedID)) }, nextToken: page.nextToken)
    }

    public func modifySecurityGroupRules(
        _ request: EC2.ModifySecurityGroupRules, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifySecurityGroupRulesResponse {
        let key = try GroupKey(id: request.groupId, name: nil)
        var orders: [(id: String, order: RuleOrder)] = []
        for update in request.securityGroupRules {
            guard let id = update.securityGroupRuleId else { throw CloudError(.missingParameter("SecurityGroupRuleId")) }
            _ = try SecurityGroupRuleID(parsing: id)
            guard !orders.contains(where: { $0.id == id }) else {
                throw CloudError(.invalidParameter("SecurityGroupRuleId"), "The rule \(id) is there twice")
            }
            orders.append((id, try SecurityGroupRules.order(update.securityGroupRule ?? EC2.SecurityGroupRuleRequest())))
        }
        let wanted = orders
        try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            var rules = try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []
            for (id, order) in wanted {
                guard let place = rules.firstIndex(where: { $0.id.text == id }) else { throw SecurityGroupRules.unknownRule(id) }
                let content = try SecurityGroupStore.resolve(tx, order, accountID: op.accountID)
                let old = rules[place]
                guard !rules.contains(where: { $0.id != old.id && $0.egress == old.egress && $0.content == content }) else {
                    throw SecurityGroupRules.duplicate(content)
                }
                let new = GroupRule(
                    id: old.id, groupID: old.groupID, content: content, description: order.description, egress: old.egress)
                try SecurityGroupStore.replaceRule(tx, accountID: op.accountID, new)
                rules[place] = new
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "ModifySecurityGroupRules", resource: group.id.text, detail: wanted.map(\.id).joined(separator: " "))
            try NetworkStore.changed(tx)
        }
        return EC2.ModifySecurityGroupRulesResponse(result: true)
    }

    public func updateSecurityGroupRuleDescriptionsIngress(
        _ request: EC2.UpdateSecurityGroupRuleDescriptionsIngress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.UpdateSecurityGroupRuleDescriptionsIngressResponse {
        try await describeRules(
            try GroupKey(id: request.groupId, name: request.groupName), request.ipPermissions, request.securityGroupRuleDescriptions,
            egress: false, dryRun: request.dryRun, op)
        return EC2.UpdateSecurityGroupRuleDescriptionsIngressResponse(result: true)
    }

    public func updateSecurityGroupRuleDescriptionsEgress(
        _ request: EC2.UpdateSecurityGroupRuleDescriptionsEgress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.UpdateSecurityGroupRuleDescriptionsEgressResponse {
        try await describeRules(
            try GroupKey(id: request.groupId, name: request.groupName), request.ipPermissions, request.securityGroupRuleDescriptions,
            egress: true, dryRun: request.dryRun, op)
        return EC2.UpdateSecurityGroupRuleDescriptionsEgressResponse(result: true)
    }

    /// New descriptions, for rules named by content or by id.
    private func describeRules(
        _ key: GroupKey, _ permissions: [EC2.IpPermission], _ named: [EC2.SecurityGroupRuleDescription], egress: Bool, dryRun: Bool?,
        _ op: OperationContext
    ) async throws(CloudError) {
        guard permissions.isEmpty != named.isEmpty else {
            throw CloudError(.invalidCombination("Either permissions or rule descriptions must be given"))
        }
        var found: [RuleOrder] = []
        for permission in permissions { found += try SecurityGroupRules.orders(permission) }
        for description in named {
            guard let id = description.securityGroupRuleId else { throw CloudError(.missingParameter("SecurityGroupRuleId")) }
            _ = try SecurityGroupRuleID(parsing: id)
            try SecurityGroupRules.checkDescription(description.description ?? "", parameter: "Description")
        }
        let orders = found
        try await cloud.pool.transaction { tx in
            let group = try key.fetch(tx, op)
            let rules = (try SecurityGroupStore.rules(tx, groupIDs: [group.id.text])[group.id.text] ?? []).filter { $0.egress == egress }
            for description in named {
                guard let rule = rules.first(where: { $0.id.text == description.securityGroupRuleId }) else {
                    throw SecurityGroupRules.unknownRule(description.securityGroupRuleId ?? "")
                }
                try SecurityGroupStore.setDescription(tx, id: rule.id, description.description ?? "")
            }
            for order in orders {
                try SecurityGroupStore.setDescription(tx, id: try Self.rule(tx, order, among: rules, op).id, order.description)
            }
            try op.endDryRun(dryRun)
            try AuditStore.record(
                tx, op, action: "UpdateSecurityGroupRuleDescriptions\(egress ? "Egress" : "Ingress")", resource: group.id.text)
        }
    }

    // MARK: what there is none of

    public func getSecurityGroupsForVpc(
        _ request: EC2.GetSecurityGroupsForVpc, _ op: OperationContext
    ) async throws(CloudError) -> EC2.GetSecurityGroupsForVpcResponse {
        let id = try VpcID(parsing: request.vpcId)
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: [], filters: request.filters, maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun
        ) { tx in
            _ = try VpcStore.fetch(tx, id: id, accountID: op.accountID)
            return try SecurityGroupStore.list(tx, accountID: op.accountID)
        }
        return EC2.GetSecurityGroupsForVpcResponse(
            nextToken: page.nextToken,
            securityGroupForVpcs: page.items.map {
                EC2.SecurityGroupForVpc(
                    description: $0.description, groupName: $0.name, ownerId: $0.accountID, groupId: $0.id.text,
                    tags: page.tags($0.id.text), primaryVpcId: id.text)
            })
    }

    public func describeSecurityGroupReferences(
        _ request: EC2.DescribeSecurityGroupReferences, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSecurityGroupReferencesResponse {
        var ids: [SecurityGroupID] = []
        for text in request.groupId { ids.append(try SecurityGroupID(parsing: text)) }
        let wanted = ids
        try await cloud.pool.read { tx in
            for id in wanted { _ = try SecurityGroupStore.fetch(tx, accountID: op.accountID, id: id) }
        }
        try op.endDryRun(request.dryRun)
        return EC2.DescribeSecurityGroupReferencesResponse()
    }

    public func describeStaleSecurityGroups(
        _ request: EC2.DescribeStaleSecurityGroups, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeStaleSecurityGroupsResponse {
        let id = try VpcID(parsing: request.vpcId)
        try await cloud.ensureNetwork(op)
        _ = try await cloud.pool.read { tx in try VpcStore.fetch(tx, id: id, accountID: op.accountID) }
        try op.endDryRun(request.dryRun)
        return EC2.DescribeStaleSecurityGroupsResponse()
    }

    public func describeSecurityGroupVpcAssociations(
        _ request: EC2.DescribeSecurityGroupVpcAssociations, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSecurityGroupVpcAssociationsResponse {
        _ = try Filters(request.filters, known: ["group-id", "group-owner-id", "state", "vpc-id", "vpc-owner-id"])
        try op.endDryRun(request.dryRun)
        return EC2.DescribeSecurityGroupVpcAssociationsResponse()
    }

    public func describePrefixLists(
        _ request: EC2.DescribePrefixLists, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribePrefixListsResponse {
        try noPrefixList(request.prefixListIds, request.filters, op, request.dryRun)
        return EC2.DescribePrefixListsResponse()
    }

    public func describeManagedPrefixLists(
        _ request: EC2.DescribeManagedPrefixLists, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeManagedPrefixListsResponse {
        try noPrefixList(request.prefixListIds, request.filters, op, request.dryRun)
        return EC2.DescribeManagedPrefixListsResponse()
    }

    private func noPrefixList(
        _ ids: [String], _ filters: [EC2.Filter], _ op: OperationContext, _ dryRun: Bool?
    ) throws(CloudError) {
        _ = try Filters(filters, known: ["owner-id", "prefix-list-id", "prefix-list-name", "tag"])
        if let id = ids.first {
            throw CloudError(
                .named(code: "InvalidPrefixListID.NotFound", status: 400), "The prefix list ID '\(id.prefix(60))' does not exist")
        }
        try op.endDryRun(dryRun)
    }
}

extension SecurityGroup: Described {
    typealias Kind = SecurityGroupKind
    var describedID: String { id.text }
    static let filters: Set<String> = ["description", "group-id", "group-name", "owner-id", "primary-vpc-id", "tag"]
    func values(_ filter: String) -> [String] {
        switch filter {
        case "description": [description]
        case "group-id": [id.text]
        case "group-name": [name]
        case "owner-id": [accountID]
        default: []
        }
    }
}

/// A rule as DescribeSecurityGroupRules shows it.
struct SecurityGroupRuleView: Described {
    typealias Kind = SecurityGroupRuleKind
    let rule: GroupRule
    let accountID: String
    let settings: CloudSettings
    var describedID: String { rule.id.text }

    /// Source: EC2 API Reference, DescribeSecurityGroupRules.
    static let filters: Set<String> = ["group-id", "security-group-rule-id", "tag"]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "group-id": [rule.groupID]
        case "security-group-rule-id": [rule.id.text]
        default: []
        }
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.SecurityGroupRule {
        let source = RuleWords(rule.content.source)
        return EC2.SecurityGroupRule(
            securityGroupRuleId: rule.id.text, groupId: rule.groupID, groupOwnerId: accountID, isEgress: rule.egress,
            ipProtocol: rule.content.traffic.proto, fromPort: rule.content.traffic.fromPort ?? -1,
            toPort: rule.content.traffic.toPort ?? -1, cidrIpv4: source.cidr, cidrIpv6: source.cidr6,
            referencedGroupInfo: source.group.map { EC2.ReferencedSecurityGroup(groupId: $0.id, userId: $0.accountID) },
            description: rule.description.isEmpty ? nil : rule.description, tags: tags,
            securityGroupRuleArn: settings.arn("security-group-rule", rule.id.text, account: accountID))
    }
}

extension SecurityGroupRules {
    /// One rule in the form of ModifySecurityGroupRules: exactly one source.
    static func order(_ r: EC2.SecurityGroupRuleRequest) throws(CloudError) -> RuleOrder {
        var permission = EC2.IpPermission(ipProtocol: r.ipProtocol, fromPort: r.fromPort, toPort: r.toPort)
        let description = r.description ?? ""
        if let cidr = r.cidrIpv4 { permission.ipRanges = [EC2.IpRange(cidrIp: cidr, description: description)] }
        if let cidr = r.cidrIpv6 { permission.ipv6Ranges = [EC2.Ipv6Range(cidrIpv6: cidr, description: description)] }
        if let id = r.referencedGroupId { permission.userIdGroupPairs = [EC2.UserIdGroupPair(groupId: id, description: description)] }
        let found = try orders(permission)
        guard found.count == 1 else {
            throw CloudError(.invalidCombination("A rule has exactly one of CidrIpv4, CidrIpv6 and ReferencedGroupId"))
        }
        return found[0]
    }
}
