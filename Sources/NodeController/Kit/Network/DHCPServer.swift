import Daemon
import Domain
import Glibc

/// dnsmasq on our bridge. It outlives the daemon and is taken over by its pid file after a restart.
struct DHCPServer: Sendable {
    let settings: NetworkSettings
    let runner: any CommandRunning

    /// Makes the running server serve this network: a new configuration restarts it, new hosts only make it read them again.
    func ensure(_ model: NetworkModel) async throws(CloudError) {
        let configuration = Array(DHCPText.configuration(model, settings: settings).utf8)
        let hosts = Array(DHCPText.hosts(model).utf8)
        let settings = settings
        let (isSameConfiguration, isSameHosts) = try await BlockingPool.run { () throws(CloudError) -> (Bool, Bool) in
            try FileSystem.makeFolder(settings.runFolder)
            let same = (
                (try? FileSystem.read(settings.dhcpConfiguration)) == configuration, (try? FileSystem.read(settings.dhcpHosts)) == hosts
            )
            if !same.0 { try FileSystem.writeAtomically(configuration, to: settings.dhcpConfiguration) }
            if !same.1 { try FileSystem.writeAtomically(hosts, to: settings.dhcpHosts) }
            return same
        }
        if let pid = await running() {
            if isSameConfiguration {
                if !isSameHosts { kill(pid, SIGHUP) }
                return
            }
            try await stop(pid)
        }
        try await runner.check(Command("dnsmasq", ["--conf-file=\(settings.dhcpConfiguration)"]))
    }

    /// Ends the server and removes its files.
    func remove() async throws(CloudError) {
        if let pid = await running() { try await stop(pid) }
        for path in [settings.dhcpConfiguration, settings.dhcpHosts, settings.dhcpPID] { unlink(path) }
        // Only when nothing else of ours is in it.
        rmdir(settings.runFolder)
    }

    /// The server's pid, when the one of the pid file is alive and is ours: its command line names our configuration.
    func running() async -> pid_t? {
        let settings = settings
        return try? await BlockingPool.run { () throws(CloudError) -> pid_t? in
            guard let text = try? FileSystem.read(settings.dhcpPID, limit: 64),
                let pid = pid_t(String(decoding: text, as: UTF8.self).prefix { $0.isNumber }), pid > 1,
                let command = try? FileSystem.read("/proc/\(pid)/cmdline", limit: 1 << 16)
            else { return nil }
            let arguments = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            return arguments.contains("--conf-file=\(settings.dhcpConfiguration)") ? pid : nil
        }
    }

    private func stop(_ pid: pid_t) async throws(CloudError) {
        kill(pid, SIGTERM)
        try await BlockingPool.run { () throws(CloudError) in
            for attempt in 0..<100 {
                if kill(pid, 0) != 0 { return }
                if attempt == 60 { kill(pid, SIGKILL) }
                usleep(20_000)
            }
            throw CloudError(.unavailable("The node's DHCP server"), context: "dnsmasq \(pid) does not end")
        }
    }
}
