import Domain

/// The files of dnsmasq: DHCP only, static addresses only, no DNS, no lease file (an address belongs to a MAC as long as the instance
/// lives).
enum DHCPText {
    static func configuration(_ model: NetworkModel, settings: NetworkSettings) -> String {
        var lines = [
            "# Written by karri-nc.", "port=0", "interface=\(settings.bridge)", "except-interface=lo", "bind-interfaces",
            "pid-file=\(settings.dhcpPID)", "dhcp-hostsfile=\(settings.dhcpHosts)",
            "dhcp-range=\(model.network.network),static,\(model.network.netmask),\(settings.leaseSeconds)",
            "dhcp-option=option:router,\(model.gateway)", "dhcp-option=option:mtu,\(settings.mtu)",
        ]
        if !model.dns.isEmpty { lines.append("dhcp-option=option:dns-server,\(model.dns.map(\.description).joined(separator: ","))") }
        lines += ["dhcp-authoritative", "leasefile-ro", "dhcp-lease-max=100000", "no-ping", "no-resolv", "no-hosts"]
        return lines.joined(separator: "\n") + "\n"
    }

    static func hosts(_ model: NetworkModel) -> String {
        model.instances.map { instance in
            ([instance.mac, instance.address.description] + (instance.hostname.map { [$0] } ?? [])).joined(separator: ",") + "\n"
        }.joined()
    }
}
