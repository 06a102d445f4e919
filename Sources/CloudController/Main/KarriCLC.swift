import ArgumentParser
import CloudControllerKit
import Daemon
import ServiceLifecycle

/// `karri-clc`: the cloud controller, and the commands that make a cloud and keep its members.
@main struct KarriCLC: DaemonProgram {
    static let name = "karri-clc"
    static let abstract = "Cloud controller: EC2, IAM and STS for clients; every cloud-wide decision"
    static var extraCommands: [any AsyncParsableCommand.Type] {
        [
            InitCommand.self, RegisterCommand.self, DeregisterCommand.self, AccountCommand.self, QuotaCommand.self, CertificateCommand.self,
            DatabaseCommand.self, StatusCommand.self,
        ]
    }

    static func services(_ configuration: CloudConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        try await CloudController.services(configuration, runtime)
    }
}
