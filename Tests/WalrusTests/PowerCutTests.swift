import Daemon
import Database
import Domain
import Glibc
import Identity
import Logging
import ServiceLifecycle
import Signing
import Synchronization
import TestKit
import Testing
import Workflow

@testable import WalrusKit

/// Writes down the calls that change the disk, each with what the database held just before it.
final class RecordingDisk: DiskCalls {
    enum Event: Equatable {
        case create(String)
        case write(String, [UInt8])
        case sync(String)
        case syncFolder(String)
        case rename(String, String)
        case unlink(String)
        case makeFolder(String)
    }
    /// What the committed rows say of blobs.
    struct Truth: Equatable {
        var owned: [String: String] = [:]
        var garbage: Set<String> = []
    }
    struct Entry {
        var event: Event
        let before: Truth
    }
    private struct State {
        var entries: [Entry] = []
        var paths: [Int32: String] = [:]
    }
    private let state = Mutex(State())
    private let pool: DatabasePool

    init(_ pool: DatabasePool) { self.pool = pool }

    var entries: [Entry] { state.withLock { $0.entries } }

    static func truth(_ pool: DatabasePool) async throws -> Truth {
        var truth = Truth()
        let rows = try await pool.query(
            """
            SELECT blob, COALESCE(stored_md5, etag) AS md5, true AS owned FROM walrus.objects WHERE blob IS NOT NULL
            UNION ALL SELECT blob, COALESCE(stored_md5, etag), true FROM walrus.parts UNION ALL SELECT blob, '', false FROM walrus.garbage
            """)
        for row in rows {
            if row.bool("owned") { truth.owned[row.text("blob")] = row.text("md5") } else { truth.garbage.insert(row.text("blob")) }
        }
        return truth
    }

    /// On a disk thread: waits for the database's answer.
    private func truthNow() -> Truth {
        let answer = Mutex<Truth?>(nil)
        let holder = Holder(answer: answer)
        let pool = pool
        Task { holder.set((try? await Self.truth(pool)) ?? Truth()) }
        while true {
            if let truth = holder.get() { return truth }
            usleep(200)
        }
    }
    private final class Holder: Sendable {
        private let answer: Mutex<Truth?>
        init(answer: consuming Mutex<Truth?>) { self.answer = answer }
        func set(_ truth: Truth) { answer.withLock { $0 = truth } }
        func get() -> Truth? { answer.withLock { $0 } }
    }

    /// The call and its record are one step, so that the record's order is the disk's.
    private func record<R>(_ event: (inout State) -> Event, _ call: (inout State) -> R) -> R {
        let before = truthNow()
        return state.withLock { s in
            let code = errno
            s.entries.append(Entry(event: event(&s), before: before))
            errno = code
            return call(&s)
        }
    }

    private let system = SystemDisk()

    func create(_ path: String) -> Int32 {
        record { _ in
            .create(path)
        } _: { s in
            let descriptor = system.create(path)
            s.paths[descriptor] = path
            return descriptor
        }
    }
    func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        record { s in
            .write(s.paths[descriptor] ?? "", Array(bytes))
        } _: { _ in
            system.write(descriptor, bytes)
        }
    }
    func sync(_ descriptor: Int32) -> Int32 {
        record { s in
            .sync(s.paths[descriptor] ?? "")
        } _: { _ in
            system.sync(descriptor)
        }
    }
    func syncFolder(_ descriptor: Int32, _ path: String) -> Int32 {
        record { _ in
            .syncFolder(path)
        } _: { _ in
            system.syncFolder(descriptor, path)
        }
    }
    func rename(_ from: String, _ to: String) -> Int32 { named(.rename(from, to)) { system.rename(from, to) } }
    func unlink(_ path: String) -> Int32 { named(.unlink(path)) { system.unlink(path) } }
    func makeFolder(_ path: String) -> Int32 { named(.makeFolder(path)) { system.makeFolder(path) } }

    /// A call that failed changed nothing.
    private func named(_ event: Event, _ call: () -> Int32) -> Int32 {
        let before = truthNow()
        return state.withLock { s in
            let result = call()
            if result == 0 {
                let code = errno
                s.entries.append(Entry(event: event, before: before))
                errno = code
            }
            return result
        }
    }
}

