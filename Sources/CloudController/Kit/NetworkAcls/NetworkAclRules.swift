import API
import Domain

/// A subnet's list of what may pass its border, in order, the first match deciding; without memory of connections.
struct NetworkAcl: Sendable, Equatable {
    struct Entry: Sendable, Equatable {
        let number: Int
        let egress: Bool
        /// The number of the IP protocol; -1 for all.
        let proto: Int
        let allow: Bool
        let cidr: CIDR
        /// TCP and UDP: the first port; ICMP: the type, -1 for all. `nil` for other protocols.
        let first: Int?
        /// TCP and UDP: the last port; ICMP: the code, -1 for all.
        let last: Int?

        static func everything(egress: Bool) -> Entry {
            Entry(
                number: 100, egress: egress, proto: -1, allow: true, cidr: CIDR(network: IPv4Address(0), prefixLength: 0), first: nil,
                last: nil)
        }
    }
    struct Association: Sendable, Equatable {
        let id, subnetID: String
    }
    let id: NetworkAclID
    let accountID: String
    let vpcID: String
    let isDefault: Bool
    /// By direction and number.
    var entries: [Entry]
    var associations: [Association]

    /// Whether these entries stop nothing, so that nodes need no rules for them.
    static func isOpen(_ entries: [Entry]) -> Bool {
        [true, false].allSatisfy { egress in
            let first = entries.filter { $0.egress == egress }.min { $0.number < $1.number }
            return first.map { $0.allow && $0.proto == -1 && $0.cidr.prefixLength == 0 } ?? false
        }
    }
}

extension NetworkAcl: Described {
    typealias Kind = NetworkAclKind
    var describedID: String { id.text }

    /// Source: EC2 API Reference, DescribeNetworkAcls.
    static let filters: Set<String> = [
        "association.association-id", "association.network-acl-id", "association.subnet-id", "default", "entry.cidr", "entry.egress",
        "entry.icmp.code", "entry.icmp.type", "entry.ipv6-cidr", "entry.port-range.from", "entry.port-range.to", "entry.protocol",
        "entry.rule-action", "entry.rule-number", "network-acl-id", "owner-id", "tag", "vpc-id",
    ]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "association.association-id": associations.map(\.id)
        case "association.network-acl-id": associations.isEmpty ? [] : [id.text]
        case "association.subnet-id": associations.map(\.subnetID)
        case "default": [String(isDefault)]
        case "entry.cidr": shown.compactMap(\.cidrBlock)
        case "entry.egress": shown.compactMap { $0.egress.map { String($0) } }
        case "entry.icmp.code": shown.compactMap { $0.icmpTypeCode?.code.map { String($0) } }
        case "entry.icmp.type": shown.compactMap { $0.icmpTypeCode?.type.map { String($0) } }
        case "entry.port-range.from": shown.compactMap { $0.portRange?.from.map { String($0) } }
        case "entry.port-range.to": shown.compactMap { $0.portRange?.to.map { String($0) } }
        case "entry.protocol": shown.compactMap(\.`protocol`)
        case "entry.rule-action": shown.compactMap(\.ruleAction)
        case "entry.rule-number": shown.compactMap { $0.ruleNumber.map { String($0) } }
        case "network-acl-id": [id.text]
        case "owner-id": [accountID]
        case "vpc-id": [vpcID]
        default: []
        }
    }

    /// With the last one of each direction, which each list has and nobody can change.
    private var shown: [EC2.NetworkAclEntry] {
        [true, false].flatMap { egress in
            entries.filter { $0.egress == egress }.sorted { $0.number < $1.number }.map(Self.wire) + [
                EC2.NetworkAclEntry(
                    cidrBlock: "0.0.0.0/0", egress: egress, protocol: "-1", ruleAction: "deny", ruleNumber: NetworkAclRules.lastNumber)
            ]
        }
    }

    private static func wire(_ e: Entry) -> EC2.NetworkAclEntry {
        var out = EC2.NetworkAclEntry(
            cidrBlock: e.cidr.description, egress: e.egress, protocol: String(e.proto), ruleAction: e.allow ? "allow" : "deny",
            ruleNumber: e.number)
        if e.proto == 1 { out.icmpTypeCode = EC2.IcmpTypeCode(code: e.last, type: e.first) }
        if e.proto == 6 || e.proto == 17 { out.portRange = EC2.PortRange(from: e.first, to: e.last) }
        return out
    }

    func wire(_ tags: [EC2.Tag]) -> EC2.NetworkAcl {
        EC2.NetworkAcl(
            associations: associations.map {
                EC2.NetworkAclAssociation(networkAclAssociationId: $0.id, networkAclId: id.text, subnetId: $0.subnetID)
            }, entries: shown, isDefault: isDefault, networkAclId: id.text, vpcId: vpcID, ownerId: accountID, tags: tags)
    }
}

