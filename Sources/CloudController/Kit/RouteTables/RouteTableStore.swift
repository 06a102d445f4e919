import API
import Database
import Domain

/// Where a subnet's packets to the world outside go. Within the private network they always go straight.
struct RouteTable: Sendable, Equatable {
    struct Route: Sendable, Equatable {
        let destination: CIDR
        let gatewayID: String
        /// Whether its gateway is there and attached. If not, what it matches goes nowhere.
        let isActive: Bool
    }
    struct Association: Sendable, Equatable {
        let id: String
        /// `nil`: the main one, of all subnets without an own.
        let subnetID: String?
    }
    let id: RouteTableID
    let accountID: String
    let vpcID: String
    let vpcBlock: CIDR
    let isMain: Bool
    var routes: [Route]
    var associations: [Association]
}

/// The rows of route tables, all in the caller's transaction.
enum RouteTableStore {
    static func insert(_ tx: Transaction, id: RouteTableID, _ vpc: Vpc, mainAssociation: RouteTableAssociationID?) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.route_tables (id, account_id, vpc_id, is_main, main_association_id) VALUES ($1, $2, $3, $4, $5)",
            .text(id.text), .text(vpc.accountID), .text(vpc.id.text), .boolean(mainAssociation != nil), SQLValue(mainAssociation?.text))
    }

    /// All of the account, with routes and associations.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [RouteTable] {
        guard let vpc = try VpcStore.find(tx, accountID: accountID) else { return [] }
        var tables: [String: RouteTable] = [:]
        for row in try tx.execute("SELECT * FROM cloud.route_tables WHERE account_id = $1", .text(accountID)) {
            tables[row.text("id")] = RouteTable(
                id: try RouteTableID(parsing: row.text("id")), accountID: accountID, vpcID: row.text("vpc_id"), vpcBlock: vpc.cidr,
                isMain: row.bool("is_main"), routes: [],
                associations: row.optionalText("main_association_id").map { [RouteTable.Association(id: $0, subnetID: nil)] } ?? [])
        }
        for row in try tx.execute(
            """
            SELECT r.table_id, r.destination, r.gateway_id, g.vpc_id IS NOT NULL AS active FROM cloud.routes r
            JOIN cloud.route_tables t ON t.id = r.table_id LEFT JOIN cloud.internet_gateways g ON g.id = r.gateway_id
            WHERE t.account_id = $1 ORDER BY r.destination
            """, .text(accountID))
        {
            guard let block = CIDR(parsing: row.text("destination")) else { continue }
            tables[row.text("table_id")]?.routes.append(
                RouteTable.Route(destination: block, gatewayID: row.text("gateway_id"), isActive: row.bool("active")))
        }
        for row in try tx.execute(
            """
            SELECT a.id, a.table_id, a.subnet_id FROM cloud.route_associations a JOIN cloud.route_tables t ON t.id = a.table_id
            WHERE t.account_id = $1 ORDER BY a.id
            """, .text(accountID))
        {
            tables[row.text("table_id")]?.associations.append(
                RouteTable.Association(id: row.text("id"), subnetID: row.text("subnet_id")))
        }
        return tables.values.sorted { $0.id < $1.id }
    }

    /// - Throws: `.notFound(.routeTable)`.
    static func fetch(_ tx: Transaction, id: RouteTableID, accountID: String) throws(CloudError) -> RouteTable {
        guard let table = try list(tx, accountID: accountID).first(where: { $0.id == id }) else {
            throw CloudError(.notFound(.routeTable, id: id.text))
        }
        return table
    }

    static func delete(_ tx: Transaction, id: RouteTableID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.route_tables WHERE id = $1", .text(id.text))
    }

    static func setRoute(_ tx: Transaction, tableID: String, destination: String, gatewayID: String) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.routes (table_id, destination, gateway_id) VALUES ($1, $2, $3)
            ON CONFLICT (table_id, destination) DO UPDATE SET gateway_id = excluded.gateway_id
            """, .text(tableID), .text(destination), .text(gatewayID))
    }

    static func deleteRoute(_ tx: Transaction, tableID: String, destination: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.routes WHERE table_id = $1 AND destination = $2", .text(tableID), .text(destination))
    }

    static func associate(_ tx: Transaction, id: RouteTableAssociationID, tableID: String, subnetID: String) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.route_associations (id, table_id, subnet_id) VALUES ($1, $2, $3)", .text(id.text), .text(tableID),
            .text(subnetID))
    }

    static func disassociate(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.route_associations WHERE id = $1", .text(id))
    }

    /// Makes another table the main one.
    static func setMain(_ tx: Transaction, from old: RouteTable, to new: RouteTable, association: RouteTableAssociationID)
        throws(CloudError)
    {
        try tx.execute("UPDATE cloud.route_tables SET is_main = false, main_association_id = NULL WHERE id = $1", .text(old.id.text))
        try tx.execute(
            "UPDATE cloud.route_tables SET is_main = true, main_association_id = $2 WHERE id = $1", .text(new.id.text),
            .text(association.text))
    }
}
