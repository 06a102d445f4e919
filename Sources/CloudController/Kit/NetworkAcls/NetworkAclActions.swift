public import API
import Database
public import Domain
import Wire
import Workflow

extension EC2Actions: EC2NetworkAclsActions {
    public func describeNetworkAcls(
        _ request: EC2.DescribeNetworkAcls, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeNetworkAclsResponse {
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: request.networkAclIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in try NetworkAclStore.list(tx, accountID: op.accountID) }
        return EC2.DescribeNetworkAclsResponse(
            networkAcls: page.items.map { $0.wire(page.tags($0.id.text)) }, nextToken: page.nextToken)
    }

    public func createNetworkAcl(
        _ request: EC2.CreateNetworkAcl, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateNetworkAclResponse {
        let vpcID = try VpcID(parsing: request.vpcId)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.networkAcl])[.networkAcl] ?? []
        let id = NetworkAclID(random: cloud.random.bytes(9))
        let token = request.clientToken ?? ""
        var hashed = request
        hashed.dryRun = nil
        let hash = ClientTokenStore.hash(hashed.wireValue)
        try await cloud.ensureNetwork(op)
        let (acl, shown) = try await cloud.pool.transaction { tx -> (NetworkAcl, [ResourceTag]) in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "CreateNetworkAcl", token: token, requestHash: hash)
            {
                let old = try NetworkAclStore.fetch(tx, id: try NetworkAclID(parsing: seen), accountID: op.accountID)
                return (old, try TagStore.tags(tx, [seen])[seen] ?? [])
            }
            let vpc = try VpcStore.fetch(tx, id: vpcID, accountID: op.accountID)
            guard try NetworkAclStore.list(tx, accountID: op.accountID).count < NetworkAclRules.maxAcls else {
                throw CloudError(
                    .named(code: "NetworkAclLimitExceeded", status: 400),
                    "The maximum number of network ACLs has been reached: \(NetworkAclRules.maxAcls).")
            }
            try NetworkAclStore.insert(tx, id: id, vpc, isDefault: false)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: id.text, type: .networkAcl, tags)
            try op.endDryRun(request.dryRun)
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "CreateNetworkAcl", token: token, requestHash: hash, result: id.text, now: op.now)
            try AuditStore.record(tx, op, action: "CreateNetworkAcl", resource: id.text, detail: vpc.id.text)
            return (try NetworkAclStore.fetch(tx, id: id, accountID: op.accountID), tags)
        }
        return EC2.CreateNetworkAclResponse(networkAcl: acl.wire(shown.map(\.wire)), clientToken: request.clientToken)
    }

    public func deleteNetworkAcl(
        _ request: EC2.DeleteNetworkAcl, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteNetworkAclResponse {
        try await changeAcl(request.networkAclId, request.dryRun, "DeleteNetworkAcl", op) { tx, acl in
            guard !acl.isDefault else {
                throw CloudError(.invalidParameter("networkAclId"), "cannot delete default network ACL \(acl.id)")
            }
            guard acl.associations.isEmpty else { throw VpcRules.dependency(acl.id.text, "networkAcl") }
            try NetworkAclStore.delete(tx, id: acl.id)
            return ""
        }
        return EC2.DeleteNetworkAclResponse(result: true)
    }

    public func createNetworkAclEntry(
        _ request: EC2.CreateNetworkAclEntry, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateNetworkAclEntryResponse {
        let entry = try NetworkAclRules.entry(request)
        try await changeAcl(request.networkAclId, request.dryRun, "CreateNetworkAclEntry", op) { tx, acl in
            let same = acl.entries.filter { $0.egress == entry.egress }
            guard !same.contains(where: { $0.number == entry.number }) else {
                throw CloudError(
                    .named(code: "NetworkAclEntryAlreadyExists", status: 400),
                    "The network acl entry identified by \(entry.number) already exists.")
            }
            guard same.count < NetworkAclRules.maxEntries else {
                throw CloudError(
                    .named(code: "NetworkAclEntryLimitExceeded", status: 400),
                    "The maximum number of entries of a network ACL has been reached: \(NetworkAclRules.maxEntries).")
            }
            try NetworkAclStore.setEntry(tx, aclID: acl.id.text, entry)
            return "\(entry)"
        }
        return EC2.CreateNetworkAclEntryResponse(result: true)
    }

    public func replaceNetworkAclEntry(
        _ request: EC2.ReplaceNetworkAclEntry, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ReplaceNetworkAclEntryResponse {
        let entry = try NetworkAclRules.entry(request)
        try await changeAcl(request.networkAclId, request.dryRun, "ReplaceNetworkAclEntry", op) { tx, acl in
            guard acl.entries.contains(where: { $0.egress == entry.egress && $0.number == entry.number }) else {
                throw NetworkAclRules.noEntry(entry.number, acl.id)
            }
            try NetworkAclStore.setEntry(tx, aclID: acl.id.text, entry)
            return "\(entry)"
        }
        return EC2.ReplaceNetworkAclEntryResponse(result: true)
    }

    public func deleteNetworkAclEntry(
        _ request: EC2.DeleteNetworkAclEntry, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteNetworkAclEntryResponse {
        try await changeAcl(request.networkAclId, request.dryRun, "DeleteNetworkAclEntry", op) { tx, acl in
            guard acl.entries.contains(where: { $0.egress == request.egress && $0.number == request.ruleNumber }) else {
                throw NetworkAclRules.noEntry(request.ruleNumber, acl.id)
            }
            try NetworkAclStore.deleteEntry(tx, aclID: acl.id.text, egress: request.egress, number: request.ruleNumber)
            return "\(request.egress ? "egress" : "ingress") \(request.ruleNumber)"
        }
        return EC2.DeleteNetworkAclEntryResponse(result: true)
    }

    public func replaceNetworkAclAssociation(
        _ request: EC2.ReplaceNetworkAclAssociation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ReplaceNetworkAclAssociationResponse {
        guard let old = try? NetworkAclAssociationID(parsing: request.associationId) else {
            throw RouteTableRules.noAssociation(request.associationId)
        }
        let new = NetworkAclAssociationID(random: cloud.random.bytes(9))
        try await changeAcl(request.networkAclId, request.dryRun, "ReplaceNetworkAclAssociation", op) { tx, acl in
            guard let subnet = try SubnetStore.find(tx, aclAssociation: old, accountID: op.accountID) else {
                throw RouteTableRules.noAssociation(old.text)
            }
            try SubnetStore.setAcl(tx, id: subnet.id, acl: acl.id, association: new)
            return "\(subnet.id) \(subnet.aclID)"
        }
        return EC2.ReplaceNetworkAclAssociationResponse(newAssociationId: new.text)
    }

    private func changeAcl(
        _ text: String, _ dryRun: Bool?, _ action: String, _ op: OperationContext,
        _ body: @escaping @Sendable (Transaction, NetworkAcl) throws -> String
    ) async throws(CloudError) {
        let id = try NetworkAclID(parsing: text)
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let detail = try body(tx, try NetworkAclStore.fetch(tx, id: id, accountID: op.accountID))
            try op.endDryRun(dryRun)
            try AuditStore.record(tx, op, action: action, resource: id.text, detail: detail)
            try NetworkStore.changed(tx)
        }
    }
}