/// What a disk may hold after a power cut behind `count` events.
struct CutDisk {
    enum Survival: CaseIterable {
        /// Only what was synced.
        case least
        /// All names, but of the bytes only those that were synced; the rest reads as zeros.
        case names
        /// Everything, as if the cut had come a moment later.
        case most
    }

    private(set) var files: [String: [UInt8]] = [:]

    init(_ events: [RecordingDisk.Event], count: Int, _ survival: Survival) {
        var contents: [[UInt8]] = []
        var durable: [Int] = []
        /// All names that the running system saw, and those that the disk has.
        var seen: [String: Int] = [:]
        var kept: [String: Int] = [:]
        for (index, event) in events[..<count].enumerated() {
            func isKept(_ folders: [String]) -> Bool {
                survival != .least
                    || events[(index + 1)..<count].contains { later in
                        if case .syncFolder(let folder) = later { folders.contains(folder) } else { false }
                    }
            }
            switch event {
            case .create(let path):
                contents.append([])
                durable.append(0)
                seen[path] = contents.count - 1
                if isKept([path.folder]) { kept[path] = contents.count - 1 }
            case .write(let path, let bytes):
                if let file = seen[path] { contents[file] += bytes }
            case .sync(let path):
                if let file = seen[path] { durable[file] = contents[file].count }
            case .rename(let from, let to):
                seen[to] = seen.removeValue(forKey: from)
                if isKept([from.folder, to.folder]), let file = kept.removeValue(forKey: from) { kept[to] = file }
            case .unlink(let path):
                seen[path] = nil
                if isKept([path.folder]) { kept[path] = nil }
            case .syncFolder, .makeFolder: break
            }
        }
        for (path, file) in kept {
            let whole = contents[file]
            switch survival {
            case .most: files[path] = whole
            case .least: files[path] = Array(whole[..<durable[file]])
            case .names: files[path] = Array(whole[..<durable[file]]) + [UInt8](repeating: 0, count: whole.count - durable[file])
            }
        }
    }

    /// What is wrong after the cut, given what the database has: rows without their bytes, and bytes that nobody will ever remove.
    func problems(_ truth: RecordingDisk.Truth) -> [String] {
        var problems: [String] = []
        var byName: [String: [(path: String, bytes: [UInt8])]] = [:]
        for (path, bytes) in files {
            byName[String(path[path.index(after: path.lastIndex(of: "/") ?? path.startIndex)...]), default: []].append((path, bytes))
        }
        for (blob, md5) in truth.owned {
            guard let found = byName[blob], !found.isEmpty else {
                problems.append("\(blob) is lost")
                continue
            }
            for file in found where Hex.encode(Digest.md5(file.bytes)) != md5 { problems.append("\(blob) has other bytes") }
        }
        for (name, found) in byName where truth.owned[name] == nil && !truth.garbage.contains(name) {
            for file in found where !file.path.folder.hasSuffix("/incoming") { problems.append("\(name) leaks") }
        }
        return problems
    }
}

