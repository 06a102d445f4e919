import Daemon
import Database
import Domain
import Logging
import NIOCore
import ServiceLifecycle
import Signing
import Workflow

/// Reads the whole store again and again, slowly, and compares each blob with what its row says of it. Damage is logged, counted and put
/// into quarantine, so that nobody gets wrong bytes. Disks lose bits in silence; what nobody reads, nobody misses until the last
/// copy is gone.
struct Scrub: Sendable {
    /// Bytes between two rests. Too high: the scrub hogs the disk in bursts; too low: timers.
    static let burst = 4 << 20

    let pool: DatabasePool
    /// The bytes themselves, not those behind the quarantine.
    let bytes: any ObjectBytes
    let quarantine: Quarantine
    let clock: any Clock
    let logger: Logger
    let metrics: ScrubMetrics
    /// Bytes a second; 0: not at all.
    let rate: Int
    /// From the begin of one pass to that of the next.
    let periodMilliseconds: Int64

    /// One 256th of the store, from where the last call left off.
    /// - Returns: the milliseconds to wait until the next; 0 in the middle of a pass.
    func step() async throws(CloudError) -> Int {
        let now = clock.now()
        var position = try await pool.read { try ScrubStore.positionFetch($0) } ?? .init(next: 0, began: now)
        if position.next >= 256 {
            let due = position.began.milliseconds + periodMilliseconds
            if now.milliseconds < due { return Int(min(due - now.milliseconds, 60_000)) }
            position = .init(next: 0, began: now, ended: position.ended)
        }
        if position.next == 0 { try await inline() }
        try await blobs(Hex.encode([UInt8(position.next)]))
        position.next += 1
        if position.next == 256 {
            position.ended = clock.now()
            try await releaseRemoved()
            logger.info("the store was scrubbed", metadata: ["quarantined": "\(quarantine.size)"])
        }
        let reached = position
        try await pool.transaction(isolation: .readCommitted) { try ScrubStore.positionSet($0, reached) }
        metrics.position.set(Double(reached.next) / 256)
        if let ended = reached.ended { metrics.ended.set(Double(ended.milliseconds) / 1000) }
        return 0
    }

    private func blobs(_ prefix: String) async throws(CloudError) {
        let rows = try await pool.read { try GarbageStore.expected($0, prefix: prefix) }
        for row in rows {
            let problem = try await BlobCheck.problem(row, bytes, pool) { (n: Int) async throws(CloudError) in try await spent(n) }
            let isHeld = quarantine.holds(row.blob)
            if let problem, !isHeld {
                logger.error("damaged bytes", metadata: ["owner": "\(row.owner)", "blob": "\(row.blob)", "problem": "\(problem)"])
                metrics.damaged.increment()
                try await quarantine.add(pool, row.blob.text, problem: "\(row.owner) \(problem)", now: clock.now())
            } else if problem == nil, isHeld {
                logger.notice("bytes are right again", metadata: ["owner": "\(row.owner)", "blob": "\(row.blob)"])
                try await quarantine.release(pool, [row.blob.text])
            }
        }
    }

    private func inline() async throws(CloudError) {
        var damaged = 0
        for live in [true, false] {
            var last: GarbageStore.InlineObject?
            while true {
                let after = last
                let page = try await pool.read { try GarbageStore.inlineObjects($0, live: live, after: after, limit: 200) }
                for row in page {
                    if let problem = BlobCheck.problem(row) {
                        damaged += 1
                        logger.error("damaged bytes in a row", metadata: ["owner": "\(row.owner)", "problem": "\(problem)"])
                        metrics.damaged.increment()
                        try await quarantine.add(pool, ScrubStore.inlineMark, problem: "\(row.owner) \(problem)", now: clock.now())
                    }
                }
                try await spent(page.reduce(0) { $0 + $1.bytes.count })
                guard let end = page.last else { break }
                last = end
            }
        }
        if damaged == 0, quarantine.blobs.contains(ScrubStore.inlineMark) { try await quarantine.release(pool, [ScrubStore.inlineMark]) }
    }

    /// Blobs in quarantine whose object was deleted.
    private func releaseRemoved() async throws(CloudError) {
        let held = quarantine.blobs.compactMap { BlobID(parsing: $0) }
        guard !held.isEmpty else { return }
        let owned = try await pool.read { try GarbageStore.owned($0, held) }
        let gone = held.map(\.text).filter { !owned.contains($0) }
        if !gone.isEmpty { try await quarantine.release(pool, gone) }
    }

