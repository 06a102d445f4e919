import API
import Domain

/// A node's desired network, parsed once into a form that cannot be wrong. Everything that reaches the text of a firewall rule or of a
/// DHCP file comes out of here: no string of a message is ever pasted into either.
struct NetworkModel: Sendable, Equatable {
    struct Instance: Sendable, Equatable {
        let id: String
        let tap: String
        /// Lower case, with colons.
        let mac: String
        let address: IPv4Address
        let publicAddress: IPv4Address?
        let groups: [String]
        let hostname: String?
        /// Only of a subnet whose border stops anything.
        var subnet: String?
    }

    struct Group: Sendable, Equatable {
        let id: String
        /// Private addresses of the group's instances, on all nodes.
        let members: [IPv4Address]
        let rules: [Rule]
        /// What members may send; `nil`: anything.
        var egress: [Rule]?
    }

    /// A subnet whose border stops something. Between its members nothing is stopped.
    struct Subnet: Sendable, Equatable {
        struct Entry: Sendable, Equatable {
            let egress: Bool
            let allow: Bool
            let match: Rule.Match
            let cidr: CIDR
        }
        struct Route: Sendable, Equatable {
            let cidr: CIDR
            let isReached: Bool
        }
        let id: String
        let members: [IPv4Address]
        /// In order; `nil`: everything passes.
        let entries: [Entry]?
        /// What of the world beyond the private network is reached, in order; `nil`: all of it.
        let routes: [Route]?
    }

    struct Rule: Sendable, Hashable {
        enum Match: Sendable, Hashable {
            case all
            case tcp(ClosedRange<Int>)
            case udp(ClosedRange<Int>)
            /// nil: any.
            case icmp(type: Int?, code: Int?)
            case proto(Int)
        }
        enum Source: Sendable, Hashable {
            case cidr(CIDR)
            case group(String)
        }
        let match: Match
        let source: Source
    }

    let gateway: IPv4Address
    let network: CIDR
    let instances: [Instance]
    let groups: [Group]
    let dns: [IPv4Address]
    /// Instances of other nodes; their addresses are in the groups' members too.
    let peers: [IPv4Address]
    let subnets: [Subnet]

    /// - Throws: `.invalidParameter` naming what is wrong.
    init(_ state: NC.NetworkState) throws(CloudError) {
        gateway = try Self.address(state.gateway, "gateway")
        guard let length = state.prefixLength, (8...30).contains(length) else {
            throw Self.wrong("prefixLength", state.prefixLength.map { "\($0)" } ?? "nothing")
        }
        network = CIDR(network: gateway, prefixLength: length)
        var groups: [Group] = []
        for group in state.groups { groups.append(try Self.group(group)) }
        var instances: [Instance] = []
        var subnets: [Subnet] = []
        for subnet in state.subnets { subnets.append(try Self.subnet(subnet)) }
        let borders = Set(subnets.map(\.id))
        guard borders.count == subnets.count else { throw Self.wrong("subnets", "the same subnet twice") }
        for instance in state.instances {
            var parsed = try Self.instance(instance)
            parsed.subnet = instance.subnetId.flatMap { borders.contains($0) ? $0 : nil }
            guard network.contains(parsed.address), parsed.address != gateway, network.hosts.contains(parsed.address.value) else {
                throw Self.wrong("privateAddress", "\(parsed.address), which \(network) has no room for")
            }
            instances.append(parsed)
        }
        dns = try state.dns.map { text throws(CloudError) in try Self.address(text, "dns") }
        peers = try state.peers.map { peer throws(CloudError) in try Self.address(peer.privateAddress, "peers") }
        let known = Set(groups.map(\.id))
        guard known.count == groups.count else { throw Self.wrong("groups", "the same group twice") }
        for instance in instances {
            if let missing = instance.groups.first(where: { !known.contains($0) }) {
                throw Self.wrong("groups", "\(instance.id) is in \(missing), which is not described")
            }
        }
        try Self.once(instances.map(\.id), "instanceId")
        try Self.once(instances.map(\.tap), "instanceId (as an interface name)")
        try Self.once(instances.map(\.mac), "macAddress")
        try Self.once(instances.map { $0.address.description }, "privateAddress")
        try Self.once(instances.compactMap { $0.publicAddress?.description }, "publicAddress")
        // In the order of their ids, so that equal networks give equal texts.
        self.instances = instances.sorted { $0.id < $1.id }
        self.groups = groups.sorted { $0.id < $1.id }
        self.subnets = subnets.sorted { $0.id < $1.id }
    }

