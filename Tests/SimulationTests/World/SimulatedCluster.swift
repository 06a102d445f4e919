import API
import ClusterControllerKit
import Domain
import Synchronization
import TestKit
import Wire

/// The cluster controller's machine. Nothing of it is durable.
final class SimulatedCluster: Sendable {
    static let name = "cc1"
    static let endpoint = "10.0.0.2:8774"
    static let zone = "karri-1a"
    private let wires: Wires
    private let alive = Mutex<ClusterController?>(nil)

    init(wires: Wires) { self.wires = wires }

    func boot(_ life: Life) async throws -> SimulatedHost.Daemon {
        let transport = wires.network.transport(
            from: PeerIdentity(cloud: "sim", role: "cc", name: Self.name), life: life, timeoutMilliseconds: 10_000)
        let controller = ClusterController(
            zone: Self.zone, node: { NCClient(transport: transport, endpoint: $0) },
            cloud: CLCClient(transport: transport, endpoint: SimulatedCloud.endpoint), clock: life.clock(wires.clock),
            random: wires.random.fork(Self.name), logger: wires.logger(Self.name))
        alive.withLock { $0 = controller }
        return SimulatedHost.Daemon(
            service: CC.service,
            dispatch: { operation, input, context async throws(CloudError) in try await CC.dispatch(operation, input, controller, context)
            },
            work: { await controller.run() })
    }

    /// What it thinks of its nodes.
    func views() async throws(CloudError) -> [CC.NodeView] {
        guard let controller = alive.withLock({ $0 }) else { return [] }
        return try await controller.describeNodes(CC.DescribeNodes(), CallContext(requestID: "inspect")).nodes
    }
}
