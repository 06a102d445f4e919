import API

/// Cuts a node's part out of the cluster's network. Pure.
///
/// A node gets its own instances; the groups that they are in, with rules; the groups that those rules name as sources, with members
/// only (nothing here is in them, so their rules say nothing here); and of all other instances the host where they are, since any
/// instance may talk to any other that lets it.
enum NetworkSlice {
    /// - Parameter hosts: node → host address. An instance on a node that is not listed is reachable nowhere and left out.
    static func slice(of network: CC.ClusterNetwork, for node: String, hosts: [String: String]) -> NC.NetworkState {
        var local: [NC.InstanceAddress] = []
        var peers: [NC.PeerAddress] = []
        for placed in network.instances {
            guard let address = placed.address, let name = placed.node else { continue }
            if name == node {
                local.append(address)
            } else if let host = hosts[name] {
                peers.append(NC.PeerAddress(node: host, privateAddress: address.privateAddress))
            }
        }
        let own = Set(local.flatMap(\.groups))
        let sources = Set(
            network.groups.filter { own.contains($0.groupId ?? "") }.flatMap { ($0.rules + $0.egress).compactMap(\.sourceGroupId) })
        let groups = network.groups.compactMap { group -> NC.GroupState? in
            let id = group.groupId ?? ""
            if own.contains(id) { return group }
            return sources.contains(id) ? NC.GroupState(groupId: group.groupId, members: group.members, rules: []) : nil
        }
        let subnets = Set(local.compactMap(\.subnetId))
        return NC.NetworkState(
            gateway: network.gateway, prefixLength: network.prefixLength, groups: groups, instances: local, peers: peers, dns: network.dns,
            subnets: network.subnets.filter { $0.subnetId.map { subnets.contains($0) } ?? false })
    }

    /// `host:port` without the port.
    static func host(of endpoint: String) -> String {
        guard let colon = endpoint.lastIndex(of: ":") else { return endpoint }
        return String(endpoint[..<colon])
    }
}