    /// Rests so that no more than `rate` is read.
    private func spent(_ count: Int) async throws(CloudError) {
        metrics.bytes.increment(by: count)
        guard rate > 0, count > 0 else { return }
        do { try await clock.sleep(milliseconds: max(1, count * 1000 / rate)) } catch {
            throw CloudError(.unavailable("upkeep"), context: "stopped")
        }
    }
}

struct ScrubMetrics: Sendable {
    let bytes, damaged: Counter
    let position, ended: Gauge

    init(_ registry: MetricsRegistry, _ quarantine: Quarantine) {
        bytes = registry.counter("karri_walrus_scrubbed_bytes_total", help: "bytes that the scrub has read and compared")
        damaged = registry.counter("karri_walrus_scrub_damaged_total", help: "blobs and rows whose bytes were found wrong")
        position = registry.gauge("karri_walrus_scrub_progress", help: "of the pass under way, 0 to 1")
        ended = registry.gauge("karri_walrus_scrub_ended_seconds", help: "when the last whole pass ended, since 1970")
        let held = registry.gauge("karri_walrus_quarantined", help: "blobs that are not served because their bytes are wrong")
        registry.collect { held.set(Double(quarantine.size)) }
    }
}

/// What is wrong with stored bytes: shared by scrub and fsck.
enum BlobCheck {
    /// - Parameter spent: called with the bytes of each read.
    /// - Returns: `nil` when the blob is as its row says, or when the row is gone.
    static func problem(
        _ row: GarbageStore.Expected, _ bytes: any ObjectBytes, _ pool: DatabasePool,
        _ spent: (Int) async throws(CloudError) -> Void
    ) async throws(CloudError) -> String? {
        guard let blob = try await bytes.open(row.blob) else {
            // Deleted since the rows were read?
            let still = try await pool.read { try GarbageStore.owned($0, [row.blob]) }
            return still.isEmpty ? nil : "is missing"
        }
        guard blob.size == row.size else { return "has \(blob.size) bytes, not \(row.size)" }
        let digest: String
        do throws(CloudError) { digest = try await md5(blob, spent) } catch {
            // A disk that cannot read them has lost them as well.
            if case .unavailable = error.reason { throw error }
            return "cannot be read: \(error.context)"
        }
        return digest == row.etag ? nil : "has the MD5 \(digest), not \(row.etag)"
    }

    private static func md5(_ blob: any OpenBlob, _ spent: (Int) async throws(CloudError) -> Void) async throws(CloudError) -> String {
        let md5 = Digest.Hasher(.md5)
        var at = 0
        var burst = 0
        while at < blob.size {
            let count = min(1 << 20, blob.size - at)
            let piece = try await blob.read(offset: at, length: count)
            // On a thread of its own: the cooperative ones belong to requests.
            try await BlockingPool.run { () throws(CloudError) in piece.withUnsafeReadableBytes { md5.update($0) } }
            at += count
            burst += count
            if burst >= Scrub.burst {
                try await spent(burst)
                burst = 0
            }
        }
        try await spent(burst)
        return Hex.encode(md5.finish())
    }

    static func problem(_ row: GarbageStore.InlineObject) -> String? {
        guard row.bytes.count == row.size else { return "has \(row.bytes.count) bytes in its row, not \(row.size)" }
        // An inline copy of a multipart object does not exist: its ETag is always an MD5.
        return Hex.encode(Digest.md5(row.bytes)) == row.etag ? nil : "has other bytes in its row than were stored"
    }
}

extension GarbageStore.InlineObject {
    var owner: String { "bucket \(bucket) key \(String(decoding: key, as: UTF8.self))" }
}

/// Runs the scrub for as long as the daemon runs.
struct ScrubService: Service {
    let scrub: Scrub

    func run() async throws {
        guard scrub.rate > 0 else { return try await gracefulShutdown() }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                var wait: Int
                do throws(CloudError) { wait = try await scrub.step() } catch {
                    scrub.logger.warning("scrub", metadata: ["error": "\(error.message) \(error.context)"])
                    wait = 10_000
                }
                if wait > 0 { try? await scrub.clock.sleep(milliseconds: wait) }
            }
        }
    }
}
