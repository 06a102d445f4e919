import Database
import Domain
import Logging
import Workflow

/// Removes what nobody owns any more. Takes no input: a start, the timer and a nudge are the same (`ARCHITECTURE.md` §4).
///
/// - *garbage*: blobs whose row was deleted. They rest for a while, because a reader may hold the old row and not yet the open file; blobs
///   that are read piece by piece are left alone. File first, row after: a crash in between makes the next pass find nothing to unlink.
/// - *incoming*: blobs that crashed uploads left, and those that were committed but not settled. A blob without a row is removed only when
///   it is old: a COMMIT whose answer was lost may still be on its way.
/// - *uploads* that were completed long ago are forgotten: nobody repeats that request any more.
struct Collector: Sendable {
    let core: WalrusCore
    let limits: CollectorLimits

    func pass() async -> ReconcileReport {
        var report = ReconcileReport()
        await step("incoming", &report) { () async throws(CloudError) in try await incoming() }
        await step("garbage", &report) { () async throws(CloudError) in try await garbage() }
        await step("uploads", &report) { () async throws(CloudError) in
            let before = core.clock.now().adding(milliseconds: -Int64(limits.uploadMemoryMilliseconds))
            let n = try await core.pool.transaction(isolation: .readCommitted) { try UploadStore.uploadForgetCompleted($0, before: before) }
            return (n, n, false)
        }
        return report
    }

    private func step(
        _ name: String, _ report: inout ReconcileReport,
        _ body: () async throws(CloudError) -> (examined: Int, changed: Int, again: Bool)
    ) async {
        do throws(CloudError) {
            let (examined, changed, again) = try await body()
            report.examined += examined
            report.changed += changed
            report.again = report.again || again
        } catch {
            report.failures.append("\(name): \(error.message) \(error.context)")
            core.logger.warning("upkeep", metadata: ["step": "\(name)", "error": "\(error.message) \(error.context)"])
        }
    }

    private func incoming() async throws(CloudError) -> (Int, Int, Bool) {
        let found = try await core.bytes.incoming()
        guard !found.isEmpty else { return (0, 0, false) }
        let ids = found.map(\.id)
        let owned = try await core.pool.read { try GarbageStore.owned($0, ids) }
        var changed = 0
        for id in ids where owned.contains(id.text) {
            try await core.bytes.settle(id)
            changed += 1
        }
        let old = found.filter { !owned.contains($0.id.text) && $0.ageMilliseconds >= limits.incomingMilliseconds }.map(\.id)
        try await core.bytes.remove(old)
        if !old.isEmpty { core.logger.notice("removed leftovers of broken uploads", metadata: ["blobs": "\(old.count)"]) }
        return (found.count, changed + old.count, false)
    }

    private func garbage() async throws(CloudError) -> (Int, Int, Bool) {
        let before = core.clock.now().adding(milliseconds: -Int64(limits.garbageMilliseconds))
        let batch = limits.batch
        let all = try await core.pool.read { try GarbageStore.garbageList($0, before: before, limit: batch) }
        let free = all.filter { !core.leases.isHeld($0) }
        guard !free.isEmpty else { return (all.count, 0, false) }
        try await core.bytes.remove(free)
        try await core.pool.transaction(isolation: .readCommitted) { try GarbageStore.garbageForget($0, free) }
        return (all.count, free.count, all.count == batch && free.count == all.count)
    }
}

/// Each says what goes wrong when it is too high and too low.
struct CollectorLimits: Sendable {
    /// Between passes. Too high: deleted bytes take space for longer; too low: idle work.
    var periodMilliseconds = 10_000
    /// Rest of a deleted blob. Too low: a reader between row and file must look again; too high: space.
    var garbageMilliseconds = 30_000
    /// Age of an unowned incoming blob. Must be longer than a database transaction may take (60 s, `Database`); too high: space.
    var incomingMilliseconds = 600_000
    /// How long a repeated CompleteMultipartUpload is answered.
    var uploadMemoryMilliseconds = 86_400_000
    /// Blobs per pass.
    var batch = 1000
}
