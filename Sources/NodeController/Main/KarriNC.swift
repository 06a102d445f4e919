import ArgumentParser
import Daemon
import NodeControllerKit
import ServiceLifecycle

@main struct KarriNC: DaemonProgram {
    static let name = "karri-nc"
    static let abstract = "Node Controller: one hypervisor host, its domains, images, disks and network."
    static var extraCommands: [any AsyncParsableCommand.Type] { [TeardownCommand.self] }

    static func services(_ configuration: NodeConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        let identity = try HostIdentity(certificate: configuration.certificate, key: configuration.key, ca: configuration.ca)
        let network = HostNetwork(
            settings: configuration.networkSettings, storage: configuration.networkStorage, clock: runtime.clock, logger: runtime.logger,
            health: runtime.health)
        let node = try await NodeController.open(configuration, identity: identity, runtime: runtime, network: network)
        let metadata = MetadataService(
            source: node.keeper, publicAddress: { await network.publicAddress(of: $0) },
            secret: try await MetadataService.loadSecret(configuration.networkStorage, random: runtime.random), signer: identity.key,
            clock: runtime.clock)
        let listener = metadata.listener(
            settings: configuration.networkSettings, port: configuration.metadataPort, runtime: runtime)
        return [network, listener] + node.services(configuration, identity: identity, runtime: runtime)
    }
}
