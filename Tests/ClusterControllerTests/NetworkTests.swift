import API
import Domain
import Testing
import Wire

@testable import ClusterControllerKit

@Suite struct SliceTests {
    static let network = CC.ClusterNetwork(
        gateway: "10.1.0.1", prefixLength: 16, dns: ["9.9.9.9"],
        groups: [
            NC.GroupState(
                groupId: "sg-web", members: ["10.1.0.2", "10.1.0.3"],
                rules: [NC.GroupRule(proto: "tcp", fromPort: 80, toPort: 80, cidr: "0.0.0.0/0")]),
            NC.GroupState(
                groupId: "sg-db", members: ["10.1.0.4"],
                rules: [NC.GroupRule(proto: "tcp", fromPort: 5432, toPort: 5432, sourceGroupId: "sg-web")]),
            NC.GroupState(groupId: "sg-other", members: ["10.1.0.9"], rules: [NC.GroupRule(proto: "-1", cidr: "0.0.0.0/0")]),
        ],
        instances: [
            address("a", "i-1", "10.1.0.2", ["sg-web"]), address("b", "i-2", "10.1.0.3", ["sg-web"]),
            address("b", "i-3", "10.1.0.4", ["sg-db"]),
            address("gone", "i-4", "10.1.0.9", ["sg-other"]),
        ])

    static func address(_ node: String, _ id: String, _ ip: String, _ groups: [String]) -> CC.PlacedAddress {
        CC.PlacedAddress(
            node: node,
            address: NC.InstanceAddress(instanceId: id, macAddress: "02:00:00:00:00:0\(id.last ?? "0")", privateAddress: ip, groups: groups)
        )
    }

    private let hosts = ["a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"]

    @Test func ownInstancesAndTheirGroups() {
        let slice = NetworkSlice.slice(of: Self.network, for: "a", hosts: hosts)
        #expect(slice.instances.map(\.instanceId) == ["i-1"])
        #expect(slice.groups.map(\.groupId) == ["sg-web"])
        #expect(slice.peers.map(\.privateAddress) == ["10.1.0.3", "10.1.0.4"] && slice.peers.allSatisfy { $0.node == "192.0.2.2" })
        #expect(slice.gateway == "10.1.0.1" && slice.prefixLength == 16 && slice.dns == ["9.9.9.9"])
    }

    /// A rule that names another group needs that group's members, wherever they are, and not its rules.
    @Test func sourceGroups() {
        var network = Self.network
        network.instances.append(Self.address("c", "i-5", "10.1.0.5", ["sg-db"]))
        let slice = NetworkSlice.slice(of: network, for: "c", hosts: hosts)
        #expect(slice.groups.map(\.groupId) == ["sg-web", "sg-db"])
        #expect(slice.groups[0].members == ["10.1.0.2", "10.1.0.3"] && slice.groups[0].rules.isEmpty)
        #expect(slice.groups[1].rules.count == 1)
    }

    @Test func anEmptyNode() {
        let slice = NetworkSlice.slice(of: Self.network, for: "c", hosts: hosts)
        #expect(slice.instances.isEmpty && slice.groups.isEmpty && slice.peers.count == 3)
        #expect(NetworkSlice.host(of: "10.0.0.1:8775") == "10.0.0.1" && NetworkSlice.host(of: "node") == "node")
    }
}

@Suite struct NetworkTests {
    private func apply(_ cluster: Cluster, _ generation: Int) async throws -> [String] {
        try await cluster.controller.applyNetwork(
            CC.ApplyNetwork(network: SliceTests.network, generation: generation), cluster.context
        ).pendingNodes
    }

    @Test func eachNodeGetsItsPart() async throws {
        let cluster = try await Cluster.ready()
        #expect(try await apply(cluster, 3).isEmpty)
        let a = try #require(cluster.nodes["a"])
        #expect(await a.network?.instances.map(\.instanceId) == ["i-1"])
        #expect(await a.network?.peers.first?.node == "b.host")
        #expect(await a.networkGeneration == 3)
        await cluster.controller.pass()
        _ = try await apply(cluster, 3)
        #expect(await a.networkCalls == 1, "what is confirmed is not sent again")
    }

    /// A node that was away, or has restarted and forgotten, gets the newest when it is heard.
    @Test func nodesThatLagAreSentItAgain() async throws {
        let cluster = try await Cluster.ready()
        let b = try #require(cluster.nodes["b"])
        await b.set(unplugged: true)
        #expect(try await apply(cluster, 3) == ["b"])
        await b.set(unplugged: false)
        await cluster.controller.pass()
        #expect(await b.networkGeneration == 3)
        await b.restart()
        #expect(try await apply(cluster, 3).isEmpty, "not known yet")
        await cluster.controller.pass()
        #expect(await b.networkGeneration == 3)
        #expect(await b.network?.instances.count == 2)
    }

    @Test func olderNetworksAreRefused() async throws {
        let cluster = try await Cluster.ready()
        _ = try await apply(cluster, 3)
        #expect(await cluster.reason { _ = try await apply(cluster, 2) } == .stale(newest: 3))
        // A node knows a newer one than the cloud controller has: it has to overtake.
        await cluster.nodes["b"]?.restart(networkGeneration: 9)
        await cluster.controller.pass()
        #expect(await cluster.reason { _ = try await apply(cluster, 4) } == .stale(newest: 9))
        #expect(try await apply(cluster, 10).isEmpty)
    }

    /// The node refuses before it was heard to be ahead.
    @Test func aNodeThatIsAhead() async throws {
        let cluster = try await Cluster.ready()
        await cluster.nodes["b"]?.restart(networkGeneration: 9)
        _ = try await apply(cluster, 3)
        #expect(await cluster.reason { _ = try await apply(cluster, 4) } == .stale(newest: 9))
    }
}
