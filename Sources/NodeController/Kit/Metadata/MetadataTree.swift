import API
import Domain

/// What an instance may read about itself, as EC2 arranges it. Source: EC2 User Guide, "Instance metadata categories"; what cloud-init
/// walks through is in the tests.
indirect enum MetadataNode: Sendable, Equatable {
    case value(String)
    /// In this order; `label` is what a listing shows instead of the name (`0=mykey`).
    case folder([(name: String, label: String?, node: MetadataNode)])

    static func == (a: MetadataNode, b: MetadataNode) -> Bool {
        switch (a, b) {
        case (.value(let x), .value(let y)): x == y
        case (.folder(let x), .folder(let y)):
            x.count == y.count && zip(x, y).allSatisfy { $0.name == $1.name && $0.label == $1.label && $0.node == $1.node }
        default: false
        }
    }

    /// The node at a path, or nil.
    func at(_ path: some Sequence<String>) -> MetadataNode? {
        var node = self
        for part in path {
            guard case .folder(let children) = node, let next = children.first(where: { $0.name == part }) else { return nil }
            node = next.node
        }
        return node
    }

    /// A value, or the names in a folder, one in a line, folders with a slash.
    var text: String {
        switch self {
        case .value(let text): text
        case .folder(let children):
            children.map { child in
                if let label = child.label { return label }
                if case .folder = child.node { return child.name + "/" }
                return child.name
            }.joined(separator: "\n")
        }
    }
}

enum MetadataTree {
    /// EC2's dates, of which each newer one only adds. Clients try the ones they know, newest first, and take 404 for "older".
    static let versions = [
        "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "2011-01-01",
        "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28",
        "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "latest",
    ]

    /// `meta-data/` of an instance.
    static func metaData(_ order: NC.InstanceOrder, publicAddress: String?) -> MetadataNode {
        let metadata = order.metadata ?? NC.InstanceMetadata()
        let hostname = metadata.localHostname ?? order.privateAddress
        var children: [(String, MetadataNode?)] = [
            ("ami-id", text(metadata.imageId)), ("ami-launch-index", .value("\(metadata.launchIndex ?? 0)")),
            ("ami-manifest-path", text(metadata.manifestPath) ?? .value("(unknown)")), ("block-device-mapping", blockDevices(order)),
            ("hostname", .value(hostname)), ("instance-action", .value("none")), ("instance-id", .value(order.instanceId)),
            ("instance-life-cycle", .value("on-demand")), ("instance-type", text(metadata.instanceType)),
            ("kernel-id", text(metadata.kernelId)),
            ("local-hostname", .value(hostname)), ("local-ipv4", .value(order.privateAddress)), ("mac", .value(order.macAddress)),
            ("network", network(order, metadata, hostname, publicAddress)), ("placement", placement(metadata)),
            ("public-hostname", text(publicAddress)), ("public-ipv4", text(publicAddress)), ("public-keys", publicKeys(metadata)),
            ("ramdisk-id", text(metadata.ramdiskId)), ("reservation-id", text(order.reservationId)),
            ("security-groups", text(metadata.groupNames.joined(separator: "\n"))),
            ("services", folder([("domain", .value("internal")), ("partition", .value("aws"))])),
        ]
        if let tags = tags(metadata) { children.append(("tags", folder([("instance", tags)]))) }
        return folder(children)
    }

    /// `dynamic/instance-identity/document`, in the form that EC2 writes.
    static func identityDocument(_ order: NC.InstanceOrder) -> String {
        let metadata = order.metadata ?? NC.InstanceMetadata()
        let fields: [(String, String?)] = [
            ("accountId", order.accountId), ("architecture", "x86_64"), ("availabilityZone", metadata.zone), ("imageId", metadata.imageId),
            ("instanceId", order.instanceId), ("instanceType", metadata.instanceType), ("kernelId", present(metadata.kernelId)),
            ("pendingTime", metadata.launchTime?.iso8601Seconds), ("privateIp", order.privateAddress),
            ("ramdiskId", present(metadata.ramdiskId)), ("region", metadata.region), ("version", "2017-09-30"),
        ]
        let lines = fields.map { name, value in "  \"\(name)\" : \(value.map(quoted) ?? "null")" }
        return "{\n" + lines.joined(separator: ",\n") + "\n}"
    }

    // MARK: Folders

    private static func blockDevices(_ order: NC.InstanceOrder) -> MetadataNode {
        var children: [(String, MetadataNode?)] = [("ami", .value("vda"))]
        for (index, volume) in order.volumes.enumerated() {
            let device = volume.device.hasPrefix("/dev/") ? String(volume.device.dropFirst(5)) : volume.device
            children.append(("ebs\(index + 1)", .value(device)))
        }
        return folder(children + [("root", .value("/dev/vda"))])
    }

    private static func network(
        _ order: NC.InstanceOrder, _ metadata: NC.InstanceMetadata, _ hostname: String, _ publicAddress: String?
    ) -> MetadataNode {
        let card = folder([
            ("device-number", .value("0")),
            ("ipv4-associations", publicAddress.map { folder([($0, .value(order.privateAddress))]) }), ("local-hostname", .value(hostname)),
            ("local-ipv4s", .value(order.privateAddress)), ("mac", .value(order.macAddress)), ("owner-id", text(order.accountId)),
            ("public-hostname", text(publicAddress)), ("public-ipv4s", text(publicAddress)),
            ("security-group-ids", text(metadata.groupIds.joined(separator: "\n"))),
            ("security-groups", text(metadata.groupNames.joined(separator: "\n"))),
        ])
        return folder([("interfaces", folder([("macs", folder([(order.macAddress, card)]))]))])
    }

    private static func placement(_ metadata: NC.InstanceMetadata) -> MetadataNode {
        folder([("availability-zone", text(metadata.zone)), ("region", text(metadata.region))])
    }

    private static func publicKeys(_ metadata: NC.InstanceMetadata) -> MetadataNode? {
        guard let key = present(metadata.publicKey) else { return nil }
        return .folder([
            (name: "0", label: "0=\(metadata.keyName ?? "key")", node: .folder([(name: "openssh-key", label: nil, node: .value(key))]))
        ])
    }

    /// Tags whose key can stand in a path; the others are left out, as EC2 refuses them when tags in metadata are switched on.
    private static func tags(_ metadata: NC.InstanceMetadata) -> MetadataNode? {
        let children = metadata.tags.compactMap { tag -> (String, MetadataNode?)? in
            guard let key = present(tag.key), !key.utf8.contains(where: { $0 == 0x2f || $0 <= 0x20 }), key != ".", key != "..",
                key != "_index"
            else { return nil }
            return (key, .value(tag.value ?? ""))
        }
        return children.isEmpty ? nil : folder(children)
    }

    // MARK: Small things

    static func folder(_ children: [(String, MetadataNode?)]) -> MetadataNode {
        .folder(children.compactMap { child in child.1.map { (name: child.0, label: nil, node: $0) } })
    }

    private static func present(_ text: String?) -> String? { text?.isEmpty == false ? text : nil }
    private static func text(_ text: String?) -> MetadataNode? { present(text).map { .value($0) } }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            default:
                if scalar.value < 0x20 {
                    out += "\\u00" + Hex.encode([UInt8(scalar.value)])
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }
}
