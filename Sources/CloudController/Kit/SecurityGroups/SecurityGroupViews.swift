import API
import Database
import Domain

/// How a request names a group: id or name, exactly one of them.
struct GroupKey: Sendable {
    private let id: SecurityGroupID?
    private let name: String

    /// - Throws: `.missingParameter`, `.invalidCombination`, `.malformedID`.
    init(id: String?, name: String?) throws(CloudError) {
        switch (id, name) {
        case (nil, nil): throw CloudError(.missingParameter("GroupId"))
        case (.some, .some): throw CloudError(.invalidCombination("GroupId and GroupName cannot both be given"))
        case (.some(let text), nil):
            self.id = try SecurityGroupID(parsing: text)
            self.name = ""
        case (nil, .some(let text)):
            // SOAP of the old dates knows names only; an id in its place is taken as one.
            self.id = try? SecurityGroupID(parsing: text)
            self.name = text
        }
    }

    /// - Parameter userID: the owner, as old SOAP requests name it.
    init(id: String?, name: String?, userID: String?, _ op: OperationContext) throws(CloudError) {
        if let userID, !userID.isEmpty, userID != op.accountID {
            throw CloudError(.notFound(.securityGroup, id: id ?? name ?? ""))
        }
        try self.init(id: id, name: name)
    }

    /// - Throws: `.notFound(.securityGroup)`. `default` may be named before anything has made it.
    func fetch(_ tx: Transaction, _ op: OperationContext) throws(CloudError) -> SecurityGroup {
        if let id { return try SecurityGroupStore.fetch(tx, accountID: op.accountID, id: id) }
        if name == SecurityGroupRules.defaultName { return try SecurityGroupStore.ensureDefault(tx, accountID: op.accountID) }
        return try SecurityGroupStore.fetch(tx, accountID: op.accountID, name: name)
    }
}

/// A source taken apart for replies.
struct RuleWords {
    var cidr, cidr6: String?
    var group: (id: String, accountID: String)?
    init(_ source: RuleSource) {
        switch source {
        case .cidr(let text): cidr = text
        case .cidr6(let text): cidr6 = text
        case .group(let id, let accountID): group = (id, accountID)
        }
    }
}

/// Groups with all that DescribeSecurityGroups shows of them.
struct GroupListing: Sendable {
    let groups: [SecurityGroup]
    /// `nil` after the account has deleted its VPC.
    let vpcID: String?
    let rules: [String: [GroupRule]]
    /// Of the groups that rules refer to.
    let names: [String: String]
    let tags: [String: [ResourceTag]]

    static func references(_ rules: [String: [GroupRule]]) -> [String] {
        Array(Set(rules.values.joined().compactMap { RuleWords($0.content.source).group?.id })).sorted()
    }

    func wire(_ group: SecurityGroup, settings: CloudSettings, apiVersion: String) -> EC2.SecurityGroup {
        let own = rules[group.id.text] ?? []
        return EC2.SecurityGroup(
            ownerId: group.accountID, groupName: group.name, description: group.description,
            ipPermissions: permissions(own.filter { !$0.egress }, apiVersion: apiVersion), groupId: group.id.text,
            ipPermissionsEgress: permissions(own.filter(\.egress), apiVersion: apiVersion), vpcId: vpcID,
            tags: (tags[group.id.text] ?? []).map(\.wire),
            securityGroupArn: settings.arn("security-group", group.id.text, account: group.accountID))
    }

    /// Rules with the same protocol and ports are one permission, in the order of the first of them.
    private func permissions(_ rules: [GroupRule], apiVersion: String) -> [EC2.IpPermission] {
        var order: [RuleTraffic] = []
        var byTraffic: [RuleTraffic: EC2.IpPermission] = [:]
        // The old dates' descriptions demand numbers, which a rule for everything does not have.
        let none = apiVersion < "2011-02-28" ? -1 : nil
        for rule in rules {
            let traffic = rule.content.traffic
            if byTraffic[traffic] == nil { order.append(traffic) }
            var permission =
                byTraffic[traffic]
                ?? EC2.IpPermission(ipProtocol: traffic.proto, fromPort: traffic.fromPort ?? none, toPort: traffic.toPort ?? none)
            let description = rule.description.isEmpty ? nil : rule.description
            switch rule.content.source {
            case .cidr(let cidr): permission.ipRanges.append(EC2.IpRange(cidrIp: cidr, description: description))
            case .cidr6(let cidr): permission.ipv6Ranges.append(EC2.Ipv6Range(cidrIpv6: cidr, description: description))
            case .group(let id, let accountID):
                permission.userIdGroupPairs.append(
                    EC2.UserIdGroupPair(userId: accountID, groupName: names[id], groupId: id, description: description))
            }
            byTraffic[traffic] = permission
        }
        return order.compactMap { byTraffic[$0] }
    }
}
