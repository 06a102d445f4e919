import API
import Daemon
import Domain
import Glibc
import Testing
import Wire
import Workflow

@testable import NodeControllerKit

@Suite struct JournalTests {
    private func full() -> InstanceRecord {
        var order = NodeWorld.order("i-00000001", volumes: [NodeWorld.volume(1)])
        order.metadata = NC.InstanceMetadata(
            imageId: "emi-1", userData: [0, 1, 2, 255], launchTime: Timestamp(milliseconds: 1_700_000_000_123), tokensRequired: true,
            tags: [NC.KeyValue(key: "a\"b\\c\n\u{1}é", value: "<&>")])
        var record = InstanceRecord(instanceID: "i-00000001", desired: .stopped, generation: 7, order: order)
        record.startedGeneration = 6
        record.failure = "why"
        record.ending = "guest"
        record.force = true
        record.graceSeconds = 12
        record.shutdownAskedAt = Timestamp(milliseconds: 1_700_000_001_001)
        record.rebootCount = 3
        record.rebootsDone = 2
        record.rebootAskedAt = Timestamp(milliseconds: 1_700_000_002_002)
        record.endedAt = Timestamp(milliseconds: 1_700_000_003_003)
        record.note("accepted", at: Timestamp(milliseconds: 1_700_000_000_500))
        var volume = VolumeRecord(order: NodeWorld.volume(1), generation: 4, state: .detaching, target: "vdf")
        volume.export = .init(host: "h", port: 1, name: "secret", tlsHostname: "sc")
        volume.force = true
        volume.fenced = true
        volume.error = "e"
        volume.detachedAt = Timestamp(milliseconds: 1_700_000_004_004)
        record.volumes = [volume]
        return record
    }

    @Test func aRecordIsReadAsItWasWritten() throws {
        let record = full()
        let bytes = RecordText.encode(record.recordValue)
        #expect(try InstanceRecord(recordValue: RecordText.decode(bytes)) == record)
        var bundle = BundleRecord(taskID: "bun-00000001", instanceID: "i-00000001", imageName: "disk", recipients: ["PEM\nPEM"])
        bundle.parts = [.init(filename: "disk.part.0", digest: "aa", size: 5)]
        bundle.parts[0].uploaded = true
        bundle.encryptedKeys = ["00"]
        bundle.paused = true
        #expect(try BundleRecord(recordValue: RecordText.decode(RecordText.encode(bundle.recordValue))) == bundle)
    }

    @Test func everyTruncationAndManyDamagesAreErrorsNotCrashes() {
        let bytes = RecordText.encode(full().recordValue)
        for n in 0..<(bytes.count - 1) where (try? RecordText.decode(Array(bytes.prefix(n)))) != nil {
            Issue.record("\(n) bytes were taken for a record")
        }
        var seed: UInt64 = 42
        for _ in 0..<2000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            var damaged = bytes
            damaged[Int(seed >> 33) % bytes.count] = UInt8(truncatingIfNeeded: seed >> 20)
            if let value = try? RecordText.decode(damaged) { _ = try? InstanceRecord(recordValue: value) }
        }
        #expect(throws: CloudError.self) {
            try RecordText.decode([UInt8](repeating: UInt8(ascii: "["), count: 100_000))
        }
    }

    @Test func filesSurviveAndLeftoversGo() async throws {
        let root = "/tmp/karri-journal-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        defer { try? Folder.removeTree(root) }
        let journal = Journal(storage: FileJournalStorage(root: root))
        #expect(try await journal.open() == [])
        let record = full()
        try await journal.update(record.instanceID) { $0 = record }
        // A write that a kill cut off, and a record that a disk error damaged.
        try FileSystem.writeAtomically(Array("{\"half".utf8), to: root + "/instances/i-00000009.json.new")
        try FileSystem.writeAtomically(Array("{\"half".utf8), to: root + "/instances/i-00000008.json")
        let again = Journal(storage: FileJournalStorage(root: root))
        let damaged = try await again.open()
        #expect(damaged.count == 1)
        #expect(damaged[0].contains("i-00000008"))
        #expect(await again.instance(record.instanceID) == record)
        #expect(await again.startCount == 2)
        #expect(!FileSystem.exists(root + "/instances/i-00000009.json.new"))
        var info = stat()
        #expect(stat(root + "/instances/i-00000001.json", &info) == 0 && info.st_mode & 0o777 == 0o600)
        try await again.update(record.instanceID) { $0 = nil }
        #expect(!FileSystem.exists(root + "/instances/i-00000001.json"))
    }

    @Test func aWriteThatFailsChangesNothing() async throws {
        let storage = MemoryJournalStorage()
        let journal = Journal(storage: storage)
        _ = try await journal.open()
        let record = full()
        storage.fail(with: CloudError(.unavailable("disk")))
        await #expect(throws: CloudError.self) { try await journal.update(record.instanceID) { $0 = record } }
        #expect(await journal.instance(record.instanceID) == nil)
        storage.fail(with: nil)
        try await journal.update(record.instanceID) { $0 = record }
        #expect(await journal.instance(record.instanceID) == record)
    }

    @Test func tombstonesAreKeptForADayAtLeast() async throws {
        let journal = Journal(storage: MemoryJournalStorage())
        _ = try await journal.open()
        let record = full()
        try await journal.update(record.instanceID) { $0 = record }
        let ended = try #require(record.endedAt)
        try await journal.expire(now: ended.adding(seconds: 86_400))
        #expect(await journal.instance(record.instanceID) != nil)
        try await journal.expire(now: ended.adding(seconds: Journal.tombstoneSeconds + 1))
        #expect(await journal.instance(record.instanceID) == nil)
    }

    @Test func aGateLetsInAsManyAsItHasPlaces() async {
        let gate = Gate(2)
        let most = await withTaskGroup(of: Int.self) { group in
            let inside = Counter()
            for _ in 0..<20 {
                group.addTask {
                    await gate.enter()
                    let n = await inside.change(1)
                    for _ in 0..<10 { await Task.yield() }
                    _ = await inside.change(-1)
                    await gate.leave()
                    return n
                }
            }
            return await group.reduce(0) { max($0, $1) }
        }
        #expect(most == 2)
    }
    private actor Counter {
        var n = 0
        func change(_ by: Int) -> Int {
            n += by
            return n
        }
    }
}
