public import API
import Domain
import Glibc

/// Where a rule lets traffic come from.
public enum RuleSource: Sendable, Hashable {
    /// An IPv4 block, host bits cleared.
    case cidr(String)
    /// An IPv6 block. Stored and shown; instances have no IPv6, so it lets nothing in.
    case cidr6(String)
    /// The members of a group, of whatever account.
    case group(id: String, accountID: String)
}

/// Protocol and ports of a permission, checked.
public struct RuleTraffic: Sendable, Hashable {
    /// `tcp`, `udp`, `icmp`, `58` (ICMPv6) or `-1` (everything).
    public let proto: String
    /// ICMP: the type, -1 for all. `nil` for `-1`.
    public let fromPort: Int?
    /// ICMP: the code, -1 for all. `nil` for `-1`.
    public let toPort: Int?

    /// - Throws: `InvalidPermission.Malformed`, `.invalidParameter`, `.missingParameter`.
    init(proto text: String?, fromPort from: Int?, toPort to: Int?) throws(CloudError) {
        guard let text, !text.isEmpty else { throw CloudError(.missingParameter("IpProtocol")) }
        switch text.lowercased() {
        case "tcp", "6": proto = "tcp"
        case "udp", "17": proto = "udp"
        case "icmp", "1": proto = "icmp"
        case "icmpv6", "58": proto = "58"
        case "-1", "all": proto = "-1"
        default:
            throw CloudError(
                .invalidParameter("IpProtocol"),
                "Invalid value '\(text.prefix(20))' for IP protocol: known are tcp, udp, icmp, icmpv6 and -1")
        }
        switch proto {
        case "-1":
            fromPort = nil
            toPort = nil
        case "tcp", "udp":
            guard let from, let to else { throw CloudError(.missingParameter(from == nil ? "FromPort" : "ToPort")) }
            guard (0...65535).contains(from), (0...65535).contains(to), from <= to else {
                throw CloudError(.invalidParameter("FromPort"), "Invalid TCP/UDP port range (\(from):\(to))")
            }
            fromPort = from
            toPort = to
        default:
            // Without numbers all types are meant; a code without a type means nothing.
            let type = from ?? -1
            let code = to ?? -1
            guard (-1...255).contains(type), (-1...255).contains(code), type != -1 || code == -1 else {
                throw CloudError(.invalidParameter("FromPort"), "ICMP type (\(type)) or code (\(code)) out of range")
            }
            fromPort = type
            toPort = code
        }
    }

    init(stored proto: String, _ from: Int?, _ to: Int?) {
        self.proto = proto
        fromPort = from
        toPort = to
    }
}

/// One rule's own words.
public struct RuleContent: Sendable, Hashable {
    public let traffic: RuleTraffic
    public let source: RuleSource

    /// Equal for equal rules; the database's unique key.
    var key: String {
        let from =
            switch source {
            case .cidr(let cidr): "4 \(cidr)"
            case .cidr6(let cidr): "6 \(cidr)"
            case .group(let id, _): "group \(id)"
            }
        return "\(traffic.proto) \(traffic.fromPort ?? -1) \(traffic.toPort ?? -1) \(from)"
    }

    /// As EC2's messages say it.
    var words: String {
        let peer =
            switch source {
            case .cidr(let cidr), .cidr6(let cidr): cidr
            case .group(let id, _): id
            }
        return "peer: \(peer), \(traffic.proto == "-1" ? "ALL" : traffic.proto.uppercased())"
            + (traffic.fromPort.map { ", from port: \($0), to port: \(traffic.toPort ?? $0)" } ?? "") + ", ALLOW"
    }
}

/// A rule as the request names it: groups are looked up later, in the transaction.
struct RuleOrder: Sendable, Hashable {
    enum Source: Sendable, Hashable {
        case known(RuleSource)
        /// `userID` nil: the caller's account.
        case named(groupID: String?, groupName: String?, userID: String?)
    }
    let traffic: RuleTraffic
    let source: Source
    let description: String
}

enum SecurityGroupRules {
    static let defaultName = "default"

    /// What a new group lets out: everything.
    static func everythingOut(of groupID: String, _ id: SecurityGroupRuleID) -> GroupRule {
        GroupRule(
            id: id, groupID: groupID, content: RuleContent(traffic: RuleTraffic(stored: "-1", nil, nil), source: .cidr("0.0.0.0/0")),
            description: "", egress: true)
    }

