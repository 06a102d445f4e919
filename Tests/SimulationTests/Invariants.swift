import API
import Database
import Domain
import NodeControllerKit
import StorageControllerKit
import TestKit

/// What must be true when the storm is over and everything has settled. Each broken rule is one line.
struct Invariants: Sendable {
    let world: World
    let expectations: Expectations

    private struct InstanceLine: Sendable {
        let id, node, desired, observed, token, reason: String
        let generation, observedGeneration: Int
        let cores, memoryMiB, diskGiB: Int
        let isFinished: Bool
    }
    private struct AttachmentLine: Sendable {
        let id, volume, instance, desired, observed: String
        let isFinished: Bool
    }
    private struct VolumeLine: Sendable {
        let id, desired, observed: String
        let isFinished: Bool
    }
    private struct Tables: Sendable {
        var instances: [String: InstanceLine] = [:]
        var attachments: [AttachmentLine] = []
        var volumes: [VolumeLine] = []
        var privateAddresses: [String] = []
        var publicAddresses: [String] = []
        /// Of the storage controller: attachment to volume, not revoked.
        var exports: [String: String] = [:]
        /// Of the storage controller: volume to state.
        var stored: [String: String] = [:]
        var givenUp: [String: String] = [:]
        var open: [InstanceLine] { instances.values.filter { !$0.isFinished }.sorted { $0.id < $1.id } }
    }

    private func tables() async throws(CloudError) -> Tables {
        try await world.inspector.read { tx in
            var t = Tables()
            for r in try tx.execute("SELECT * FROM cloud.instances") {
                t.instances[r.text("id")] = InstanceLine(
                    id: r.text("id"), node: r.text("node"), desired: r.text("desired"), observed: r.optionalText("observed_state") ?? "",
                    token: r.text("client_token"), reason: r.text("reason_message"), generation: r.int("generation"),
                    observedGeneration: r.int("observed_generation"), cores: r.int("cores"), memoryMiB: r.int("memory_mib"),
                    diskGiB: r.int("disk_gib"), isFinished: !r.isNull("finished_at"))
            }
            t.attachments = try tx.execute("SELECT * FROM cloud.attachments ORDER BY id").map { r in
                AttachmentLine(
                    id: r.text("id"), volume: r.text("volume_id"), instance: r.text("instance_id"), desired: r.text("desired"),
                    observed: r.optionalText("observed_state") ?? "", isFinished: !r.isNull("finished_at"))
            }
            t.volumes = try tx.execute("SELECT * FROM cloud.volumes ORDER BY id").map { r in
                VolumeLine(
                    id: r.text("id"), desired: r.text("desired"), observed: r.optionalText("observed_state") ?? "",
                    isFinished: !r.isNull("finished_at"))
            }
            t.privateAddresses = try tx.execute("SELECT instance_id FROM cloud.private_addresses ORDER BY 1").map { $0.text("instance_id") }
            t.publicAddresses = try tx.execute("SELECT instance_id FROM cloud.addresses WHERE instance_id IS NOT NULL ORDER BY 1").map {
                $0.text("instance_id")
            }
            for r in try tx.execute("SELECT attachment, volume FROM storage.exports WHERE NOT revoked") {
                t.exports[r.text("attachment")] = r.text("volume")
            }
            for r in try tx.execute("SELECT id, state FROM storage.volumes") { t.stored[r.text("id")] = r.text("state") }
            for r in try tx.execute("SELECT resource, detail FROM cloud.audit WHERE action = 'GiveUpInstance'") {
                t.givenUp[r.text("resource")] = r.text("detail")
            }
            return t
        }
    }

    /// - Returns: what is wrong now; during and shortly after a storm, what is merely not done yet, too.
    func broken() async -> [String] {
        do throws(CloudError) {
            let t = try await tables()
            return instances(t) + (await machines(t)) + addresses(t) + (await attachments(t)) + (await volumes(t)) + told(t)
        } catch {
            return ["the tables cannot be read: \(error.context)"]
        }
    }

    private func instances(_ t: Tables) -> [String] {
        t.open.flatMap { row -> [String] in
            var wrong: [String] = []
            if row.desired == "terminated" { wrong.append("\(row.id) is to be terminated and is not finished (\(row.observed))") }
            if row.desired != "terminated", row.desired != row.observed || row.generation != row.observedGeneration {
                let wish = "\(row.desired) at generation \(row.generation)"
                let sight = "\(row.observed) at \(row.observedGeneration)"
                wrong.append("\(row.id) on \(row.node) is to be \(wish), and is \(sight) (\(row.reason))")
            }
            return wrong
        }
    }

