import ClusterControllerKit
import Daemon
import ServiceLifecycle

/// `karri-cc`: the cluster controller of one availability zone.
@main struct KarriCC: DaemonProgram {
    static let name = "karri-cc"
    static let abstract = "Cluster controller: places instances on the nodes of one zone"

    static func services(_ configuration: ClusterConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        try ClusterDaemon.services(configuration, runtime)
    }
}
