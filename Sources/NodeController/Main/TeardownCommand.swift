import ArgumentParser
import Daemon
import NodeControllerKit

/// `karri-nc teardown --config F`: the node's network leaves the host (bridge, tables, addresses, DHCP server), and the kernel settings
/// become what they were. For `karri erase`, with the daemon stopped. May be repeated.
struct TeardownCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "teardown", abstract: "Take the node's bridge, firewall, addresses and DHCP server away.")

    @OptionGroup var file: ConfigurationOption

    func run() async throws {
        let (configuration, _) = try file.load(NodeConfiguration.self)
        try await NetworkTeardown.run(settings: configuration.networkSettings, storage: configuration.networkStorage)
    }
}
