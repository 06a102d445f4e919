import Domain
import Wire

/// The resources that a request names, as ARNs for the policy evaluator: by the names of the members that hold ids. One table for all
/// actions, so that a new action is covered by its definition alone. Source: Service Authorization Reference, "Actions, resources, and
/// condition keys for Amazon EC2".
enum RequestResources {
    /// - Returns: what the action must be allowed on; `*` when the request names nothing, and for Describe actions, which EC2 grants as
    ///   a whole.
    static func arns(_ operation: Operation, _ input: Value, region: String, account: String) -> [String] {
        guard operation.iamAction.hasPrefix("ec2:"), !operation.name.hasPrefix("Describe"), case .record(let members) = input else {
            return ["*"]
        }
        func arn(_ type: String, _ id: String) -> String {
            // Images and snapshots of EC2 have no account in their names.
            let owner = type == "image" || type == "snapshot" ? "" : account
            return "arn:aws:ec2:\(region):\(owner):\(type)/\(id)"
        }
        var out: [String] = []
        for (name, value) in members.sorted(by: { $0.key < $1.key }) {
            if name == "resources" {
                out += texts(value).map { arn(type(ofID: $0), $0) }
            } else if let type = types[name] {
                out += texts(value).map { arn(type, $0) }
            }
        }
        for type in made[operation.name] ?? [] { out.append(arn(type, "*")) }
        return out.isEmpty ? ["*"] : out
    }

    private static let types: [String: String] = [
        "allocationId": "elastic-ip", "bundleId": "bundle-task", "groupId": "security-group", "imageId": "image", "instanceId": "instance",
        "instanceIds": "instance", "kernelId": "image", "keyName": "key-pair", "ramdiskId": "image", "securityGroupIds": "security-group",
        "internetGatewayId": "internet-gateway", "networkAclId": "network-acl", "networkInterfaceId": "network-interface",
        "routeTableId": "route-table", "snapshotId": "snapshot", "subnetId": "subnet", "volumeId": "volume", "vpcId": "vpc",
    ]

    /// What an action creates.
    private static let made: [String: [String]] = [
        "AllocateAddress": ["elastic-ip"], "CreateSecurityGroup": ["security-group"], "CreateSnapshot": ["snapshot"],
        "CreateVolume": ["volume"],
        "CreateInternetGateway": ["internet-gateway"], "CreateNetworkAcl": ["network-acl"], "CreateNetworkInterface": ["network-interface"],
        "CreateRouteTable": ["route-table"], "CreateSubnet": ["subnet"], "CreateVpc": ["vpc"],
        "RegisterImage": ["image"], "RunInstances": ["instance"],
    ]

    private static func type(ofID id: String) -> String {
        switch id.split(separator: "-").first {
        case "emi", "eki", "eri", "ami", "aki", "ari": "image"
        case "acl": "network-acl"
        case "eipalloc": "elastic-ip"
        case "eni": "network-interface"
        case "igw": "internet-gateway"
        case "lt": "launch-template"
        case "rtb": "route-table"
        case "subnet": "subnet"
        case "vpc": "vpc"
        case "i": "instance"
        case "key": "key-pair"
        case "sg": "security-group"
        case "sgr": "security-group-rule"
        case "snap": "snapshot"
        case "vol": "volume"
        default: "*"
        }
    }

    private static func texts(_ value: Value) -> [String] {
        switch value {
        case .text(let text): text.isEmpty ? [] : [text]
        case .list(let items): items.flatMap(texts)
        case .record: []
        }
    }
}