    private func machines(_ t: Tables) async -> [String] {
        var wrong: [String] = []
        var running: [String: [String]] = [:]
        for (node, host) in zip(world.nodes, world.nodeHosts) {
            if host.life?.isAlive != true { wrong.append("\(node.name) is not up") }
            for domain in await node.domains() {
                if domain.state.isActive { running[domain.name, default: []].append(node.name) }
                guard let row = t.instances[domain.name], !row.isFinished else {
                    let why = t.instances[domain.name] == nil ? "nobody knows" : "is terminated"
                    wrong.append("\(node.name) has a domain of \(domain.name), which \(why)")
                    continue
                }
                if row.node != node.name { wrong.append("\(node.name) has a domain of \(row.id), which belongs to \(row.node)") }
            }
            for id in node.disks.instances where t.instances[id].map({ $0.isFinished || $0.node != node.name }) ?? true {
                wrong.append("\(node.name) has a disk of \(id), which is not its own")
            }
            for row in t.instances.values.sorted(by: { $0.id < $1.id }) {
                let isThere = await node.networkContains(row.id)
                let should = !row.isFinished && row.node == node.name
                if isThere, !should { wrong.append("the network of \(node.name) has \(row.id), which is not there") }
                if !isThere, should { wrong.append("the network of \(node.name) lacks \(row.id)") }
            }
            for record in await node.journaled() where !record.isTombstone {
                if t.instances[record.instanceID].map(\.isFinished) ?? true {
                    wrong.append("\(node.name) still has orders for \(record.instanceID): \(record.desired.rawValue)")
                }
            }
        }
        for row in t.open {
            let places = running[row.id] ?? []
            switch row.desired {
            case "running" where places != [row.node]: wrong.append("\(row.id) should run on \(row.node) and runs on \(places)")
            case "stopped" where !places.isEmpty: wrong.append("\(row.id) should be stopped and runs on \(places)")
            default: break
            }
        }
        return wrong + (await ledger(t))
    }

    /// The cluster controller's idea of what is free is what is free.
    private func ledger(_ t: Tables) async -> [String] {
        guard let views = try? await world.cluster.views() else { return ["the cluster controller does not say what is free"] }
        var wrong: [String] = []
        for node in world.nodes {
            let running = t.open.filter { $0.node == node.name && $0.desired == "running" }
            let free = node.capacity.cores - running.reduce(0) { $0 + $1.cores }
            let view = views.first { $0.name == node.name }
            if view?.state != "up" { wrong.append("\(node.name) is \(view?.state ?? "not known") to the cluster controller") }
            if view?.freeCores != free {
                wrong.append("\(node.name) has \(free) free cores; the cluster controller says \(view?.freeCores ?? -1)")
            }
            // An instance that was stopped before its node had taken its order has no disk yet.
            let orders = Set(await node.journaled().filter { $0.order != nil }.map(\.instanceID))
            let disk =
                node.capacity.diskGiB - t.open.filter { $0.node == node.name && orders.contains($0.id) }.reduce(0) { $0 + $1.diskGiB }
            if view?.freeDiskGiB != disk {
                wrong.append("\(node.name) has \(disk) GiB of free disk; the cluster controller says \(view?.freeDiskGiB ?? -1)")
            }
        }
        return wrong
    }

    private func addresses(_ t: Tables) -> [String] {
        var wrong: [String] = []
        let open = Set(t.open.map(\.id))
        let held = Set(t.privateAddresses)
        for id in held.subtracting(open).sorted() { wrong.append("\(id) is over and has a private address") }
        for id in open.subtracting(held).sorted() { wrong.append("\(id) has no private address") }
        for id in Set(t.publicAddresses).subtracting(open).sorted() { wrong.append("\(id) is over and has a public address") }
        for row in t.open where row.desired == "running" && !t.publicAddresses.contains(row.id) {
            wrong.append("\(row.id) has no public address")
        }
        return wrong
    }

