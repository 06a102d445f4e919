import API
import Database
import Domain
import Workflow

/// What one zone's cluster controller said in one round: nodes, and what each node has. A controller that does not answer makes all of
/// its nodes silent.
public struct ZoneSight: Sendable {
    public let zone: String
    /// `nil` when no cluster controller is registered for the zone, or it did not answer.
    let client: (any CCClusterActions)?
    let nodes: [String: CC.NodeView]
    /// By node, and only of nodes that answer.
    let instances: [String: [String: NC.InstanceReport]]
    let bundles: [String: [String: NC.BundleReport]]
    /// The nodes that are registered for the zone.
    let registered: Set<String>
    /// Its cluster controller was just started, and has not been told which instances there are.
    var lacksNetwork = false
    /// Why it is silent.
    let failure: String?

    /// What can be seen of one instance.
    func sight(of id: String, node: String) -> InstanceSight {
        guard registered.contains(node) else { return .nodeGone }
        guard let reports = instances[node] else { return .silent }
        guard let report = reports[id] else { return .absent }
        return .reported(InstanceFacts(report))
    }

    /// What can be seen of one attachment.
    func sight(ofVolume volumeID: String, attachment: String, instance: String, node: String) -> Sight<NodeVolumeState> {
        guard let reports = instances[node], registered.contains(node) else { return .silent }
        guard let report = reports[instance],
            let volume = report.volumes.first(where: { $0.volumeId == volumeID && $0.attachmentId == attachment })
        else { return .absent }
        return .reported(
            Stamped(
                NodeVolumeState(rawValue: volume.state ?? "") ?? .failed, generation: Int64(volume.generation ?? 0),
                error: volume.error ?? ""))
    }
}

extension InstanceFacts {
    /// A state that this controller does not know (a newer node's) is taken as work in progress, never as an end.
    init(_ report: NC.InstanceReport) {
        self.init(
            NodeInstanceState(rawValue: report.state ?? "") ?? .pending, generation: Int64(report.generation ?? 0),
            rebootCount: report.rebootCount ?? 0, reason: report.reason ?? "")
    }
}

/// Asks the cluster controllers, and tells those that have lost or never had it which nodes they have (their state is soft).
struct ClusterObserver: Sendable {
    let cloud: CloudServices

    func observe() async -> [String: ZoneSight] {
        let components: [Component]
        let generation: Int64
        do throws(CloudError) {
            (components, generation) = try await cloud.pool.read { tx in (try ComponentStore.all(tx), try ComponentStore.generation(tx)) }
        } catch {
            return [:]
        }
        let zones = Set(components.filter { $0.role == .cc || $0.role == .nc }.map(\.zone))
        return await withTaskGroup(of: ZoneSight.self) { group in
            for zone in zones { group.addTask { await observe(zone, components, generation) } }
            var out: [String: ZoneSight] = [:]
            for await sight in group { out[sight.zone] = sight }
            return out
        }
    }

    private func observe(_ zone: String, _ components: [Component], _ generation: Int64) async -> ZoneSight {
        let nodes = components.filter { $0.role == .nc && $0.zone == zone }
        let registered = Set(nodes.map(\.name))
        func silent(_ why: String) -> ZoneSight {
            ZoneSight(zone: zone, client: nil, nodes: [:], instances: [:], bundles: [:], registered: registered, failure: why)
        }
        guard let controller = components.first(where: { $0.role == .cc && $0.zone == zone }) else {
            return silent("no cluster controller is registered for zone \(zone)")
        }
        let client = cloud.cluster.client(controller)
        let context = cloud.callContext()
        do throws(CloudError) {
            var view = try await client.describeNodes(CC.DescribeNodes(), context)
            if Int64(view.generation ?? 0) != generation {
                try await push(zone, nodes, generation, client)
                view = try await client.describeNodes(CC.DescribeNodes(), context)
            }
            let answer = try await client.describeInstances(CC.DescribeInstances(), context)
            var instances: [String: [String: NC.InstanceReport]] = [:]
            var bundles: [String: [String: NC.BundleReport]] = [:]
            for node in answer.nodes where node.state == "up" {
                guard let name = node.node else { continue }
                instances[name] = Dictionary(
                    node.instances.compactMap { r in r.instanceId.map { ($0, r) } }, uniquingKeysWith: { first, _ in first })
                bundles[name] = Dictionary(
                    node.bundles.compactMap { r in r.taskId.map { ($0, r) } }, uniquingKeysWith: { first, _ in first })
            }
            return ZoneSight(
                zone: zone, client: client,
                nodes: Dictionary(view.nodes.compactMap { v in v.name.map { ($0, v) } }, uniquingKeysWith: { first, _ in first }),
                instances: instances, bundles: bundles, registered: registered, lacksNetwork: view.networkGeneration == nil, failure: nil)
        } catch {
            return silent("\(controller.name) at \(controller.endpoint): \(error.message) \(error.context)")
        }
    }

    private func push(
        _ zone: String, _ nodes: [Component], _ generation: Int64, _ client: any CCClusterActions
    ) async throws(CloudError) {
        do throws(CloudError) {
            _ = try await client.setCluster(
                CC.SetCluster(
                    zone: zone, generation: Int(generation), nodes: nodes.map { CC.NodeAddress(name: $0.name, endpoint: $0.endpoint) }),
                cloud.callContext())
        } catch {
            guard case .stale(let newest) = error.reason else { throw error }
            try await cloud.pool.transaction { tx in try ComponentStore.overtake(tx, newest) }
            throw CloudError(.unavailable("The cluster controller"), context: "overtaking generation \(newest) of the cluster")
        }
    }
}
