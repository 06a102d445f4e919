public import Daemon
import Database
import Domain
import Logging
public import ServiceLifecycle
import Synchronization
public import Workflow

/// All background work of the controller: four loops that make the world match the tables, one that tidies up, one that listens for
/// changes. Each loop takes no input (`ARCHITECTURE.md` §4).
public struct Reconcilers: Sendable {
    /// Pauses between passes without a nudge. Too high: what a lost nudge would have told comes late; too low: idle work. Nudges make
    /// almost everything faster than this.
    static let clusterMilliseconds = 3000
    static let storageMilliseconds = 2000
    static let networkMilliseconds = 3000
    static let tidyMilliseconds = 60_000
    /// How long the rows of deleted volumes stay, for whoever looks into the database.
    static let historySeconds: Int64 = 24 * 3600

    private let cloud: CloudServices
    private let nudges: ReconcilerNudges
    private let instances: InstanceReconciler
    private let attachments: AttachmentReconciler
    private let bundles: BundleReconciler
    private let storage: StorageReconciler
    private let network: NetworkReconciler
    private let observer: ClusterObserver

    public init(_ cloud: CloudServices, nudges: ReconcilerNudges) {
        self.cloud = cloud
        self.nudges = nudges
        instances = InstanceReconciler(cloud)
        attachments = AttachmentReconciler(cloud)
        bundles = BundleReconciler(cloud)
        storage = StorageReconciler(cloud)
        network = NetworkReconciler(cloud)
        observer = ClusterObserver(cloud: cloud)
    }

    // MARK: one pass of each, for the loops and for the simulation

    public func clusterPass() async -> ReconcileReport {
        let zones = await observer.observe()
        for zone in zones.values where zone.lacksNetwork {
            network.forget(zone: zone.zone)
            nudges.network.signal()
        }
        return Self.sum(await instances.pass(zones), await attachments.pass(zones))
    }

    public func bundlePass() async -> ReconcileReport {
        do throws(CloudError) {
            guard try await cloud.pool.read({ tx in try !BundleTaskStore.open(tx).isEmpty }) else { return ReconcileReport() }
        } catch {
            return ReconcileReport(failures: ["bundles: \(error.message) \(error.context)"])
        }
        return await bundles.pass(await observer.observe())
    }

    public func storagePass() async -> ReconcileReport { await storage.pass() }
    public func networkPass() async -> ReconcileReport { await network.pass() }

    /// Forgets what nobody can see any more.
    public func tidyPass() async -> ReconcileReport {
        let now = cloud.clock.now()
        do throws(CloudError) {
            let gone = try await cloud.pool.transaction { tx in
                try ClientTokenStore.expire(tx, now: now)
                try VolumeStore.forget(tx, before: now.adding(seconds: -Self.historySeconds))
                try BundleTaskStore.forget(tx, now: now)
                let gone = try InstanceStore.forget(tx, now: now)
                for id in gone { try TagStore.deleteAll(tx, id) }
                return gone.count
            }
            return ReconcileReport(changed: gone)
        } catch {
            return ReconcileReport(failures: ["tidy: \(error.message) \(error.context)"])
        }
    }

    private static func sum(_ a: ReconcileReport, _ b: ReconcileReport) -> ReconcileReport {
        ReconcileReport(
            examined: a.examined + b.examined, changed: a.changed + b.changed, failures: a.failures + b.failures, again: a.again || b.again)
    }

    // MARK: services

    public func services(_ runtime: DaemonRuntime) -> [any Service] {
        [
            loop("cluster", Self.clusterMilliseconds, nudges.cluster, runtime) { await clusterPass() },
            loop("bundles", Self.clusterMilliseconds, nudges.bundles, runtime) { await bundlePass() },
            loop("storage", Self.storageMilliseconds, nudges.storage, runtime) { await storagePass() },
            loop("network", Self.networkMilliseconds, nudges.network, runtime) { await networkPass() },
            loop("tidy", Self.tidyMilliseconds, Nudge(), runtime) { await tidyPass() },
            NotificationService(pool: cloud.pool, nudges: nudges),
        ]
    }

    private func loop(
        _ name: String, _ period: Int, _ nudge: Nudge, _ runtime: DaemonRuntime, _ body: @escaping @Sendable () async -> ReconcileReport
    ) -> any Service {
        let watch = LoopWatch(name: name, runtime: runtime)
        return LoopService(
            loop: ReconcilerLoop(
                name: name, periodMilliseconds: period, nudge: nudge, clock: cloud.clock, observe: { watch.note($0) }, body: body))
    }
}

/// Runs a loop until the daemon stops.
private struct LoopService: Service {
    let loop: ReconcilerLoop
    func run() async throws { await cancelWhenGracefulShutdown { await loop.run() } }
}

/// Turns the database's notifications into nudges. After a reconnection anything may have been missed: all loops look.
private struct NotificationService: Service {
    let pool: DatabasePool
    let nudges: ReconcilerNudges

    func run() async throws {
        let stream = pool.listen([NetworkStore.channel])
        await cancelWhenGracefulShutdown {
            for await notification in stream {
                switch notification {
                case .reconnected: nudges.signalAll()
                case .message(_, let payload): nudges.signal(changed: payload)
                }
            }
        }
    }
}

/// Logs what a loop's passes say, each failure once until it changes; keeps metrics and health.
private final class LoopWatch: Sendable {
    private let name: String
    private let runtime: DaemonRuntime
    private let last = Mutex<[String]>([])

    init(name: String, runtime: DaemonRuntime) {
        self.name = name
        self.runtime = runtime
    }

    func note(_ report: ReconcileReport) {
        runtime.metrics.counter("karri_reconcile_passes_total", ["loop": name], help: "Passes of a reconciler").increment()
        if report.changed > 0 {
            runtime.metrics.counter("karri_reconcile_steps_total", ["loop": name], help: "Things done by a reconciler").increment(
                by: report.changed)
        }
        let isNew = last.withLock { last -> Bool in
            defer { last = report.failures }
            return last != report.failures
        }
        guard isNew else { return }
        runtime.health.set(
            "reconciler \(name)", report.failures.isEmpty ? .ok : .degraded(report.failures.prefix(3).joined(separator: "; ")))
        for failure in report.failures.prefix(20) {
            runtime.logger.warning("reconcile", metadata: ["loop": "\(name)", "failure": "\(failure)"])
        }
    }
}