/// What CreateNetworkAclEntry and ReplaceNetworkAclEntry have in common.
protocol AclEntryRequest: Sendable {
    var dryRun: Bool? { get }
    var networkAclId: String { get }
    var ruleNumber: Int { get }
    var `protocol`: String { get }
    var ruleAction: String { get }
    var egress: Bool { get }
    var cidrBlock: String? { get }
    var icmpTypeCode: EC2.IcmpTypeCode? { get }
    var portRange: EC2.PortRange? { get }
}
extension EC2.CreateNetworkAclEntry: AclEntryRequest {}
extension EC2.ReplaceNetworkAclEntry: AclEntryRequest {}

enum NetworkAclRules {
    /// EC2's standard limits: lists of an account, entries of one direction.
    static let maxAcls = 200
    static let maxEntries = 20
    /// The number of the entry that ends each direction.
    static let lastNumber = 32767

    /// - Throws: `.invalidParameter`, `.missingParameter`.
    static func entry(_ r: some AclEntryRequest) throws(CloudError) -> NetworkAcl.Entry {
        guard (1..<lastNumber).contains(r.ruleNumber) else {
            throw CloudError(.invalidParameter("ruleNumber"), "A rule's number is from 1 to \(lastNumber - 1)")
        }
        guard let text = r.cidrBlock else { throw CloudError(.missingParameter("CidrBlock")) }
        let proto: Int? =
            switch r.`protocol`.lowercased() {
            case "tcp": 6
            case "udp": 17
            case "icmp": 1
            case "all": -1
            default: Int(r.`protocol`)
            }
        guard let proto, (-1...255).contains(proto) else {
            throw CloudError(.invalidParameter("protocol"), "'\(r.`protocol`.prefix(20))' is no protocol: -1, or a number from 0 to 255")
        }
        guard proto != 58 else { throw CloudError(.invalidParameter("protocol"), "This cloud has no IPv6: ICMPv6 has no meaning here") }
        var range: (first: Int?, last: Int?) = (nil, nil)
        switch proto {
        case 6, 17:
            guard let from = r.portRange?.from, let to = r.portRange?.to else { throw CloudError(.missingParameter("PortRange")) }
            guard (0...65535).contains(from), (0...65535).contains(to), from <= to else {
                throw CloudError(.invalidParameter("portRange"), "Invalid port range (\(from):\(to))")
            }
            range = (from, to)
        case 1:
            guard let type = r.icmpTypeCode?.type, let code = r.icmpTypeCode?.code else { throw CloudError(.missingParameter("Icmp")) }
            guard (-1...255).contains(type), (-1...255).contains(code), type != -1 || code == -1 else {
                throw CloudError(.invalidParameter("icmp"), "ICMP type (\(type)) or code (\(code)) out of range")
            }
            range = (type, code)
        default: break
        }
        guard text.utf8.contains(0x2f), let cidr = CIDR(parsing: text) else {
            throw CloudError(.invalidParameter("cidrBlock"), "Value (\(text.prefix(60))) for parameter cidrBlock is invalid.")
        }
        return NetworkAcl.Entry(
            number: r.ruleNumber, egress: r.egress, proto: proto, allow: r.ruleAction == "allow", cidr: cidr, first: range.first,
            last: range.last)
    }

    static func noEntry(_ number: Int, _ acl: NetworkAclID) -> CloudError {
        CloudError(
            .named(code: "InvalidNetworkAclEntry.NotFound", status: 400),
            "The network acl entry identified by \(number) does not exist in \(acl)")
    }
}
