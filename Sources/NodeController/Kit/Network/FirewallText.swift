import Domain

// The whole firewall of a node as one nft transaction. Two tables, both ours alone:
//
//   bridge  every frame that an instance sends must carry the MAC and the IP that belong to its tap; all else is dropped, IPv6 and
//           VLANs included. A tap that is not in the sets (an instance that is gone, or not yet there) may not send anything; taps are told
//           by the beginning of their names, because not every kernel can tell the bridge (nft_meta_bridge).
//   ip      security groups, translation of public addresses, and what instances may say to the host.
//
// Ports of the bridge are isolated and the host answers ARP for all (proxy ARP), so every packet between instances is routed by the
// host and passes `forward` with connection tracking. Nothing here looks at packets that are not from, to or through our bridge: the base
// chains' policy is accept, and what is not ours leaves them by their first rule.
//
// Why `add; delete; add`: nft 1.0.6 has no `destroy`, and a file is one transaction, so the old rules hold until the new ones do.

enum FirewallText {
    static func render(_ model: NetworkModel, settings: NetworkSettings) -> String {
        var out = ""
        out += "add table bridge \(settings.table)\ndelete table bridge \(settings.table)\n"
        out += bridgeTable(model, settings)
        out += "add table ip \(settings.table)\ndelete table ip \(settings.table)\n"
        out += addressTable(model, settings)
        return out
    }

    /// Takes both tables away, whether they are there or not.
    static func removal(_ settings: NetworkSettings) -> String {
        ["bridge", "ip"].map { "add table \($0) \(settings.table)\ndelete table \($0) \(settings.table)\n" }.joined()
    }

    // MARK: Layer 2

    private static func bridgeTable(_ model: NetworkModel, _ settings: NetworkSettings) -> String {
        let macs = model.instances.map { "\"\($0.tap)\" . \($0.mac)" }
        let addresses = model.instances.map { "\"\($0.tap)\" . \($0.mac) . \($0.address)" }
        return """
            table bridge \(settings.table) {
            \(set("macs", "ifname . ether_addr", macs))\
            \(set("addresses", "ifname . ether_addr . ipv4_addr", addresses))\
              chain pre {
                type filter hook prerouting priority -300; policy accept;
                iifname != "\(InstanceNames.tapPrefix)*" accept
                iifname . ether saddr != @macs counter drop
                ether type arp goto from_arp
                ether type ip goto from_ip
                counter drop
              }
              chain from_arp {
                iifname . arp saddr ether . arp saddr ip @addresses accept
                arp operation request arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs accept
                counter drop
              }
              chain from_ip {
                iifname . ether saddr . ip saddr @addresses accept
                ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
                counter drop
              }
            }

            """
    }

    // MARK: Layer 3

    private static func addressTable(_ model: NetworkModel, _ settings: NetworkSettings) -> String {
        let published = model.instances.compactMap { instance in instance.publicAddress.map { (instance.address, $0) } }
        var out = "table ip \(settings.table) {\n"
        out += set("local_nets", "ipv4_addr; flags interval", ["\(model.network)"])
        out += map("public_in", "ipv4_addr : ipv4_addr", published.map { "\($0.1) : \($0.0)" })
        out += map("public_out", "ipv4_addr : ipv4_addr", published.map { "\($0.0) : \($0.1)" })
        let used = Set(model.instances.flatMap(\.groups))
        let groups = model.groups.filter { used.contains($0.id) }
        let sources = Set(
            groups.flatMap { $0.rules + ($0.egress ?? []) }.compactMap { rule -> String? in
                if case .group(let id) = rule.source { return id }
                return nil
            })
        for id in sources.sorted() {
            out += set("m_\(name(id))", "ipv4_addr", (model.group(id)?.members ?? []).map(\.description))
        }
        for group in groups { out += groupChain(group) }
        for instance in model.instances {
            out += "  chain i_\(name(instance.id)) {\n"
            for id in instance.groups.sorted() { out += "    jump g_\(name(id))\n" }
            out += "    counter drop\n  }\n"
        }
        out += map(
            "instance_in", "ipv4_addr : verdict", model.instances.map { "\($0.address) : goto i_\(name($0.id))" })
        let (chains, limited) = egressChains(model)
        out += chains
        if !limited.isEmpty {
            out += map("instance_out", "ipv4_addr : verdict", limited.map { "\($0.address) : jump o_\(name($0.id))" })
        }
        out += SubnetText.chains(model)
        out += baseChains(model, settings, limitsEgress: !limited.isEmpty)
        return out + "}\n"
    }

    /// What each instance may send, where its groups limit it: one group that lets everything out is enough.
    private static func egressChains(_ model: NetworkModel) -> (String, [NetworkModel.Instance]) {
        var out = ""
        var limited: [NetworkModel.Instance] = []
        for instance in model.instances {
            let groups = instance.groups.sorted().compactMap { model.group($0) }
            guard !groups.isEmpty, groups.allSatisfy({ $0.egress != nil }) else { continue }
            limited.append(instance)
            out += "  chain o_\(name(instance.id)) {\n"
            out += rules(groups.flatMap { $0.egress ?? [] }, other: "ip daddr", verdict: "return")
            out += "    counter drop\n  }\n"
        }
        return (out, limited)
    }

