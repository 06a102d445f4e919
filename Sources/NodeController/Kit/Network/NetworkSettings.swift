/// Names and numbers of a node's network, from its configuration.
public struct NetworkSettings: Sendable, Equatable {
    /// The bridge, and the name of everything else of ours on the host.
    public var bridge: String
    /// nft tables of this name in the families `bridge` and `ip` are ours.
    public var table: String
    /// The gateway's hardware address, the same on every node: an instance that moves needs no new ARP.
    public var gatewayMAC: String
    /// What guests see; less than the wire's when instances of other nodes are reached through a tunnel.
    public var mtu: Int
    /// Where instances find their metadata.
    public var metadataAddress: String
    /// Files of the DHCP server, readable by its own user: a folder that everybody may enter.
    public var runFolder: String
    /// Seconds of a DHCP lease.
    public var leaseSeconds: Int

    public init(
        bridge: String = "karri0", table: String = "karri", gatewayMAC: String = "02:ee:00:00:00:01", mtu: Int = 1500,
        metadataAddress: String = "169.254.169.254", runFolder: String = "/run/karri", leaseSeconds: Int = 86_400
    ) {
        self.bridge = bridge
        self.table = table
        self.gatewayMAC = gatewayMAC
        self.mtu = mtu
        self.metadataAddress = metadataAddress
        self.runFolder = runFolder
        self.leaseSeconds = leaseSeconds
    }

    var dhcpConfiguration: String { "\(runFolder)/\(bridge).dnsmasq" }
    var dhcpHosts: String { "\(runFolder)/\(bridge).hosts" }
    public var dhcpPID: String { "\(runFolder)/\(bridge).pid" }
}