    private init(
        gateway: IPv4Address, network: CIDR, instances: [Instance], groups: [Group], dns: [IPv4Address], peers: [IPv4Address],
        subnets: [Subnet]
    ) {
        self.gateway = gateway
        self.network = network
        self.instances = instances
        self.groups = groups
        self.dns = dns
        self.peers = peers
        self.subnets = subnets
    }

    /// The same without this instance.
    func removing(_ instanceID: String) -> NetworkModel {
        let gone = instances.first { $0.id == instanceID }?.address
        let groups = groups.map { group in
            Group(id: group.id, members: group.members.filter { $0 != gone }, rules: group.rules, egress: group.egress)
        }
        let subnets = subnets.map { subnet in
            Subnet(id: subnet.id, members: subnet.members.filter { $0 != gone }, entries: subnet.entries, routes: subnet.routes)
        }
        return NetworkModel(
            gateway: gateway, network: network, instances: instances.filter { $0.id != instanceID }, groups: groups, dns: dns, peers: peers,
            subnets: subnets)
    }

    func instance(_ id: String) -> Instance? { instances.first { $0.id == id } }
    func group(_ id: String) -> Group? { groups.first { $0.id == id } }

    // MARK: Parsing

    private static func wrong(_ parameter: String, _ value: String) -> CloudError {
        CloudError(.invalidParameter(parameter), "The network's \(parameter) is not valid: \(value)")
    }

    private static func once(_ values: [String], _ parameter: String) throws(CloudError) {
        var seen: Set<String> = []
        for value in values where !seen.insert(value).inserted { throw wrong(parameter, "\(value) twice") }
    }

    private static func address(_ text: String?, _ parameter: String) throws(CloudError) -> IPv4Address {
        guard let text, let address = IPv4Address(parsing: text) else { throw wrong(parameter, text ?? "nothing") }
        return address
    }

    private static func instance(_ raw: NC.InstanceAddress) throws(CloudError) -> Instance {
        guard let id = raw.instanceId, InstanceNames.isInstance(id) else { throw wrong("instanceId", raw.instanceId ?? "nothing") }
        guard let mac = raw.macAddress?.lowercased(), isMAC(mac) else { throw wrong("macAddress", raw.macAddress ?? "nothing") }
        var publicAddress: IPv4Address?
        if let text = raw.publicAddress, !text.isEmpty { publicAddress = try address(text, "publicAddress") }
        var hostname: String?
        if let text = raw.hostname, !text.isEmpty {
            guard isHostname(text) else { throw wrong("hostname", text) }
            hostname = text
        }
        return Instance(
            id: id, tap: InstanceNames.tap(id), mac: mac, address: try address(raw.privateAddress, "privateAddress"),
            publicAddress: publicAddress, groups: raw.groups, hostname: hostname)
    }

    private static func group(_ raw: NC.GroupState) throws(CloudError) -> Group {
        guard let id = raw.groupId, (try? SecurityGroupID(parsing: id)) != nil else { throw wrong("groupId", raw.groupId ?? "nothing") }
        var members: [IPv4Address] = []
        for text in raw.members { members.append(try address(text, "members")) }
        var rules: [Rule] = []
        for rule in raw.rules { rules.append(try self.rule(rule)) }
        var egress: [Rule]?
        if raw.egressLimited == true { egress = try raw.egress.map { rule throws(CloudError) in try self.rule(rule) } }
        return Group(id: id, members: members.sorted(), rules: rules, egress: egress)
    }

    private static func subnet(_ raw: NC.SubnetState) throws(CloudError) -> Subnet {
        guard let id = raw.subnetId, (try? SubnetID(parsing: id)) != nil else { throw wrong("subnetId", raw.subnetId ?? "nothing") }
        let members = try raw.members.map { text throws(CloudError) in try address(text, "members") }
        var entries: [Subnet.Entry]?
        if raw.entriesLimited == true {
            entries = try raw.entries.map { entry throws(CloudError) in
                Subnet.Entry(
                    egress: entry.egress ?? false, allow: entry.allow ?? false,
                    match: try match(NC.GroupRule(proto: entry.proto, fromPort: entry.fromPort, toPort: entry.toPort)),
                    cidr: try block(entry.cidr))
            }
        }
        var routes: [Subnet.Route]?
        if raw.routesLimited == true {
            routes = try raw.routes.map { route throws(CloudError) in
                Subnet.Route(cidr: try block(route.cidr), isReached: route.reached ?? false)
            }
        }
        return Subnet(id: id, members: members.sorted(), entries: entries, routes: routes)
    }

