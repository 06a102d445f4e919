import API
import Database
import Domain

/// Rows of instances as EC2 shows them, with all that belongs to them, read in one transaction.
struct InstanceView: Sendable {
    let rows: [InstanceRow]
    let groups: [String: [InstanceStore.GroupName]]
    let tags: [String: [ResourceTag]]
    let attachments: [String: [AttachmentRow]]
    let publicAddresses: [String: PublicAddress]
    let interfaces: [String: NetworkInterfaceView]

    init(_ tx: Transaction, _ rows: [InstanceRow], _ op: OperationContext) throws(CloudError) {
        let ids = rows.map(\.id)
        self.rows = rows
        groups = try InstanceStore.groups(tx, ids: ids)
        tags = try TagStore.tags(tx, ids)
        attachments = Dictionary(grouping: try VolumeStore.attachments(tx, instanceIDs: ids), by: \.instanceID)
        publicAddresses = try AddressStore.publicAddresses(tx, instanceIDs: ids)
        interfaces = try NetworkInterfaceView.of(tx, rows)
    }

    static func sortKey(_ row: InstanceRow) -> String {
        let index = String(row.launchIndex)
        return timeKey(row.createdAt) + row.reservationID + String(repeating: "0", count: max(0, 5 - index.utf8.count)) + index + row.id
    }

    /// Each id well formed, and each once.
    /// - Throws: `.missingParameter`, `.malformedID`.
    static func parse(_ ids: [String]) throws(CloudError) -> [String] {
        guard !ids.isEmpty else { throw CloudError(.missingParameter("InstanceId")) }
        var out: [String] = []
        for id in ids {
            let parsed = try InstanceID(parsing: id).text
            if !out.contains(parsed) { out.append(parsed) }
        }
        return out
    }

    /// - Throws: `.malformedID`; `.invalidCombination` for ids and pages in one request, as EC2.
    static func check(ids: [String], maxResults: Int?) throws(CloudError) {
        for id in ids { _ = try InstanceID(parsing: id) }
        guard ids.isEmpty || maxResults == nil else {
            throw CloudError(.invalidCombination("The parameter instancesSet cannot be used with the parameter maxResults"))
        }
    }

    // MARK: instances

    var reservations: [EC2.Reservation] { reservations(of: rows) }

    /// In the order of the rows; a reservation stands where its first instance does.
    func reservations(of page: [InstanceRow]) -> [EC2.Reservation] {
        var order: [String] = []
        var members: [String: [InstanceRow]] = [:]
        for row in page {
            if members[row.reservationID] == nil { order.append(row.reservationID) }
            members[row.reservationID, default: []].append(row)
        }
        return order.compactMap { id in
            guard let rows = members[id], let first = rows.first else { return nil }
            return EC2.Reservation(
                reservationId: id, ownerId: first.accountID, groups: groupSet(first.id), instances: rows.map(instance))
        }
    }

    private func groupSet(_ id: String) -> [EC2.GroupIdentifier] {
        (groups[id] ?? []).map { EC2.GroupIdentifier(groupId: $0.id, nameAsId: $0.name, groupName: $0.name) }
    }

