public import Database
public import Domain

/// Tags of everything, in one table. Rows go with their resource: whoever deletes one calls `removeAll`.
public enum TagStore {
    struct StoredTag: Sendable {
        let resourceID, resourceType: String
        let tag: ResourceTag
        /// Sorted by resource, then key.
        var sortKey: String { resourceID + "\u{1}" + tag.key }
    }

    /// Tags of a new resource.
    public static func insert(
        _ tx: Transaction, accountID: String, resourceID: String, type: TaggableType, _ tags: [ResourceTag]
    ) throws(CloudError) {
        for tag in tags { try set(tx, accountID: accountID, resourceID: resourceID, type: type, tag) }
    }

    /// The same tags on several new resources, checked like those of CreateTags.
    /// - Parameter kind: EC2's name of the type: `instance`.
    public static func set(
        _ tx: Transaction, resources: [String], kind: String, tags: [(key: String, value: String)], accountID: String
    ) throws(CloudError) {
        guard let type = TaggableType(rawValue: kind) else { throw .bug("\(kind) is no type that can be tagged") }
        var parsed: [ResourceTag] = []
        for tag in tags { parsed.append(try ResourceTag(key: tag.key, value: tag.value)) }
        try TagRules.checkCount(Set(parsed.map(\.key)).count)
        for id in resources { try insert(tx, accountID: accountID, resourceID: id, type: type, parsed) }
    }

    static func set(
        _ tx: Transaction, accountID: String, resourceID: String, type: TaggableType, _ tag: ResourceTag
    ) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.tags (resource_id, key, value, account_id, resource_type) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (resource_id, key) DO UPDATE SET value = excluded.value
            """,
            .text(resourceID), .text(tag.key), .text(tag.value), .text(accountID), .text(type.rawValue))
    }

    /// - Parameter value: when given, only a tag with this value goes.
    static func remove(_ tx: Transaction, resourceID: String, key: String, value: String?) throws(CloudError) {
        try tx.execute(
            "DELETE FROM cloud.tags WHERE resource_id = $1 AND key = $2 AND ($3::text IS NULL OR value = $3)",
            .text(resourceID), .text(key), SQLValue(value))
    }

    public static func deleteAll(_ tx: Transaction, _ resourceID: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.tags WHERE resource_id = $1", .text(resourceID))
    }

    static func count(_ tx: Transaction, resourceID: String) throws(CloudError) -> Int {
        try tx.execute("SELECT count(*) AS n FROM cloud.tags WHERE resource_id = $1", .text(resourceID)).first?.int("n") ?? 0
    }

    /// The tags of these resources, each list in the order of keys. Resources without tags have no entry.
    public static func tags(_ tx: Transaction, _ resourceIDs: [String]) throws(CloudError) -> [String: [ResourceTag]] {
        guard !resourceIDs.isEmpty else { return [:] }
        var out: [String: [ResourceTag]] = [:]
        for row in try tx.execute(
            "SELECT resource_id, key, value FROM cloud.tags WHERE resource_id = ANY($1) ORDER BY resource_id, key", .textArray(resourceIDs))
        {
            out[row.text("resource_id"), default: []].append(ResourceTag(stored: row.text("key"), row.text("value")))
        }
        return out
    }

    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [StoredTag] {
        try tx.execute(
            """
            SELECT resource_id, resource_type, key, value FROM cloud.tags WHERE account_id = $1
            ORDER BY resource_id COLLATE "C", key COLLATE "C"
            """, .text(accountID)
        ).map {
            StoredTag(
                resourceID: $0.text("resource_id"), resourceType: $0.text("resource_type"),
                tag: ResourceTag(stored: $0.text("key"), $0.text("value")))
        }
    }

    /// Whether the account owns this resource and it still exists.
    static func exists(_ tx: Transaction, accountID: String, id: String, type: TaggableType) throws(CloudError) -> Bool {
        if type == .dhcpOptions { return try VpcStore.find(tx, accountID: accountID)?.dhcpOptionsID.text == id }
        let sql =
            switch type {
            case .dhcpOptions: ""
            case .internetGateway: "SELECT 1 FROM cloud.internet_gateways WHERE id = $1 AND account_id = $2"
            case .launchTemplate: "SELECT 1 FROM cloud.launch_templates WHERE id = $1 AND account_id = $2"
            case .networkAcl: "SELECT 1 FROM cloud.network_acls WHERE id = $1 AND account_id = $2"
            case .networkInterface: "SELECT 1 FROM cloud.network_interfaces WHERE id = $1 AND account_id = $2"
            case .routeTable: "SELECT 1 FROM cloud.route_tables WHERE id = $1 AND account_id = $2"
            case .subnet: "SELECT 1 FROM cloud.subnets WHERE id = $1 AND account_id = $2"
            case .vpc: "SELECT 1 FROM cloud.vpcs WHERE id = $1 AND account_id = $2"
            case .elasticIP: "SELECT 1 FROM cloud.addresses WHERE allocation_id = $1 AND account_id = $2"
            case .image: "SELECT 1 FROM cloud.images WHERE id = $1 AND account_id = $2 AND deregistered_at IS NULL"
            case .instance: "SELECT 1 FROM cloud.instances WHERE id = $1 AND account_id = $2"
            case .keyPair: "SELECT 1 FROM cloud.key_pairs WHERE id = $1 AND account_id = $2"
            case .securityGroup: "SELECT 1 FROM cloud.security_groups WHERE id = $1 AND account_id = $2"
            case .securityGroupRule: "SELECT 1 FROM cloud.security_group_rules WHERE id = $1 AND account_id = $2"
            case .snapshot: "SELECT 1 FROM cloud.snapshots WHERE id = $1 AND account_id = $2 AND finished_at IS NULL"
            case .volume: "SELECT 1 FROM cloud.volumes WHERE id = $1 AND account_id = $2 AND finished_at IS NULL"
            }
        return !(try tx.execute(sql, .text(id), .text(accountID)).isEmpty)
    }
}

extension [ResourceTag] {
    /// For filters.
    var byKey: [String: String] { Dictionary(map { ($0.key, $0.value) }, uniquingKeysWith: { a, _ in a }) }
}
