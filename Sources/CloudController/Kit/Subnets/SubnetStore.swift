import Database
import Domain

/// The rows of subnets, all in the caller's transaction.
enum SubnetStore {
    /// The zone's default subnet on the first block that is free.
    /// - Returns: `nil` when the network has no block left for it.
    static func makeDefault(_ tx: Transaction, _ vpc: Vpc, zone: String, zones: Int, seed: String) throws(CloudError) -> Subnet? {
        let others = try list(tx, accountID: vpc.accountID)
        let blocks = VpcRules.defaultBlocks(of: vpc.cidr, zones: zones)
        guard let block = blocks.first(where: { block in !others.contains { $0.cidr.overlaps(block) } }),
            let acl = try NetworkAclStore.standard(tx, vpc)
        else { return nil }
        let subnet = Subnet(
            id: VpcRules.id("subnet of \(vpc.id) in \(zone) \(seed)"), accountID: vpc.accountID, vpcID: vpc.id.text, zone: zone,
            cidr: block, isDefault: true, mapPublic: true, aclID: acl.id.text,
            aclAssociationID: VpcRules.id("acl of subnet of \(vpc.id) in \(zone) \(seed)"))
        try insert(tx, subnet)
        return subnet
    }

    static func insert(_ tx: Transaction, _ s: Subnet) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.subnets (id, account_id, vpc_id, zone, cidr, is_default, map_public, acl_id, acl_association_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """, .text(s.id.text), .text(s.accountID), .text(s.vpcID), .text(s.zone), .text(s.cidr.description), .boolean(s.isDefault),
            .boolean(s.mapPublic), .text(s.aclID), .text(s.aclAssociationID.text))
    }

    /// In the order of ids.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [Subnet] {
        var out: [Subnet] = []
        for row in try tx.execute("SELECT * FROM cloud.subnets WHERE account_id = $1 ORDER BY id COLLATE \"C\"", .text(accountID)) {
            out.append(try subnet(row))
        }
        return out
    }

    /// - Throws: `.notFound(.subnet)`.
    static func fetch(_ tx: Transaction, id: SubnetID, accountID: String) throws(CloudError) -> Subnet {
        guard
            let row = try tx.execute("SELECT * FROM cloud.subnets WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text))
                .first
        else { throw CloudError(.notFound(.subnet, id: id.text)) }
        return try subnet(row)
    }

    static func find(_ tx: Transaction, aclAssociation: NetworkAclAssociationID, accountID: String) throws(CloudError) -> Subnet? {
        try tx.execute(
            "SELECT * FROM cloud.subnets WHERE account_id = $1 AND acl_association_id = $2", .text(accountID), .text(aclAssociation.text)
        ).first.map { row throws(CloudError) in try subnet(row) }
    }

    static func setMapPublic(_ tx: Transaction, id: SubnetID, _ value: Bool) throws(CloudError) {
        try tx.execute("UPDATE cloud.subnets SET map_public = $2 WHERE id = $1", .text(id.text), .boolean(value))
    }

    static func setAcl(_ tx: Transaction, id: SubnetID, acl: NetworkAclID, association: NetworkAclAssociationID) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.subnets SET acl_id = $2, acl_association_id = $3 WHERE id = $1", .text(id.text), .text(acl.text),
            .text(association.text))
    }

    /// Its route association goes with it. Interfaces of instances that have ended are gone already.
    static func delete(_ tx: Transaction, id: SubnetID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.subnets WHERE id = $1", .text(id.text))
    }

    /// Addresses of each subnet that nobody has.
    static func available(_ tx: Transaction, _ subnets: [Subnet], settings: CloudSettings) throws(CloudError) -> [SubnetID: Int] {
        var out: [SubnetID: Int] = [:]
        for subnet in subnets {
            let used = try AddressStore.usedPrivate(tx, subnet.cidr)
            let gateway = subnet.cidr.hosts.contains(settings.gateway.value) ? 1 : 0
            out[subnet.id] = max(0, subnet.cidr.hosts.count - used - gateway)
        }
        return out
    }

    private static func subnet(_ row: Row) throws(CloudError) -> Subnet {
        guard let cidr = CIDR(parsing: row.text("cidr")) else { throw .bug("block of \(row.text("id"))") }
        return Subnet(
            id: try SubnetID(parsing: row.text("id")), accountID: row.text("account_id"), vpcID: row.text("vpc_id"),
            zone: row.text("zone"), cidr: cidr, isDefault: row.bool("is_default"), mapPublic: row.bool("map_public"),
            aclID: row.text("acl_id"), aclAssociationID: try NetworkAclAssociationID(parsing: row.text("acl_association_id")))
    }
}
