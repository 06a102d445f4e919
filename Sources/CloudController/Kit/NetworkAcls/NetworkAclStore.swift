import Database
import Domain

/// The rows of network ACLs, all in the caller's transaction.
enum NetworkAclStore {
    static func insert(_ tx: Transaction, id: NetworkAclID, _ vpc: Vpc, isDefault: Bool) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.network_acls (id, account_id, vpc_id, is_default) VALUES ($1, $2, $3, $4)", .text(id.text),
            .text(vpc.accountID), .text(vpc.id.text), .boolean(isDefault))
    }

    /// All of the account, with entries and subnets.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [NetworkAcl] {
        var acls: [String: NetworkAcl] = [:]
        for row in try tx.execute("SELECT * FROM cloud.network_acls WHERE account_id = $1", .text(accountID)) {
            acls[row.text("id")] = NetworkAcl(
                id: try NetworkAclID(parsing: row.text("id")), accountID: accountID, vpcID: row.text("vpc_id"),
                isDefault: row.bool("is_default"), entries: [], associations: [])
        }
        for row in try tx.execute(
            """
            SELECT e.* FROM cloud.network_acl_entries e JOIN cloud.network_acls a ON a.id = e.acl_id WHERE a.account_id = $1
            ORDER BY e.acl_id, e.egress, e.number
            """, .text(accountID))
        {
            acls[row.text("acl_id")]?.entries.append(try entry(row))
        }
        for row in try tx.execute(
            "SELECT id, acl_id, acl_association_id FROM cloud.subnets WHERE account_id = $1 ORDER BY id", .text(accountID))
        {
            acls[row.text("acl_id")]?.associations.append(
                NetworkAcl.Association(id: row.text("acl_association_id"), subnetID: row.text("id")))
        }
        return acls.values.sorted { $0.id < $1.id }
    }

    /// - Throws: `.notFound(.networkAcl)`.
    static func fetch(_ tx: Transaction, id: NetworkAclID, accountID: String) throws(CloudError) -> NetworkAcl {
        guard let acl = try list(tx, accountID: accountID).first(where: { $0.id == id }) else {
            throw CloudError(.notFound(.networkAcl, id: id.text))
        }
        return acl
    }

    /// The one that a new subnet gets.
    static func standard(_ tx: Transaction, _ vpc: Vpc) throws(CloudError) -> NetworkAcl? {
        try list(tx, accountID: vpc.accountID).first { $0.isDefault }
    }

    static func setEntry(_ tx: Transaction, aclID: String, _ e: NetworkAcl.Entry) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.network_acl_entries (acl_id, egress, number, protocol, allow, cidr, first, last)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (acl_id, egress, number) DO UPDATE SET protocol = excluded.protocol, allow = excluded.allow, cidr = excluded.cidr,
                first = excluded.first, last = excluded.last
            """, .text(aclID), .boolean(e.egress), SQLValue(e.number), SQLValue(e.proto), .boolean(e.allow), .text(e.cidr.description),
            SQLValue(e.first), SQLValue(e.last))
    }

    static func deleteEntry(_ tx: Transaction, aclID: String, egress: Bool, number: Int) throws(CloudError) {
        try tx.execute(
            "DELETE FROM cloud.network_acl_entries WHERE acl_id = $1 AND egress = $2 AND number = $3", .text(aclID), .boolean(egress),
            SQLValue(number))
    }

    static func delete(_ tx: Transaction, id: NetworkAclID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.network_acls WHERE id = $1", .text(id.text))
    }

    static func entry(_ row: Row) throws(CloudError) -> NetworkAcl.Entry {
        guard let cidr = CIDR(parsing: row.text("cidr")) else { throw .bug("block of an entry of \(row.text("acl_id"))") }
        return NetworkAcl.Entry(
            number: row.int("number"), egress: row.bool("egress"), proto: row.int("protocol"), allow: row.bool("allow"), cidr: cidr,
            first: row.optionalInt("first"), last: row.optionalInt("last"))
    }
}
