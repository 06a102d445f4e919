import API
import Database
import Domain

/// What a route to the world outside leads through.
struct InternetGateway: Sendable, Equatable {
    let id: InternetGatewayID
    let accountID: String
    var vpcID: String?
}

extension InternetGateway: Described {
    typealias Kind = InternetGatewayKind
    var describedID: String { id.text }

    /// Source: EC2 API Reference, DescribeInternetGateways.
    static let filters: Set<String> = ["attachment.state", "attachment.vpc-id", "internet-gateway-id", "owner-id", "tag"]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "attachment.state": vpcID == nil ? [] : ["available"]
        case "attachment.vpc-id": one(vpcID)
        case "internet-gateway-id": [id.text]
        case "owner-id": [accountID]
        default: []
        }
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.InternetGateway {
        EC2.InternetGateway(
            attachments: vpcID.map { [EC2.InternetGatewayAttachment(state: "available", vpcId: $0)] } ?? [], internetGatewayId: id.text,
            ownerId: accountID, tags: tags)
    }
}

/// The rows of gateways, all in the caller's transaction.
enum InternetGatewayStore {
    /// EC2's standard limit of gateways in an account.
    static let limit = 5

    static func insert(_ tx: Transaction, _ gateway: InternetGateway) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.internet_gateways (id, account_id, vpc_id) VALUES ($1, $2, $3)", .text(gateway.id.text),
            .text(gateway.accountID), SQLValue(gateway.vpcID))
    }

    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [InternetGateway] {
        var out: [InternetGateway] = []
        for row in try tx.execute("SELECT * FROM cloud.internet_gateways WHERE account_id = $1", .text(accountID)) {
            out.append(try gateway(row))
        }
        return out
    }

    /// - Throws: `.notFound(.internetGateway)`.
    static func fetch(_ tx: Transaction, id: InternetGatewayID, accountID: String) throws(CloudError) -> InternetGateway {
        guard
            let row = try tx.execute(
                "SELECT * FROM cloud.internet_gateways WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text)
            ).first
        else { throw CloudError(.notFound(.internetGateway, id: id.text)) }
        return try gateway(row)
    }

    static func setVpc(_ tx: Transaction, id: InternetGatewayID, _ vpcID: String?) throws(CloudError) {
        try tx.execute("UPDATE cloud.internet_gateways SET vpc_id = $2 WHERE id = $1", .text(id.text), SQLValue(vpcID))
    }

    static func delete(_ tx: Transaction, id: InternetGatewayID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.internet_gateways WHERE id = $1", .text(id.text))
    }

    private static func gateway(_ row: Row) throws(CloudError) -> InternetGateway {
        InternetGateway(
            id: try InternetGatewayID(parsing: row.text("id")), accountID: row.text("account_id"), vpcID: row.optionalText("vpc_id"))
    }
}
