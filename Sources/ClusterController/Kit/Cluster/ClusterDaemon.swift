import API
public import Daemon
import Domain
public import ServiceLifecycle
import Wire
import Workflow

/// The daemon around the controller: transport, listener, background work, health.
public enum ClusterDaemon {
    /// Polls and commands to a node end after this. Too low: a busy node looks silent; too high: a dead one is noticed late.
    static let callMilliseconds = 10_000

    /// - Throws: when the keys cannot be read or do not belong together.
    public static func services(_ configuration: ClusterConfiguration, _ runtime: DaemonRuntime) throws -> [any Service] {
        let identity = try HostIdentity(certificate: configuration.certificate, key: configuration.key, ca: configuration.ca)
        let transport = InternalTransport(
            identity: identity, clock: runtime.clock, random: runtime.random, timeoutMilliseconds: callMilliseconds)
        let controller = ClusterController(
            zone: configuration.zone, policy: PlacementPolicy(rawValue: configuration.placement) ?? .spread,
            node: { NCClient(transport: transport, endpoint: $0) },
            cloud: CLCClient(transport: transport, endpoint: configuration.cloudEndpoint), clock: runtime.clock, random: runtime.random,
            logger: runtime.logger)
        let listener = InternalListener(
            address: configuration.listenAddress, port: configuration.port, identity: identity, service: CC.service,
            allowedRoles: ["Nudge": ["nc"], "*": ["clc"]], runtime: runtime
        ) { (operation, input, context) throws(CloudError) in
            try await CC.dispatch(operation, input, controller, context)
        }
        return [listener, WatchService(controller: controller, runtime: runtime)]
    }
}

/// Runs the watches and keeps the gauges.
private struct WatchService: Service {
    let controller: ClusterController
    let runtime: DaemonRuntime

    func run() async throws {
        let metrics = runtime.metrics
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await controller.run() }
                group.addTask {
                    while !Task.isCancelled {
                        await measure(metrics)
                        do { try await runtime.clock.sleep(milliseconds: 5000) } catch { return }
                    }
                }
                await group.waitForAll()
            }
        }
    }

    private func measure(_ metrics: MetricsRegistry) async {
        let (generation, nodes) = await controller.memory.views(now: runtime.clock.now())
        let silent = nodes.filter { $0.state != "up" }.compactMap(\.name)
        metrics.gauge("karri_cluster_nodes", ["state": "up"], help: "Nodes of the zone").set(Double(nodes.count - silent.count))
        metrics.gauge("karri_cluster_nodes", ["state": "unknown"], help: "Nodes of the zone").set(Double(silent.count))
        for node in nodes {
            let label = ["node": node.name ?? ""]
            metrics.gauge("karri_node_free_cores", label, help: "Cores free after instances and reservations").set(
                Double(node.freeCores ?? 0))
            metrics.gauge("karri_node_free_memory_mib", label, help: "Memory free").set(Double(node.freeMemoryMiB ?? 0))
            metrics.gauge("karri_node_free_disk_gib", label, help: "Disk free").set(Double(node.freeDiskGiB ?? 0))
        }
        runtime.health.set(
            "cluster",
            generation == 0
                ? .degraded("the cloud controller has not told the nodes yet")
                : silent.isEmpty ? .ok : .degraded("silent: \(silent.joined(separator: ", "))"))
    }
}
