import API
public import Daemon
import Database
import Domain
import Logging
public import ServiceLifecycle
import Wire
import Workflow

/// Builds the Storage Controller for a process: everything constructed in one readable order.
public enum StorageServices {
    /// Who may call what: the Cloud Controller everything, nodes what belongs to their attachments.
    static let roles: [String: Set<String>] = ["*": ["clc"], "ExportVolume": ["nc"], "UnexportVolume": ["nc", "clc"]]

    public static func make(_ configuration: StorageConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        let identity = try HostIdentity(certificate: configuration.certificate, key: configuration.key, ca: configuration.ca)
        let pool = DatabasePool(url: configuration.databaseURL, size: 4, name: "karri-sc")
        pool.start()
        let backend = try FileBlockBackend(
            folder: configuration.dataFolder, host: configuration.exportAddress, ports: configuration.exportPorts,
            certificate: configuration.certificate, key: configuration.key, ca: configuration.ca)
        let (id, secret) = try StorageConfiguration.credentials(configuration.systemCredentials)
        let objects = BucketSnapshotObjects(
            client: S3Client(endpoint: configuration.walrusEndpoint, accessKeyID: id, secret: secret, clock: runtime.clock))
        let environment = StorageEnvironment(
            zone: configuration.zone, capacityGiB: configuration.capacityGiB, tlsHostname: configuration.exportAddress,
            store: StorageStore(pool: pool), backend: backend, objects: objects, clock: runtime.clock, random: runtime.random)
        let controller = StorageController(environment)
        let work = StorageWork(environment: environment, runtime: runtime, pool: pool)
        try await work.prepare()
        let listener = InternalListener(
            address: configuration.listenAddress, port: configuration.port, identity: identity, service: SC.service, allowedRoles: roles,
            runtime: runtime
        ) { operation, input, context async throws(CloudError) in
            try await SC.dispatch(operation, input, controller, context)
        }
        return [work, listener]
    }
}

/// The reconcilers, as one service.
struct StorageWork: Service {
    let environment: StorageEnvironment
    let runtime: DaemonRuntime
    let pool: DatabasePool

    /// Waits for the database (it may start at the same time as we) and brings its schema up to date.
    func prepare() async throws {
        runtime.health.set("database", .starting)
        for attempt in 0... {
            do {
                try await environment.store.migrate()
                break
            } catch {
                guard case .unavailable = error.reason, attempt < 60 else { throw error }
                if attempt % 10 == 0 { runtime.logger.warning("waiting for the database", metadata: ["error": "\(error.context)"]) }
                try await runtime.clock.sleep(milliseconds: 500)
            }
        }
        runtime.health.set("database", .ok)
    }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await loop("volumes", environment.volumesNudge) { await VolumeReconciler(environment).runOnce() }.run() }
                group.addTask {
                    await loop("snapshots", environment.snapshotsNudge) { await SnapshotReconciler(environment).runOnce() }.run()
                }
                group.addTask {
                    await loop("transfers", environment.transfersNudge) { await TransferReconciler(environment).runOnce() }.run()
                }
                group.addTask { await watch() }
            }
        }
        pool.close()
    }

    private func loop(
        _ name: String, _ nudge: Nudge, _ body: @escaping @Sendable () async -> ReconcileReport
    ) -> ReconcilerLoop {
        let changes = runtime.metrics.counter(
            "karri_sc_reconciler_changes_total", ["reconciler": name], help: "Things that a reconciler did")
        let failures = runtime.metrics.counter(
            "karri_sc_reconciler_failures_total", ["reconciler": name], help: "Things that a reconciler could not do now")
        let logger = runtime.logger
        return ReconcilerLoop(
            name: name, periodMilliseconds: 15_000, retryMilliseconds: 250, nudge: nudge, clock: environment.clock,
            observe: { report in
                changes.increment(by: report.changed)
                failures.increment(by: report.failures.count)
                // A pass that cannot read its rows says so under its own name.
                let isBlind = report.failures.contains { $0.hasPrefix("\(name): ") }
                runtime.health.set("database", isBlind ? .degraded("not reachable") : .ok)
                for failure in report.failures { logger.warning("\(name): will be tried again", metadata: ["failure": "\(failure)"]) }
            }, body: body)
    }

    /// A medium that is nearly full is somebody's work: writes of guests would fail (their volumes pause; nothing is lost).
    private func watch() async {
        let free = runtime.metrics.gauge("karri_sc_medium_free_bytes", help: "Free bytes of the medium that volumes are on")
        let used = runtime.metrics.gauge("karri_sc_medium_used_bytes", help: "Bytes that volumes and copies take")
        while !Task.isCancelled {
            do {
                let space = try await environment.backend.space()
                free.set(Double(space.free))
                used.set(Double(space.used))
                let isLow = space.free < max(1 << 30, space.total / 50)
                runtime.health.set("medium", isLow ? .degraded("\(space.free >> 20) MiB free of \(space.total >> 20)") : .ok)
                try await environment.store.tombstonesPurge(before: environment.clock.now().adding(seconds: -30 * 86_400))
            } catch {
                runtime.logger.warning("looking after the medium failed", metadata: ["error": "\(DaemonFailure.text(error))"])
            }
            do { try await environment.clock.sleep(milliseconds: 30_000) } catch { return }
        }
    }
}
