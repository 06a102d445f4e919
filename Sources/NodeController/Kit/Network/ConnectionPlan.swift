import Daemon
import Domain

// Connections that a change of the network must end. The firewall lets established connections pass, so a revoked rule, a moved public
// address or a removed instance takes effect on them only when the kernel forgets them (conntrack(8)). Only those that are not allowed
// any more are ended; the rest go on undisturbed.

/// A tracked connection, as `conntrack -L` prints it.
struct Connection: Sendable, Equatable {
    let proto: Int
    /// As its first packet had it, before translation.
    let source, destination: IPv4Address
    let sourcePort, destinationPort: Int?
    let icmpType, icmpCode, icmpID: Int?
    /// Where replies come from: the instance, when the destination was translated.
    let replySource: IPv4Address
    let replyDestination: IPv4Address

    /// `tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… [UNREPLIED] src=… dst=… …`
    init?(parsing line: some StringProtocol) {
        let words = line.split(separator: " ")
        guard words.count > 4, let proto = Int(words[1]) else { return nil }
        var values: [String: [String]] = [:]
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1)
            if parts.count == 2 { values[String(parts[0]), default: []].append(String(parts[1])) }
        }
        func address(_ key: String, _ index: Int) -> IPv4Address? {
            guard let all = values[key], index < all.count else { return nil }
            return IPv4Address(parsing: all[index])
        }
        guard let source = address("src", 0), let destination = address("dst", 0), let replySource = address("src", 1),
            let replyDestination = address("dst", 1)
        else { return nil }
        self.proto = proto
        self.source = source
        self.destination = destination
        self.replySource = replySource
        self.replyDestination = replyDestination
        func number(_ key: String) -> Int? { values[key]?.first.flatMap { Int($0) } }
        sourcePort = number("sport")
        destinationPort = number("dport")
        icmpType = number("type")
        icmpCode = number("code")
        icmpID = number("id")
    }

    var probe: Probe {
        let kind: Probe.Kind
        switch (proto, destinationPort, icmpType) {
        case (6, let port?, _): kind = .tcp(port: port)
        case (17, let port?, _): kind = .udp(port: port)
        case (1, _, let type?): kind = .icmp(type: type, code: icmpCode ?? 0)
        default: kind = .proto(proto)
        }
        return Probe(kind: kind, source: source)
    }

    /// The arguments of `conntrack -D` that name this connection and no other.
    var deletion: [String] {
        var out = ["-D", "-p", "\(proto)", "-s", "\(source)", "-d", "\(destination)"]
        if let sourcePort, let destinationPort { out += ["--sport", "\(sourcePort)", "--dport", "\(destinationPort)"] }
        if let icmpType, let icmpCode, let icmpID {
            out += ["--icmp-type", "\(icmpType)", "--icmp-code", "\(icmpCode)", "--icmp-id", "\(icmpID)"]
        }
        return out
    }
}

/// What to look at and what to end when one network replaces another.
struct ConnectionPlan: Sendable, Equatable {
    /// All that these `conntrack -D` filters match is ended.
    var ended: [[String]] = []
    /// Connections to these instances are compared with the new rules one by one.
    var examined: [IPv4Address] = []

    init(from old: NetworkModel?, to new: NetworkModel) {
        guard let old else { return }
        for before in old.instances {
            guard let after = new.instance(before.id), after.address == before.address else {
                ended.append(["-D", "-r", "\(before.address)"])
                ended.append(["-D", "-s", "\(before.address)"])
                if let address = before.publicAddress { ended.append(["-D", "-d", "\(address)"]) }
                continue
            }
            if before.publicAddress != after.publicAddress, let address = before.publicAddress {
                // Both those that came in by it and those that went out under it.
                ended.append(["-D", "-d", "\(address)"])
                ended.append(["-D", "-q", "\(address)"])
            }
            if Self.mayHaveLost(before, old, after, new) { examined.append(after.address) }
        }
        for after in new.instances {
            guard let address = after.publicAddress, old.instance(after.id)?.publicAddress != address else { continue }
            // What was tried while the address was nobody's, or another's, must not stick to it.
            let filter = ["-D", "-d", "\(address)"]
            if !ended.contains(filter) { ended.append(filter) }
        }
    }

    /// Whether anything that the old rules let in may be shut out by the new ones.
    private static func mayHaveLost(
        _ before: NetworkModel.Instance, _ old: NetworkModel, _ after: NetworkModel.Instance, _ new: NetworkModel
    ) -> Bool {
        for id in before.groups {
            guard after.groups.contains(id), let was = old.group(id), let now = new.group(id) else { return true }
            if !Set(now.rules).isSuperset(of: was.rules) { return true }
            for rule in was.rules {
                guard case .group(let source) = rule.source else { continue }
                if !Set(new.group(source)?.members ?? []).isSuperset(of: old.group(source)?.members ?? []) { return true }
            }
        }
        return false
    }

    /// - Returns: of the connections that are there, those that the new rules would not let in.
    static func revoked(_ connections: [Connection], in model: NetworkModel) -> [Connection] {
        connections.filter { connection in
            guard let instance = model.instances.first(where: { $0.address == connection.replySource }) else { return false }
            return !model.allows(connection.probe, to: instance)
        }
    }
}
