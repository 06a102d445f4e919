public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2NetworkInterfacesActions {
    public func describeNetworkInterfaces(
        _ request: EC2.DescribeNetworkInterfaces, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeNetworkInterfacesResponse {
        try await cloud.ensureNetwork(op)
        let page = try await cloud.describe(
            request, op, ids: request.networkInterfaceIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in
            let rows = try InstanceStore.list(tx, accountID: op.accountID, ids: nil, now: op.now)
            return Array(try NetworkInterfaceView.of(tx, rows).values)
        }
        return EC2.DescribeNetworkInterfacesResponse(
            networkInterfaces: page.items.map { $0.wire(page.tags($0.describedID)) }, nextToken: page.nextToken)
    }

    public func describeNetworkInterfaceAttribute(
        _ request: EC2.DescribeNetworkInterfaceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeNetworkInterfaceAttributeResponse {
        let id = try NetworkInterfaceID(parsing: request.networkInterfaceId)
        try await cloud.ensureNetwork(op)
        let view = try await cloud.pool.read { tx in try Self.interface(tx, id, op) }
        try op.endDryRun(request.dryRun)
        var answer = EC2.DescribeNetworkInterfaceAttributeResponse(networkInterfaceId: id.text)
        switch request.attribute {
        case "description": answer.description = EC2.AttributeValue(value: view.row.description)
        case "groupSet": answer.groups = view.groupSet
        case "sourceDestCheck": answer.sourceDestCheck = EC2.AttributeBooleanValue(value: true)
        default: answer.attachment = view.attachment
        }
        return answer
    }

    public func modifyNetworkInterfaceAttribute(
        _ request: EC2.ModifyNetworkInterfaceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyNetworkInterfaceAttributeResponse {
        let id = try NetworkInterfaceID(parsing: request.networkInterfaceId)
        let asked = [
            request.description != nil, request.sourceDestCheck != nil, !request.groups.isEmpty, request.attachment != nil,
        ].filter { $0 }.count
        guard asked == 1 else { throw CloudError(.invalidCombination("One attribute can be changed at a time, and one must be")) }
        if request.sourceDestCheck?.value == false { throw NetworkInterfaceRules.sourceCheck }
        if request.attachment?.deleteOnTermination == false { throw NetworkInterfaceRules.goesWithInstance }
        if let text = request.description?.value { try NetworkInterfaceRules.checkDescription(text) }
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let view = try Self.interface(tx, id, op)
            if let attachment = request.attachment?.attachmentId, attachment != view.row.attachmentID {
                throw Self.noAttachment(attachment)
            }
            var detail = "unchanged"
            if let text = request.description?.value {
                try NetworkInterfaceStore.setDescription(tx, id: id, text)
                detail = "description"
            }
            if !request.groups.isEmpty {
                let groups = try Self.setGroups(tx, instanceID: view.row.instanceID, ids: request.groups, op)
                detail = "groups " + groups.map(\.id).joined(separator: " ")
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ModifyNetworkInterfaceAttribute", resource: id.text, detail: detail)
        }
        return EC2.ModifyNetworkInterfaceAttributeResponse(result: true)
    }

    public func resetNetworkInterfaceAttribute(
        _ request: EC2.ResetNetworkInterfaceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ResetNetworkInterfaceAttributeResponse {
        let id = try NetworkInterfaceID(parsing: request.networkInterfaceId)
        try await cloud.ensureNetwork(op)
        _ = try await cloud.pool.read { tx in try Self.interface(tx, id, op) }
        try op.endDryRun(request.dryRun)
        // It is what it would be reset to, always.
        return EC2.ResetNetworkInterfaceAttributeResponse(result: true)
    }

    // MARK: what an instance with its one interface cannot have

    public func createNetworkInterface(
        _ request: EC2.CreateNetworkInterface, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateNetworkInterfaceResponse {
        let subnetID = try SubnetID(parsing: request.subnetId)
        try NetworkInterfaceRules.checkDescription(request.description ?? "")
        _ = try TagRules.onCreate(request.tagSpecifications, of: [.networkInterface])
        try await cloud.ensureNetwork(op)
        try await cloud.pool.transaction { tx in
            let subnet = try SubnetStore.fetch(tx, id: subnetID, accountID: op.accountID)
            if let text = request.privateIpAddress {
                guard let address = IPv4Address(parsing: text), subnet.cidr.hosts.contains(address.value) else {
                    throw CloudError(.invalidParameter("PrivateIpAddress"), "Address '\(text.prefix(40))' is not in \(subnet.cidr)")
                }
            }
            if !request.groups.isEmpty {
                _ = try SecurityGroupStore.resolve(tx, ids: request.groups, names: [], accountID: op.accountID)
            }
            try op.endDryRun(request.dryRun)
        }
        throw CloudError(
            .named(code: "NetworkInterfaceLimitExceeded", status: 400),
            "Interfaces come with instances, one each: this cloud has none of their own.")
    }

    public func deleteNetworkInterface(
        _ request: EC2.DeleteNetworkInterface, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteNetworkInterfaceResponse {
        let view = try await interface(request.networkInterfaceId, op)
        throw CloudError(
            .named(code: "InvalidNetworkInterface.InUse", status: 400),
            "The network interface '\(view.row.id)' is in use by \(view.row.instanceID) and goes with it.")
    }

    public func attachNetworkInterface(
        _ request: EC2.AttachNetworkInterface, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AttachNetworkInterfaceResponse {
        let instance = try InstanceID(parsing: request.instanceId).text
        let view = try await interface(request.networkInterfaceId, op)
        _ = try await cloud.pool.read { tx in try InstanceStore.fetch(tx, id: instance, accountID: op.accountID, now: op.now) }
        guard view.row.instanceID == instance else {
            throw CloudError(.inUse(.networkInterface, id: view.row.id.text, by: view.row.instanceID))
        }
        throw CloudError(
            .named(code: "AttachmentLimitExceeded", status: 400),
            "Interface count exceeds the limit of 1 for instances of this cloud.")
    }

    public func detachNetworkInterface(
        _ request: EC2.DetachNetworkInterface, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DetachNetworkInterfaceResponse {
        try await cloud.ensureNetwork(op)
        let found = try await cloud.pool.read { tx in
            try NetworkInterfaceStore.find(tx, attachmentID: request.attachmentId, accountID: op.accountID)
        }
        guard found != nil else { throw Self.noAttachment(request.attachmentId) }
        throw VpcRules.notPermitted("The network interface at device index 0 cannot be detached.")
    }

    public func assignPrivateIpAddresses(
        _ request: EC2.AssignPrivateIpAddresses, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AssignPrivateIpAddressesResponse {
        let view = try await interface(request.networkInterfaceId, op)
        guard request.privateIpAddresses.isEmpty != (request.secondaryPrivateIpAddressCount == nil) else {
            throw CloudError(.invalidCombination("Either addresses or a count of them must be given"))
        }
        if !request.privateIpAddresses.isEmpty, request.privateIpAddresses.allSatisfy({ $0 == view.instance.privateAddress }) {
            throw CloudError(.invalidParameter("PrivateIpAddress"), "\(view.instance.privateAddress) is the primary address already")
        }
        throw CloudError(
            .named(code: "PrivateIpAddressLimitExceeded", status: 400),
            "Number of private addresses will exceed limit: an interface of this cloud has one, which the nodes pin to it.")
    }

    public func unassignPrivateIpAddresses(
        _ request: EC2.UnassignPrivateIpAddresses, _ op: OperationContext
    ) async throws(CloudError) -> EC2.UnassignPrivateIpAddressesResponse {
        let view = try await interface(request.networkInterfaceId, op)
        guard let first = request.privateIpAddresses.first else { throw CloudError(.missingParameter("PrivateIpAddresses")) }
        guard first != view.instance.privateAddress else {
            throw CloudError(.invalidParameter("PrivateIpAddresses"), "The primary address \(first) cannot be unassigned")
        }
        throw CloudError(
            .invalidParameter("PrivateIpAddresses"), "The address \(first.prefix(40)) is not assigned to interface \(view.row.id)")
    }

    // MARK: common parts

    private func interface(_ text: String, _ op: OperationContext) async throws(CloudError) -> NetworkInterfaceView {
        let id = try NetworkInterfaceID(parsing: text)
        try await cloud.ensureNetwork(op)
        return try await cloud.pool.read { tx in try Self.interface(tx, id, op) }
    }

    private static func interface(
        _ tx: Transaction, _ id: NetworkInterfaceID, _ op: OperationContext
    ) throws(CloudError) -> NetworkInterfaceView {
        let row = try NetworkInterfaceStore.fetch(tx, id: id, accountID: op.accountID)
        let instance = try InstanceStore.fetch(tx, id: row.instanceID, accountID: op.accountID)
        guard let view = try NetworkInterfaceView.of(tx, [instance])[instance.id] else {
            throw CloudError(.notFound(.networkInterface, id: id.text))
        }
        return view
    }

    /// New groups for an instance; what nodes let through changes with them.
    static func setGroups(
        _ tx: Transaction, instanceID: String, ids: [String], _ op: OperationContext
    ) throws(CloudError) -> [InstanceStore.GroupName] {
        guard ids.count <= NetworkInterfaceRules.maxGroups else {
            throw CloudError(
                .named(code: "SecurityGroupsPerInterfaceLimitExceeded", status: 400),
                "An interface has at most \(NetworkInterfaceRules.maxGroups) security groups")
        }
        let groups = try SecurityGroupStore.resolve(tx, ids: ids, names: [], accountID: op.accountID)
            .map { InstanceStore.GroupName(id: $0.id, name: $0.name) }
        try InstanceStore.setGroups(tx, id: instanceID, groups)
        try NetworkStore.changed(tx)
        return groups
    }

    private static func noAttachment(_ id: String) -> CloudError {
        CloudError(
            .named(code: "InvalidAttachmentID.NotFound", status: 400), "The attachment ID '\(id.prefix(60))' does not exist")
    }
}
