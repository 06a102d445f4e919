import API
import Domain
import Logging
import Workflow

/// Looks at nodes: each on its own, so that one that hangs holds up no other; on a period and when it nudges.
extension ClusterController {
    /// Too high: what a lost nudge would have told comes late, and a silent node is noticed late; too low: idle work.
    static let pollMilliseconds = 2000

    /// Watches the nodes of the cluster until the task is cancelled.
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.askToBeTold() }
            while !Task.isCancelled {
                for node in await memory.takeUnwatched() {
                    group.addTask { await self.watch(node.name, node.endpoint) }
                }
                await listed.wait()
            }
            group.cancelAll()
        }
        await memory.forgetWatches()
    }

    /// It knows nothing after a start. The cloud controller would find that out on its own period; until then launches wait.
    private func askToBeTold() async {
        do throws(CloudError) {
            _ = try await cloud.nudge(CLC.Nudge(zone: zone), ownContext())
        } catch {
            logger.debug("the cloud controller was not nudged", metadata: ["error": "\(error.message)", "context": "\(error.context)"])
        }
    }

    private func watch(_ name: String, _ endpoint: String) async {
        while !Task.isCancelled, await memory.isWatched(name, endpoint) {
            await poll(name, endpoint)
            await memory.nudge(of: name).wait(atMost: Self.pollMilliseconds, clock: clock)
        }
    }

    /// Looks at every node once; for tests and the simulation, which have no background work.
    public func pass() async {
        let nodes = await memory.nodes
        await withTaskGroup(of: Void.self) { group in
            for node in nodes { group.addTask { await self.poll(node.name, node.endpoint) } }
        }
    }

    /// Asks the node what it has, sends it its network if it has an older one, and tells the cloud controller if there is news.
    func poll(_ name: String, _ endpoint: String) async {
        let context = ownContext()
        let client = node(endpoint)
        var isNews = false
        do throws(CloudError) {
            let resource = try await client.describeResource(NC.DescribeResource(), context)
            let instances = try await client.describeInstances(NC.DescribeInstances(), context)
            let report = resource.node ?? NC.NodeReport()
            // The endpoint may by now belong to another node (addresses move): its report must not be taken for this one's.
            if let said = report.name, said != name {
                throw CloudError(.unavailable("The node \(name)"), context: "at \(endpoint) there is the node \(said)")
            }
            let wasUp = await memory.isUp(name)
            isNews = await memory.heard(name, endpoint: endpoint, report, instances, at: clock.now())
            if !wasUp { logger.notice("a node answers", metadata: ["node": "\(name)", "endpoint": "\(endpoint)"]) }
            await sendSlice(name, endpoint, context)
        } catch {
            // A poll that was cancelled says nothing about the node.
            if Task.isCancelled { return }
            let why = error.context.isEmpty ? error.message : "\(error.message) (\(error.context))"
            isNews = await memory.missed(name, endpoint: endpoint, why)
            if isNews {
                logger.warning("a node is silent", metadata: ["node": "\(name)", "endpoint": "\(endpoint)", "error": "\(why)"])
            }
        }
        let ids = await memory.takeNudged(name)
        guard isNews || !ids.isEmpty else { return }
        do throws(CloudError) {
            _ = try await cloud.nudge(CLC.Nudge(zone: zone, node: name, ids: ids), context)
        } catch {
            // Only a hint: the cloud controller looks on its own period anyway.
            logger.debug("the cloud controller was not nudged", metadata: ["error": "\(error.message)", "context": "\(error.context)"])
        }
    }
}
