import Daemon
import ServiceLifecycle
import StorageControllerKit

/// `karri-sc`: volumes and snapshots of one availability zone.
@main
struct KarriSC: DaemonProgram {
    static let name = "karri-sc"
    static let abstract = "Karri's Storage Controller: volumes and snapshots of one availability zone."

    static func services(_ configuration: StorageConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        try await StorageServices.make(configuration, runtime)
    }
}