    private func attachments(_ t: Tables) async -> [String] {
        var wrong: [String] = []
        let open = t.attachments.filter { !$0.isFinished }
        for a in open {
            // At an instance that is stopped it may wait for the start.
            let waits = t.instances[a.instance]?.desired == "stopped" && a.desired == "attached"
            if !waits, a.desired != "attached" || a.observed != "attached" {
                wrong.append("\(a.volume) at \(a.instance) is to be \(a.desired) and is \(a.observed)")
            }
            if t.instances[a.instance].map(\.isFinished) ?? true { wrong.append("\(a.volume) is attached to \(a.instance), which is over") }
        }
        let byInstance = Dictionary(grouping: open, by: \.instance)
        for node in world.nodes {
            let records = Dictionary(await node.journaled().map { ($0.instanceID, $0) }, uniquingKeysWith: { a, _ in a })
            for domain in await node.domains() where domain.state.isActive {
                let has = Set(domain.diskSerials).subtracting(["root"])
                let should = Set((byInstance[domain.name] ?? []).map(\.volume))
                if has != should {
                    wrong.append("\(domain.name) on \(node.name) has the disks \(has.sorted()), and should have \(should.sorted())")
                }
            }
            for record in records.values.sorted(by: { $0.instanceID < $1.instanceID }) {
                let has = Set(record.volumes.filter { $0.state == .attached }.map(\.order.attachmentId))
                let should = Set((byInstance[record.instanceID] ?? []).map(\.id))
                let isStopped = record.desired == .stopped
                if isStopped ? !has.isSubset(of: should) : has != should {
                    let id = record.instanceID
                    wrong.append("the journal of \(node.name) has \(has.sorted()) attached to \(id); the tables have \(should.sorted())")
                }
            }
        }
        // The storage controller exports what runs, and nothing that is over. An instance that is stopped may keep its exports.
        let known = Set(open.map(\.id))
        for (attachment, volume) in t.exports.sorted(by: { $0.key < $1.key }) where !known.contains(attachment) {
            wrong.append("\(volume) is still exported for \(attachment), which is over")
        }
        for a in open where t.exports[a.id] == nil && t.instances[a.instance]?.desired == "running" {
            wrong.append("\(a.volume) is attached to \(a.instance) and not exported")
        }
        let running = Set(await world.storage.backend.runningVolumes())
        let exported = Set(t.exports.values)
        for volume in running.subtracting(exported).sorted() { wrong.append("the backend serves \(volume), which is not exported") }
        for volume in exported.subtracting(running).sorted() { wrong.append("the backend does not serve \(volume), which is exported") }
        return wrong
    }

    private func volumes(_ t: Tables) async -> [String] {
        var wrong: [String] = []
        for row in t.volumes {
            let bytes = await world.storage.backend.volumeBytes(row.id)
            let stored = t.stored[row.id] ?? "unknown"
            if row.isFinished {
                if bytes != nil || (stored != "deleted" && stored != "unknown") {
                    wrong.append("\(row.id) is deleted, and the storage controller has it (\(stored))")
                }
            } else if row.desired == "available" {
                if bytes == nil || stored != "available" || row.observed != "available" {
                    wrong.append("\(row.id) should be available: \(row.observed), at the storage controller \(stored)")
                }
            } else {
                wrong.append("\(row.id) is to be deleted and is not (\(stored))")
            }
        }
        let known = Set(t.volumes.map(\.id))
        for (id, state) in t.stored.sorted(by: { $0.key < $1.key }) where !known.contains(id) && state != "deleted" {
            wrong.append("the storage controller has \(id) (\(state)), which nobody knows")
        }
        return wrong
    }

    /// What clients were told is so.
    private func told(_ t: Tables) -> [String] {
        var wrong: [String] = []
        let told = expectations.now
        for launch in told.launches {
            let rows = t.instances.values.filter { $0.token == launch.token }.map(\.id)
            if Set(rows) != Set(launch.ids ?? []) || rows.count != (launch.ids?.count ?? 0) {
                wrong.append("token \(launch.token) made \(rows.sorted()); the client was told \(launch.ids ?? [])")
            }
        }
        for (id, instance) in told.instances.sorted(by: { $0.key < $1.key }) {
            guard let row = t.instances[id] else {
                wrong.append("\(id) was given to the client and is unknown")
                continue
            }
            if let reason = t.givenUp[id] {
                if !instance.hasCrashed { wrong.append("\(id) was accepted and then given up: \(reason)") }
                continue
            }
            if let wish = instance.wish, wish.rawValue != row.desired {
                wrong.append("the client was told that \(id) is to be \(wish.rawValue); the tables say \(row.desired) (\(row.reason))")
            }
        }
        return wrong
    }
}
