public import API
import Database
public import Domain

extension EC2Actions: EC2ZonesActions {
    public func describeRegions(_ request: EC2.DescribeRegions, _ op: OperationContext) async throws(CloudError)
        -> EC2.DescribeRegionsResponse
    {
        let filters = try Filters(request.filters, known: ["endpoint", "region-name", "opt-in-status"])
        let settings = cloud.settings
        if let name = request.regionNames.first(where: { $0 != settings.region }) {
            throw CloudError(.invalidParameter("RegionName"), "Invalid region provided: '\(name.prefix(60))'")
        }
        try op.endDryRun(request.dryRun)
        let endpoint = "\(settings.serviceHost):\(settings.servicePort)"
        let status = "opt-in-not-required"
        let isShown = filters.match { filter in
            switch filter {
            case "endpoint": [endpoint]
            case "region-name": [settings.region]
            case "opt-in-status": [status]
            default: []
            }
        }
        return EC2.DescribeRegionsResponse(
            regions: isShown ? [EC2.Region(regionName: settings.region, endpoint: endpoint, optInStatus: status)] : [])
    }

    public func describeAvailabilityZones(
        _ request: EC2.DescribeAvailabilityZones, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeAvailabilityZonesResponse {
        let filters = try Filters(
            request.filters,
            known: ["group-name", "message", "opt-in-status", "region-name", "state", "zone-id", "zone-name", "zone-type"])
        try op.endDryRun(request.dryRun)
        let settings = cloud.settings
        let zones = ZoneRules.zones(try await cloud.cluster.components(), settings: settings)
        if let name = request.zoneNames.first(where: { name in !zones.contains { $0.zoneName == name } }) {
            throw CloudError(.invalidParameter("ZoneName"), "Invalid availability zone: [\(name.prefix(60))]")
        }
        if let id = request.zoneIds.first(where: { id in !zones.contains { $0.zoneId == id } }) {
            throw CloudError(.invalidParameter("ZoneId"), "Invalid availability zone-id: [\(id.prefix(60))]")
        }
        let everything = request.zoneNames.isEmpty && request.zoneIds.isEmpty
        return EC2.DescribeAvailabilityZonesResponse(
            availabilityZones: zones.filter { zone in
                (everything || request.zoneNames.contains(zone.zoneName ?? "") || request.zoneIds.contains(zone.zoneId ?? ""))
                    && filters.match { ZoneRules.values(zone, $0) }
            })
    }
}