    func instance(_ row: InstanceRow) -> EC2.Instance {
        let state = row.state
        let isHere = state != .terminated
        let publicAddress = isHere ? publicAddresses[row.id]?.address : nil
        let interface = isHere ? interfaces[row.id] : nil
        return EC2.Instance(
            instanceId: row.id, imageId: row.imageID, state: state.wire, privateDnsName: isHere ? hostname(of: row.privateAddress) : "",
            // Without a name service for its guests, a cloud's best public name is one that every client can resolve: the address.
            publicDnsName: publicAddress ?? "", stateTransitionReason: row.transitionReason, keyName: row.keyName,
            amiLaunchIndex: row.launchIndex, productCodes: [], instanceType: row.instanceType, launchTime: row.launchedAt,
            placement: EC2.Placement(availabilityZone: row.zone, groupName: "", tenancy: "default"), kernelId: row.kernelID,
            ramdiskId: row.ramdiskID, monitoring: EC2.Monitoring(state: "disabled"), subnetId: interface?.row.subnetID,
            vpcId: interface?.subnet.vpcID, privateIpAddress: isHere ? row.privateAddress : nil,
            publicIpAddress: publicAddress,
            stateReason: row.reasonCode.isEmpty ? nil : EC2.StateReason(code: row.reasonCode, message: row.reasonMessage),
            architecture: row.architecture, rootDeviceType: "instance-store", rootDeviceName: Self.rootDeviceName,
            blockDeviceMappings: (attachments[row.id] ?? []).map { a in
                EC2.InstanceBlockDeviceMapping(
                    deviceName: a.device.text,
                    ebs: EC2.EbsInstanceBlockDevice(
                        volumeId: a.volumeID, status: a.state.rawValue, attachTime: a.attachedAt, deleteOnTermination: a.deleteOnTermination
                    ))
            },
            virtualizationType: "hvm", clientToken: row.clientToken, tags: (tags[row.id] ?? []).map(\.wire),
            securityGroups: groupSet(row.id), networkInterfaces: interface.map { [$0.ofInstance] } ?? [], sourceDestCheck: true,
            ebsOptimized: false, enaSupport: false,
            cpuOptions: EC2.CpuOptions(coreCount: row.cores, threadsPerCore: 1),
            metadataOptions: EC2.InstanceMetadataOptionsResponse(
                state: "applied", httpTokens: row.tokensRequired ? "required" : "optional", httpPutResponseHopLimit: row.hopLimit,
                httpEndpoint: row.metadataEnabled ? "enabled" : "disabled", httpProtocolIpv6: "disabled", instanceMetadataTags: "enabled"),
            platformDetails: "Linux/UNIX", usageOperation: "RunInstances")
    }

    static let rootDeviceName = "/dev/vda"

    // MARK: filters

    /// Source: EC2 API Reference, DescribeInstances.
    static let filters: Set<String> = [
        "architecture", "availability-zone", "block-device-mapping.attach-time", "block-device-mapping.delete-on-termination",
        "block-device-mapping.device-name", "block-device-mapping.status", "block-device-mapping.volume-id", "client-token", "dns-name",
        "group-id",
        "group-name", "hypervisor", "image-id", "instance-id", "instance-lifecycle", "instance-state-code", "instance-state-name",
        "instance-type",
        "instance.group-id", "instance.group-name", "ip-address", "kernel-id", "key-name", "launch-index", "launch-time",
        "monitoring-state", "network-interface.addresses.association.public-ip", "network-interface.addresses.primary",
        "network-interface.addresses.private-ip-address", "network-interface.association.public-ip",
        "network-interface.attachment.attachment-id", "network-interface.attachment.instance-id", "network-interface.description",
        "network-interface.group-id", "network-interface.group-name", "network-interface.mac-address",
        "network-interface.network-interface-id", "network-interface.owner-id", "network-interface.private-dns-name",
        "network-interface.source-dest-check", "network-interface.status", "network-interface.subnet-id", "network-interface.vpc-id",
        "network-interface.availability-zone", "network-interface.attachment.status",
        "owner-id", "placement-group-name", "platform", "private-dns-name", "private-ip-address", "product-code", "ramdisk-id", "reason",
        "requester-id", "reservation-id", "root-device-name", "root-device-type", "source-dest-check", "state-reason-code", "subnet-id",
        "tag",
        "tenancy", "virtualization-type", "vpc-id",
    ]

