import API
import Database
import Domain
import Workflow

/// Makes the nodes' instances match their rows. Takes no input: a timer, a notification of the database and a nudge of a cluster
/// controller all lead to the same pass, which asks every zone what there is, notes what changed, and does one step of each row
/// (`InstancePlanner`). A pass that is killed anywhere is simply followed by the next one: rows change only by compare-and-set on
/// the generation they were planned with, and every command repeats harmlessly.
public struct InstanceReconciler: Sendable {
    /// Steps under way at a time. Too low: a large launch takes long; too high: the cluster controller is flooded.
    static let parallel = 16
    /// The pauses before the 1st, 2nd, … new attempt, in seconds.
    static let backOff: [Int64] = [2, 10, 30, 60]

    private let cloud: CloudServices
    private let orders: InstanceOrders

    public init(_ cloud: CloudServices) {
        self.cloud = cloud
        orders = InstanceOrders(cloud: cloud)
    }

    func pass(_ zones: [String: ZoneSight]) async -> ReconcileReport {
        let now = cloud.clock.now()
        let rows: [InstanceRow]
        do throws(CloudError) {
            rows = try await cloud.pool.read { tx in try InstanceStore.open(tx) }
            try await note(rows, zones, now)
        } catch {
            return ReconcileReport(failures: ["instances: \(error.message) \(error.context)"])
        }
        var report = ReconcileReport(examined: rows.count)
        for zone in zones.values {
            if let failure = zone.failure { report.failures.append("zone \(zone.zone): \(failure)") }
        }
        var work = rows.compactMap { row -> (InstanceRow, ZoneSight?, InstanceStep)? in
            let zone = zones[row.zone]
            let step = InstancePlanner.plan(row.intent(now: now), zone?.sight(of: row.id, node: row.node) ?? .silent)
            switch step {
            case .settled where row.reasonCode != "Server.Retrying", .wait: return nil
            default: return (row, zone, step)
            }
        }[...]
        await withTaskGroup(of: String?.self) { group in
            var running = 0
            while running > 0 || !work.isEmpty {
                if running < Self.parallel, !Task.isCancelled, let (row, zone, step) = work.popFirst() {
                    running += 1
                    report.changed += 1
                    group.addTask { await carryOut(step, row, zone, now) }
                } else if running > 0 {
                    running -= 1
                    if let failure = await group.next() ?? nil { report.failures.append(failure) }
                } else {
                    break
                }
            }
        }
        return report
    }

    /// Writes down what the nodes say, for clients and for later rounds.
    private func note(_ rows: [InstanceRow], _ zones: [String: ZoneSight], _ now: Timestamp) async throws(CloudError) {
        var changed: [(InstanceRow, InstanceFacts)] = []
        var silent: [String] = []
        var answering: [String] = []
        for row in rows {
            switch zones[row.zone]?.sight(of: row.id, node: row.node) ?? .silent {
            case .silent:
                if row.nodeSilentSince == nil { silent.append(row.id) }
            case .absent, .nodeGone:
                if row.nodeSilentSince != nil { answering.append(row.id) }
            case .reported(let facts):
                if facts != row.facts || row.nodeSilentSince != nil { changed.append((row, facts)) }
                if row.nodeSilentSince != nil { answering.append(row.id) }
            }
        }
        guard !changed.isEmpty || !silent.isEmpty || !answering.isEmpty else { return }
        try await cloud.pool.transaction { [changed, silent, answering] tx in
            for (row, facts) in changed { try InstanceStore.record(tx, id: row.id, generation: row.generation, facts, now: now) }
            if !silent.isEmpty { try InstanceStore.recordSilence(tx, ids: silent, now: now) }
            if !answering.isEmpty { try InstanceStore.recordAnswers(tx, ids: answering) }
        }
    }

