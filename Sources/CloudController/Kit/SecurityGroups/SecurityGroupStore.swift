public import API
public import Database
public import Domain
import Signing

public struct SecurityGroup: Sendable, Equatable {
    public let id: SecurityGroupID
    public let accountID, name, description: String
}

public struct GroupRule: Sendable, Equatable {
    public let id: SecurityGroupRuleID
    public let groupID: String
    public let content: RuleContent
    public let description: String
    /// For what members send; otherwise for what they get.
    public var egress = false
}

public enum SecurityGroupStore {
    // MARK: for launches and the nodes' network

    /// The groups of a launch, in the order asked for and each once: by id or name; `default` when none is named.
    /// - Throws: `.notFound(.securityGroup)`, `.malformedID`.
    public static func resolve(
        _ tx: Transaction, ids: [String], names: [String], accountID: String
    ) throws(CloudError) -> [(id: String, name: String)] {
        let standard = try ensureDefault(tx, accountID: accountID)
        var out: [(id: String, name: String)] = []
        func add(_ group: SecurityGroup) { if !out.contains(where: { $0.id == group.id.text }) { out.append((group.id.text, group.name)) } }
        for id in ids { add(try fetch(tx, accountID: accountID, id: try SecurityGroupID(parsing: id))) }
        for name in names {
            // SOAP's groupSet and old tools have names and ids in one list.
            if let id = try? SecurityGroupID(parsing: name) {
                add(try fetch(tx, accountID: accountID, id: id))
            } else {
                add(try fetch(tx, accountID: accountID, name: name))
            }
        }
        return out.isEmpty ? [(standard.id.text, standard.name)] : out
    }

    /// What nodes need of the rules, by group id; only IPv4, the only traffic that there is.
    public static func nodeRules(_ tx: Transaction, egress: Bool = false) throws(CloudError) -> [String: [NC.GroupRule]] {
        var out: [String: [NC.GroupRule]] = [:]
        for row in try tx.execute(
            """
            SELECT group_id, protocol, from_port, to_port, cidr, source_group_id FROM cloud.security_group_rules
            WHERE egress = $1 AND cidr6 IS NULL AND protocol <> '58' ORDER BY group_id, ordinal
            """, .boolean(egress))
        {
            out[row.text("group_id"), default: []].append(
                NC.GroupRule(
                    proto: row.text("protocol"), fromPort: row.optionalInt("from_port"), toPort: row.optionalInt("to_port"),
                    cidr: row.optionalText("cidr"), sourceGroupId: row.optionalText("source_group_id")))
        }
        return out
    }

    // MARK: groups

    /// The account's `default`, which lets its members talk to each other; made when first looked for. Its ids come from the account's, so
    /// that it is the same whoever makes it first.
    @discardableResult
    static func ensureDefault(_ tx: Transaction, accountID: String) throws(CloudError) -> SecurityGroup {
        if let row = try tx.execute(
            "SELECT * FROM cloud.security_groups WHERE account_id = $1 AND name = $2", .text(accountID),
            .text(SecurityGroupRules.defaultName)
        ).first {
            return try group(row)
        }
        let made = SecurityGroup(
            id: SecurityGroupID(random: Digest.sha256(Array("default group of \(accountID)".utf8))), accountID: accountID,
            name: SecurityGroupRules.defaultName,
            description: "default group")
        try insert(tx, made)
        try insertRule(
            tx, accountID: accountID, SecurityGroupRules.everythingOut(of: made.id.text, VpcRules.id("default egress of \(accountID)")))
        let content = RuleContent(traffic: RuleTraffic(stored: "-1", nil, nil), source: .group(id: made.id.text, accountID: accountID))
        try insertRule(
            tx, accountID: accountID,
            GroupRule(
                id: SecurityGroupRuleID(random: Digest.sha256(Array("default rule of \(accountID)".utf8))), groupID: made.id.text,
                content: content, description: ""))
        return made
    }