    private static func block(_ text: String?) throws(CloudError) -> CIDR {
        guard let text, let cidr = CIDR(parsing: text) else { throw wrong("cidr", text ?? "nothing") }
        return cidr
    }

    private static func rule(_ raw: NC.GroupRule) throws(CloudError) -> Rule {
        let source: Rule.Source
        switch (raw.cidr.flatMap { $0.isEmpty ? nil : $0 }, raw.sourceGroupId.flatMap { $0.isEmpty ? nil : $0 }) {
        case (let text?, nil):
            guard let cidr = CIDR(parsing: text) else { throw wrong("cidr", text) }
            source = .cidr(cidr)
        case (nil, let group?):
            guard (try? SecurityGroupID(parsing: group)) != nil else { throw wrong("sourceGroupId", group) }
            source = .group(group)
        default:
            throw wrong("rules", "a rule has either a cidr or a source group")
        }
        return Rule(match: try match(raw), source: source)
    }

    private static func match(_ raw: NC.GroupRule) throws(CloudError) -> Rule.Match {
        let proto = raw.proto ?? ""
        switch proto {
        case "tcp", "6": return .tcp(try ports(raw))
        case "udp", "17": return .udp(try ports(raw))
        case "icmp", "1":
            let (type, code) = (raw.fromPort ?? -1, raw.toPort ?? -1)
            guard (-1...255).contains(type), (-1...255).contains(code) else { throw wrong("rules", "ICMP type \(type) code \(code)") }
            return .icmp(type: type < 0 ? nil : type, code: type < 0 || code < 0 ? nil : code)
        case "-1", "all": return .all
        default:
            guard let number = Int(proto), (0...255).contains(number) else { throw wrong("proto", proto) }
            return .proto(number)
        }
    }

    private static func ports(_ raw: NC.GroupRule) throws(CloudError) -> ClosedRange<Int> {
        var (from, to) = (raw.fromPort ?? 0, raw.toPort ?? 65535)
        if from == -1 && to == -1 { (from, to) = (0, 65535) }
        guard (0...65535).contains(from), (0...65535).contains(to), from <= to else { throw wrong("rules", "ports \(from) to \(to)") }
        return from...to
    }

    private static func isMAC(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        return parts.count == 6
            && parts.allSatisfy { part in
                part.count == 2 && part.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
            }
    }

    private static func isHostname(_ text: String) -> Bool {
        guard (1...253).contains(text.utf8.count), text.utf8.first != UInt8(ascii: "-") else { return false }
        return text.utf8.allSatisfy { c in
            (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x7a) || (c >= 0x41 && c <= 0x5a) || c == 0x2d || c == 0x2e
        }
    }
}

// MARK: What the rules say

/// A packet that opens a connection, as a rule sees it.
struct Probe: Sendable, Equatable {
    enum Kind: Sendable, Equatable {
        case tcp(port: Int)
        case udp(port: Int)
        case icmp(type: Int, code: Int)
        case proto(Int)
    }
    let kind: Kind
    /// Before any translation.
    let source: IPv4Address
}

extension NetworkModel {
    /// Whether the instance's groups let this in. The firewall's text says the same; this is for connections that are already there, and
    /// for the simulated network.
    func allows(_ probe: Probe, to instance: Instance) -> Bool {
        instance.groups.contains { id in
            group(id)?.rules.contains { rule in rule.match.covers(probe.kind) && includes(rule.source, probe.source) } ?? false
        }
    }

    private func includes(_ source: Rule.Source, _ address: IPv4Address) -> Bool {
        switch source {
        case .cidr(let cidr): cidr.contains(address)
        case .group(let id): group(id)?.members.contains(address) ?? false
        }
    }
}

extension NetworkModel.Rule.Match {
    func covers(_ kind: Probe.Kind) -> Bool {
        switch (self, kind) {
        case (.all, _): true
        case (.tcp(let ports), .tcp(let port)), (.udp(let ports), .udp(let port)): ports.contains(port)
        case (.icmp(let type, let code), .icmp(let t, let c)): (type ?? t) == t && (code ?? c) == c
        case (.proto(let a), .proto(let b)): a == b
        case (.tcp, _), (.udp, _), (.icmp, _), (.proto, _): false
        }
    }
}
