import Database
import Domain

/// What stands at the border of a subnet that instances are in: its ACL's entries and the routes of its table.
struct SubnetBorder: Sendable, Equatable {
    let subnetID: String
    let entries: [NetworkAcl.Entry]
    let routes: [RouteTable.Route]

    /// Whether it stops anything: of the others nodes need to know nothing.
    var stops: Bool { !NetworkAcl.isOpen(entries) || !hasWayOut || !RouteTableRules.outside(routes).isEmpty }
    /// Whether there is a route beyond the private network at all.
    var hasWayOut: Bool { routes.contains(where: \.isActive) }
}

enum SubnetBorderStore {
    /// Of all accounts, by three queries however many they are.
    static func borders(_ tx: Transaction) throws(CloudError) -> [SubnetBorder] {
        let subnets = try tx.execute(
            """
            SELECT s.id, s.acl_id, coalesce(a.table_id, m.id, '') AS table_id FROM cloud.subnets s
            LEFT JOIN cloud.route_associations a ON a.subnet_id = s.id
            LEFT JOIN cloud.route_tables m ON m.vpc_id = s.vpc_id AND m.is_main
            WHERE EXISTS (SELECT 1 FROM cloud.network_interfaces n WHERE n.subnet_id = s.id) ORDER BY s.id
            """)
        var entries: [String: [NetworkAcl.Entry]] = [:]
        for row in try tx.execute(
            "SELECT * FROM cloud.network_acl_entries WHERE acl_id = ANY($1) ORDER BY acl_id, egress, number",
            .textArray(Array(Set(subnets.map { $0.text("acl_id") }))))
        {
            entries[row.text("acl_id"), default: []].append(try NetworkAclStore.entry(row))
        }
        var routes: [String: [RouteTable.Route]] = [:]
        for row in try tx.execute(
            """
            SELECT r.table_id, r.destination, r.gateway_id, g.vpc_id IS NOT NULL AS active FROM cloud.routes r
            LEFT JOIN cloud.internet_gateways g ON g.id = r.gateway_id WHERE r.table_id = ANY($1)
            """, .textArray(Array(Set(subnets.map { $0.text("table_id") }))))
        {
            guard let block = CIDR(parsing: row.text("destination")) else { continue }
            routes[row.text("table_id"), default: []].append(
                RouteTable.Route(destination: block, gatewayID: row.text("gateway_id"), isActive: row.bool("active")))
        }
        return subnets.map {
            SubnetBorder(
                subnetID: $0.text("id"), entries: entries[$0.text("acl_id")] ?? [], routes: routes[$0.text("table_id")] ?? [])
        }
    }
}