    /// - Returns: what did not work.
    private func carryOut(_ step: InstanceStep, _ row: InstanceRow, _ zone: ZoneSight?, _ now: Timestamp) async -> String? {
        do throws(CloudError) {
            try await cloud.faults.point("instance.step")
            try await perform(step, row, zone, now)
            return nil
        } catch {
            switch error.reason {
            case .stale(let newest):
                return await quietly(row) { () throws(CloudError) in
                    try await cloud.pool.transaction { tx in
                        try InstanceStore.overtake(tx, id: row.id, generation: row.generation, newest: newest)
                    }
                }
            case .unavailable, .bug:
                // A part of the cloud is away, or ours is broken: neither is the instance's fault, and waiting loses nothing.
                return "\(row.id) \(step): \(error.message) \(error.context)"
            default:
                guard step == .run else { return "\(row.id) \(step): \(error.message) \(error.context)" }
                let problem = error
                return await quietly(row) { () throws(CloudError) in try await refused(row, problem, now) }
            }
        }
    }

    private func quietly(_ row: InstanceRow, _ body: () async throws(CloudError) -> Void) async -> String? {
        do throws(CloudError) {
            try await body()
            return nil
        } catch {
            return "\(row.id): \(error.message) \(error.context)"
        }
    }

    private func perform(_ step: InstanceStep, _ row: InstanceRow, _ zone: ZoneSight?, _ now: Timestamp) async throws(CloudError) {
        switch step {
        case .wait: break
        case .settled:
            try await cloud.pool.transaction { tx in try InstanceStore.clearReason(tx, id: row.id, generation: row.generation) }
        case .run:
            let client = try client(zone)
            let order = try await orders.order(for: row, certificate: zone?.nodes[row.node]?.report?.certificate)
            let answer = try await client.runInstance(
                CC.RunInstance(node: row.node, order: order, generation: Int(row.generation)), cloud.callContext())
            try await take(answer.instance, row, now)
        case .stop(let force):
            let answer = try await client(zone).stopInstance(
                CC.StopInstance(
                    node: row.node, instanceId: row.id, generation: Int(row.generation), force: force,
                    graceSeconds: force ? 0 : Self.graceSeconds),
                cloud.callContext())
            try await take(answer.instance, row, now)
        case .terminate(let force):
            let answer = try await client(zone).terminateInstance(
                CC.TerminateInstance(
                    node: row.node, instanceId: row.id, generation: Int(row.generation), force: force,
                    graceSeconds: force ? 0 : Self.graceSeconds), cloud.callContext())
            try await take(answer.instance, row, now)
            if let report = answer.instance {
                let facts = InstanceFacts(report)
                if facts.state == .terminated, facts.generation == row.generation { try await finish(row, now) }
            }
        case .reboot:
            let answer = try await client(zone).rebootInstance(
                CC.RebootInstance(node: row.node, instanceId: row.id, rebootCount: row.rebootCount), cloud.callContext())
            try await take(answer.instance, row, now)
        case .retry(let reason):
            try await countAttempt(row, reason, now)
        case .giveUp(let reason):
            try await giveUp(row, reason, now)
        case .guestShutDown(let behaviour):
            try await guestShutDown(row, behaviour, now)
        case .overtake(let newest):
            try await cloud.pool.transaction { tx in try InstanceStore.overtake(tx, id: row.id, generation: row.generation, newest: newest)
            }
        case .beginSave:
            try await beginSave(row, now)
        case .finish:
            try await finish(row, now)
        }
    }

    /// How long a guest has for its shutdown before the node ends it by force. Too low: file systems are cut off; too high: clients wait.
    static let graceSeconds = 60

    private func client(_ zone: ZoneSight?) throws(CloudError) -> any CCClusterActions {
        guard let client = zone?.client else { throw CloudError(.unavailable("The cluster controller")) }
        return client
    }

    private func take(_ report: NC.InstanceReport?, _ row: InstanceRow, _ now: Timestamp) async throws(CloudError) {
        guard let report else { return }
        let facts = InstanceFacts(report)
        guard facts != row.facts else { return }
        try await cloud.pool.transaction { tx in try InstanceStore.record(tx, id: row.id, generation: row.generation, facts, now: now) }
    }

    /// A node or cluster controller refused to run it.
    private func refused(_ row: InstanceRow, _ error: CloudError, _ now: Timestamp) async throws(CloudError) {
        if case .capacity = error.reason, let facts = row.facts, facts.state == .stopped {
            // StartInstances of a stopped instance whose node has no room: it is as it was.
            try await cloud.pool.transaction { tx in
                try InstanceStore.setDesired(
                    tx, id: row.id, .stopped, code: "Server.InsufficientInstanceCapacity", message: error.message,
                    transition: "Server.InsufficientInstanceCapacity")
            }
            return
        }
        let code: String
        if case .capacity = error.reason { code = "Server.InsufficientInstanceCapacity" } else { code = "Server.InternalError" }
        let intent = row.intent(now: now)
        if intent.attempts < InstancePlanner.attemptLimit {
            try await countAttempt(row, "\(code): \(error.message)", now)
        } else {
            try await giveUp(row, "\(code): \(error.message)", now)
        }
    }

