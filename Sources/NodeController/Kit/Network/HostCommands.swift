import Daemon
import Domain

/// The host's network tools, each call one command. What is there already is left alone, so that everything may be repeated.
struct HostCommands: Sendable {
    let settings: NetworkSettings
    let runner: any CommandRunning

    /// What our bridge needs of the kernel. These are the bridge's own; `hostWide` has no smaller place than the host, and its old values
    /// are kept for `restore`.
    private var own: [(String, String)] {
        let ip = "/proc/sys/net/ipv4/conf/\(settings.bridge)"
        return [
            // Instances reach each other through the host only, which answers ARP for all of them, also back out of the same port.
            ("\(ip)/proxy_arp", "1"), ("\(ip)/proxy_arp_pvlan", "1"), ("\(ip)/send_redirects", "0"), ("\(ip)/forwarding", "1"),
            // The kernel would wait up to 0.8 s before it answers ARP for another (arp(7), proxy_delay).
            ("/proc/sys/net/ipv4/neigh/\(settings.bridge)/proxy_delay", "0"),
            ("/proc/sys/net/ipv6/conf/\(settings.bridge)/disable_ipv6", "1"),
        ]
    }
    private static let hostWide: [(String, String)] = [
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        // Off: with it, a frame that is translated on its way would be bridged to an isolated port instead of routed.
        ("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"), ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0"),
        ("/proc/sys/net/bridge/bridge-nf-call-arptables", "0"),
    ]

    // MARK: Bridge

    func ensureBridge() async throws(CloudError) {
        if try await runner.run(Command("ip", ["link", "show", "dev", settings.bridge])).status != 0 {
            try await runner.check(
                Command(
                    "ip",
                    [
                        "link", "add", "name", settings.bridge, "address", settings.gatewayMAC, "type", "bridge", "stp_state", "0",
                        "forward_delay", "0", "mcast_snooping", "0",
                    ]))
        }
        try await runner.check(
            Command("ip", ["link", "set", "dev", settings.bridge, "address", settings.gatewayMAC, "mtu", "\(settings.mtu)", "up"]))
        for (path, value) in own { try await write(path, value, mayBeMissing: path.hasPrefix("/proc/sys/net/ipv6")) }
    }

    func removeBridge() async throws(CloudError) {
        if try await runner.run(Command("ip", ["link", "show", "dev", settings.bridge])).status == 0 {
            try await runner.check(Command("ip", ["link", "del", "dev", settings.bridge]))
        }
    }

    // MARK: Kernel settings of the whole host

    /// Sets them.
    /// - Returns: the values that were there before and were different.
    func ensureHostSettings() async throws(CloudError) -> [String: String] {
        var before: [String: String] = [:]
        for (path, value) in Self.hostWide {
            guard let old = try await read(path) else { continue }  // the module is not loaded: nothing to switch off
            if old == value { continue }
            before[path] = old
            try await write(path, value)
        }
        return before
    }

    func restore(_ before: [String: String]) async throws(CloudError) {
        for (path, value) in before.sorted(by: { $0.key < $1.key }) where Self.hostWide.contains(where: { $0.0 == path }) {
            try await write(path, value, mayBeMissing: true)
        }
    }

    private func read(_ path: String) async throws(CloudError) -> String? {
        let result = try await runner.run(Command("cat", [path]))
        guard result.status == 0 else { return nil }
        return String(result.text.prefix { !$0.isNewline })
    }

    private func write(_ path: String, _ value: String, mayBeMissing: Bool = false) async throws(CloudError) {
        let result = try await runner.run(Command("tee", [path], input: Array("\(value)\n".utf8)))
        if result.status != 0 && !mayBeMissing {
            throw CloudError(.unavailable("The node's network"), context: "cannot set \(path): \(result.errors)")
        }
    }

    // MARK: Addresses

    /// All IPv4 addresses of the bridge, as `a.b.c.d/n`.
    func addresses() async throws(CloudError) -> Set<String> {
        let result = try await runner.check(Command("ip", ["-o", "-4", "addr", "show", "dev", settings.bridge]))
        var found: Set<String> = []
        for line in result.text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if let index = words.firstIndex(of: "inet"), index + 1 < words.count { found.insert(String(words[index + 1])) }
        }
        return found
    }

    func add(_ address: String) async throws(CloudError) {
        try await runner.check(Command("ip", ["addr", "replace", address, "dev", settings.bridge]))
    }

    func remove(_ address: String) async throws(CloudError) {
        let result = try await runner.run(Command("ip", ["addr", "del", address, "dev", settings.bridge]))
        if result.status != 0 && !result.errors.hasPrefix("RTNETLINK answers: Cannot assign") {
            throw CloudError(.unavailable("The node's network"), context: "cannot remove \(address): \(result.errors)")
        }
    }

    // MARK: Firewall and connections

    /// One transaction: all of the text or nothing.
    func load(firewall text: String) async throws(CloudError) {
        try await runner.check(Command("nft", ["-f", "-"], input: Array(text.utf8), timeoutMilliseconds: 60_000))
    }

    func hasFirewall() async throws(CloudError) -> Bool {
        for family in ["bridge", "ip"] {
            let result = try await runner.run(Command("nft", ["list", "chains", family], outputLimit: 1 << 20))
            guard result.status == 0, result.text.split(separator: "\n").contains("table \(family) \(settings.table) {") else {
                return false
            }
        }
        return true
    }

    var canEndConnections: Bool {
        get async {
            (try? await runner.run(Command("conntrack", ["--version"])).status) == 0
        }
    }

    /// Ends what the filter matches. Nothing there is fine: conntrack then says 1.
    func endConnections(_ filter: [String]) async throws(CloudError) {
        let result = try await runner.run(Command("conntrack", filter, outputLimit: 1 << 16))
        if result.status > 1 { throw CloudError(.unavailable("conntrack"), context: "conntrack \(filter): \(result.errors)") }
    }

    func connections(to address: IPv4Address) async throws(CloudError) -> [Connection] {
        let result = try await runner.run(Command("conntrack", ["-L", "-r", "\(address)"], outputLimit: 64 << 20))
        return result.text.split(separator: "\n").compactMap { Connection(parsing: $0) }
    }
}