    private static func baseChains(_ model: NetworkModel, _ settings: NetworkSettings, limitsEgress: Bool) -> String {
        let bridge = settings.bridge
        let borders =
            model.subnets.isEmpty ? "" : "    ip saddr vmap @subnet_out\n    ip daddr vmap @subnet_in\n"
        let egress = limitsEgress ? "    ip saddr vmap @instance_out\n" : ""
        return """
              chain translate_in {
                type nat hook prerouting priority dstnat; policy accept;
                dnat to ip daddr map @public_in
              }
              chain translate_own {
                type nat hook output priority -100; policy accept;
                dnat to ip daddr map @public_in
              }
              chain translate_out {
                type nat hook postrouting priority srcnat; policy accept;
                oifname "\(bridge)" ct status dnat snat to ip saddr map @public_out
                oifname "\(bridge)" ct status dnat fib saddr type local snat to \(model.gateway)
                oifname != "\(bridge)" ip saddr @local_nets ip daddr != @local_nets snat to ip saddr map @public_out
                oifname != "\(bridge)" ip saddr @local_nets ip daddr != @local_nets masquerade
              }
              chain through {
                type filter hook forward priority filter; policy accept;
                iifname != "\(bridge)" oifname != "\(bridge)" accept
            \(borders)\
                ct state vmap { established : accept, related : accept, invalid : drop }
                iifname "\(bridge)" ct state new tcp flags & (fin | syn | rst | ack) != syn counter drop
            \(egress)\
                ip daddr vmap @instance_in
                iifname "\(bridge)" oifname != "\(bridge)" accept
                counter drop
              }
              chain from_host {
                type filter hook output priority filter; policy accept;
                ip daddr != @local_nets accept
                ct state established,related accept
                udp sport 67 udp dport 68 accept
                ip daddr \(model.gateway) accept
                ip daddr vmap @instance_in
              }
              chain to_host {
                type filter hook input priority filter; policy accept;
                iifname != { "\(bridge)", "lo" } ip daddr \(settings.metadataAddress) counter drop
                iifname != "\(bridge)" accept
                udp sport 68 udp dport 67 accept
                ct state established,related accept
                ip daddr \(settings.metadataAddress) tcp dport 80 accept
                ip daddr \(model.gateway) icmp type echo-request accept
                counter drop
              }

            """
    }

    /// One rule for each kind of packet, with all its sources in one set.
    private static func groupChain(_ group: NetworkModel.Group) -> String {
        "  chain g_\(name(group.id)) {\n" + rules(group.rules, other: "ip saddr", verdict: "accept") + "  }\n"
    }

    private static func rules(_ rules: [NetworkModel.Rule], other: String, verdict: String) -> String {
        var out = ""
        var cidrs: [String: [CIDR]] = [:]
        var order: [String] = []
        var fromGroups: [(String, String)] = []
        for rule in rules {
            let match = text(rule.match)
            switch rule.source {
            case .cidr(let cidr):
                if cidrs[match] == nil { order.append(match) }
                cidrs[match, default: []].append(cidr)
            case .group(let id):
                fromGroups.append((match, id))
            }
        }
        for match in order.sorted() {
            let sources = merged(cidrs[match] ?? [])
            let from: String
            if sources.contains(where: { $0.prefixLength == 0 }) {
                from = ""
            } else {
                from = "\(other) { \(sources.map(\.description).joined(separator: ", ")) } "
            }
            out += "    \(from)\(match)\(verdict)\n"
        }
        var seen: Set<String> = []
        for (match, id) in fromGroups.sorted(by: { ($0.0, $0.1) < ($1.0, $1.1) }) {
            let line = "    \(other) @m_\(name(id)) \(match)\(verdict)\n"
            if seen.insert(line).inserted { out += line }
        }
        return out
    }

    static func text(_ match: NetworkModel.Rule.Match) -> String {
        switch match {
        case .all: return ""
        case .tcp(let ports): return transport("tcp", ports)
        case .udp(let ports): return transport("udp", ports)
        case .icmp(nil, _): return "meta l4proto icmp "
        case .icmp(let type?, nil): return "icmp type \(type) "
        case .icmp(let type?, let code?): return "icmp type \(type) icmp code \(code) "
        case .proto(let number): return "meta l4proto \(number) "
        }
    }

    private static func transport(_ name: String, _ ports: ClosedRange<Int>) -> String {
        if ports == 0...65535 { return "meta l4proto \(name) " }
        if ports.count == 1 { return "\(name) dport \(ports.lowerBound) " }
        return "\(name) dport \(ports.lowerBound)-\(ports.upperBound) "
    }

    /// Without the blocks that lie in others: nft refuses intervals that overlap. Two CIDR blocks are nested or apart, nothing between.
    static func merged(_ blocks: [CIDR]) -> [CIDR] {
        var kept: [CIDR] = []
        for block in blocks.sorted(by: { ($0.prefixLength, $0.network) < ($1.prefixLength, $1.network) })
        where !kept.contains(where: { $0.contains(block) }) {
            kept.append(block)
        }
        return kept.sorted { $0.network < $1.network }
    }

    static func set(_ name: String, _ type: String, _ elements: [String]) -> String {
        "  set \(name) { type \(type); \(elements.isEmpty ? "" : "elements = { \(elements.joined(separator: ", ")) } ")}\n"
    }

    static func map(_ name: String, _ type: String, _ elements: [String]) -> String {
        "  map \(name) { type \(type); \(elements.isEmpty ? "" : "elements = { \(elements.joined(separator: ", ")) } ")}\n"
    }

    /// Ids as names in the rules: nft reads `-` in some places as a range.
    static func name(_ id: String) -> String { String(id.map { $0 == "-" ? "_" : $0 }) }
}
