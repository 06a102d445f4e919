import API
import Domain

/// Networks that several tests use.
enum NetworkSample {
    static func instance(
        _ digit: String, _ address: String, public publicAddress: String? = nil, groups: [String] = ["sg-0000000a"]
    ) -> NC.InstanceAddress {
        let last = address.split(separator: ".").last.flatMap { Int($0) } ?? 0
        return NC.InstanceAddress(
            instanceId: "i-" + String(repeating: digit, count: 8), macAddress: "02:00:0a:01:00:" + Hex.encode([UInt8(last)]),
            privateAddress: address, publicAddress: publicAddress, groups: groups, hostname: "ip-10-1-0-\(last)")
    }

    static func tcp(_ from: Int, _ to: Int? = nil, cidr: String? = nil, group: String? = nil) -> NC.GroupRule {
        NC.GroupRule(proto: "tcp", fromPort: from, toPort: to ?? from, cidr: cidr, sourceGroupId: group)
    }

    static func state(_ instances: [NC.InstanceAddress], _ groups: [NC.GroupState]) -> NC.NetworkState {
        NC.NetworkState(gateway: "10.1.0.1", prefixLength: 16, groups: groups, instances: instances, dns: ["9.9.9.9"])
    }

    /// Two groups, each form of rule, an instance with and one without a public address.
    static let full = state(
        [
            instance("b", "10.1.0.12", groups: ["sg-0000000b"]),
            instance("a", "10.1.0.11", public: "198.18.0.11", groups: ["sg-0000000b", "sg-0000000a"]),
        ],
        [
            NC.GroupState(
                groupId: "sg-0000000a", members: ["10.1.0.11"],
                rules: [
                    tcp(22, cidr: "0.0.0.0/0"), tcp(22, cidr: "10.0.0.0/8"), tcp(8000, 8100, cidr: "192.0.2.0/24"),
                    tcp(8000, 8100, cidr: "192.0.2.128/25"), tcp(8000, 8100, cidr: "198.51.100.7/32"),
                    NC.GroupRule(proto: "icmp", fromPort: 8, toPort: -1, cidr: "0.0.0.0/0"),
                    NC.GroupRule(proto: "icmp", fromPort: 3, toPort: 4, cidr: "192.0.2.0/24"),
                    NC.GroupRule(proto: "icmp", fromPort: -1, toPort: -1, cidr: "203.0.113.0/24"),
                    NC.GroupRule(proto: "udp", fromPort: 0, toPort: 65535, cidr: "192.0.2.0/24"),
                    NC.GroupRule(proto: "47", cidr: "192.0.2.0/24"),
                ]),
            NC.GroupState(
                groupId: "sg-0000000b", members: ["10.1.0.12", "10.1.0.11", "10.1.9.9"],
                rules: [
                    tcp(80, group: "sg-0000000b"), NC.GroupRule(proto: "-1", sourceGroupId: "sg-0000000c"),
                    NC.GroupRule(proto: "-1", cidr: "203.0.113.5/32"),
                ]),
            NC.GroupState(groupId: "sg-0000000c", members: ["10.1.7.7"], rules: [tcp(1, cidr: "0.0.0.0/0")]),
        ])

    static let limited: NC.NetworkState = {
        var a = instance("a", "10.1.0.11", public: "198.18.0.11")
        var b = instance("b", "10.1.64.12", groups: ["sg-0000000b"])
        a.subnetId = "subnet-0000000a"
        b.subnetId = "subnet-0000000b"
        let open = instance("c", "10.1.0.13", groups: ["sg-0000000a", "sg-0000000c"])
        var sample = state(
            [a, b, open],
            [
                NC.GroupState(
                    groupId: "sg-0000000a", members: ["10.1.0.11", "10.1.0.13"], rules: [tcp(22, cidr: "0.0.0.0/0")], egressLimited: true,
                    egress: [
                        tcp(443, cidr: "0.0.0.0/0"), tcp(5432, group: "sg-0000000b"),
                        NC.GroupRule(proto: "udp", fromPort: 53, toPort: 53, cidr: "9.9.9.9/32"),
                    ]),
                NC.GroupState(groupId: "sg-0000000b", members: ["10.1.64.12"], rules: [], egressLimited: true),
                NC.GroupState(groupId: "sg-0000000c", members: ["10.1.0.13"], rules: []),
            ])
        sample.subnets = [
            NC.SubnetState(
                subnetId: "subnet-0000000a", members: ["10.1.0.11", "10.1.9.9"], entriesLimited: true,
                entries: [
                    NC.SubnetEntry(egress: false, allow: false, proto: "6", fromPort: 22, toPort: 22, cidr: "192.0.2.0/24"),
                    NC.SubnetEntry(egress: false, allow: true, proto: "-1", cidr: "0.0.0.0/0"),
                    NC.SubnetEntry(egress: true, allow: true, proto: "1", fromPort: 8, toPort: -1, cidr: "0.0.0.0/0"),
                    NC.SubnetEntry(egress: true, allow: true, proto: "6", fromPort: 0, toPort: 65535, cidr: "198.51.100.0/24"),
                ], routesLimited: true,
                routes: [
                    NC.SubnetRoute(cidr: "198.51.100.128/25", reached: false), NC.SubnetRoute(cidr: "198.51.100.0/24", reached: true),
                ]),
            NC.SubnetState(subnetId: "subnet-0000000b", members: ["10.1.64.12"], routesLimited: true),
        ]
        return sample
    }()
}
