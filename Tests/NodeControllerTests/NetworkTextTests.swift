import API
import Domain
@testable import NodeControllerKit
import TestKit
import Testing

/// Compares a text with a file in `Tests/NodeControllerTests/Golden`.
func expectGolden(_ text: String, _ name: String, sourceLocation: SourceLocation = #_sourceLocation) {
    if let difference = GoldenFile(name).difference(from: Array(text.utf8)) {
        Issue.record("\(difference)", sourceLocation: sourceLocation)
    }
}

@Suite struct NetworkTextTests {
    private let settings = NetworkSettings()

    @Test func theWholeFirewall() throws {
        expectGolden(FirewallText.render(try NetworkModel(NetworkSample.full), settings: settings), "network-full.nft")
    }

    @Test func aNodeWithoutInstances() throws {
        let empty = NC.NetworkState(gateway: "10.1.0.1", prefixLength: 16)
        expectGolden(FirewallText.render(try NetworkModel(empty), settings: settings), "network-empty.nft")
    }

    /// Groups that limit what members send, a subnet with entries and routes, one with no way out, and instances that nothing limits.
    @Test func limits() throws {
        expectGolden(FirewallText.render(try NetworkModel(NetworkSample.limited), settings: settings), "network-limited.nft")
    }

    @Test func removal() { expectGolden(FirewallText.removal(settings), "network-removal.nft") }

    @Test func dhcp() throws {
        let model = try NetworkModel(NetworkSample.full)
        expectGolden(DHCPText.configuration(model, settings: settings) + "---\n" + DHCPText.hosts(model), "network-dhcp.conf")
    }

    @Test func theOrderOfTheMessageDoesNotMatter() throws {
        var other = NetworkSample.full
        other.instances.reverse()
        other.groups.reverse()
        #expect(
            FirewallText.render(try NetworkModel(other), settings: settings)
                == FirewallText.render(try NetworkModel(NetworkSample.full), settings: settings))
    }

    @Test func nestedBlocksAreMerged() {
        let blocks = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "192.0.2.1/32", "192.0.2.0/24", "9.9.9.9"].compactMap { CIDR(parsing: $0) }
        #expect(FirewallText.merged(blocks).map(\.description) == ["9.9.9.9/32", "10.0.0.0/8", "192.0.2.0/24"])
    }

    @Test(
        arguments: [
            { (s: inout NC.NetworkState) in s.gateway = nil },
            { $0.gateway = "10.1.0.1; drop" },
            { $0.prefixLength = 31 },
            { $0.instances[0].macAddress = "02:00:0a:01:00:0g" },
            { $0.instances[0].macAddress = "02:00:0a:01:00:0b }" },
            { $0.instances[0].instanceId = "i-0000000z" },
            { $0.instances[0].instanceId = "i-bbbbbbbb\" accept #" },
            { $0.instances[0].privateAddress = "10.2.0.12" },
            { $0.instances[0].privateAddress = "10.1.0.1" },
            { $0.instances[0].privateAddress = "10.1.255.255" },
            { $0.instances[0].privateAddress = $0.instances[1].privateAddress },
            { $0.instances[0].publicAddress = "198.18.0.11" },
            { $0.instances[0].macAddress = $0.instances[1].macAddress },
            { $0.instances[0].hostname = "a,b" },
            { $0.instances[0].groups = ["sg-0000000f"] },
            { $0.groups[0].groupId = "sg-0000000a{" },
            { $0.groups[0].members = ["10.1.0.999"] },
            { $0.groups[0].rules[0].cidr = "0.0.0.0/33" },
            { $0.groups[0].rules[0].cidr = nil },
            { $0.groups[0].rules[0].sourceGroupId = "sg-0000000b" },
            { $0.groups[0].rules[0].proto = "tcp accept" },
            { $0.groups[0].rules[0].fromPort = 70000 },
            { $0.groups[0].rules[0].toPort = 1 },
            { $0.dns = ["9.9.9.9\nport=53"] },
        ] as [@Sendable (inout NC.NetworkState) -> Void]) func whatIsNotValidIsRefused(_ spoil: @Sendable (inout NC.NetworkState) -> Void)
    {
        var state = NetworkSample.full
        spoil(&state)
        #expect(throws: CloudError.self) { try NetworkModel(state) }
    }
}

@Suite struct NetworkRulesTests {
    private func allows(_ kind: Probe.Kind, from source: String, to index: Int = 0) throws -> Bool {
        let model = try NetworkModel(NetworkSample.full)
        let address = try #require(IPv4Address(parsing: source))
        return model.allows(Probe(kind: kind, source: address), to: model.instances[index])
    }