    func values(_ row: InstanceRow, _ name: String) -> [String] {
        let shown = instance(row)
        switch name {
        case "architecture": return [row.architecture]
        case "availability-zone": return [row.zone]
        case "block-device-mapping.attach-time": return (attachments[row.id] ?? []).map(\.attachedAt.iso8601)
        case "block-device-mapping.delete-on-termination": return (attachments[row.id] ?? []).map { String($0.deleteOnTermination) }
        case "block-device-mapping.device-name": return (attachments[row.id] ?? []).map(\.device.text)
        case "block-device-mapping.status": return (attachments[row.id] ?? []).map(\.state.rawValue)
        case "block-device-mapping.volume-id": return (attachments[row.id] ?? []).map(\.volumeID)
        case "client-token": return one(row.clientToken)
        case "dns-name": return one(shown.publicDnsName)
        case "group-id", "instance.group-id": return (groups[row.id] ?? []).map(\.id)
        case "group-name", "instance.group-name": return (groups[row.id] ?? []).map(\.name)
        case "image-id": return [row.imageID]
        case "instance-id": return [row.id]
        case "instance-state-code": return [String(row.state.code)]
        case "instance-state-name": return [row.state.rawValue]
        case "instance-type": return [row.instanceType]
        case "ip-address": return one(shown.publicIpAddress)
        case "kernel-id": return one(row.kernelID)
        case "key-name": return one(row.keyName)
        case "launch-index": return [String(row.launchIndex)]
        case "launch-time": return [row.launchedAt.iso8601, row.launchedAt.iso8601Seconds]
        case "monitoring-state": return ["disabled"]
        case "owner-id": return [row.accountID]
        case "private-dns-name": return one(shown.privateDnsName)
        case "private-ip-address": return one(shown.privateIpAddress)
        case "ramdisk-id": return one(row.ramdiskID)
        case "reason": return one(row.transitionReason)
        case "reservation-id": return [row.reservationID]
        case "root-device-name": return one(shown.rootDeviceName)
        case "root-device-type": return one(shown.rootDeviceType)
        case "source-dest-check": return ["true"]
        case "subnet-id": return one(shown.subnetId)
        case "vpc-id": return one(shown.vpcId)
        case "state-reason-code": return one(row.reasonCode)
        case "tenancy": return ["default"]
        case "virtualization-type": return ["hvm"]
        case _ where name.hasPrefix("network-interface."):
            return row.state == .terminated ? [] : interfaces[row.id]?.values(String(name.dropFirst("network-interface.".utf8.count))) ?? []
        default: return []
        }
    }

    // MARK: status

    static let statusFilters: Set<String> = [
        "availability-zone", "instance-state-code", "instance-state-name", "instance-status.reachability", "instance-status.status",
        "system-status.reachability", "system-status.status",
    ]

    private struct Health {
        let status, reachability: String
        let since: Timestamp?
        var summary: EC2.InstanceStatusSummary {
            EC2.InstanceStatusSummary(
                status: status,
                details: status == "not-applicable"
                    ? [] : [EC2.InstanceStatusDetails(impairedSince: since, name: "reachability", status: reachability)])
        }
    }

    /// The host: does its node answer? The instance: does the hypervisor run it?
    private static func health(_ row: InstanceRow) -> (system: Health, instance: Health) {
        guard row.state == .running else {
            let none = Health(status: "not-applicable", reachability: "", since: nil)
            return (none, none)
        }
        let good = Health(status: "ok", reachability: "passed", since: nil)
        let system = row.nodeSilentSince.map { Health(status: "impaired", reachability: "failed", since: $0) } ?? good
        if row.nodeSilentSince != nil {
            return (system, Health(status: "insufficient-data", reachability: "insufficient-data", since: nil))
        }
        if row.facts?.state == .paused { return (system, Health(status: "impaired", reachability: "failed", since: nil)) }
        return (system, good)
    }

    /// Why an instance stands still (its node's disk is full), in the owner's words; there is nothing that the owner has to do.
    private static func events(_ row: InstanceRow) -> [EC2.InstanceStatusEvent] {
        guard row.state == .running, let facts = row.facts, facts.state == .paused, !facts.reason.isEmpty else { return [] }
        return [EC2.InstanceStatusEvent(code: "system-maintenance", description: facts.reason)]
    }

    static func status(_ row: InstanceRow) -> EC2.InstanceStatus {
        let health = health(row)
        return EC2.InstanceStatus(
            instanceId: row.id, availabilityZone: row.zone, events: events(row), instanceState: row.state.wire,
            systemStatus: health.system.summary, instanceStatus: health.instance.summary)
    }

    static func statusValues(_ row: InstanceRow, _ name: String) -> [String] {
        let health = health(row)
        switch name {
        case "availability-zone": return [row.zone]
        case "instance-state-code": return [String(row.state.code)]
        case "instance-state-name": return [row.state.rawValue]
        case "instance-status.reachability": return [health.instance.reachability]
        case "instance-status.status": return [health.instance.status]
        case "system-status.reachability": return [health.system.reachability]
        case "system-status.status": return [health.system.status]
        default: return []
        }
    }
}
