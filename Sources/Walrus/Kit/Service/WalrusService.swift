public import Daemon
import Database
import Domain
import NIOPosix
public import ServiceLifecycle
import Workflow

/// Builds Walrus from its parts. What `karri-walrus` runs and what tests run is the same.
public struct WalrusService: Sendable {
    /// For tests: the port after the start.
    public let server: HTTPServer
    public let services: [any Service]

    /// Connects, brings the tables up to date, takes the store's lock.
    /// - Throws: `.unavailable` when the database or the store cannot be used.
    public static func make(_ configuration: WalrusConfiguration, _ runtime: DaemonRuntime) async throws -> WalrusService {
        let pool = DatabasePool(url: configuration.databaseURL, size: configuration.databaseConnections, name: runtime.name)
        pool.start()
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        let directory = try await IdentityDirectory.open(
            pool, secretKeyFile: configuration.secretKeyFile, clock: runtime.clock, random: runtime.random)
        return try await make(
            configuration, runtime, pool: pool, directory: directory, background: [IdentityCacheService(store: directory.store)])
    }

    /// Threads that wait for disks. Too low: uploads wait for each other's syncs; too high: memory for stacks.
    static let diskThreads = 16

    static func make(
        _ configuration: WalrusConfiguration, _ runtime: DaemonRuntime, pool: DatabasePool, directory: any RequesterDirectory,
        limits: CollectorLimits = CollectorLimits(), disk: any DiskCalls = SystemDisk(), background: [any Service] = []
    ) async throws -> WalrusService {
        let cloudKey = try KeyRing.cloudKey(file: configuration.secretKeyFile)
        let threads = NIOThreadPool(numberOfThreads: diskThreads)
        threads.start()
        let quarantine = Quarantine()
        let stored: LocalBytes
        do {
            try await quarantine.load(pool)
            stored = try LocalBytes(root: configuration.dataDirectory, pool: threads, disk: disk)
        } catch {
            try await threads.shutdownGracefully()
            throw error
        }
        let bytes = GuardedBytes(inner: stored, quarantine: quarantine)
        let ledger = SpaceLedger(bytes: bytes, clock: runtime.clock, keepMiB: configuration.minimumFreeMiB)
        let reserved = runtime.metrics.gauge("karri_walrus_reserved_bytes", help: "space promised to uploads that run")
        let free = runtime.metrics.gauge("karri_walrus_free_bytes", help: "free space of data_dir at the last measurement")
        runtime.metrics.collect {
            reserved.set(Double(ledger.reservedBytes))
            if let bytes = ledger.freeBytes { free.set(Double(bytes)) }
        }
        var core = WalrusCore(
            pool: pool, bytes: bytes, intake: Intake(bytes: bytes, ledger: ledger, random: runtime.random), directory: directory,
            leases: BlobLeases(), clock: runtime.clock, random: runtime.random, logger: runtime.logger, region: configuration.region,
            domain: configuration.domain)
        core.quarantine = quarantine
        core.quotas = QuotaLedger(pool: pool, clock: runtime.clock, metrics: runtime.metrics)
        core.keys = KeyRing(
            cloudKey: cloudKey, names: configuration.kmsKeys,
            acceptsCustomerKeysOnHTTP: configuration.customerKeysOnHTTP)
        core.newBuckets = configuration.buckets.newBuckets
        core.webhooks = configuration.buckets.webhooks
        core.websiteDomain = configuration.buckets.websiteDomain
        let duties = BucketDuties(core: core, runtime: runtime, options: configuration.buckets)
        let gateway = Gateway(
            core: core, metrics: runtime.metrics, served: RequestMetrics(runtime.metrics), health: runtime.health,
            metricsForAnyone: configuration.metricsForAnyone, unsignedPayloadOnHTTP: configuration.unsignedPayloadOnHTTP)
        let server = HTTPServer(
            address: configuration.listenAddress, port: configuration.port, tls: configuration.tls,
            limits: HTTPLimits(connections: configuration.connections), runtime: runtime, name: "s3", onEventLoop: true
        ) { await gateway.handle($0) }
        let scrub = ScrubService(
            scrub: Scrub(
                pool: pool, bytes: stored, quarantine: quarantine, clock: runtime.clock, logger: runtime.logger,
                metrics: ScrubMetrics(runtime.metrics, quarantine), rate: configuration.scrubMiB << 20,
                periodMilliseconds: Int64(configuration.scrubDays) * 86_400_000))
        let upkeep = UpkeepService(core: core, limits: limits, runtime: runtime, pool: pool, threads: threads)
        return WalrusService(server: server, services: [upkeep, scrub, duties] + background + [server])
    }
}

/// Runs the collector, and closes the database pool and the disk threads when everything else has stopped.
struct UpkeepService: Service {
    let core: WalrusCore
    let limits: CollectorLimits
    let runtime: DaemonRuntime
    let pool: DatabasePool
    let threads: NIOThreadPool

    func run() async throws {
        let collector = Collector(core: core, limits: limits)
        let removed = runtime.metrics.counter("karri_walrus_collected_total", help: "blobs removed or settled by upkeep")
        let loop = ReconcilerLoop(
            name: "walrus.collector", periodMilliseconds: limits.periodMilliseconds, retryMilliseconds: 1000, clock: runtime.clock
        ) { report in
            removed.increment(by: report.changed)
            runtime.health.set("upkeep", report.failures.isEmpty ? .ok : .degraded(report.failures.joined(separator: "; ")))
        } body: {
            await collector.pass()
        }
        await cancelWhenGracefulShutdown { await loop.run() }
        pool.close()
        try await threads.shutdownGracefully()
    }
}
