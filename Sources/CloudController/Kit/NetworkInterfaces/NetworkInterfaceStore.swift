import Database
import Domain

/// The one interface of an instance. It comes and goes with the instance; its groups are the instance's.
struct NetworkInterface: Sendable, Equatable {
    let id: NetworkInterfaceID
    let accountID: String
    let instanceID: String
    let attachmentID: String
    let subnetID: String
    let description: String
    let createdAt: Timestamp
}

/// The rows of interfaces, all in the caller's transaction.
enum NetworkInterfaceStore {
    static func insert(_ tx: Transaction, _ i: NetworkInterface) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.network_interfaces (id, account_id, instance_id, subnet_id, attachment_id, description, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """, .text(i.id.text), .text(i.accountID), .text(i.instanceID), .text(i.subnetID), .text(i.attachmentID),
            .text(i.description), .timestamp(i.createdAt))
    }

    /// Instances of the time before there were interfaces get theirs: in the subnet that their address lies in.
    static func adopt(_ tx: Transaction, accountID: String) throws(CloudError) {
        let subnets = try SubnetStore.list(tx, accountID: accountID)
        for row in try tx.execute(
            """
            SELECT i.id, i.zone, i.private_address, i.created_at FROM cloud.instances i
            LEFT JOIN cloud.network_interfaces n ON n.instance_id = i.id
            WHERE i.account_id = $1 AND i.finished_at IS NULL AND n.id IS NULL
            """, .text(accountID))
        {
            let address = IPv4Address(parsing: row.text("private_address"))
            guard
                let subnet = subnets.first(where: { s in address.map { s.cidr.contains($0) } ?? false })
                    ?? subnets.first(where: { $0.zone == row.text("zone") }) ?? subnets.first
            else { return }
            let id = row.text("id")
            try insert(
                tx,
                NetworkInterface(
                    id: VpcRules.id("interface of \(id)"), accountID: accountID, instanceID: id,
                    attachmentID: NetworkInterfaceRules.attachmentID(of: id).text, subnetID: subnet.id.text, description: "",
                    createdAt: row.timestamp("created_at")))
        }
    }

    /// All of the account's instances that have not ended.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [NetworkInterface] {
        var out: [NetworkInterface] = []
        for row in try tx.execute("SELECT * FROM cloud.network_interfaces WHERE account_id = $1", .text(accountID)) {
            out.append(try interface(row))
        }
        return out
    }

    /// By instance id.
    static func list(_ tx: Transaction, instanceIDs: [String]) throws(CloudError) -> [String: NetworkInterface] {
        guard !instanceIDs.isEmpty else { return [:] }
        var out: [String: NetworkInterface] = [:]
        for row in try tx.execute("SELECT * FROM cloud.network_interfaces WHERE instance_id = ANY($1)", .textArray(instanceIDs)) {
            out[row.text("instance_id")] = try interface(row)
        }
        return out
    }

    /// - Throws: `.notFound(.networkInterface)`.
    static func fetch(_ tx: Transaction, id: NetworkInterfaceID, accountID: String) throws(CloudError) -> NetworkInterface {
        guard
            let row = try tx.execute(
                "SELECT * FROM cloud.network_interfaces WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text)
            ).first
        else { throw CloudError(.notFound(.networkInterface, id: id.text)) }
        return try interface(row)
    }

    static func find(_ tx: Transaction, attachmentID: String, accountID: String) throws(CloudError) -> NetworkInterface? {
        try tx.execute(
            "SELECT * FROM cloud.network_interfaces WHERE account_id = $1 AND attachment_id = $2", .text(accountID), .text(attachmentID)
        ).first.map { row throws(CloudError) in try interface(row) }
    }

    static func count(_ tx: Transaction, subnetID: SubnetID) throws(CloudError) -> Int {
        try tx.execute("SELECT count(*) AS n FROM cloud.network_interfaces WHERE subnet_id = $1", .text(subnetID.text)).first?.int("n") ?? 0
    }

    /// How many interfaces of the account have a public address.
    static func publicCount(_ tx: Transaction, accountID: String) throws(CloudError) -> Int {
        try tx.execute(
            """
            SELECT count(*) AS n FROM cloud.addresses a JOIN cloud.network_interfaces n ON n.instance_id = a.instance_id
            WHERE n.account_id = $1
            """, .text(accountID)
        ).first?.int("n") ?? 0
    }

    static func setDescription(_ tx: Transaction, id: NetworkInterfaceID, _ text: String) throws(CloudError) {
        try tx.execute("UPDATE cloud.network_interfaces SET description = $2 WHERE id = $1", .text(id.text), .text(text))
    }

    /// The instance has ended.
    static func delete(_ tx: Transaction, instanceID: String) throws(CloudError) {
        for row in try tx.execute("DELETE FROM cloud.network_interfaces WHERE instance_id = $1 RETURNING id", .text(instanceID)) {
            try TagStore.deleteAll(tx, row.text("id"))
        }
    }

    private static func interface(_ row: Row) throws(CloudError) -> NetworkInterface {
        NetworkInterface(
            id: try NetworkInterfaceID(parsing: row.text("id")), accountID: row.text("account_id"), instanceID: row.text("instance_id"),
            attachmentID: row.text("attachment_id"), subnetID: row.text("subnet_id"), description: row.text("description"),
            createdAt: row.timestamp("created_at"))
    }
}
