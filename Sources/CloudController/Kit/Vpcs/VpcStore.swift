import Database
import Domain
import Signing

/// The rows of virtual private clouds, and the making of each account's default one.
enum VpcStore {
    // MARK: the default network

    /// The zones in which instances can be.
    static func zones(_ tx: Transaction, _ settings: CloudSettings) throws(CloudError) -> [String] {
        Set(try ComponentStore.all(tx).filter { $0.role == .cc }.map(\.zone) + [settings.zone]).sorted()
    }

    /// Whether the account has had its default network in every zone.
    static func isMade(_ tx: Transaction, accountID: String, settings: CloudSettings) throws(CloudError) -> Bool {
        let made = Set(
            try tx.execute("SELECT zone FROM cloud.default_networks WHERE account_id = $1", .text(accountID)).map { $0.text("zone") })
        return made.isSuperset(of: try zones(tx, settings))
    }

    /// The account's first touch makes its network: VPC, gateway, main route table, ACL, group, and a subnet in each zone. A zone that
    /// comes later gets its subnet when it is first seen. Nothing that was deleted is made again.
    static func ensure(_ tx: Transaction, accountID: String, settings: CloudSettings, now: Timestamp) throws(CloudError) {
        let made = Set(
            try tx.execute("SELECT zone FROM cloud.default_networks WHERE account_id = $1", .text(accountID)).map { $0.text("zone") })
        let zones = try zones(tx, settings)
        guard !made.isSuperset(of: zones) else { return }
        // First, so that of two first touches at once one is run again: it finds the other's row, which its snapshot has not.
        let missing = zones.filter { !made.contains($0) }
        for zone in missing {
            try tx.execute(
                "INSERT INTO cloud.default_networks (account_id, zone) VALUES ($1, $2) ON CONFLICT DO NOTHING", .text(accountID),
                .text(zone))
        }
        if made.isEmpty { try make(tx, accountID: accountID, seed: "", settings: settings, now: now) }
        if let vpc = try find(tx, accountID: accountID) {
            for zone in missing { _ = try SubnetStore.makeDefault(tx, vpc, zone: zone, zones: zones.count, seed: "") }
        }
        try NetworkInterfaceStore.adopt(tx, accountID: accountID)
    }

    /// Everything of a default VPC but its subnets.
    /// - Parameter seed: makes the ids of a second making differ from those of the first.
    @discardableResult
    static func make(
        _ tx: Transaction, accountID: String, seed: String, settings: CloudSettings, now: Timestamp
    ) throws(CloudError) -> Vpc {
        func id<Kind: IdentifierKind>(_ what: String) -> Identifier<Kind> { VpcRules.id("\(what) of \(accountID) \(seed)") }
        let vpc = Vpc(id: id("vpc"), accountID: accountID, cidr: settings.privateNetwork, createdAt: now)
        try tx.execute(
            "INSERT INTO cloud.vpcs (id, account_id, cidr, created_at) VALUES ($1, $2, $3, $4)", .text(vpc.id.text), .text(accountID),
            .text(vpc.cidr.description), .timestamp(now))
        let gateway: InternetGatewayID = id("gateway")
        try InternetGatewayStore.insert(tx, InternetGateway(id: gateway, accountID: accountID, vpcID: vpc.id.text))
        let table: RouteTableID = id("main route table")
        let association: RouteTableAssociationID = id("main association")
        try RouteTableStore.insert(tx, id: table, vpc, mainAssociation: association)
        try RouteTableStore.setRoute(tx, tableID: table.text, destination: "0.0.0.0/0", gatewayID: gateway.text)
        let acl: NetworkAclID = id("default acl")
        try NetworkAclStore.insert(tx, id: acl, vpc, isDefault: true)
        for egress in [false, true] { try NetworkAclStore.setEntry(tx, aclID: acl.text, .everything(egress: egress)) }
        try SecurityGroupStore.ensureDefault(tx, accountID: accountID)
        return vpc
    }

    // MARK: rows

    static func find(_ tx: Transaction, accountID: String) throws(CloudError) -> Vpc? {
        try tx.execute("SELECT * FROM cloud.vpcs WHERE account_id = $1", .text(accountID)).first.map { row throws(CloudError) in
            try vpc(row)
        }
    }

    /// - Throws: `.notFound(.vpc)`, for another account's too.
    static func fetch(_ tx: Transaction, id: VpcID, accountID: String) throws(CloudError) -> Vpc {
        guard let found = try find(tx, accountID: accountID), found.id == id else { throw CloudError(.notFound(.vpc, id: id.text)) }
        return found
    }

    /// What still stands in it, in a few words; `nil` when nothing does.
    static func user(_ tx: Transaction, _ vpc: Vpc) throws(CloudError) -> String? {
        let id = SQLValue.text(vpc.id.text)
        let kinds: [(String, Rows)] = [
            ("subnet", try tx.execute("SELECT id FROM cloud.subnets WHERE vpc_id = $1 LIMIT 1", id)),
            ("internet gateway", try tx.execute("SELECT id FROM cloud.internet_gateways WHERE vpc_id = $1 LIMIT 1", id)),
            ("route table", try tx.execute("SELECT id FROM cloud.route_tables WHERE vpc_id = $1 AND NOT is_main LIMIT 1", id)),
            ("network ACL", try tx.execute("SELECT id FROM cloud.network_acls WHERE vpc_id = $1 AND NOT is_default LIMIT 1", id)),
            (
                "security group",
                try tx.execute(
                    "SELECT id FROM cloud.security_groups WHERE account_id = $1 AND name <> 'default' LIMIT 1", .text(vpc.accountID))
            ),
        ]
        for (kind, rows) in kinds { if let row = rows.first { return "\(kind) \(row.text("id"))" } }
        return nil
    }

    /// With its main route table and its default ACL, which live and die with it.
    static func delete(_ tx: Transaction, _ vpc: Vpc) throws(CloudError) {
        for table in ["cloud.route_tables", "cloud.network_acls"] {
            for row in try tx.execute("DELETE FROM \(table) WHERE vpc_id = $1 RETURNING id", .text(vpc.id.text)) {
                try TagStore.deleteAll(tx, row.text("id"))
            }
        }
        for id in [vpc.id.text, vpc.dhcpOptionsID.text] { try TagStore.deleteAll(tx, id) }
        try tx.execute("DELETE FROM cloud.vpcs WHERE id = $1", .text(vpc.id.text))
    }

    private static func vpc(_ row: Row) throws(CloudError) -> Vpc {
        guard let cidr = CIDR(parsing: row.text("cidr")) else { throw .bug("block of \(row.text("id"))") }
        return Vpc(
            id: try VpcID(parsing: row.text("id")), accountID: row.text("account_id"), cidr: cidr, createdAt: row.timestamp("created_at"))
    }
}

extension CloudServices {
    /// Makes the account's network if this is its first touch.
    func ensureNetwork(_ op: OperationContext) async throws(CloudError) {
        let settings = settings
        let isMade = try await pool.read { tx in try VpcStore.isMade(tx, accountID: op.accountID, settings: settings) }
        guard !isMade else { return }
        try await pool.transaction { tx in
            try VpcStore.ensure(tx, accountID: op.accountID, settings: settings, now: op.now)
        }
    }
}