    /// Counts the attempt after a pause, which the row remembers.
    private func countAttempt(_ row: InstanceRow, _ reason: String, _ now: Timestamp) async throws(CloudError) {
        let attempts = row.intent(now: now).attempts
        guard let at = row.retryAt else {
            let pause = Self.backOff[min(attempts, Self.backOff.count - 1)]
            try await cloud.pool.transaction { tx in
                try InstanceStore.setRetryAt(tx, id: row.id, generation: row.generation, at: now.adding(seconds: pause))
            }
            return
        }
        guard now >= at else { return }
        try await cloud.pool.transaction { tx in
            try InstanceStore.retry(tx, id: row.id, generation: row.generation, attempts: attempts + 1, reason: reason)
        }
    }

    private func giveUp(_ row: InstanceRow, _ reason: String, _ now: Timestamp) async throws(CloudError) {
        let code = reason.split(separator: ":").first.map(String.init) ?? "Server.InternalError"
        try await cloud.pool.transaction { tx in
            try InstanceRules.terminate(tx, row, force: false, code: code, message: reason, transition: reason)
            try AuditStore.record(tx, at: now, accountID: row.accountID, action: "GiveUpInstance", resource: row.id, detail: reason)
        }
    }

    private func guestShutDown(_ row: InstanceRow, _ behaviour: ShutdownBehaviour, _ now: Timestamp) async throws(CloudError) {
        let message = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
        try await cloud.pool.transaction { tx in
            switch behaviour {
            case .stop:
                try InstanceStore.setDesired(
                    tx, id: row.id, .stopped, code: "Client.InstanceInitiatedShutdown", message: message, transition: "User initiated")
            case .terminate:
                try InstanceRules.terminate(
                    tx, row, force: false, code: "Client.InstanceInitiatedShutdown", message: message, transition: "User initiated")
            }
            try AuditStore.record(
                tx, at: now, accountID: row.accountID, action: "GuestShutdown", resource: row.id, detail: behaviour.rawValue)
        }
    }

    private func beginSave(_ row: InstanceRow, _ now: Timestamp) async throws(CloudError) {
        let id = BundleTaskID(random: cloud.random.bytes(9)).text
        try await cloud.pool.transaction { tx in
            guard let fresh = try InstanceStore.find(tx, row.id), fresh.save == .wanted, fresh.generation == row.generation else { return }
            do {
                let location = try ImageLocation(parsing: fresh.saveLocation, parameter: ImageLocation.saveTag)
                guard try BundleTaskStore.openTask(tx, instanceID: row.id) == nil else { return }
                try BundleTaskStore.insert(
                    tx,
                    BundleTask(
                        id: id, accountID: fresh.accountID, instanceID: fresh.id, bucket: location.bucket, prefix: location.key,
                        accessKeyID: fresh.accessKeyID, forShutdown: true, startedAt: now))
                try InstanceStore.setSave(tx, id: fresh.id, .saving)
            } catch let error as CloudError {
                guard case .invalidParameter = error.reason else { throw error }
                try InstanceStore.keepAfterFailedSave(tx, id: fresh.id, message: "Server.SaveOnShutdownFailed: \(error.message)")
            }
        }
    }

    /// The node has nothing of it any more: addresses go back, volumes are free, the row stays visible for an hour.
    private func finish(_ row: InstanceRow, _ now: Timestamp) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            guard try InstanceStore.finish(tx, id: row.id, generation: row.generation, now: now) else { return }
            try AddressStore.releaseInstance(tx, instanceID: row.id)
            try VolumeStore.instanceEnded(tx, instanceID: row.id, now: now)
            try NetworkStore.changed(tx)
            try AuditStore.record(tx, at: now, accountID: row.accountID, action: "InstanceTerminated", resource: row.id, detail: row.node)
        }
    }
}
