import API
import Domain

extension RouteTable: Described {
    typealias Kind = RouteTableKind
    var describedID: String { id.text }

    /// Source: EC2 API Reference, DescribeRouteTables.
    static let filters: Set<String> = [
        "association.gateway-id", "association.main", "association.route-table-association-id", "association.route-table-id",
        "association.subnet-id", "owner-id", "route-table-id", "route.destination-cidr-block", "route.destination-ipv6-cidr-block",
        "route.destination-prefix-list-id", "route.egress-only-internet-gateway-id", "route.gateway-id", "route.instance-id",
        "route.nat-gateway-id", "route.origin", "route.state", "route.transit-gateway-id", "route.vpc-peering-connection-id", "tag",
        "vpc-id",
    ]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "association.main": associations.isEmpty ? [] : [String(isMain)]
        case "association.route-table-association-id": associations.map(\.id)
        case "association.route-table-id": associations.isEmpty ? [] : [id.text]
        case "association.subnet-id": associations.compactMap(\.subnetID)
        case "owner-id": [accountID]
        case "route-table-id": [id.text]
        case "route.destination-cidr-block": shown.compactMap(\.destinationCidrBlock)
        case "route.gateway-id": shown.compactMap(\.gatewayId)
        case "route.origin": shown.compactMap(\.origin)
        case "route.state": shown.compactMap(\.state)
        case "vpc-id": [vpcID]
        default: []
        }
    }

    /// The local route first, which each table has and nobody can change.
    private var shown: [EC2.Route] {
        [EC2.Route(destinationCidrBlock: vpcBlock.description, gatewayId: "local", origin: "CreateRouteTable", state: "active")]
            + routes.map {
                EC2.Route(
                    destinationCidrBlock: $0.destination.description, gatewayId: $0.gatewayID, origin: "CreateRoute",
                    state: $0.isActive ? "active" : "blackhole")
            }
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.RouteTable {
        EC2.RouteTable(
            associations: associations.map {
                EC2.RouteTableAssociation(
                    main: $0.subnetID == nil, routeTableAssociationId: $0.id, routeTableId: id.text, subnetId: $0.subnetID,
                    associationState: RouteTableRules.associated)
            }, routeTableId: id.text, routes: shown, propagatingVgws: [], vpcId: vpcID, ownerId: accountID, tags: tags)
    }
}

enum RouteTableRules {
    /// EC2's standard limits.
    static let maxTables = 200
    static let maxRoutes = 50
    static let associated = EC2.RouteTableAssociationState(state: "associated")

    /// A route's destination beyond the private network.
    /// - Throws: `.invalidParameter`; `RouteAlreadyExists` for the local route's own block.
    static func destination(_ text: String?, _ table: RouteTable) throws(CloudError) -> CIDR {
        guard let text else { throw CloudError(.missingParameter("DestinationCidrBlock")) }
        guard text.utf8.contains(0x2f), let block = CIDR(parsing: text) else {
            throw CloudError(
                .invalidParameter("destinationCidrBlock"),
                "Value (\(text.prefix(60))) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.")
        }
        guard block != table.vpcBlock else { throw exists(block) }
        guard !table.vpcBlock.contains(block) else {
            throw CloudError(
                .invalidParameter("destinationCidrBlock"),
                "The destination \(block) lies within \(table.vpcBlock), which is always routed locally.")
        }
        return block
    }

    static func exists(_ block: CIDR) -> CloudError {
        CloudError(.named(code: "RouteAlreadyExists", status: 400), "The route identified by \(block) already exists.")
    }

    static func noRoute(_ block: CIDR, _ table: RouteTable) -> CloudError {
        CloudError(
            .named(code: "InvalidRoute.NotFound", status: 400),
            "no route with destination-cidr-block \(block) in route table \(table.id)")
    }

    static func noAssociation(_ id: String) -> CloudError {
        CloudError(
            .named(code: "InvalidAssociationID.NotFound", status: 400), "The association ID '\(id.prefix(60))' does not exist")
    }

    /// What instances of a subnet reach beyond the private network: the table's routes, the smallest block first, so that the first that
    /// matches decides. What matches none is not reached. Empty: everything is reached, and nodes need no rules for it.
    static func outside(_ routes: [RouteTable.Route]) -> [RouteTable.Route] {
        let routes = routes.sorted {
            ($1.destination.prefixLength, $0.destination.network) < ($0.destination.prefixLength, $1.destination.network)
        }
        return routes.contains { $0.destination.prefixLength == 0 && $0.isActive } && routes.allSatisfy(\.isActive) ? [] : routes
    }
}
