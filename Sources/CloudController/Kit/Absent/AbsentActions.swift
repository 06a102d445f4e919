public import API
import Database
public import Domain
import Wire
import Workflow

// What EC2 has and this cloud has none of. There is nothing to describe, so the sets are empty; requests are checked like all others,
// and an id that a request names is unknown.

extension EC2Actions: EC2AbsentActions {
    public func describeNatGateways(
        _ request: EC2.DescribeNatGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeNatGatewaysResponse {
        try nothing(
            request, op, ids: request.natGatewayIds, unknown: "NatGatewayNotFound", filters: request.filter,
            known: ["nat-gateway-id", "state", "subnet-id", "tag", "vpc-id"], maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun)
        return EC2.DescribeNatGatewaysResponse()
    }

    public func describeSpotInstanceRequests(
        _ request: EC2.DescribeSpotInstanceRequests, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSpotInstanceRequestsResponse {
        try nothing(
            request, op, ids: request.spotInstanceRequestIds, unknown: "InvalidSpotInstanceRequestID.NotFound", filters: request.filters,
            known: [
                "availability-zone-group", "create-time", "fault-code", "fault-message", "instance-id", "launch-group",
                "launch.block-device-mapping.delete-on-termination", "launch.block-device-mapping.device-name",
                "launch.block-device-mapping.snapshot-id", "launch.block-device-mapping.volume-size",
                "launch.block-device-mapping.volume-type", "launch.group-id", "launch.group-name", "launch.image-id",
                "launch.instance-type", "launch.kernel-id", "launch.key-name", "launch.monitoring-enabled", "launch.ramdisk-id",
                "launched-availability-zone", "launched-availability-zone-id", "network-interface.addresses.primary",
                "network-interface.delete-on-termination", "network-interface.description", "network-interface.device-index",
                "network-interface.group-id", "network-interface.network-interface-id", "network-interface.private-ip-address",
                "network-interface.subnet-id", "product-description", "spot-instance-request-id", "spot-price", "state", "status-code",
                "status-message", "tag", "type", "valid-from", "valid-until",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeSpotInstanceRequestsResponse()
    }

    public func describeSpotPriceHistory(
        _ request: EC2.DescribeSpotPriceHistory, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSpotPriceHistoryResponse {
        try nothing(
            request, op, filters: request.filters,
            known: ["availability-zone", "availability-zone-id", "instance-type", "product-description", "spot-price", "timestamp"],
            maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeSpotPriceHistoryResponse()
    }

    public func describeConversionTasks(
        _ request: EC2.DescribeConversionTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeConversionTasksResponse {
        try nothing(request, op, ids: request.conversionTaskIds, unknown: "InvalidConversionTaskId", dryRun: request.dryRun)
        return EC2.DescribeConversionTasksResponse()
    }

    public func describeExportTasks(
        _ request: EC2.DescribeExportTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeExportTasksResponse {
        try nothing(request, op, ids: request.exportTaskIds, unknown: "InvalidExportTaskID.NotFound", filters: request.filters, known: [])
        return EC2.DescribeExportTasksResponse()
    }

    public func describeImportSnapshotTasks(
        _ request: EC2.DescribeImportSnapshotTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeImportSnapshotTasksResponse {
        try nothing(
            request, op, ids: request.importTaskIds, unknown: "InvalidConversionTaskId", filters: request.filters, known: [],
            maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeImportSnapshotTasksResponse()
    }

    public func describeImportImageTasks(
        _ request: EC2.DescribeImportImageTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeImportImageTasksResponse {
        try nothing(
            request, op, ids: request.importTaskIds, unknown: "InvalidConversionTaskId", filters: request.filters, known: [],
            maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeImportImageTasksResponse()
    }

    public func describeStoreImageTasks(
        _ request: EC2.DescribeStoreImageTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeStoreImageTasksResponse {
        try nothing(
            request, op, filters: request.filters, known: ["bucket", "task-state"], maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeStoreImageTasksResponse()
    }

    public func describeFastLaunchImages(
        _ request: EC2.DescribeFastLaunchImages, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeFastLaunchImagesResponse {
        try nothing(
            request, op, filters: request.filters, known: ["owner-id", "resource-type", "state"], maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeFastLaunchImagesResponse()
    }

    public func describeVpcPeeringConnections(
        _ request: EC2.DescribeVpcPeeringConnections, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVpcPeeringConnectionsResponse {
        try nothing(
            request, op, ids: request.vpcPeeringConnectionIds, unknown: "InvalidVpcPeeringConnectionID.NotFound", filters: request.filters,
            known: [
                "accepter-vpc-info.cidr-block", "accepter-vpc-info.owner-id", "accepter-vpc-info.vpc-id", "expiration-time",
                "requester-vpc-info.cidr-block", "requester-vpc-info.owner-id", "requester-vpc-info.vpc-id", "status-code",
                "status-message", "tag", "vpc-peering-connection-id",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeVpcPeeringConnectionsResponse()
    }

    public func describeVpcEndpoints(
        _ request: EC2.DescribeVpcEndpoints, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVpcEndpointsResponse {
        try nothing(
            request, op, ids: request.vpcEndpointIds, unknown: "InvalidVpcEndpointId.NotFound", filters: request.filters,
            known: [
                "ip-address-type", "service-name", "service-region", "tag", "vpc-endpoint-id", "vpc-endpoint-state", "vpc-endpoint-type",
                "vpc-id",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeVpcEndpointsResponse()
    }

    public func describeEgressOnlyInternetGateways(
        _ request: EC2.DescribeEgressOnlyInternetGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeEgressOnlyInternetGatewaysResponse {
        try nothing(
            request, op, ids: request.egressOnlyInternetGatewayIds, unknown: "InvalidGatewayID.NotFound", filters: request.filters,
            known: ["tag"], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeEgressOnlyInternetGatewaysResponse()
    }

    public func describeVpnGateways(
        _ request: EC2.DescribeVpnGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVpnGatewaysResponse {
        try nothing(
            request, op, ids: request.vpnGatewayIds, unknown: "InvalidVpnGatewayID.NotFound", filters: request.filters,
            known: [
                "amazon-side-asn", "attachment.state", "attachment.vpc-id", "availability-zone", "state", "tag", "type", "vpn-gateway-id",
            ], dryRun: request.dryRun)
        return EC2.DescribeVpnGatewaysResponse()
    }

    public func describeCustomerGateways(
        _ request: EC2.DescribeCustomerGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeCustomerGatewaysResponse {
        try nothing(
            request, op, ids: request.customerGatewayIds, unknown: "InvalidCustomerGatewayID.NotFound", filters: request.filters,
            known: ["bgp-asn", "customer-gateway-id", "ip-address", "state", "tag", "type"], dryRun: request.dryRun)
        return EC2.DescribeCustomerGatewaysResponse()
    }

    public func describeVpnConnections(
        _ request: EC2.DescribeVpnConnections, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeVpnConnectionsResponse {
        try nothing(
            request, op, ids: request.vpnConnectionIds, unknown: "InvalidVpnConnectionID.NotFound", filters: request.filters,
            known: [
                "bgp-asn", "customer-gateway-configuration", "customer-gateway-id", "option.static-routes-only",
                "route.destination-cidr-block", "state", "tag", "transit-gateway-id", "type", "vpn-connection-id", "vpn-gateway-id",
            ], dryRun: request.dryRun)
        return EC2.DescribeVpnConnectionsResponse()
    }

    public func describeReservedInstances(
        _ request: EC2.DescribeReservedInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeReservedInstancesResponse {
        try nothing(
            request, op, ids: request.reservedInstancesIds, unknown: "InvalidReservedInstancesId", filters: request.filters,
            known: [
                "availability-zone", "availability-zone-id", "duration", "end", "fixed-price", "instance-type", "product-description",
                "reserved-instances-id", "scope", "start", "state", "tag", "usage-price",
            ], dryRun: request.dryRun)
        return EC2.DescribeReservedInstancesResponse()
    }

    public func describeReservedInstancesOfferings(
        _ request: EC2.DescribeReservedInstancesOfferings, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeReservedInstancesOfferingsResponse {
        try nothing(
            request, op, filters: request.filters,
            known: [
                "availability-zone", "availability-zone-id", "duration", "fixed-price", "instance-type", "marketplace",
                "product-description", "reserved-instances-offering-id", "scope", "usage-price",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeReservedInstancesOfferingsResponse()
    }

    public func describeFlowLogs(
        _ request: EC2.DescribeFlowLogs, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeFlowLogsResponse {
        try nothing(
            request, op, ids: request.flowLogIds, unknown: "InvalidFlowLogId.NotFound", filters: request.filter,
            known: ["deliver-log-status", "flow-log-id", "log-destination-type", "log-group-name", "resource-id", "tag", "traffic-type"],
            maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeFlowLogsResponse()
    }

    public func describeHosts(
        _ request: EC2.DescribeHosts, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeHostsResponse {
        try nothing(
            request, op, ids: request.hostIds, unknown: "InvalidHostID.NotFound", filters: request.filter,
            known: ["auto-placement", "availability-zone", "client-token", "host-reservation-id", "instance-type", "state", "tag"],
            maxResults: request.maxResults, nextToken: request.nextToken)
        return EC2.DescribeHostsResponse()
    }

    public func describeHostReservations(
        _ request: EC2.DescribeHostReservations, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeHostReservationsResponse {
        try nothing(
            request, op, ids: request.hostReservationIdSet, unknown: "InvalidParameterValue", filters: request.filter,
            known: ["instance-family", "payment-option", "state", "tag"], maxResults: request.maxResults, nextToken: request.nextToken)
        return EC2.DescribeHostReservationsResponse()
    }

    public func describeTransitGateways(
        _ request: EC2.DescribeTransitGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeTransitGatewaysResponse {
        try nothing(
            request, op, ids: request.transitGatewayIds, unknown: "InvalidTransitGatewayID.NotFound", filters: request.filters,
            known: [
                "options.amazon-side-asn", "options.association-default-route-table-id", "options.auto-accept-shared-attachments",
                "options.default-route-table-association", "options.default-route-table-propagation", "options.dns-support",
                "options.propagation-default-route-table-id", "options.vpn-ecmp-support", "owner-id", "state", "transit-gateway-id",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeTransitGatewaysResponse()
    }

    public func describeClassicLinkInstances(
        _ request: EC2.DescribeClassicLinkInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeClassicLinkInstancesResponse {
        try nothing(
            request, op, filters: request.filters, known: ["group-id", "instance-id", "tag", "vpc-id"], maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeClassicLinkInstancesResponse()
    }

    public func describeCapacityReservations(
        _ request: EC2.DescribeCapacityReservations, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeCapacityReservationsResponse {
        try nothing(
            request, op, ids: request.capacityReservationIds, unknown: "InvalidCapacityReservationId.NotFound", filters: request.filters,
            known: [
                "active", "availability-zone", "cancelled", "dedicated", "default", "end-date", "end-date-type", "expired", "failed",
                "instance-match-criteria", "instance-platform", "instance-type", "limited", "open", "outpost-arn", "owner-id", "pending",
                "placement-group-arn", "start-date", "state", "targeted", "tenancy", "unlimited",
            ], maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeCapacityReservationsResponse()
    }

    public func describePlacementGroups(
        _ request: EC2.DescribePlacementGroups, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribePlacementGroupsResponse {
        try nothing(
            request, op, ids: request.groupIds + request.groupNames, unknown: "InvalidPlacementGroup.Unknown", filters: request.filters,
            known: ["group-arn", "group-name", "spread-level", "state", "strategy", "tag"], dryRun: request.dryRun)
        return EC2.DescribePlacementGroupsResponse()
    }

    public func describeMovingAddresses(
        _ request: EC2.DescribeMovingAddresses, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeMovingAddressesResponse {
        try nothing(
            request, op, filters: request.filters, known: ["moving-status"], maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun)
        return EC2.DescribeMovingAddressesResponse()
    }

    public func describeSpotFleetRequests(
        _ request: EC2.DescribeSpotFleetRequests, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeSpotFleetRequestsResponse {
        try nothing(
            request, op, ids: request.spotFleetRequestIds, unknown: "InvalidSpotFleetRequestId.NotFound", maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeSpotFleetRequestsResponse()
    }

    public func describeScheduledInstances(
        _ request: EC2.DescribeScheduledInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeScheduledInstancesResponse {
        try nothing(
            request, op, ids: request.scheduledInstanceIds, unknown: "InvalidParameterValue", filters: request.filters,
            known: ["availability-zone", "instance-type", "platform"], maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun)
        return EC2.DescribeScheduledInstancesResponse()
    }

    public func describeFastSnapshotRestores(
        _ request: EC2.DescribeFastSnapshotRestores, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeFastSnapshotRestoresResponse {
        try nothing(
            request, op, filters: request.filters,
            known: ["availability-zone", "availability-zone-id", "owner-id", "snapshot-id", "state"], maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeFastSnapshotRestoresResponse()
    }

    public func describeLockedSnapshots(
        _ request: EC2.DescribeLockedSnapshots, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeLockedSnapshotsResponse {
        try nothing(
            request, op, filters: request.filters, known: ["lock-state"], maxResults: request.maxResults, nextToken: request.nextToken,
            dryRun: request.dryRun)
        return EC2.DescribeLockedSnapshotsResponse()
    }

    public func describeFleets(
        _ request: EC2.DescribeFleets, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeFleetsResponse {
        try nothing(
            request, op, ids: request.fleetIds, unknown: "InvalidFleetId.NotFound", filters: request.filters,
            known: ["activity-status", "excess-capacity-termination-policy", "fleet-state", "replace-unhealthy-instances", "type"],
            maxResults: request.maxResults, nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeFleetsResponse()
    }

    public func describeCarrierGateways(
        _ request: EC2.DescribeCarrierGateways, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeCarrierGatewaysResponse {
        try nothing(
            request, op, ids: request.carrierGatewayIds, unknown: "InvalidCarrierGatewayID.NotFound", filters: request.filters,
            known: ["carrier-gateway-id", "owner-id", "state", "tag", "vpc-id"], maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun)
        return EC2.DescribeCarrierGatewaysResponse()
    }

    /// - Throws: what a wrong filter, token or id of the request is answered with.
    private func nothing<R: WireRequest>(
        _ request: R, _ op: OperationContext, ids: [String] = [], unknown: String = "", filters: [EC2.Filter] = [],
        known: Set<String> = [], maxResults: Int? = nil, nextToken: String? = nil, dryRun: Bool? = nil
    ) throws(CloudError) {
        _ = try Filters(filters, known: known)
        _ = try cloud.paging(request, op, maxResults: maxResults, nextToken: nextToken)
        if let id = ids.first { throw CloudError(.named(code: unknown, status: 400), "The ID '\(id.prefix(60))' does not exist") }
        try op.endDryRun(dryRun)
    }
}
