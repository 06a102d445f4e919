public import API
import Database
public import Domain
import Wire
import Workflow

extension EC2Actions: EC2RouteTablesActions {
    public func describeRouteTables(
        _ request: EC2.DescribeRouteTables, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeRouteTablesResponse {
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: request.routeTableIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in try RouteTableStore.list(tx, accountID: op.accountID) }
        return EC2.DescribeRouteTablesResponse(
            routeTables: page.items.map { $0.wire(page.tags($0.id.text)) }, nextToken: page.nextToken)
    }

    public func createRouteTable(
        _ request: EC2.CreateRouteTable, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateRouteTableResponse {
        let vpcID = try VpcID(parsing: request.vpcId)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.routeTable])[.routeTable] ?? []
        let id = RouteTableID(random: cloud.random.bytes(9))
        let token = request.clientToken ?? ""
        var hashed = request
        hashed.dryRun = nil
        let hash = ClientTokenStore.hash(hashed.wireValue)
        try await cloud.ensureNetwork(op)
        let (table, shown) = try await cloud.pool.transaction { tx -> (RouteTable, [ResourceTag]) in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "CreateRouteTable", token: token, requestHash: hash)
            {
                let old = try RouteTableStore.fetch(tx, id: try RouteTableID(parsing: seen), accountID: op.accountID)
                return (old, try TagStore.tags(tx, [seen])[seen] ?? [])
            }
            let vpc = try VpcStore.fetch(tx, id: vpcID, accountID: op.accountID)
            guard try RouteTableStore.list(tx, accountID: op.accountID).count < RouteTableRules.maxTables else {
                throw CloudError(
                    .named(code: "RouteTableLimitExceeded", status: 400),
                    "The maximum number of route tables has been reached: \(RouteTableRules.maxTables).")
            }
            try RouteTableStore.insert(tx, id: id, vpc, mainAssociation: nil)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: id.text, type: .routeTable, tags)
            try op.endDryRun(request.dryRun)
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "CreateRouteTable", token: token, requestHash: hash, result: id.text, now: op.now)
            try AuditStore.record(tx, op, action: "CreateRouteTable", resource: id.text, detail: vpc.id.text)
            return (try RouteTableStore.fetch(tx, id: id, accountID: op.accountID), tags)
        }
        return EC2.CreateRouteTableResponse(routeTable: table.wire(shown.map(\.wire)), clientToken: request.clientToken)
    }

    public func deleteRouteTable(
        _ request: EC2.DeleteRouteTable, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteRouteTableResponse {
        try await changeTable(request.routeTableId, request.dryRun, "DeleteRouteTable", op) { tx, table in
            guard !table.isMain, table.associations.isEmpty else { throw VpcRules.dependency(table.id.text, "routeTable") }
            try RouteTableStore.delete(tx, id: table.id)
            return ""
        }
        return EC2.DeleteRouteTableResponse(result: true)
    }

    public func associateRouteTable(
        _ request: EC2.AssociateRouteTable, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AssociateRouteTableResponse {
        if let gateway = request.gatewayId {
            throw VpcRules.unsupported("Route tables of gateways (\(gateway.prefix(40))) are not supported by this cloud.")
        }
        guard let text = request.subnetId else { throw CloudError(.missingParameter("SubnetId")) }
        let subnetID = try SubnetID(parsing: text)
        let id = RouteTableAssociationID(random: cloud.random.bytes(9))
        try await changeTable(request.routeTableId, request.dryRun, "AssociateRouteTable", op) { tx, table in
            let subnet = try SubnetStore.fetch(tx, id: subnetID, accountID: op.accountID)
            for other in try RouteTableStore.list(tx, accountID: op.accountID) {
                guard let old = other.associations.first(where: { $0.subnetID == subnet.id.text }) else { continue }
                throw CloudError(
                    .duplicate(.routeTable, name: old.id),
                    "the specified association for route table \(table.id) conflicts with an existing association (\(old.id))")
            }
            try RouteTableStore.associate(tx, id: id, tableID: table.id.text, subnetID: subnet.id.text)
            return subnet.id.text
        }
        return EC2.AssociateRouteTableResponse(associationId: id.text, associationState: RouteTableRules.associated)
    }

    public func disassociateRouteTable(
        _ request: EC2.DisassociateRouteTable, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisassociateRouteTableResponse {
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let (table, association) = try Self.association(tx, request.associationId, op)
            guard association.subnetID != nil else {
                throw CloudError(
                    .invalidParameter("associationId"),
                    "cannot disassociate the main route table association \(association.id)")
            }
            try op.endDryRun(request.dryRun)
            try RouteTableStore.disassociate(tx, id: association.id)
            try AuditStore.record(tx, op, action: "DisassociateRouteTable", resource: "\(table.id) \(association.subnetID ?? "")")
            try NetworkStore.changed(tx)
        }
        return EC2.DisassociateRouteTableResponse(result: true)
    }

    public func replaceRouteTableAssociation(
        _ request: EC2.ReplaceRouteTableAssociation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ReplaceRouteTableAssociationResponse {
        let id = RouteTableAssociationID(random: cloud.random.bytes(9))
        let shown = try await changeTable(request.routeTableId, request.dryRun, "ReplaceRouteTableAssociation", op) { tx, table in
            let (old, association) = try Self.association(tx, request.associationId, op)
            guard old.id != table.id else { return association.id }
            if let subnetID = association.subnetID {
                try RouteTableStore.disassociate(tx, id: association.id)
                try RouteTableStore.associate(tx, id: id, tableID: table.id.text, subnetID: subnetID)
            } else {
                try RouteTableStore.setMain(tx, from: old, to: table, association: id)
            }
            return id.text
        }
        return EC2.ReplaceRouteTableAssociationResponse(newAssociationId: shown, associationState: RouteTableRules.associated)
    }

    // MARK: routes

    public func createRoute(_ request: EC2.CreateRoute, _ op: OperationContext) async throws(CloudError) -> EC2.CreateRouteResponse {
        let gateway = try Self.gateway(request.gatewayId)
        try await changeTable(request.routeTableId, request.dryRun, "CreateRoute", op) { tx, table in
            let block = try RouteTableRules.destination(request.destinationCidrBlock, table)
            guard !table.routes.contains(where: { $0.destination == block }) else { throw RouteTableRules.exists(block) }
            guard table.routes.count < RouteTableRules.maxRoutes else {
                throw CloudError(
                    .named(code: "RouteLimitExceeded", status: 400),
                    "The maximum number of routes of a table has been reached: \(RouteTableRules.maxRoutes).")
            }
            return try Self.setRoute(tx, table, block, gateway, op)
        }
        return EC2.CreateRouteResponse(result: true)
    }

    public func replaceRoute(_ request: EC2.ReplaceRoute, _ op: OperationContext) async throws(CloudError) -> EC2.ReplaceRouteResponse {
        let gateway = try Self.gateway(request.gatewayId)
        try await changeTable(request.routeTableId, request.dryRun, "ReplaceRoute", op) { tx, table in
            let block = try RouteTableRules.destination(request.destinationCidrBlock, table)
            guard table.routes.contains(where: { $0.destination == block }) else { throw RouteTableRules.noRoute(block, table) }
            return try Self.setRoute(tx, table, block, gateway, op)
        }
        return EC2.ReplaceRouteResponse(result: true)
    }

    public func deleteRoute(_ request: EC2.DeleteRoute, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteRouteResponse {
        try await changeTable(request.routeTableId, request.dryRun, "DeleteRoute", op) { tx, table in
            let block = try RouteTableRules.destination(request.destinationCidrBlock, table)
            guard table.routes.contains(where: { $0.destination == block }) else { throw RouteTableRules.noRoute(block, table) }
            try RouteTableStore.deleteRoute(tx, tableID: table.id.text, destination: block.description)
            return block.description
        }
        return EC2.DeleteRouteResponse(result: true)
    }

    public func enableVgwRoutePropagation(
        _ request: EC2.EnableVgwRoutePropagation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.EnableVgwRoutePropagationResponse {
        throw try await noVirtualGateway(request.gatewayId, request.routeTableId, op)
    }

    public func disableVgwRoutePropagation(
        _ request: EC2.DisableVgwRoutePropagation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisableVgwRoutePropagationResponse {
        throw try await noVirtualGateway(request.gatewayId, request.routeTableId, op)
    }

    // MARK: common parts

    /// - Parameter body: what it does with the table; its answer goes to the audit.
    @discardableResult
    private func changeTable(
        _ text: String, _ dryRun: Bool?, _ action: String, _ op: OperationContext,
        _ body: @escaping @Sendable (Transaction, RouteTable) throws -> String
    ) async throws(CloudError) -> String {
        let id = try RouteTableID(parsing: text)
        try await cloud.ensureNetwork(op)
        return try await cloud.pool.transaction { tx in
            let detail = try body(tx, try RouteTableStore.fetch(tx, id: id, accountID: op.accountID))
            try op.endDryRun(dryRun)
            try AuditStore.record(tx, op, action: action, resource: id.text, detail: detail)
            try NetworkStore.changed(tx)
            return detail
        }
    }

    private static func gateway(_ text: String?) throws(CloudError) -> InternetGatewayID {
        guard let text else { throw CloudError(.missingParameter("GatewayId")) }
        guard let id = try? InternetGatewayID(parsing: text) else {
            throw CloudError(
                .named(code: "InvalidGatewayID.NotFound", status: 400), "The gateway ID '\(text.prefix(60))' does not exist")
        }
        return id
    }

    private static func setRoute(
        _ tx: Transaction, _ table: RouteTable, _ block: CIDR, _ gateway: InternetGatewayID, _ op: OperationContext
    ) throws(CloudError) -> String {
        let found = try InternetGatewayStore.fetch(tx, id: gateway, accountID: op.accountID)
        guard found.vpcID == table.vpcID else {
            throw CloudError(
                .invalidParameter("gatewayId"), "route table \(table.id) and network gateway \(gateway) belong to different networks")
        }
        try RouteTableStore.setRoute(tx, tableID: table.id.text, destination: block.description, gatewayID: gateway.text)
        return "\(block) \(gateway)"
    }

    private static func association(
        _ tx: Transaction, _ id: String, _ op: OperationContext
    ) throws(CloudError) -> (RouteTable, RouteTable.Association) {
        for table in try RouteTableStore.list(tx, accountID: op.accountID) {
            if let association = table.associations.first(where: { $0.id == id }) { return (table, association) }
        }
        throw RouteTableRules.noAssociation(id)
    }

    private func noVirtualGateway(_ gateway: String, _ table: String, _ op: OperationContext) async throws(CloudError) -> CloudError {
        let id = try RouteTableID(parsing: table)
        try await cloud.ensureNetwork(op)
        _ = try await cloud.pool.read { tx in try RouteTableStore.fetch(tx, id: id, accountID: op.accountID) }
        return CloudError(
            .named(code: "InvalidVpnGatewayID.NotFound", status: 400), "The vpnGateway ID '\(gateway.prefix(60))' does not exist")
    }
}