    static func insert(_ tx: Transaction, _ group: SecurityGroup) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.security_groups (id, account_id, name, description) VALUES ($1, $2, $3, $4)",
            .text(group.id.text), .text(group.accountID), .text(group.name), .text(group.description))
    }

    static func count(_ tx: Transaction, accountID: String) throws(CloudError) -> Int {
        try tx.execute("SELECT count(*) AS n FROM cloud.security_groups WHERE account_id = $1", .text(accountID)).first?.int("n") ?? 0
    }

    /// - Throws: `.notFound(.securityGroup)`, for another account's group too.
    static func fetch(_ tx: Transaction, accountID: String, id: SecurityGroupID) throws(CloudError) -> SecurityGroup {
        guard
            let row = try tx.execute(
                "SELECT * FROM cloud.security_groups WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text)
            ).first
        else { throw CloudError(.notFound(.securityGroup, id: id.text)) }
        return try group(row)
    }

    static func fetch(_ tx: Transaction, accountID: String, name: String) throws(CloudError) -> SecurityGroup {
        guard let found = try find(tx, accountID: accountID, name: name) else { throw CloudError(.notFound(.securityGroup, id: name)) }
        return found
    }

    static func find(_ tx: Transaction, accountID: String, name: String) throws(CloudError) -> SecurityGroup? {
        guard
            let row = try tx.execute(
                "SELECT * FROM cloud.security_groups WHERE account_id = $1 AND name = $2", .text(accountID), .text(name)
            ).first
        else { return nil }
        return try group(row)
    }

    /// In the order of ids.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [SecurityGroup] {
        var out: [SecurityGroup] = []
        for row in try tx.execute("SELECT * FROM cloud.security_groups WHERE account_id = $1 ORDER BY id COLLATE \"C\"", .text(accountID)) {
            out.append(try group(row))
        }
        return out
    }

    /// Names of groups, of any account, for rules that refer to them.
    static func names(_ tx: Transaction, ids: [String]) throws(CloudError) -> [String: String] {
        guard !ids.isEmpty else { return [:] }
        var out: [String: String] = [:]
        for row in try tx.execute("SELECT id, name FROM cloud.security_groups WHERE id = ANY($1)", .textArray(ids)) {
            out[row.text("id")] = row.text("name")
        }
        return out
    }

    /// What still uses the group: an instance that has not ended, or a rule of another group; `nil` when nothing does.
    static func user(_ tx: Transaction, id: SecurityGroupID) throws(CloudError) -> String? {
        if let row = try tx.execute(
            """
            SELECT g.instance_id FROM cloud.instance_groups g JOIN cloud.instances i ON i.id = g.instance_id
            WHERE g.group_id = $1 AND i.finished_at IS NULL ORDER BY 1 LIMIT 1
            """, .text(id.text)
        ).first {
            return row.text("instance_id")
        }
        return try tx.execute(
            "SELECT group_id FROM cloud.security_group_rules WHERE source_group_id = $1 AND group_id <> $1 ORDER BY 1 LIMIT 1",
            .text(id.text)
        ).first?.text("group_id")
    }

    static func delete(_ tx: Transaction, id: SecurityGroupID) throws(CloudError) {
        for row in try tx.execute("SELECT id FROM cloud.security_group_rules WHERE group_id = $1", .text(id.text)) {
            try TagStore.deleteAll(tx, row.text("id"))
        }
        try TagStore.deleteAll(tx, id.text)
        // A group may refer to itself: its rules go first.
        try tx.execute("DELETE FROM cloud.security_group_rules WHERE group_id = $1", .text(id.text))
        try tx.execute("DELETE FROM cloud.security_groups WHERE id = $1", .text(id.text))
    }

    // MARK: rules

    /// A request's source with its group looked up.
    /// - Throws: `.notFound(.securityGroup)`.
    static func resolve(_ tx: Transaction, _ order: RuleOrder, accountID: String) throws(CloudError) -> RuleContent {
        switch order.source {
        case .known(let source): return RuleContent(traffic: order.traffic, source: source)
        case .named(let groupID, let groupName, let userID):
            let row =
                if let groupID {
                    try tx.execute(
                        "SELECT id, account_id FROM cloud.security_groups WHERE id = $1 AND ($2::text IS NULL OR account_id = $2)",
                        .text(groupID), SQLValue(userID)
                    ).first
                } else {
                    try tx.execute(
                        "SELECT id, account_id FROM cloud.security_groups WHERE account_id = $1 AND name = $2",
                        .text(userID ?? accountID), .text(groupName ?? "")
                    ).first
                }
            guard let row else { throw CloudError(.notFound(.securityGroup, id: groupID ?? groupName ?? "")) }
            return RuleContent(traffic: order.traffic, source: .group(id: row.text("id"), accountID: row.text("account_id")))
        }
    }

    static func insertRule(_ tx: Transaction, accountID: String, _ rule: GroupRule) throws(CloudError) {
        var cidr: String?
        var cidr6: String?
        var group: (id: String, accountID: String)?
        switch rule.content.source {
        case .cidr(let text): cidr = text
        case .cidr6(let text): cidr6 = text
        case .group(let id, let account): group = (id, account)
        }
        try tx.execute(
            """
            INSERT INTO cloud.security_group_rules (id, group_id, account_id, content, protocol, from_port, to_port, cidr, cidr6,
                source_group_id, source_account_id, description, egress)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            """,
            .text(rule.id.text), .text(rule.groupID), .text(accountID), .text(rule.content.key), .text(rule.content.traffic.proto),
            SQLValue(rule.content.traffic.fromPort), SQLValue(rule.content.traffic.toPort), SQLValue(cidr), SQLValue(cidr6),
            SQLValue(group?.id), SQLValue(group?.accountID), .text(rule.description), .boolean(rule.egress))
    }

    /// By group id, each in the order in which they were made.
    static func rules(_ tx: Transaction, groupIDs: [String]) throws(CloudError) -> [String: [GroupRule]] {
        guard !groupIDs.isEmpty else { return [:] }
        var out: [String: [GroupRule]] = [:]
        for row in try tx.execute(
            "SELECT * FROM cloud.security_group_rules WHERE group_id = ANY($1) ORDER BY group_id, ordinal", .textArray(groupIDs))
        {
            let source: RuleSource =
                if let cidr = row.optionalText("cidr") {
                    .cidr(cidr)
                } else if let cidr = row.optionalText("cidr6") {
                    .cidr6(cidr)
                } else {
                    .group(id: row.text("source_group_id"), accountID: row.text("source_account_id"))
                }
            let traffic = RuleTraffic(stored: row.text("protocol"), row.optionalInt("from_port"), row.optionalInt("to_port"))
            out[row.text("group_id"), default: []].append(
                GroupRule(
                    id: try SecurityGroupRuleID(parsing: row.text("id")), groupID: row.text("group_id"),
                    content: RuleContent(traffic: traffic, source: source), description: row.text("description"), egress: row.bool("egress")
                ))
        }
        return out
    }

    static func setDescription(_ tx: Transaction, id: SecurityGroupRuleID, _ text: String) throws(CloudError) {
        try tx.execute("UPDATE cloud.security_group_rules SET description = $2 WHERE id = $1", .text(id.text), .text(text))
    }

    /// The same rule with other content: its id, its place and its tags stay.
    static func replaceRule(_ tx: Transaction, accountID: String, _ rule: GroupRule) throws(CloudError) {
        let words = RuleWords(rule.content.source)
        try tx.execute(
            """
            UPDATE cloud.security_group_rules SET content = $2, protocol = $3, from_port = $4, to_port = $5, cidr = $6, cidr6 = $7,
                source_group_id = $8, source_account_id = $9, description = $10
            WHERE id = $1
            """, .text(rule.id.text), .text(rule.content.key), .text(rule.content.traffic.proto), SQLValue(rule.content.traffic.fromPort),
            SQLValue(rule.content.traffic.toPort), SQLValue(words.cidr), SQLValue(words.cidr6), SQLValue(words.group?.id),
            SQLValue(words.group?.accountID), .text(rule.description))
    }

    static func deleteRule(_ tx: Transaction, id: SecurityGroupRuleID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.security_group_rules WHERE id = $1", .text(id.text))
    }

    private static func group(_ row: Row) throws(CloudError) -> SecurityGroup {
        SecurityGroup(
            id: try SecurityGroupID(parsing: row.text("id")), accountID: row.text("account_id"), name: row.text("name"),
            description: row.text("description"))
    }
}
