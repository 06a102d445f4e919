public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2AddressesActions {
    public func allocateAddress(_ request: EC2.AllocateAddress, _ op: OperationContext) async throws(CloudError)
        -> EC2.AllocateAddressResponse
    {
        let wanted = try request.address.map { text throws(CloudError) in try AddressRules.parse(text, parameter: "Address") }
        if let pool = request.publicIpv4Pool, pool != "amazon" { throw CloudError(.invalidParameter("PublicIpv4Pool")) }
        if let group = request.networkBorderGroup, group != cloud.settings.region {
            throw CloudError(.invalidParameter("NetworkBorderGroup"))
        }
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.elasticIP])[.elasticIP] ?? []
        let id = AddressAllocationID(random: cloud.random.bytes(9))
        let settings = cloud.settings
        let domain = request.domain ?? "vpc"
        let address = try await cloud.pool.transaction { tx in
            let address = try AddressStore.allocate(
                tx, accountID: op.accountID, allocationID: id, domain: domain, wanted: wanted, settings: settings)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: id.text, type: .elasticIP, tags)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "AllocateAddress", resource: id.text, detail: address.description)
            return address
        }
        return EC2.AllocateAddressResponse(
            publicIp: address.description, domain: domain, allocationId: id.text, publicIpv4Pool: "amazon",
            networkBorderGroup: settings.region)
    }

    public func releaseAddress(_ request: EC2.ReleaseAddress, _ op: OperationContext) async throws(CloudError) -> EC2.ReleaseAddressResponse
    {
        let key = try AddressRules.Key(allocationID: request.allocationId, publicIP: request.publicIp)
        let settings = cloud.settings
        try await cloud.pool.transaction { tx in
            let address = try Self.address(tx, key, op)
            if address.instanceID != nil {
                if case .allocation = key {
                    throw CloudError(
                        .inUse(.address, id: address.address.description, by: address.instanceID ?? ""),
                        "Address '\(address.address)' is in use by \(address.instanceID ?? "")")
                }
                try AddressStore.disassociate(tx, address, settings: settings)
                try NetworkStore.changed(tx)
            }
            try op.endDryRun(request.dryRun)
            try AddressStore.release(tx, address)
            try AuditStore.record(
                tx, op, action: "ReleaseAddress", resource: address.allocationID.text, detail: address.address.description)
        }
        return EC2.ReleaseAddressResponse(result: true)
    }

    public func associateAddress(
        _ request: EC2.AssociateAddress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.AssociateAddressResponse {
        let key = try AddressRules.Key(allocationID: request.allocationId, publicIP: request.publicIp)
        guard let instanceText = request.instanceId else { throw CloudError(.missingParameter("InstanceId")) }
        let instanceID = try InstanceID(parsing: instanceText)
        let association = AddressAssociationID(random: cloud.random.bytes(9))
        let settings = cloud.settings
        let result = try await cloud.pool.transaction { tx in
            let address = try Self.address(tx, key, op)
            let desired = try AddressStore.instanceDesired(tx, accountID: op.accountID, id: instanceID)
            guard desired != "terminated" else {
                throw CloudError(.incorrectState(.instance, id: instanceID.text, state: "shutting-down"))
            }
            if let wanted = request.privateIpAddress {
                guard try AddressStore.privateAddress(tx, instanceID: instanceID.text) == wanted else {
                    throw CloudError(
                        .invalidParameter("PrivateIpAddress"),
                        "The instance \(instanceID) does not have the private address \(wanted.prefix(40))")
                }
            }
            var byNumber = false
            if case .number = key { byNumber = true }
            let moves = try AddressRules.mayAssociate(
                address, to: instanceID.text, byNumber: byNumber, allowReassociation: request.allowReassociation ?? false)
            try op.endDryRun(request.dryRun)
            guard moves else { return address.associationID ?? "" }
            try AddressStore.associate(tx, address, instanceID: instanceID.text, associationID: association, settings: settings)
            try AuditStore.record(
                tx, op, action: "AssociateAddress", resource: "\(address.allocationID) \(instanceID)", detail: address.address.description)
            try NetworkStore.changed(tx)
            return association.text
        }
        return EC2.AssociateAddressResponse(result: true, associationId: result)
    }

    public func disassociateAddress(
        _ request: EC2.DisassociateAddress, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisassociateAddressResponse {
        guard request.associationId == nil || request.publicIp == nil else {
            throw CloudError(.invalidCombination("You may specify public IP or association id, but not both in the same call"))
        }
        guard request.associationId != nil || request.publicIp != nil else { throw CloudError(.missingParameter("AssociationId")) }
        let association = try request.associationId.map { text throws(CloudError) in try AddressAssociationID(parsing: text) }
        let number = try request.publicIp.map { text throws(CloudError) in try AddressRules.parse(text, parameter: "PublicIp") }
        let settings = cloud.settings
        try await cloud.pool.transaction { tx in
            let address: ElasticAddress
            if let association {
                guard let found = try AddressStore.find(tx, accountID: op.accountID, associationID: association) else {
                    throw CloudError(.notFound(.addressAssociation, id: association.text))
                }
                address = found
            } else if let number {
                address = try Self.address(tx, .number(number), op)
            } else {
                return
            }
            try op.endDryRun(request.dryRun)
            // Without an instance there is nothing to do, and EC2 says so by success.
            guard let instanceID = address.instanceID else { return }
            try AddressStore.disassociate(tx, address, settings: settings)
            try AuditStore.record(
                tx, op, action: "DisassociateAddress", resource: "\(address.allocationID) \(instanceID)",
                detail: address.address.description)
            try NetworkStore.changed(tx)
        }
        return EC2.DisassociateAddressResponse(result: true)
    }

    public func describeAddresses(
        _ request: EC2.DescribeAddresses, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeAddressesResponse {
        let filters = try Filters(request.filters, known: AddressRules.filters)
        for text in request.allocationIds { _ = try AddressAllocationID(parsing: text) }
        for text in request.publicIps { _ = try AddressRules.parse(text, parameter: "PublicIp") }
        try op.endDryRun(request.dryRun)
        let (all, tags) = try await cloud.pool.read { tx in
            let all = try AddressStore.list(tx, accountID: op.accountID)
            return (all, try TagStore.tags(tx, all.map(\.allocationID.text)))
        }
        if let text = request.publicIps.first(where: { text in !all.contains { $0.address.description == text } }) {
            throw AddressRules.notFound(text)
        }
        if let id = request.allocationIds.first(where: { id in !all.contains { $0.allocationID.text == id } }) {
            throw CloudError(.notFound(.address, id: id), "The allocation ID '\(id)' does not exist")
        }
        let everything = request.publicIps.isEmpty && request.allocationIds.isEmpty
        let found = all.filter { address in
            (everything || request.publicIps.contains(address.address.description)
                || request.allocationIds.contains(address.allocationID.text))
                && filters.match(tags: (tags[address.allocationID.text] ?? []).byKey) {
                    AddressRules.values(address, region: cloud.settings.region, $0)
                }
        }
        // The old dates' descriptions of an address demand the element, empty or not.
        let none: String? = op.apiVersion < "2011-02-28" ? "" : nil
        return EC2.DescribeAddressesResponse(
            addresses: found.map { address in
                EC2.Address(
                    publicIp: address.address.description, instanceId: address.instanceID ?? none, allocationId: address.allocationID.text,
                    associationId: address.associationID, domain: address.domain, privateIpAddress: address.privateAddress,
                    tags: (tags[address.allocationID.text] ?? []).map(\.wire), publicIpv4Pool: "amazon",
                    networkBorderGroup: cloud.settings.region)
            })
    }

    /// - Throws: `.notFound(.address)`; `AuthFailure` when it is named by its number.
    private static func address(_ tx: Transaction, _ key: AddressRules.Key, _ op: OperationContext) throws(CloudError) -> ElasticAddress {
        switch key {
        case .allocation(let id):
            guard let found = try AddressStore.find(tx, accountID: op.accountID, allocationID: id) else {
                throw CloudError(.notFound(.address, id: id.text), "The allocation ID '\(id)' does not exist")
            }
            return found
        case .number(let number):
            guard let found = try AddressStore.find(tx, accountID: op.accountID, address: number) else {
                throw AddressRules.notYours(number.description)
            }
            return found
        }
    }
}
