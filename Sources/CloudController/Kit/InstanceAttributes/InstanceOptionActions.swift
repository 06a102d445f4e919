public import API
import Database
public import Domain
import Signing
import Workflow

// Options of instances that this cloud has one value of: what asks for that value is answered, what asks for another is refused by the
// documented error.

extension EC2Actions {
    public func monitorInstances(
        _ request: EC2.MonitorInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.MonitorInstancesResponse {
        _ = try await known(request.instanceIds, op)
        try op.endDryRun(request.dryRun)
        throw InstanceAttributeChange.notHere("Detailed monitoring")
    }

    public func unmonitorInstances(
        _ request: EC2.UnmonitorInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.UnmonitorInstancesResponse {
        let rows = try await known(request.instanceIds, op)
        try op.endDryRun(request.dryRun)
        return EC2.UnmonitorInstancesResponse(
            instanceMonitorings: rows.map {
                EC2.InstanceMonitoring(instanceId: $0.id, monitoring: EC2.Monitoring(state: "disabled"))
            })
    }

    public func describeInstanceCreditSpecifications(
        _ request: EC2.DescribeInstanceCreditSpecifications, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceCreditSpecificationsResponse {
        _ = try Filters(request.filters, known: ["instance-id"])
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        if !request.instanceIds.isEmpty { _ = try await known(request.instanceIds, op) }
        try op.endDryRun(request.dryRun)
        let page = paging.page([String](), by: { $0 })
        return EC2.DescribeInstanceCreditSpecificationsResponse(nextToken: page.nextToken)
    }

    public func modifyInstanceCreditSpecification(
        _ request: EC2.ModifyInstanceCreditSpecification, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstanceCreditSpecificationResponse {
        var refused: [EC2.UnsuccessfulInstanceCreditSpecificationItem] = []
        for item in request.instanceCreditSpecifications {
            guard let text = item.instanceId else { throw CloudError(.missingParameter("InstanceCreditSpecification.InstanceId")) }
            let id = try InstanceID(parsing: text).text
            let rows = try await cloud.pool.read { tx in try InstanceStore.list(tx, accountID: op.accountID, ids: nil, now: op.now) }
            let row = rows.first { $0.id == id }
            let error =
                row.map {
                    EC2.UnsuccessfulInstanceCreditSpecificationItemError(
                        code: "InstanceCreditSpecification.NotSupported",
                        message: "The instance type \($0.instanceType) of \(id) is not burstable.")
                }
                ?? EC2.UnsuccessfulInstanceCreditSpecificationItemError(
                    code: "InvalidInstanceID.NotFound", message: "The instance ID '\(id)' does not exist")
            refused.append(EC2.UnsuccessfulInstanceCreditSpecificationItem(instanceId: id, error: error))
        }
        try op.endDryRun(request.dryRun)
        return EC2.ModifyInstanceCreditSpecificationResponse(unsuccessfulInstanceCreditSpecifications: refused)
    }

    public func describeInstanceTypeOfferings(
        _ request: EC2.DescribeInstanceTypeOfferings, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceTypeOfferingsResponse {
        let filters = try Filters(request.filters, known: ["instance-type", "location"])
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        let location = request.locationType ?? "region"
        guard location != "outpost" else { throw CloudError(.invalidParameter("LocationType"), "This cloud has no outposts") }
        try op.endDryRun(request.dryRun)
        let settings = cloud.settings
        let (types, zones) = try await cloud.pool.read { tx in (try InstanceTypeStore.all(tx), try VpcStore.zones(tx, settings)) }
        let places =
            switch location {
            case "availability-zone": zones
            case "availability-zone-id": zones.map { ZoneRules.id(of: $0, among: zones, region: settings.region) }
            default: [settings.region]
            }
        let all = types.map(\.name).sorted().flatMap { type in
            places.map { EC2.InstanceTypeOffering(instanceType: type, locationType: location, location: $0) }
        }
        let found = all.filter { offering in
            filters.match { $0 == "location" ? one(offering.location) : one(offering.instanceType) }
        }
        let page = paging.page(found) { "\($0.instanceType ?? "") \($0.location ?? "")" }
        return EC2.DescribeInstanceTypeOfferingsResponse(instanceTypeOfferings: page.items, nextToken: page.nextToken)
    }

    public func describeInstanceTopology(
        _ request: EC2.DescribeInstanceTopology, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceTopologyResponse {
        let filters = try Filters(request.filters, known: ["availability-zone", "instance-type", "zone-id"])
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        if let group = request.groupNames.first { throw CloudError(.notFound(.placementGroup, id: group)) }
        for id in request.instanceIds { _ = try InstanceID(parsing: id) }
        try op.endDryRun(request.dryRun)
        let settings = cloud.settings
        let ids = request.instanceIds.isEmpty ? nil : request.instanceIds
        let (rows, zones) = try await cloud.pool.read { tx in
            (
                try InstanceStore.list(tx, accountID: op.accountID, ids: ids, now: op.now).filter { $0.state == .running },
                try VpcStore.zones(tx, settings)
            )
        }
        let all = rows.map { row in
            EC2.InstanceTopology(
                instanceId: row.id, instanceType: row.instanceType,
                // From far to near, as EC2's: what all share, the zone's network, the host. Names that tell equal from different, no more.
                networkNodes: [settings.region, "\(settings.region) \(row.zone)", "\(row.zone) \(row.node)"].map {
                    "nn-" + Hex.encode(Array(Digest.sha256(Array($0.utf8)).prefix(9))).prefix(17)
                }, availabilityZone: row.zone, zoneId: ZoneRules.id(of: row.zone, among: zones, region: settings.region))
        }
        let found = all.filter { item in
            filters.match { name in
                switch name {
                case "availability-zone": one(item.availabilityZone)
                case "instance-type": one(item.instanceType)
                default: one(item.zoneId)
                }
            }
        }
        let page = paging.page(found.sorted { ($0.instanceId ?? "") < ($1.instanceId ?? "") }) { $0.instanceId ?? "" }
        return EC2.DescribeInstanceTopologyResponse(instances: page.items, nextToken: page.nextToken)
    }

    public func getInstanceUefiData(
        _ request: EC2.GetInstanceUefiData, _ op: OperationContext
    ) async throws(CloudError) -> EC2.GetInstanceUefiDataResponse {
        _ = try await known([request.instanceId], op)
        try op.endDryRun(request.dryRun)
        throw InstanceAttributeChange.notHere("UEFI: instances boot by BIOS; their variables")
    }

    public func modifyInstanceMaintenanceOptions(
        _ request: EC2.ModifyInstanceMaintenanceOptions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstanceMaintenanceOptionsResponse {
        let rows = try await known([request.instanceId], op)
        try op.endDryRun(request.dryRun)
        if let recovery = request.autoRecovery, recovery != "disabled" { throw InstanceAttributeChange.notHere("Automatic recovery") }
        return EC2.ModifyInstanceMaintenanceOptionsResponse(instanceId: rows.first?.id, autoRecovery: "disabled")
    }

    public func modifyPrivateDnsNameOptions(
        _ request: EC2.ModifyPrivateDnsNameOptions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyPrivateDnsNameOptionsResponse {
        _ = try await known([request.instanceId], op)
        try op.endDryRun(request.dryRun)
        if let type = request.privateDnsHostnameType, type != "ip-name" {
            throw InstanceAttributeChange.notHere("The host name type \(type)")
        }
        if request.enableResourceNameDnsARecord == true || request.enableResourceNameDnsAAAARecord == true {
            throw InstanceAttributeChange.notHere("A record of the resource name")
        }
        return EC2.ModifyPrivateDnsNameOptionsResponse(result: true)
    }

    public func modifyInstanceCapacityReservationAttributes(
        _ request: EC2.ModifyInstanceCapacityReservationAttributes, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstanceCapacityReservationAttributesResponse {
        _ = try await known([request.instanceId], op)
        try op.endDryRun(request.dryRun)
        // `open` takes a reservation when there is one: there is none, so both come to the same.
        let preference = request.capacityReservationSpecification.capacityReservationPreference ?? "none"
        guard preference == "none" || preference == "open" else { throw InstanceAttributeChange.notHere("A capacity reservation") }
        return EC2.ModifyInstanceCapacityReservationAttributesResponse(result: true)
    }

    public func modifyInstancePlacement(
        _ request: EC2.ModifyInstancePlacement, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstancePlacementResponse {
        _ = try await known([request.instanceId], op)
        if let tenancy = request.tenancy, tenancy != "default" { throw InstanceAttributeChange.notHere("The tenancy '\(tenancy)'") }
        if let host = request.hostId, !host.isEmpty {
            throw CloudError(.named(code: "InvalidHostID.NotFound", status: 400), "The host ID '\(host.prefix(40))' does not exist")
        }
        if let group = request.groupName, !group.isEmpty { throw CloudError(.notFound(.placementGroup, id: String(group.prefix(60)))) }
        if request.affinity == "host" { throw InstanceAttributeChange.notHere("Affinity to a dedicated host") }
        return EC2.ModifyInstancePlacementResponse(result: true)
    }

    /// The instances, each of which must be the account's.
    private func known(_ ids: [String], _ op: OperationContext) async throws(CloudError) -> [InstanceRow] {
        let ids = try InstanceView.parse(ids)
        return try await cloud.pool.read { tx in try InstanceStore.list(tx, accountID: op.accountID, ids: ids, now: op.now) }
    }
}