    /// - Throws: `.invalidParameter`; `InvalidGroup.Reserved` for `default`.
    static func checkName(_ name: String) throws(CloudError) {
        guard (1...255).contains(name.utf8.count), name.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }), name.utf8.first != 0x20,
            name.utf8.last != 0x20
        else { throw CloudError(.invalidParameter("GroupName"), "A group's name has 1 to 255 printable ASCII characters") }
        guard !name.lowercased().hasPrefix("sg-") else {
            throw CloudError(.invalidParameter("GroupName"), "Group names may not be in the format sg-*")
        }
        guard name != defaultName else {
            throw CloudError(.named(code: "InvalidGroup.Reserved", status: 400), "The security group 'default' is reserved")
        }
    }

    static func checkDescription(_ text: String, parameter: String) throws(CloudError) {
        guard text.unicodeScalars.count <= 255, !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) else {
            throw CloudError(.invalidParameter(parameter), "A description has at most 255 characters, none of them control characters")
        }
    }

    /// The permissions of an authorize or revoke request, in either of its two forms: `IpPermissions`, or the flat parameters of one.
    /// - Throws: `.invalidCombination` for both, `.missingParameter` for neither.
    static func orders(_ r: some PermissionRequest) throws(CloudError) -> [RuleOrder] {
        let isFlat = r.ipProtocol != nil || r.cidrIp != nil || r.fromPort != nil || r.toPort != nil || r.sourceSecurityGroupName != nil
        guard !isFlat || r.ipPermissions.isEmpty else {
            throw CloudError(.invalidCombination("The parameter 'ipPermissions' may not be used in combination with 'ipProtocol'"))
        }
        guard isFlat || !r.ipPermissions.isEmpty else { throw CloudError(.missingParameter("IpPermissions")) }
        var out: [RuleOrder] = []
        if isFlat {
            // The oldest form names a group only, and means all of its traffic.
            let onlyGroup = r.ipProtocol == nil && r.sourceSecurityGroupName != nil
            let traffic = try RuleTraffic(proto: onlyGroup ? "-1" : r.ipProtocol, fromPort: r.fromPort, toPort: r.toPort)
            guard (r.cidrIp == nil) != (r.sourceSecurityGroupName == nil) else {
                throw r.cidrIp == nil
                    ? CloudError(.missingParameter("CidrIp"))
                    : CloudError(.invalidCombination("CidrIp and SourceSecurityGroupName cannot both be given"))
            }
            if let text = r.cidrIp { out.append(RuleOrder(traffic: traffic, source: .known(.cidr(try block(text))), description: "")) }
            if let name = r.sourceSecurityGroupName {
                let source = RuleOrder.Source.named(groupID: nil, groupName: name, userID: r.sourceSecurityGroupOwnerId)
                out.append(RuleOrder(traffic: traffic, source: source, description: ""))
            }
        }
        for permission in r.ipPermissions { out += try orders(permission) }
        var seen: Set<String> = []
        for order in out {
            guard seen.insert("\(order.traffic) \(order.source)").inserted else {
                throw CloudError(.invalidParameter("IpPermissions"), "The same permission must not appear multiple times")
            }
        }
        return out
    }

    static func orders(_ p: EC2.IpPermission) throws(CloudError) -> [RuleOrder] {
        let traffic = try RuleTraffic(proto: p.ipProtocol, fromPort: p.fromPort, toPort: p.toPort)
        var out: [RuleOrder] = []
        for range in p.ipRanges {
            guard let text = range.cidrIp else { throw CloudError(.missingParameter("IpRanges.CidrIp")) }
            try checkDescription(range.description ?? "", parameter: "IpRanges.Description")
            out.append(RuleOrder(traffic: traffic, source: .known(.cidr(try block(text))), description: range.description ?? ""))
        }
        for range in p.ipv6Ranges {
            guard let text = range.cidrIpv6 else { throw CloudError(.missingParameter("Ipv6Ranges.CidrIpv6")) }
            try checkDescription(range.description ?? "", parameter: "Ipv6Ranges.Description")
            out.append(RuleOrder(traffic: traffic, source: .known(.cidr6(try block6(text))), description: range.description ?? ""))
        }
        for pair in p.userIdGroupPairs {
            try checkDescription(pair.description ?? "", parameter: "Groups.Description")
            if let id = pair.groupId { _ = try SecurityGroupID(parsing: id) }
            guard pair.groupId != nil || pair.groupName != nil else { throw CloudError(.missingParameter("Groups.GroupId")) }
            // Old tools write the id where the name belongs.
            let isID = pair.groupId == nil && (try? SecurityGroupID(parsing: pair.groupName ?? "")) != nil
            let userID = pair.userId == "" ? nil : pair.userId
            let source = RuleOrder.Source.named(
                groupID: isID ? pair.groupName : pair.groupId, groupName: pair.groupId == nil && !isID ? pair.groupName : nil,
                userID: userID)
            out.append(RuleOrder(traffic: traffic, source: source, description: pair.description ?? ""))
        }
        guard !out.isEmpty else {
            throw CloudError(
                .named(code: "InvalidPermission.Malformed", status: 400), "A permission names neither an address range nor a group")
        }
        return out
    }

    static func block(_ text: String) throws(CloudError) -> String {
        guard text.utf8.contains(0x2f), let cidr = CIDR(parsing: text) else {
            throw CloudError(.invalidParameter("CidrIp"), "CIDR block \(text.prefix(60)) is malformed")
        }
        return cidr.description
    }

    static func block6(_ text: String) throws(CloudError) -> String {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        var address = in6_addr()
        guard parts.count == 2, let length = Int(parts[1]), (0...128).contains(length),
            parts[1].utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            inet_pton(AF_INET6, String(parts[0]), &address) == 1
        else { throw CloudError(.invalidParameter("CidrIpv6"), "CIDR block \(text.prefix(80)) is malformed") }
        withUnsafeMutableBytes(of: &address) { bytes in
            for i in 0..<16 {
                let kept = Swift.min(8, Swift.max(0, length - 8 * i))
                bytes[i] &= kept == 0 ? 0 : UInt8.max << UInt8(8 - kept)
            }
        }
        var out = [CChar](repeating: 0, count: 64)
        inet_ntop(AF_INET6, &address, &out, 64)
        return String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + "/\(length)"
    }

    static func duplicate(_ content: RuleContent) -> CloudError {
        CloudError(
            .named(code: "InvalidPermission.Duplicate", status: 400), "the specified rule \"\(content.words)\" already exists")
    }

    static func unknownRule(_ id: String) -> CloudError {
        CloudError(
            .named(code: "InvalidSecurityGroupRuleId.NotFound", status: 400), "The security group rule ID '\(id)' does not exist")
    }

    static let notThere = CloudError(
        .named(code: "InvalidPermission.NotFound", status: 400), "The specified rule does not exist in this security group.")

    static let filters: Set<String> = [
        "description", "group-id", "group-name", "owner-id", "vpc-id", "ip-permission.cidr", "ip-permission.from-port",
        "ip-permission.group-id", "ip-permission.group-name", "ip-permission.ipv6-cidr", "ip-permission.protocol", "ip-permission.to-port",
        "ip-permission.user-id", "egress.ip-permission.cidr", "egress.ip-permission.from-port", "egress.ip-permission.group-id",
        "egress.ip-permission.group-name", "egress.ip-permission.ipv6-cidr", "egress.ip-permission.protocol",
        "egress.ip-permission.to-port", "egress.ip-permission.user-id", "tag",
    ]

    static func values(
        _ group: SecurityGroup, _ rules: [GroupRule], names: [String: String], vpcID: String?, _ filter: String
    ) -> [String] {
        let isEgress = filter.hasPrefix("egress.")
        return values(
            group, rules.filter { $0.egress == isEgress }, names, vpcID, filter: isEgress ? String(filter.dropFirst(7)) : filter)
    }

    private static func values(
        _ group: SecurityGroup, _ rules: [GroupRule], _ names: [String: String], _ vpcID: String?, filter: String
    ) -> [String] {
        switch filter {
        case "description": [group.description]
        case "group-id": [group.id.text]
        case "group-name": [group.name]
        case "owner-id": [group.accountID]
        case "vpc-id": one(vpcID)
        case "ip-permission.from-port": rules.compactMap { $0.content.traffic.fromPort.map { String($0) } }
        case "ip-permission.to-port": rules.compactMap { $0.content.traffic.toPort.map { String($0) } }
        case "ip-permission.protocol": rules.map(\.content.traffic.proto)
        case "ip-permission.cidr": rules.compactMap { if case .cidr(let cidr) = $0.content.source { cidr } else { nil } }
        case "ip-permission.ipv6-cidr": rules.compactMap { if case .cidr6(let cidr) = $0.content.source { cidr } else { nil } }
        case "ip-permission.group-id": rules.compactMap { if case .group(let id, _) = $0.content.source { id } else { nil } }
        case "ip-permission.group-name": rules.compactMap { if case .group(let id, _) = $0.content.source { names[id] } else { nil } }
        case "ip-permission.user-id":
            rules.compactMap { if case .group(_, let account) = $0.content.source { account } else { nil } }
        default: []
        }
    }
}

/// What the actions that authorize and revoke have in common.
protocol PermissionRequest {
    var ipPermissions: [EC2.IpPermission] { get }
    var ipProtocol: String? { get }
    var cidrIp: String? { get }
    var fromPort: Int? { get }
    var toPort: Int? { get }
    var sourceSecurityGroupName: String? { get }
    var sourceSecurityGroupOwnerId: String? { get }
}
extension EC2.AuthorizeSecurityGroupIngress: PermissionRequest {}
extension EC2.RevokeSecurityGroupIngress: PermissionRequest {}
extension EC2.AuthorizeSecurityGroupEgress: PermissionRequest {}
extension EC2.RevokeSecurityGroupEgress: PermissionRequest {}
