import API
import Database
import Domain
import NodeControllerKit
import Synchronization
import TestKit

/// What must be true at every moment, however bad the weather: looked at again and again while the storm blows.
struct Watch: Sendable {
    let world: World

    private struct Seen: Sendable {
        /// The newest generation seen, by where and what.
        var generations: [String: Int] = [:]
    }

    func run() async {
        var seen = Seen()
        while !Task.isCancelled {
            await look(&seen)
            do { try await world.clock.sleep(milliseconds: 500) } catch { return }
        }
    }

    private func look(_ seen: inout Seen) async {
        var places: [String: [String]] = [:]
        for (node, host) in zip(world.nodes, world.nodeHosts) {
            var (cores, memory) = (0, 0)
            for domain in await node.domains() where domain.state.isActive {
                cores += domain.cores
                memory += domain.memoryMiB
                places[domain.name, default: []].append(node.name)
            }
            if cores > node.capacity.cores { world.complain("\(node.name) runs \(cores) cores of \(node.capacity.cores)") }
            if memory > node.capacity.memoryMiB { world.complain("\(node.name) runs \(memory) MiB of \(node.capacity.memoryMiB)") }
            guard host.life?.isAlive == true else { continue }
            for record in await node.journaled() {
                note(record.generation, "\(record.instanceID) in the journal of \(node.name)", &seen)
                for volume in record.volumes {
                    note(volume.generation, "\(volume.order.attachmentId) in the journal of \(node.name)", &seen)
                }
            }
            // A node that is starting has not read its network yet.
            let network = await node.networkGeneration()
            if network > 0 { note(network, "the network of \(node.name)", &seen) }
        }
        for (id, nodes) in places where nodes.count > 1 { world.complain("\(id) runs on \(nodes.joined(separator: " and "))") }
        do throws(CloudError) {
            let rows = try await world.inspector.read { tx in
                try tx.execute(
                    """
                    SELECT id, generation FROM cloud.instances UNION ALL SELECT id, generation FROM cloud.volumes
                    UNION ALL SELECT id, generation FROM cloud.attachments UNION ALL SELECT name, value FROM cloud.counters
                    """
                ).map { ($0.text("id"), $0.int("generation")) }
            }
            for (id, generation) in rows { note(generation, "\(id) in the tables", &seen) }
        } catch { world.complain("the tables cannot be read: \(error.context)") }
    }

    private func note(_ generation: Int, _ what: String, _ seen: inout Seen) {
        if let before = seen.generations[what], before > generation {
            // A tombstone that has been forgotten (or a test double without a memory) begins anew: told by the invariants at the end.
            world.complain("the generation of \(what) went back from \(before) to \(generation)")
        }
        seen.generations[what] = generation
    }
}
