public import API
public import Domain

/// The part of a node's network that instances depend on. Owned by `Kit/Network` (nftables, bridge, DHCP; simulated): here is what
/// `Kit/Instances` asks of it.
public protocol NodeNetwork: Sendable {
    /// Makes this the node's network. Durable when it returns; repeating a generation answers the same.
    /// - Throws: `.stale` for a generation that is older than the newest one accepted.
    func apply(_ network: NC.NetworkState, generation: Int) async throws(CloudError) -> Int
    /// The generation that is in force; 0 when there is none.
    func appliedGeneration() async -> Int
    /// Whether the network in force has this instance: only then may its domain start.
    func contains(instanceID: String) async -> Bool
    /// The instance is gone from the node: its tap's rules and connections may go, whatever the newest desired network says.
    func instanceRemoved(instanceID: String) async
}

/// What the metadata service may know of the instances of this node. Implemented over the journal by `InstanceKeeper`.
public protocol MetadataSource: Sendable {
    /// The order of the (not terminated) instance that has this private address; `nil` when there is none.
    func order(privateAddress: String) async -> NC.InstanceOrder?
    /// The guest has asked for metadata for the first time: a step of its launch.
    func metadataServed(instanceID: String) async
}
