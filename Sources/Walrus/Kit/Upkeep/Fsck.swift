public import Database
public import Domain
import NIOCore
import Signing

/// What a check of the whole store found.
public struct FsckReport: Sendable {
    /// Rows of bytes on disk that were looked at, inline objects, and their bytes.
    public var blobs = 0
    public var inlineObjects = 0
    public var bytes = 0
    /// Deleted blobs that the collector has not removed yet, and blobs of uploads under way: no defects.
    public var garbage = 0
    public var underWay = 0
    /// A row without its bytes, or with other bytes: lost data.
    public var damaged: [String] = []
    /// Bytes without a row.
    public var orphans: [String] = []
    /// Parts without an upload or object.
    public var ownerlessParts: [String] = []
    public var repaired = 0

    public init() {}
    public var isClean: Bool { damaged.isEmpty && orphans.isEmpty && ownerlessParts.isEmpty }
}

/// Proves that every row has its bytes with the right size and digest, and every byte its row. Reads the store once, a 256th at a time, so
/// that memory does not grow with it. Repair removes bytes and parts without an owner; lost data it names and puts into
/// quarantine.
public struct Fsck: Sendable {
    let pool: DatabasePool
    let bytes: any ObjectBytes
    let now: Timestamp
    /// Blobs without a row that are younger may belong to an upload whose commit is under way.
    let settleMilliseconds: Int

    public init(pool: DatabasePool, bytes: any ObjectBytes, now: Timestamp, settleMilliseconds: Int = 600_000) {
        self.pool = pool
        self.bytes = bytes
        self.now = now
        self.settleMilliseconds = settleMilliseconds
    }

    /// - Parameters:
    ///   - progress: called after each 256th.
    public func run(repair: Bool, progress: @Sendable (Int) -> Void = { _ in }) async throws(CloudError) -> FsckReport {
        var report = FsckReport()
        var damaged: [String: String] = [:]
        for first in 0..<256 {
            try await check(prefix: Hex.encode([UInt8(first)]), repair: repair, &report, &damaged)
            progress(first + 1)
        }
        try await checkIncoming(repair: repair, &report)
        let before = report.damaged.count
        try await checkInline(&report)
        if report.damaged.count > before { damaged[ScrubStore.inlineMark] = "\(report.damaged.count - before) objects" }
        if repair { try await quarantine(damaged) }
        report.damaged += try await pool.read { try GarbageStore.brokenMultipart($0) }.map { "\($0): its parts do not add up to it" }
        let parts = try await pool.read { try GarbageStore.ownerlessParts($0) }
        report.ownerlessParts = parts.map(\.text)
        if repair, !parts.isEmpty {
            let now = now
            try await pool.transaction { try GarbageStore.partsForget($0, parts, now: now) }
            report.repaired += parts.count
        }
        return report
    }

    private func check(
        prefix: String, repair: Bool, _ report: inout FsckReport, _ damaged: inout [String: String]
    ) async throws(CloudError) {
        // Files before rows: what is written in between has a row and shows as neither.
        let files = try await bytes.settled(prefix: prefix)
        let expected = try await pool.read { try GarbageStore.expected($0, prefix: prefix) }
        for row in expected {
            report.blobs += 1
            var read = 0
            let problem = try await BlobCheck.problem(row, bytes, pool) { read += $0 }
            report.bytes += read
            if let problem {
                report.damaged.append("\(row.owner): blob \(row.blob) \(problem)")
                damaged[row.blob.text] = "\(row.owner) \(problem)"
            }
        }
        let known = Set(expected.map(\.blob.text))
        let unknown = files.map(\.id).filter { !known.contains($0.text) }
        guard !unknown.isEmpty else { return }
        let (garbage, owned) = try await pool.read { t in (try GarbageStore.inGarbage(t, unknown), try GarbageStore.owned(t, unknown)) }
        report.garbage += garbage.count
        let orphans = unknown.filter { !garbage.contains($0.text) && !owned.contains($0.text) }
        report.orphans += orphans.map(\.text)
        if repair, !orphans.isEmpty {
            try await bytes.remove(orphans)
            report.repaired += orphans.count
        }
    }

    /// What is damaged is not served from now on, and what is right again is.
    private func quarantine(_ damaged: [String: String]) async throws(CloudError) {
        let now = now
        try await pool.transaction { t in
            let held = Set(try ScrubStore.quarantineList(t))
            try ScrubStore.quarantineRemove(t, held.filter { damaged[$0] == nil })
            for (blob, problem) in damaged { try ScrubStore.quarantineAdd(t, blob, problem: problem, now: now) }
        }
    }

    private func checkIncoming(repair: Bool, _ report: inout FsckReport) async throws(CloudError) {
        let found = try await bytes.incoming()
        let ids = found.map(\.id)
        let owned = try await pool.read { try GarbageStore.owned($0, ids) }
        for (id, age) in found where !owned.contains(id.text) {
            if age < settleMilliseconds {
                report.underWay += 1
                continue
            }
            report.orphans.append(id.text)
            if repair {
                try await bytes.remove([id])
                report.repaired += 1
            }
        }
    }

    private func checkInline(_ report: inout FsckReport) async throws(CloudError) {
        try await checkInline(live: true, &report)
        try await checkInline(live: false, &report)
    }

    private func checkInline(live: Bool, _ report: inout FsckReport) async throws(CloudError) {
        var last: GarbageStore.InlineObject?
        while true {
            let after = last
            let page = try await pool.read { t in try GarbageStore.inlineObjects(t, live: live, after: after, limit: 500) }
            for row in page {
                report.inlineObjects += 1
                report.bytes += row.bytes.count
                if let problem = BlobCheck.problem(row) { report.damaged.append("\(row.owner): \(problem)") }
            }
            guard let end = page.last else { return }
            last = end
        }
    }
}

extension FsckReport {
    /// For people: a line per defect, and a summary.
    public var lines: [String] {
        var lines = damaged.map { "damaged: \($0)" }
        lines += orphans.map { "orphan: blob \($0) has no row" }
        lines += ownerlessParts.map { "orphan: part \($0) has no upload and no object" }
        lines.append(
            "\(blobs) blobs and \(inlineObjects) inline objects (\(bytes) bytes) checked, \(garbage) deleted and \(underWay) under way: "
                + (isClean ? "clean" : "\(damaged.count) damaged, \(orphans.count + ownerlessParts.count) orphans, \(repaired) removed"))
        return lines
    }
}
