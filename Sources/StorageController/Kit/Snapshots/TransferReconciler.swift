import Domain
public import Workflow

/// Sends complete copies to the object store, and makes volumes of snapshots. Takes no input; a part at a time, each recorded, so that a
/// restart goes on where it was. At most `parallel` at once.
public struct TransferReconciler: Sendable {
    /// Too low: one big snapshot holds up all small ones; too high: memory (a part each) and the disk's patience.
    public static let parallel = 3
    private let environment: StorageEnvironment

    public init(_ environment: StorageEnvironment) { self.environment = environment }

    private enum Work: Sendable {
        case send(SnapshotID)
        case fetch(VolumeID)
        var name: String {
            switch self {
            case .send(let id): id.text
            case .fetch(let id): id.text
            }
        }
    }

    public func runOnce() async -> ReconcileReport {
        var report = ReconcileReport()
        var work: [Work] = []
        do throws(CloudError) {
            for row in try await environment.store.snapshotsUnfinished() where row.state == .uploading && !row.isDeleted {
                work.append(.send(row.id))
            }
            for row in try await environment.store.volumesUnfinished() where row.snapshot != nil && !row.isDeleted {
                work.append(.fetch(row.id))
            }
        } catch {
            report.failures.append("transfers: \(error.message) \(error.context)")
            return report
        }
        report.examined = work.count
        await withTaskGroup(of: String?.self) { group in
            var rest = work[...]
            for _ in 0..<Self.parallel {
                guard let next = rest.popFirst() else { break }
                group.addTask { await perform(next) }
            }
            while let failure = await group.next() {
                if let failure { report.failures.append(failure) } else { report.changed += 1 }
                if !Task.isCancelled, let next = rest.popFirst() { group.addTask { await perform(next) } }
            }
        }
        return report
    }

    /// Held for as long as a transfer takes; so not the lock of the resource, which answers to requests need. A transfer ends after
    /// its next part when the resource should go.
    static func lock(_ id: String) -> String { "transfer:\(id)" }

    /// - Returns: what went wrong.
    private func perform(_ work: Work) async -> String? {
        do throws(CloudError) {
            try await environment.locks.hold(Self.lock(work.name)) { () async throws(CloudError) in
                switch work {
                case .send(let id): try await send(id)
                case .fetch(let id): try await fetch(id)
                }
            }
            return nil
        } catch {
            return "\(work.name): \(error.message) \(error.context)"
        }
    }

    // MARK: up

    private func send(_ id: SnapshotID) async throws(CloudError) {
        guard let row = try await environment.store.snapshotFetch(id), row.state == .uploading, !row.isDeleted else { return }
        guard let bytes = row.bytes, let sha256 = row.sha256 else { throw .bug("\(id) is to be sent and has no digest") }
        let parts = SnapshotManifest.parts(bytes)
        for part in row.partsSent..<max(parts, row.partsSent) {
            try Self.checkCancellation()
            let content = try await environment.backend.captureRead(
                id.text, at: part * SnapshotManifest.partBytes,
                count: min(SnapshotManifest.partBytes, bytes - part * SnapshotManifest.partBytes))
            try await environment.faults.point("sc.upload.part")
            try await environment.objects.put(SnapshotManifest.key(id, part: part), content)
            try await environment.faults.point("sc.upload.partSent")
            let progress = 50 + (part + 1) * 49 / parts
            guard try await environment.store.snapshotPartSent(id, parts: part + 1, progress: progress, now: environment.clock.now()) else {
                environment.snapshotsNudge.signal()
                return
            }
        }
        try await environment.objects.put(SnapshotManifest.key(id), Array(SnapshotManifest(row, bytes: bytes, sha256: sha256).json.utf8))
        try await environment.faults.point("sc.upload.manifest")
        // First the copy, then the row: a copy without a row would stay for ever.
        try await environment.locks.hold(row.volume.text) { () async throws(CloudError) in
            try await environment.backend.captureDelete(id.text, of: row.volume.text)
        }
        try await environment.faults.point("sc.upload.copyDeleted")
        try await environment.store.snapshotRecord(id, from: .uploading, to: .completed, progress: 100, now: environment.clock.now())
        environment.volumesNudge.signal()
    }

    // MARK: down

    private func fetch(_ id: VolumeID) async throws(CloudError) {
        guard let row = try await environment.store.volumeFetch(id), row.state == .creating, !row.isDeleted, let snapshot = row.snapshot
        else { return }
        do throws(CloudError) {
            try await restore(row, snapshot)
        } catch {
            let now = environment.clock.now()
            guard case .named(code: "SnapshotDamaged", _) = error.reason else {
                try await environment.store.volumeRecord(id, from: .creating, to: .creating, error: error.message, now: now)
                throw error
            }
            try await environment.backend.restoreAbandon(id.text)
            try await environment.store.volumeRecord(id, from: .creating, to: .failed, error: error.message, now: now)
        }
    }

    private func restore(_ row: VolumeRecord, _ snapshot: SnapshotID) async throws(CloudError) {
        let id = row.id.text
        if try await environment.backend.volumeBytes(id) == nil {
            guard let text = try await environment.objects.get(SnapshotManifest.key(snapshot)) else {
                throw .snapshotDamaged("\(snapshot) is not in the object store")
            }
            let manifest = try SnapshotManifest(text, for: snapshot)
            guard manifest.sizeGiB <= row.sizeGiB else {
                throw .snapshotDamaged("\(snapshot) has \(manifest.sizeGiB) GiB and does not fit into \(row.sizeGiB)")
            }
            // Whole parts only: the last one may have been written by half.
            let first = try await environment.backend.restoreOffset(id) / SnapshotManifest.partBytes
            let parts = SnapshotManifest.parts(manifest.bytes)
            for part in min(first, parts)..<parts {
                try Self.checkCancellation()
                let expected = min(SnapshotManifest.partBytes, manifest.bytes - part * SnapshotManifest.partBytes)
                guard let content = try await environment.objects.get(SnapshotManifest.key(snapshot, part: part)), content.count == expected
                else { throw .snapshotDamaged("part \(part) of \(snapshot) is missing or of a wrong length") }
                try await environment.faults.point("sc.restore.part")
                try await environment.backend.restoreWrite(id, at: part * SnapshotManifest.partBytes, content)
                try await environment.faults.point("sc.restore.partWritten")
                if try await environment.store.volumeFetch(row.id)?.isDeleted != false {
                    environment.volumesNudge.signal()
                    return
                }
            }
            try await environment.backend.restoreFinish(id, bytes: row.bytes, sha256: manifest.sha256)
            try await environment.faults.point("sc.restore.finished")
        }
        try await environment.store.volumeRecord(row.id, from: .creating, to: .available, now: environment.clock.now())
    }

    private static func checkCancellation() throws(CloudError) {
        if Task.isCancelled { throw CloudError(.unavailable("The storage controller"), context: "it is stopping") }
    }
}