    @Test func rules() throws {
        #expect(try allows(.tcp(port: 22), from: "8.8.8.8"))
        #expect(try !allows(.tcp(port: 23), from: "8.8.8.8"))
        #expect(try allows(.tcp(port: 8100), from: "192.0.2.9"))
        #expect(try !allows(.tcp(port: 8101), from: "192.0.2.9"))
        #expect(try allows(.tcp(port: 80), from: "10.1.0.12"))
        #expect(try !allows(.tcp(port: 80), from: "10.1.0.13"))
        #expect(try allows(.udp(port: 5), from: "10.1.7.7"))
        #expect(try allows(.icmp(type: 8, code: 0), from: "8.8.8.8"))
        #expect(try !allows(.icmp(type: 3, code: 3), from: "192.0.2.1"))
        #expect(try allows(.icmp(type: 3, code: 4), from: "192.0.2.1"))
        #expect(try allows(.proto(47), from: "192.0.2.1"))
        #expect(try !allows(.tcp(port: 22), from: "8.8.8.8", to: 1))
        #expect(try allows(.tcp(port: 22), from: "203.0.113.5", to: 1))
    }

    private let line =
        "tcp      6 431999 ESTABLISHED src=8.8.8.8 dst=198.18.0.11 sport=40000 dport=22 src=10.1.0.11 dst=8.8.8.8 sport=22 dport=40000 [ASSURED] mark=0 use=1"

    @Test func connectionsAreRead() throws {
        let connection = try #require(Connection(parsing: line))
        #expect(connection.replySource.description == "10.1.0.11")
        #expect(connection.probe == Probe(kind: .tcp(port: 22), source: try #require(IPv4Address(parsing: "8.8.8.8"))))
        #expect(
            connection.deletion == ["-D", "-p", "6", "-s", "8.8.8.8", "-d", "198.18.0.11", "--sport", "40000", "--dport", "22"])
        let ping = try #require(
            Connection(
                parsing:
                    "icmp     1 29 src=10.1.0.12 dst=10.1.0.11 type=8 code=0 id=77 src=10.1.0.11 dst=10.1.0.12 type=0 code=0 id=77 mark=0"))
        #expect(ping.probe.kind == .icmp(type: 8, code: 0))
        #expect(ping.deletion.suffix(6) == ["--icmp-type", "8", "--icmp-code", "0", "--icmp-id", "77"])
        #expect(Connection(parsing: "nonsense") == nil)
    }

    @Test func onlyWhatMayHaveBeenLostIsExamined() throws {
        let old = try NetworkModel(NetworkSample.full)
        #expect(ConnectionPlan(from: nil, to: old) == ConnectionPlan(from: old, to: old))
        var more = NetworkSample.full
        more.groups[0].rules.append(NetworkSample.tcp(443, cidr: "0.0.0.0/0"))
        #expect(ConnectionPlan(from: old, to: try NetworkModel(more)).examined.isEmpty)
        var less = NetworkSample.full
        less.groups[0].rules.removeFirst(2)
        let plan = ConnectionPlan(from: old, to: try NetworkModel(less))
        #expect(plan.examined.map(\.description) == ["10.1.0.11"])
        #expect(plan.ended.isEmpty)
        let connection = try #require(Connection(parsing: line))
        #expect(ConnectionPlan.revoked([connection], in: old).isEmpty)
        #expect(ConnectionPlan.revoked([connection], in: try NetworkModel(less)) == [connection])
        var fewer = NetworkSample.full
        fewer.groups[2].members = []
        #expect(ConnectionPlan(from: old, to: try NetworkModel(fewer)).examined.count == 2)
    }

    @Test func aMovedAddressAndAGoneInstanceEndTheirConnections() throws {
        let old = try NetworkModel(NetworkSample.full)
        var moved = NetworkSample.full
        moved.instances[0].publicAddress = "198.18.0.11"
        moved.instances[1].publicAddress = nil
        #expect(
            ConnectionPlan(from: old, to: try NetworkModel(moved)).ended == [["-D", "-d", "198.18.0.11"], ["-D", "-q", "198.18.0.11"]])
        let gone = ConnectionPlan(from: old, to: old.removing("i-aaaaaaaa"))
        #expect(gone.ended == [["-D", "-r", "10.1.0.11"], ["-D", "-s", "10.1.0.11"], ["-D", "-d", "198.18.0.11"]])
    }
}
