import Domain

// The borders of subnets: network ACLs, which judge each packet anew and so come before connection tracking, and routes, which say what of
// the world beyond the private network is reached. A subnet that stops nothing is not here at all.

enum SubnetText {
    /// Chains, and the two maps that lead to them; nothing when no subnet stops anything.
    static func chains(_ model: NetworkModel) -> String {
        guard !model.subnets.isEmpty else { return "" }
        var out = ""
        for subnet in model.subnets {
            let name = FirewallText.name(subnet.id)
            out += FirewallText.set("s_\(name)", "ipv4_addr", subnet.members.map(\.description))
            for egress in [false, true] {
                if let entries = subnet.entries { out += acl(entries.filter { $0.egress == egress }, name, egress: egress) }
                out += border(subnet, name, egress: egress)
            }
        }
        let members = model.instances.compactMap { instance in
            instance.subnet.map { (instance.address, FirewallText.name($0)) }
        }
        out += FirewallText.map("subnet_in", "ipv4_addr : verdict", members.map { "\($0.0) : jump \(chain(false))\($0.1)" })
        out += FirewallText.map("subnet_out", "ipv4_addr : verdict", members.map { "\($0.0) : jump \(chain(true))\($0.1)" })
        return out
    }

    private static func chain(_ egress: Bool) -> String { egress ? "bo_" : "bi_" }
    private static func other(_ egress: Bool) -> String { egress ? "ip daddr" : "ip saddr" }

    private static func acl(_ entries: [NetworkModel.Subnet.Entry], _ name: String, egress: Bool) -> String {
        var out = "  chain \(egress ? "ao_" : "ai_")\(name) {\n"
        for entry in entries {
            let from = entry.cidr.prefixLength == 0 ? "" : "\(other(egress)) \(entry.cidr) "
            out += "    \(from)\(FirewallText.text(entry.match))\(entry.allow ? "return" : "counter drop")\n"
        }
        return out + "    counter drop\n  }\n"
    }

    private static func border(_ subnet: NetworkModel.Subnet, _ name: String, egress: Bool) -> String {
        var out = "  chain \(chain(egress))\(name) {\n    \(other(egress)) @s_\(name) return\n"
        if subnet.entries != nil { out += "    jump \(egress ? "ao_" : "ai_")\(name)\n" }
        if let routes = subnet.routes {
            out += "    \(other(egress)) @local_nets return\n"
            for route in routes {
                let to = route.cidr.prefixLength == 0 ? "" : "\(other(egress)) \(route.cidr) "
                out += "    \(to)\(route.isReached ? "return" : "counter drop")\n"
            }
            out += "    counter drop\n"
        }
        return out + "  }\n"
    }
}
