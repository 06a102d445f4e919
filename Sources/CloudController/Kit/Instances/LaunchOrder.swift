import API
import Domain

/// RunInstances, parsed into a value that cannot be wrong: everything that can be said about the request without looking anything up has
/// been said when there is one.
struct LaunchOrder: Sendable {
    let imageID: String
    let count: ClosedRange<Int>
    let instanceType: String
    let keyName: String?
    let groupIDs: [String]
    let groupNames: [String]
    let userData: [UInt8]
    let kernelID: String?
    let ramdiskID: String?
    let zone: String?
    let clientToken: String
    let requestHash: String
    let network: LaunchNetwork
    let terminationProtected: Bool
    let stopProtected: Bool
    let shutdownBehaviour: ShutdownBehaviour
    let tokensRequired: Bool
    let hopLimit: Int
    let metadataEnabled: Bool
    let instanceTags: [ResourceTag]
    let interfaceTags: [ResourceTag]

    /// EC2's standard for PUT responses of the metadata service.
    static let standardHopLimit = 1

    init(_ r: EC2.RunInstances) throws(CloudError) {
        guard let image = r.imageId, !image.isEmpty else { throw CloudError(.missingParameter("ImageId")) }
        imageID = image
        guard r.minCount >= 1 else { throw CloudError(.invalidParameter("MinCount")) }
        guard r.maxCount >= r.minCount else {
            throw CloudError(.invalidCombination("MinCount (\(r.minCount)) must not be greater than MaxCount (\(r.maxCount))"))
        }
        count = r.minCount...r.maxCount
        instanceType = r.instanceType.flatMap { $0.isEmpty ? nil : $0 } ?? InstanceTypeStore.standard
        keyName = r.keyName.flatMap { $0.isEmpty ? nil : $0 }
        network = try LaunchNetwork(r)
        // Old SOAP dates have names and ids in one list.
        groupIDs = network.groupIDs + r.securityGroupIds + r.securityGroups.filter { (try? SecurityGroupID(parsing: $0)) != nil }
        groupNames = r.securityGroups.filter { (try? SecurityGroupID(parsing: $0)) == nil }
        userData = r.userData ?? []
        kernelID = r.kernelId.flatMap { $0.isEmpty ? nil : $0 }
        ramdiskID = r.ramdiskId.flatMap { $0.isEmpty ? nil : $0 }
        if let kernelID { _ = try KernelImageID(parsing: kernelID) }
        if let ramdiskID { _ = try RamdiskImageID(parsing: ramdiskID) }
        zone = r.placement?.availabilityZone.flatMap { $0.isEmpty ? nil : $0 }
        if let tenancy = r.placement?.tenancy, tenancy != "default", !tenancy.isEmpty {
            throw Self.unsupported("Placement.Tenancy '\(tenancy)'")
        }
        if let group = r.placement?.groupName, !group.isEmpty { throw Self.unsupported("placement groups") }
        clientToken = r.clientToken ?? ""
        if r.ebsOptimized == true { throw Self.unsupported("EbsOptimized") }
        if r.monitoring?.enabled == true { throw Self.unsupported("detailed monitoring") }
        for mapping in r.blockDeviceMappings {
            // What ephemeral disks an instance has is its type's; naming one changes nothing here, as on EC2 for most types.
            if let ebs = mapping.ebs, ebs != EC2.EbsBlockDevice() {
                throw Self.unsupported("BlockDeviceMapping.Ebs at launch (\(mapping.deviceName ?? "")); create the volume and attach it")
            }
        }
        terminationProtected = r.disableApiTermination ?? false
        stopProtected = r.disableApiStop ?? false
        shutdownBehaviour = r.instanceInitiatedShutdownBehavior.flatMap { ShutdownBehaviour(rawValue: $0) } ?? .terminate
        tokensRequired = r.metadataOptions?.httpTokens == "required"
        hopLimit = r.metadataOptions?.httpPutResponseHopLimit ?? Self.standardHopLimit
        metadataEnabled = r.metadataOptions?.httpEndpoint != "disabled"
        let tags = try TagRules.onCreate(r.tagSpecifications, of: [.instance, .networkInterface])
        instanceTags = tags[.instance] ?? []
        interfaceTags = tags[.networkInterface] ?? []
        for tag in instanceTags where tag.key == ImageLocation.saveTag {
            _ = try ImageLocation(parsing: tag.value, parameter: "Tag \(ImageLocation.saveTag)")
        }
        requestHash = Self.hash(r)
    }

    private static func unsupported(_ what: String) -> CloudError {
        CloudError(.named(code: "Unsupported", status: 400), "The requested configuration is not supported by this cloud: \(what).")
    }

    private static func hash(_ r: EC2.RunInstances) -> String {
        var r = r
        r.dryRun = nil
        return ClientTokenStore.hash(r.wireValue)
    }
}
