import API
import Domain

public enum ImageRules {
    /// The launch permission of everyone. Source: EC2 API Reference, LaunchPermission.
    public static let everyone = "all"
    static let standardRootDevice = "/dev/sda1"

    /// - Throws: `.malformedID` when it is no id of an image, kernel or ramdisk.
    static func checkID(_ id: String) throws(CloudError) {
        if id.hasPrefix("eki-") {
            _ = try KernelImageID(parsing: id)
        } else if id.hasPrefix("eri-") {
            _ = try RamdiskImageID(parsing: id)
        } else {
            _ = try MachineImageID(parsing: id)
        }
    }

    /// A new id for an image of this role.
    static func newID(_ role: ImageContent.Role, random: [UInt8]) -> String {
        switch role {
        case .machine: MachineImageID(random: random).text
        case .kernel: KernelImageID(random: random).text
        case .ramdisk: RamdiskImageID(random: random).text
        }
    }

    /// Source: EC2 API Reference, RegisterImage (constraints of Name).
    /// - Throws: `InvalidAMIName.Malformed`.
    static func checkName(_ name: String) throws(CloudError) {
        let others = Array("()[] ./-'@_".utf8)
        let isAllowed = name.utf8.allSatisfy { c in
            (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) || others.contains(c)
        }
        guard (3...128).contains(name.utf8.count), isAllowed else {
            throw CloudError(
                .named(code: "InvalidAMIName.Malformed", status: 400),
                "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, and ( ) [ ] space . / - ' @ _")
        }
    }

    /// - Throws: `.malformedID` by its own prefix.
    static func checkKernel(_ kernel: String?, _ ramdisk: String?) throws(CloudError) {
        if let kernel { _ = try KernelImageID(parsing: kernel) }
        if let ramdisk { _ = try RamdiskImageID(parsing: ramdisk) }
    }

    /// Where an old manifest names another cloud's kernel, it means nothing here.
    static func known(kernel: String?) -> String? { kernel.flatMap { (try? KernelImageID(parsing: $0)) == nil ? nil : $0 } }
    static func known(ramdisk: String?) -> String? { ramdisk.flatMap { (try? RamdiskImageID(parsing: $0)) == nil ? nil : $0 } }

    static func architecture(_ requested: String?, _ inManifest: String) -> String {
        if let requested { return requested }
        return ["i386", "x86_64", "arm64"].contains(inManifest) ? inManifest : "x86_64"
    }

    /// - Throws: `Unsupported` for mappings that name snapshots or volumes.
    static func mappings(_ mappings: [EC2.BlockDeviceMapping]) throws(CloudError) -> [StoredImage.Mapping] {
        var out: [StoredImage.Mapping] = []
        for mapping in mappings {
            guard mapping.ebs == nil else {
                throw CloudError(
                    .named(code: "Unsupported", status: 400),
                    "BlockDeviceMapping.Ebs (\(mapping.deviceName ?? "")): "
                        + "this cloud does not start machines from volumes; register a disk image"
                )
            }
            guard let device = mapping.deviceName, !device.isEmpty, device.utf8.count <= 64 else {
                throw CloudError(.missingParameter("BlockDeviceMapping.DeviceName"))
            }
            guard mapping.noDevice == nil else { continue }
            guard let virtual = mapping.virtualName, !virtual.isEmpty, virtual.utf8.count <= 64 else {
                throw CloudError(.missingParameter("BlockDeviceMapping.VirtualName"))
            }
            out.append(StoredImage.Mapping(device: device, virtual: virtual))
        }
        return out
    }

