import API
import Database
import Domain
import Identity
import Workflow

/// The rules of launching and ending instances. Needs no HTTP; what it decides with stands in its arguments and in the database.
struct InstanceRules: Sendable {
    let cloud: CloudServices

    /// What a launch order needs, looked up.
    private struct Resolved: Sendable {
        let type: InstanceType
        let image: LaunchImage
        let kernel, ramdisk: LaunchImage?
        let publicKey: String
        let zone: String
        let subnet: Subnet
    }

    /// How long the cluster controller keeps room for a launch that is being committed. Too low: a slow database loses it; too high:
    /// a launch that died blocks others.
    static let reservationSeconds = 60

    /// Starts instances: all checks, room reserved on nodes, then one transaction; nothing half done.
    /// - Returns: the reservation's id; the same as before for a client token that was seen.
    func launch(_ order: LaunchOrder, dryRun: Bool, _ op: OperationContext) async throws(CloudError) -> String {
        try await cloud.ensureNetwork(op)
        let resolved: Resolved
        switch try await look(order, op) {
        case .seen(let reservation): return reservation
        case .new(let found): resolved = found
        }
        if dryRun { throw CloudError(.dryRunSucceeded) }
        let cluster = try await cloud.cluster.cluster(zone: resolved.zone)
        let reservationID = ReservationID(random: cloud.random.bytes(9)).text
        let ids = (0..<order.count.upperBound).map { _ in InstanceID(random: cloud.random.bytes(9)).text }
        let context = cloud.callContext(op.requestID)
        let answer = try await cluster.reserve(
            CC.Reserve(
                reservationId: reservationID, minCount: order.count.lowerBound, seconds: Self.reservationSeconds,
                items: ids.map {
                    CC.ReservationItem(
                        instanceId: $0, cores: resolved.type.cores, memoryMiB: resolved.type.memoryMiB, diskGiB: resolved.type.diskGiB)
                }), context)
        do throws(CloudError) {
            try await cloud.faults.point("launch.reserved")
            let nodes = Dictionary(
                answer.placements.compactMap { p in p.instanceId.flatMap { id in p.node.map { (id, $0) } } },
                uniquingKeysWith: { first, _ in first })
            let placed = ids.compactMap { id in nodes[id].map { (id: id, node: $0) } }
            guard placed.count >= order.count.lowerBound else { throw .bug("Reserve answered \(placed.count) of \(order.count)") }
            let outcome = try await commit(order, resolved, reservationID, placed, op)
            if !outcome.unused.isEmpty {
                // Fewer addresses than nodes had room: the rest is given back; if this is lost, the reservation lapses by itself.
                _ = try? await cluster.release(CC.Release(reservationId: reservationID, instanceIds: outcome.unused), context)
            }
            return outcome.reservation
        } catch {
            // A commit whose outcome is not known may have happened: then the room must stay. If not, the reservation lapses.
            if case .unavailable = error.reason { throw error }
            _ = try? await cluster.release(CC.Release(reservationId: reservationID), context)
            throw error
        }
    }

    private enum Lookup: Sendable {
        case seen(String)
        case new(Resolved)
    }

