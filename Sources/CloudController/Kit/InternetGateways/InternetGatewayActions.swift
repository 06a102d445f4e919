public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2InternetGatewaysActions {
    public func describeInternetGateways(
        _ request: EC2.DescribeInternetGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInternetGatewaysResponse {
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: request.internetGatewayIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in try InternetGatewayStore.list(tx, accountID: op.accountID) }
        return EC2.DescribeInternetGatewaysResponse(
            internetGateways: page.items.map { $0.wire(page.tags($0.id.text)) }, nextToken: page.nextToken)
    }

    public func createInternetGateway(
        _ request: EC2.CreateInternetGateway, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateInternetGatewayResponse {
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.internetGateway])[.internetGateway] ?? []
        let gateway = InternetGateway(id: InternetGatewayID(random: cloud.random.bytes(9)), accountID: op.accountID)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            guard try InternetGatewayStore.list(tx, accountID: op.accountID).count < InternetGatewayStore.limit else {
                throw CloudError(
                    .named(code: "InternetGatewayLimitExceeded", status: 400),
                    "The maximum number of internet gateways has been reached: \(InternetGatewayStore.limit).")
            }
            try InternetGatewayStore.insert(tx, gateway)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: gateway.id.text, type: .internetGateway, tags)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "CreateInternetGateway", resource: gateway.id.text)
        }
        return EC2.CreateInternetGatewayResponse(internetGateway: gateway.wire(tags.map(\.wire)))
    }

    public func attachInternetGateway(
        _ request: EC2.AttachInternetGateway, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AttachInternetGatewayResponse {
        try await changeGateway(request.internetGatewayId, request.vpcId, op) { tx, gateway, vpc in
            if let other = gateway.vpcID {
                throw CloudError(
                    .duplicate(.internetGateway, name: gateway.id.text), "resource \(gateway.id) is already attached to network \(other)")
            }
            guard try InternetGatewayStore.list(tx, accountID: op.accountID).allSatisfy({ $0.vpcID == nil }) else {
                throw CloudError(
                    .invalidParameter("vpcId"), "Network \(vpc.id) already has an internet gateway attached")
            }
            try op.endDryRun(request.dryRun)
            try InternetGatewayStore.setVpc(tx, id: gateway.id, vpc.id.text)
            try AuditStore.record(tx, op, action: "AttachInternetGateway", resource: "\(gateway.id) \(vpc.id)")
        }
        return EC2.AttachInternetGatewayResponse(result: true)
    }

    public func detachInternetGateway(
        _ request: EC2.DetachInternetGateway, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DetachInternetGatewayResponse {
        try await changeGateway(request.internetGatewayId, request.vpcId, op) { tx, gateway, vpc in
            guard gateway.vpcID == vpc.id.text else {
                throw CloudError(
                    .named(code: "Gateway.NotAttached", status: 400), "resource \(gateway.id) is not attached to network \(vpc.id)")
            }
            guard try NetworkInterfaceStore.publicCount(tx, accountID: op.accountID) == 0 else {
                throw CloudError(
                    .named(code: "DependencyViolation", status: 400),
                    "Network \(vpc.id) has some mapped public address(es). Please unmap those public address(es) "
                        + "before detaching the gateway."
                )
            }
            try op.endDryRun(request.dryRun)
            try InternetGatewayStore.setVpc(tx, id: gateway.id, nil)
            try AuditStore.record(tx, op, action: "DetachInternetGateway", resource: "\(gateway.id) \(vpc.id)")
        }
        return EC2.DetachInternetGatewayResponse(result: true)
    }

    public func deleteInternetGateway(
        _ request: EC2.DeleteInternetGateway, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteInternetGatewayResponse {
        let id = try InternetGatewayID(parsing: request.internetGatewayId)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let gateway = try InternetGatewayStore.fetch(tx, id: id, accountID: op.accountID)
            guard gateway.vpcID == nil else { throw VpcRules.dependency(id.text, "internetGateway") }
            try op.endDryRun(request.dryRun)
            // Routes that lead to it stay, and lead nowhere, as on EC2.
            try InternetGatewayStore.delete(tx, id: id)
            try AuditStore.record(tx, op, action: "DeleteInternetGateway", resource: id.text)
        }
        return EC2.DeleteInternetGatewayResponse(result: true)
    }

    /// Both ends looked up; what instances reach changes with it.
    private func changeGateway(
        _ gateway: String, _ vpc: String, _ op: OperationContext,
        _ body: @escaping @Sendable (Transaction, InternetGateway, Vpc) throws -> Void
    ) async throws(CloudError) {
        let id = try InternetGatewayID(parsing: gateway)
        let vpcID = try VpcID(parsing: vpc)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let gateway = try InternetGatewayStore.fetch(tx, id: id, accountID: op.accountID)
            try body(tx, gateway, try VpcStore.fetch(tx, id: vpcID, accountID: op.accountID))
            try NetworkStore.changed(tx)
        }
    }
}