    /// An account that may be given an image.
    /// - Throws: `InvalidAMIAttributeItemValue`.
    static func checkAccount(_ id: String) throws(CloudError) {
        guard id.utf8.count == 12, id.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
            throw CloudError(
                .named(code: "InvalidAMIAttributeItemValue", status: 400),
                "Invalid attribute item value \"\(id.prefix(40))\" for userId item type.")
        }
    }

    /// Who is to gain and who to lose, from either form of the request. Groups: only `all`.
    static func permissionChanges(_ r: EC2.ModifyImageAttribute) throws(CloudError) -> (add: Set<String>, remove: Set<String>)? {
        var add: [EC2.LaunchPermission] = r.launchPermission?.add ?? []
        var remove: [EC2.LaunchPermission] = r.launchPermission?.remove ?? []
        let flat =
            r.userIds.map { EC2.LaunchPermission(userId: $0) } + r.userGroups.map { EC2.LaunchPermission(group: $0) }
        if !flat.isEmpty {
            guard r.attribute == nil || r.attribute == "launchPermission" else {
                throw CloudError(.invalidCombination("UserId and UserGroup belong to the attribute launchPermission"))
            }
            switch r.operationType {
            case "add": add += flat
            case "remove": remove += flat
            default: throw CloudError(.missingParameter("OperationType"))
            }
        }
        guard !add.isEmpty || !remove.isEmpty else { return nil }
        func names(_ permissions: [EC2.LaunchPermission]) throws(CloudError) -> Set<String> {
            var out: Set<String> = []
            for permission in permissions {
                switch (permission.userId, permission.group) {
                case (.some(let user), nil):
                    try checkAccount(user)
                    out.insert(user)
                case (nil, .some(everyone)): out.insert(everyone)
                case (nil, .some(let group)):
                    throw CloudError(
                        .named(code: "InvalidAMIAttributeItemValue", status: 400),
                        "Invalid attribute item value \"\(group.prefix(40))\" for userGroup item type.")
                default: throw CloudError(.invalidCombination("A launch permission names a UserId or a Group"))
                }
            }
            return out
        }
        return (try names(add), try names(remove))
    }

    static let filters: Set<String> = [
        "architecture", "block-device-mapping.device-name", "block-device-mapping.virtual-name", "creation-date", "description",
        "hypervisor",
        "image-id", "image-type", "is-public", "kernel-id", "manifest-location", "name", "owner-alias", "owner-id", "platform",
        "product-code", "ramdisk-id", "root-device-name", "root-device-type", "source-instance-id", "state", "virtualization-type", "tag",
    ]

    static func values(_ image: StoredImage, _ filter: String) -> [String] {
        func one(_ value: String?) -> [String] { [value].compactMap { $0 } }
        return switch filter {
        case "architecture": [image.architecture]
        case "block-device-mapping.device-name": image.mappings.map(\.device)
        case "block-device-mapping.virtual-name": image.mappings.map(\.virtual)
        case "creation-date": [image.createdAt.iso8601]
        case "description": [image.description]
        case "image-id": [image.id]
        case "image-type": [image.role.rawValue]
        case "is-public": [image.isPublic ? "true" : "false"]
        case "kernel-id": one(image.kernelID)
        case "manifest-location": [image.location]
        case "name": one(image.name)
        case "owner-id": [image.accountID]
        case "product-code": image.productCodes
        case "ramdisk-id": one(image.ramdiskID)
        case "root-device-name": [image.rootDeviceName]
        case "root-device-type": ["instance-store"]
        case "source-instance-id": one(image.sourceInstanceID)
        case "state": ["available"]
        case "virtualization-type": [image.virtualizationType]
        default: []
        }
    }

    static func wire(_ image: StoredImage, tags: [ResourceTag]) -> EC2.Image {
        EC2.Image(
            imageId: image.id, imageLocation: image.location, state: "available", ownerId: image.accountID, isPublic: image.isPublic,
            productCodes: image.productCodes.map { EC2.ProductCode(productCodeId: $0) }, architecture: image.architecture,
            imageType: image.role.rawValue, kernelId: image.kernelID, ramdiskId: image.ramdiskID, name: image.name,
            description: image.description.isEmpty ? nil : image.description,
            rootDeviceType: image.role == .machine ? "instance-store" : nil,
            rootDeviceName: image.role == .machine ? image.rootDeviceName : nil,
            blockDeviceMappings: mappings(image), virtualizationType: image.virtualizationType, tags: tags.map(\.wire),
            creationDate: image.createdAt.iso8601, deprecationTime: image.deprecateAt?.iso8601,
            deregistrationProtection: image.isDeregistrationProtected ? "enabled" : "disabled", platformDetails: "Linux/UNIX",
            sourceInstanceId: image.sourceInstanceID)
    }

    static func mappings(_ image: StoredImage) -> [EC2.BlockDeviceMapping] {
        image.mappings.map { EC2.BlockDeviceMapping(deviceName: $0.device, virtualName: $0.virtual) }
    }
}