    private func look(_ order: LaunchOrder, _ op: OperationContext) async throws(CloudError) -> Lookup {
        let settings = cloud.settings
        return try await cloud.pool.read { tx in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "RunInstances", token: order.clientToken, requestHash: order.requestHash)
            {
                return .seen(seen)
            }
            let type = try InstanceTypeStore.fetch(tx, name: order.instanceType)
            let image = try ImageStore.launchImage(tx, id: order.imageID, accountID: op.accountID)
            guard image.role == .machine else {
                throw CloudError(
                    .named(code: "InvalidAMIID.Malformed", status: 400), "Invalid id: \"\(order.imageID)\" (expecting a machine image)")
            }
            let kernel = try (order.kernelID ?? image.kernelID).map { try ImageStore.launchImage(tx, id: $0, accountID: op.accountID) }
            let ramdisk = try (order.ramdiskID ?? image.ramdiskID).map { try ImageStore.launchImage(tx, id: $0, accountID: op.accountID) }
            if let kernel, kernel.role != .kernel { throw CloudError(.invalidParameter("KernelId")) }
            if let ramdisk, ramdisk.role != .ramdisk { throw CloudError(.invalidParameter("RamdiskId")) }
            if ramdisk != nil, kernel == nil { throw CloudError(.invalidCombination("A ramdisk needs a kernel")) }
            try Self.checkSize(image, type)
            let publicKey = try order.keyName.map { try KeyPairStore.fetch(tx, name: $0, accountID: op.accountID).publicKey } ?? ""
            let zones = Set(try ComponentStore.all(tx).filter { $0.role == .cc }.map(\.zone))
            let standardZone = zones.contains(settings.zone) ? settings.zone : zones.sorted().first ?? settings.zone
            if let zone = order.zone, zone != settings.zone, !zones.contains(zone) {
                throw CloudError(.named(code: "InvalidZone.NotFound", status: 400), "The zone '\(zone.prefix(60))' does not exist.")
            }
            let subnet = try order.network.choose(
                try SubnetStore.list(tx, accountID: op.accountID), zone: order.zone, standardZone: standardZone)
            try checkQuota(tx, order.count.lowerBound, type, op)
            return .new(
                Resolved(
                    type: type, image: image, kernel: kernel, ramdisk: ramdisk, publicKey: publicKey, zone: subnet.zone, subnet: subnet))
        }
    }

    /// The image must fit on the type's disk: said now, not by a node that fails.
    private static func checkSize(_ image: LaunchImage, _ type: InstanceType) throws(CloudError) {
        let limit = type.diskGiB << 30
        guard image.virtualSize > limit else { return }
        throw CloudError(
            .invalidParameter("InstanceType"),
            "The image \(image.id) needs a disk of \(image.virtualSize) bytes; the instance type \(type.name) has \(limit) "
                + "(\(type.diskGiB) GiB). Take a larger type."
        )
    }

    private func checkQuota(_ tx: Transaction, _ count: Int, _ type: InstanceType, _ op: OperationContext) throws(CloudError) {
        _ = try LaunchQuota(tx, count, cores: type.cores, settings: cloud.settings, op)
    }

    private struct Outcome: Sendable {
        let reservation: String
        let unused: [String]
    }

    /// The one transaction: addresses, rows, groups, tags, client token, audit.
    private func commit(
        _ order: LaunchOrder, _ resolved: Resolved, _ reservationID: String, _ placed: [(id: String, node: String)], _ op: OperationContext
    ) async throws(CloudError) -> Outcome {
        let settings = cloud.settings
        return try await cloud.pool.transaction { tx in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "RunInstances", token: order.clientToken, requestHash: order.requestHash)
            {
                return Outcome(reservation: seen, unused: placed.map(\.id))
            }
            try checkQuota(tx, order.count.lowerBound, resolved.type, op)
            let groups = try SecurityGroupStore.resolve(tx, ids: order.groupIDs, names: order.groupNames, accountID: op.accountID)
                .map { InstanceStore.GroupName(id: $0.id, name: $0.name) }
            // It may have gone, or changed, since it was looked up.
            let subnet = try SubnetStore.fetch(tx, id: resolved.subnet.id, accountID: op.accountID)
            let wantsPublicAddress = order.network.wantsPublicAddress ?? subnet.mapPublic
            // More than MinCount only as far as the quota goes.
            let allowed = try LaunchQuota(
                tx, order.count.lowerBound, cores: resolved.type.cores, settings: settings, op
            ).remaining
            var used: [String] = []
            for (id, node) in placed.prefix(max(allowed, order.count.lowerBound)) {
                let address: IPv4Address
                do {
                    address = try tx.attempt { tx in
                        let address = try AddressStore.takePrivate(
                            tx, instanceID: id, settings: settings, in: subnet.cidr, wanted: order.network.privateAddress)
                        if wantsPublicAddress { _ = try AddressStore.takePublic(tx, instanceID: id, settings: settings) }
                        return address
                    }
                } catch let error as CloudError {
                    guard case .capacity = error.reason, used.count >= order.count.lowerBound else { throw error }
                    break
                }
                var row = InstanceRow(
                    id: id, reservationID: reservationID, accountID: op.accountID, launchIndex: used.count, clientToken: order.clientToken,
                    accessKeyID: op.caller.accessKeyID ?? "", userARN: op.caller.principal.arn, imageID: resolved.image.id,
                    kernelID: resolved.kernel?.id, ramdiskID: resolved.ramdisk?.id, architecture: resolved.image.architecture,
                    instanceType: resolved.type.name, cores: resolved.type.cores, memoryMiB: resolved.type.memoryMiB,
                    diskGiB: resolved.type.diskGiB, keyName: order.keyName, publicKey: resolved.publicKey, userData: order.userData,
                    zone: resolved.zone, node: node, privateAddress: address.description, macAddress: macAddress(of: address),
                    createdAt: op.now, shutdownBehaviour: order.shutdownBehaviour, terminationProtected: order.terminationProtected,
                    tokensRequired: order.tokensRequired, hopLimit: order.hopLimit, metadataEnabled: order.metadataEnabled)
                row.stopProtected = order.stopProtected
                try InstanceStore.insert(tx, row, groups: groups)
                let interface = NetworkInterface(
                    id: VpcRules.id("interface of \(id)"), accountID: op.accountID, instanceID: id,
                    attachmentID: NetworkInterfaceRules.attachmentID(of: id).text, subnetID: subnet.id.text,
                    description: order.network.description, createdAt: op.now)
                try NetworkInterfaceStore.insert(tx, interface)
                try TagStore.insert(
                    tx, accountID: op.accountID, resourceID: interface.id.text, type: .networkInterface, order.interfaceTags)
                used.append(id)
            }
            for id in used { try TagStore.insert(tx, accountID: op.accountID, resourceID: id, type: .instance, order.instanceTags) }
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "RunInstances", token: order.clientToken, requestHash: order.requestHash,
                result: reservationID, now: op.now)
            try NetworkStore.changed(tx)
            try tx.notify(NetworkStore.channel, "instance")
            try AuditStore.record(
                tx, op, action: "RunInstances", resource: ([reservationID] + used).joined(separator: " "),
                detail: "\(resolved.image.id) \(resolved.type.name) \(resolved.zone)")
            let taken = Set(used)
            return Outcome(reservation: reservationID, unused: placed.map(\.id).filter { !taken.contains($0) })
        }
    }

    // MARK: starting again

    /// Starts stopped instances: room reserved on the nodes where their disks are, for all of them or none; then `body`, the one
    /// transaction. A refusal changes nothing.
    ///
    /// Each call reserves under a name of its own: two at once hold the same room, which counts once, and either may fail without taking
    /// the other's away.
    /// - Throws: `.capacity` with the numbers; `.unavailable` when a node does not answer; what `body` throws.
    func start<R: Sendable>(
        _ rows: [InstanceRow], _ op: OperationContext, _ body: () async throws(CloudError) -> R
    ) async throws(CloudError) -> R {
        let context = cloud.callContext(op.requestID)
        var held: [(cluster: any CCClusterActions, id: String)] = []
        do throws(CloudError) {
            for (zone, rows) in Dictionary(grouping: rows, by: \.zone).sorted(by: { $0.key < $1.key }) {
                let cluster = try await cloud.cluster.cluster(zone: zone)
                let id = ReservationID(random: cloud.random.bytes(9)).text
                held.append((cluster, id))
                _ = try await cluster.reserve(
                    CC.Reserve(
                        reservationId: id, minCount: rows.count, seconds: Self.reservationSeconds,
                        items: rows.map {
                            CC.ReservationItem(
                                instanceId: $0.id, cores: $0.cores, memoryMiB: $0.memoryMiB, diskGiB: $0.diskGiB, node: $0.node)
                        }), context)
            }
            if !rows.isEmpty { try await cloud.faults.point("start.reserved") }
            return try await body()
        } catch {
            // A commit whose outcome is not known may have happened: then the room must stay. If not, the reservations lapse.
            if case .unavailable = error.reason { throw error }
            for (cluster, id) in held { _ = try? await cluster.release(CC.Release(reservationId: id), context) }
            throw error
        }
    }

    // MARK: ending

    /// Wants the instance gone; with the save tag, its disk goes to the object store first.
    static func terminate(
        _ tx: Transaction, _ row: InstanceRow, force: Bool, code: String, message: String, transition: String
    ) throws(CloudError) {
        guard row.desired != .terminated else { return }
        let tag = try TagStore.tags(tx, [row.id])[row.id]?.first { $0.key == ImageLocation.saveTag }
        try InstanceStore.setDesired(
            tx, id: row.id, .terminated, force: force, save: row.hasRun ? tag?.value : nil, code: code, message: message,
            transition: transition)
    }
}