/// The order of writes, syncs and commits, proved by cutting the power behind every call.
@Suite struct PowerCutTests {
    private static let body = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }

    /// Writes, overwrites, deletes, copies, uploads in parts and their ends, with the collector at their heels.
    private static func history() async throws -> (entries: [RecordingDisk.Entry], last: RecordingDisk.Truth) {
        let folder = TemporaryFolder()
        let url = try TransientPostgres.database()
        var logger = Logger(label: "power-cut")
        logger.logLevel = .critical
        let runtime = DaemonRuntime(name: "karri-walrus", logger: logger)
        let secret = [UInt8](repeating: 7, count: 32)
        let keyFile = folder.path + "/secret.key"
        try FileSystem.writeAtomically(Array(Hex.encode(secret).utf8), to: keyFile)
        let configuration = WalrusConfiguration(port: 0, databaseURL: url, dataDirectory: folder.path + "/data", secretKeyFile: keyFile)
        let pool = DatabasePool(url: url, size: 4, name: "walrus")
        let looking = DatabasePool(url: url, size: 1, name: "looking")
        defer { looking.close() }
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        let directory = try await IdentityDirectory.open(pool, secretKeyFile: keyFile, clock: runtime.clock, random: runtime.random)
        let account = try await directory.store.accountCreate(name: "alice")
        let key = try await directory.store.accessKeyCreate(account: account.id)
        let disk = RecordingDisk(looking)
        var limits = CollectorLimits()
        (limits.periodMilliseconds, limits.garbageMilliseconds) = (150, 1)
        let walrus = try await WalrusService.make(configuration, runtime, pool: pool, directory: directory, limits: limits, disk: disk)
        let group = ServiceGroup(configuration: .init(services: walrus.services, logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            let port = await walrus.server.waitUntilListening()
            let s3 = S3Client(endpoint: "http://127.0.0.1:\(port)", accessKeyID: key.id, secret: key.secret, clock: SystemClock())
            let result: Result<Void, any Error>
            do {
                try await s3.createBucket("power")
                for (n, name) in ["a", "b", "a", "c", "a"].enumerated() {
                    try await s3.put("power", name, .bytes(Array(body.dropFirst(n))))
                }
                try await s3.delete("power", "b")
                let upload = try await s3.createUpload("power", "m")
                _ = try await s3.uploadPart("power", "m", upload: upload, number: 1, .bytes(Array(body.dropFirst(50))))
                let part = try await s3.uploadPart("power", "m", upload: upload, number: 1, .bytes(Array(body.dropFirst(60))))
                try await s3.completeUpload("power", "m", upload: upload, parts: [part])
                try await Task.sleep(for: .milliseconds(600))
                try await s3.delete("power", "m")
                try await s3.put("power", "c", .bytes(Array(body.dropFirst(70))))
                try await Task.sleep(for: .milliseconds(600))
                result = .success(())
            } catch { result = .failure(error) }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
            try result.get()
        }
        let last = try await RecordingDisk.truth(looking)
        withExtendedLifetime(folder) {}
        return (disk.entries, last)
    }

    private static func problems(_ entries: [RecordingDisk.Entry], _ last: RecordingDisk.Truth) -> [String] {
        let events = entries.map(\.event)
        var found: [String] = []
        for cut in 0...events.count {
            // The database may have what it had before the last call, or what it has before the next.
            var truths = [cut < entries.count ? entries[cut].before : last]
            if cut > 0, entries[cut - 1].before != truths[0] { truths.append(entries[cut - 1].before) }
            for survival in CutDisk.Survival.allCases {
                let disk = CutDisk(events, count: cut, survival)
                for truth in truths { found += disk.problems(truth).map { "cut behind call \(cut), \(survival): \($0)" } }
            }
        }
        return found
    }

    @Test(.timeLimit(.minutes(2))) func nothingIsLostOrLeaksWhereverThePowerIsCut() async throws {
        let (entries, last) = try await Self.history()
        #expect(entries.count > 40)
        #expect(entries.contains { if case .unlink = $0.event { true } else { false } })
        #expect(last.owned.count == 2)
        let found = Self.problems(entries, last)
        #expect(found.isEmpty, "\(found.prefix(5))")

        // The test bites: without the sync of the bytes, of the names, or with the commit before them, it finds losses.
        let forgotten = entries.filter { if case .sync = $0.event { false } else { true } }
        #expect(Self.problems(forgotten, last).contains { $0.contains("other bytes") })
        let nameless = entries.filter { if case .syncFolder = $0.event { false } else { true } }
        #expect(Self.problems(nameless, last).contains { $0.contains("is lost") })
        var settledFirst = entries
        for index in settledFirst.indices {
            // As if files were made where they end up: a cut before the commit leaves them there without a row.
            if case .create(let path) = settledFirst[index].event {
                settledFirst[index].event = .create(path.replacing("/incoming/", with: "/objects/"))
            }
        }
        #expect(Self.problems(settledFirst, last).contains { $0.contains("leaks") })
    }
}
