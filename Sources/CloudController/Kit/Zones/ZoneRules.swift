import API

enum ZoneRules {
    /// The zones that have a cluster controller, and the configured one: available when both controllers of it are registered, because
    /// without one of them nothing can be started there. Whether their hosts answer is DescribeInstanceStatus' and the console's to say.
    static func zones(_ components: [Component], settings: CloudSettings) -> [EC2.AvailabilityZone] {
        let names = Set(components.filter { $0.role == .cc }.map(\.zone) + [settings.zone]).sorted()
        return names.enumerated().map { index, name in
            let missing = [Component.Role.cc, .sc].filter { role in !components.contains { $0.role == role && $0.zone == name } }
            let messages = missing.map { role in
                EC2.AvailabilityZoneMessage(message: "No \(role == .cc ? "cluster" : "storage") controller is registered for \(name)")
            }
            return EC2.AvailabilityZone(
                zoneName: name, state: missing.isEmpty ? "available" : missing.contains(.cc) ? "unavailable" : "impaired",
                regionName: settings.region, messages: messages, optInStatus: "opt-in-not-required",
                zoneId: id(at: index, region: settings.region), groupName: settings.region,
                networkBorderGroup: settings.region, zoneType: "availability-zone")
        }
    }

    private static func id(at index: Int, region: String) -> String { "\(region.filter { $0 != "-" })-az\(index + 1)" }

    /// A zone's id among all zones in the order of their names.
    static func id(of zone: String, among zones: [String], region: String) -> String {
        id(at: zones.firstIndex(of: zone) ?? zones.count, region: region)
    }

    static func values(_ zone: EC2.AvailabilityZone, _ filter: String) -> [String] {
        let value: String? =
            switch filter {
            case "group-name": zone.groupName
            case "opt-in-status": zone.optInStatus
            case "region-name": zone.regionName
            case "state": zone.state
            case "zone-id": zone.zoneId
            case "zone-name": zone.zoneName
            case "zone-type": zone.zoneType
            default: nil
            }
        if filter == "message" { return zone.messages.compactMap(\.message) }
        return [value].compactMap { $0 }
    }
}
