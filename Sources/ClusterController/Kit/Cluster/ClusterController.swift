public import API
public import Domain
public import Logging
public import Wire
public import Workflow

/// One availability zone: placement, the nodes' parts of the network, and the way of the cloud controller's commands to its nodes.
///
/// Nothing is stored: after a restart it asks to be told, says generation 0 until then, asks its nodes, and does not reserve until it has
/// heard each of them or given it up. Generations are passed through, never made here; the nodes refuse old ones.
public final class ClusterController: CCClusterActions {
    let memory: ClusterMemory
    let node: @Sendable (_ endpoint: String) -> any NCNodeActions
    let cloud: any CLCCloudActions
    let clock: any Clock
    let random: any Random
    let logger: Logger
    let zone: String
    /// Signalled when the list of nodes has changed.
    let listed = Nudge()

    /// - Parameters:
    ///   - node: a client for a node's endpoint.
    ///   - cloud: the cloud controller, for nudges.
    public init(
        zone: String, policy: PlacementPolicy = .spread, node: @escaping @Sendable (_ endpoint: String) -> any NCNodeActions,
        cloud: any CLCCloudActions, clock: any Clock, random: any Random, logger: Logger? = nil
    ) {
        self.zone = zone
        memory = ClusterMemory(zone: zone, policy: policy)
        self.node = node
        self.cloud = cloud
        self.clock = clock
        self.random = random
        self.logger = logger ?? Logger(label: "karri-cc") { _ in SwiftLogNoOpLogHandler() }
    }

    /// How long a reservation waits for a controller that was just started to learn its nodes and instances. Too low: launches are refused
    /// after each restart; too high: a client whose cloud is broken waits for nothing.
    static let patienceMilliseconds = 5000
    static let lookMilliseconds = 100

    /// A context for calls that no request of anybody's caused.
    func ownContext() -> CallContext { CallContext(requestID: "cc-" + Hex.encode(random.bytes(8))) }

    // MARK: The cluster

    public func setCluster(_ request: CC.SetCluster, _ context: CallContext) async throws(CloudError) -> CC.SetClusterResponse {
        let before = await memory.generation
        try await memory.set(request)
        if before != request.generation {
            logger.notice("told the cluster", metadata: ["generation": "\(request.generation)", "nodes": "\(request.nodes.map(\.name))"])
        }
        listed.signal()
        return CC.SetClusterResponse(generation: await memory.generation)
    }

    public func describeNodes(_ request: CC.DescribeNodes, _ context: CallContext) async throws(CloudError) -> CC.DescribeNodesResponse {
        let (generation, nodes) = await memory.views(now: clock.now())
        return CC.DescribeNodesResponse(generation: generation, nodes: nodes, networkGeneration: await memory.networkGeneration)
    }

    public func describeInstances(
        _ request: CC.DescribeInstances, _ context: CallContext
    ) async throws(CloudError) -> CC.DescribeInstancesResponse {
        CC.DescribeInstancesResponse(nodes: await memory.instances())
    }

    public func reserve(_ request: CC.Reserve, _ context: CallContext) async throws(CloudError) -> CC.ReserveResponse {
        // Just started: what is missing comes within a moment, and a client need not hear of it.
        for _ in 0..<(Self.patienceMilliseconds / Self.lookMilliseconds) {
            guard await memory.unlearned != nil else { break }
            do { try await clock.sleep(milliseconds: Self.lookMilliseconds) } catch { break }
        }
        return CC.ReserveResponse(placements: try await memory.reserve(request, now: clock.now()))
    }

    public func release(_ request: CC.Release, _ context: CallContext) async throws(CloudError) -> CC.ReleaseResponse {
        await memory.release(request.reservationId, instanceIDs: request.instanceIds)
        return CC.ReleaseResponse()
    }

    // MARK: The network

    /// Sends each node that answers its slice, and says which have not confirmed; those get it when they are heard again.
    public func applyNetwork(_ request: CC.ApplyNetwork, _ context: CallContext) async throws(CloudError) -> CC.ApplyNetworkResponse {
        try await memory.set(network: request.network, generation: request.generation)
        let nodes = await memory.nodes
        await withTaskGroup(of: Void.self) { group in
            for node in nodes {
                group.addTask { if await self.memory.isUp(node.name) { await self.sendSlice(node.name, node.endpoint, context) } }
            }
        }
        return CC.ApplyNetworkResponse(generation: request.generation, pendingNodes: await memory.pendingNodes())
    }

    /// Sends the node its slice if it has an older network.
    func sendSlice(_ name: String, _ endpoint: String, _ context: CallContext) async {
        guard let (generation, slice) = await memory.dueSlice(name) else { return }
        do throws(CloudError) {
            let answer = try await node(endpoint).applyNetwork(NC.ApplyNetwork(network: slice, generation: generation), context)
            await memory.confirmed(name, networkGeneration: answer.generation ?? generation)
        } catch {
            if case .stale(let newest) = error.reason {
                // It has a newer network than we do: the cloud controller will hear so from its next ApplyNetwork.
                await memory.confirmed(name, networkGeneration: Int(newest))
            } else {
                logger.warning(
                    "a node did not take its network",
                    metadata: [
                        "node": "\(name)", "generation": "\(generation)", "error": "\(error.message)", "context": "\(error.context)",
                    ])
            }
        }
    }

    // MARK: Nudges

    /// From a node: look at these. It is looked at, and then the cloud controller is told.
    public func nudge(_ request: CC.Nudge, _ context: CallContext) async throws(CloudError) -> CC.NudgeResponse {
        if let caller = context.caller, caller.role == "nc", caller.name != request.node {
            throw CloudError(.forbidden(action: "CC:Nudge"), context: "\(caller) nudged for \(request.node)")
        }
        guard await memory.nudge(request.node, ids: request.ids) else { throw CloudError(.notFound(.node, id: request.node)) }
        return CC.NudgeResponse()
    }
}
