import Daemon
import Database
import Domain
import Glibc
import NIOCore
import NIOPosix
import Signing
import Synchronization
import TestKit
import Testing
import Workflow

@testable import WalrusKit

/// A folder that goes with the test.
final class TemporaryFolder: Sendable {
    let path: String
    init() {
        var template = Array("/tmp/karri-walrus-test-XXXXXX".utf8CString)
        path = mkdtemp(&template) == nil ? "/tmp" : String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit { if path.hasPrefix("/tmp/karri-walrus-test-") { system("rm -rf \(path)") } }
}

/// A clock that tests turn.
final class TestClock: Clock {
    private let time = Mutex<Int64>(1_700_000_000_000)
    func now() -> Timestamp { Timestamp(milliseconds: time.withLock { $0 }) }
    func monotonic() -> Int64 { time.withLock { $0 * 1_000_000 } }
    func sleep(milliseconds: Int) async throws { try await Task.sleep(for: .milliseconds(milliseconds)) }
    func turn(milliseconds: Int) { time.withLock { $0 += Int64(milliseconds) } }
}

private func migratedPool() async throws -> DatabasePool {
    let pool = try TransientPostgres.pool()
    try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
    return pool
}

private func bucket(_ pool: DatabasePool, _ name: String = "bucket") async throws -> BucketRecord {
    try await pool.transaction { t in
        try BucketStore.bucketCreate(
            t, name: name, account: "1", region: "r", now: Timestamp(milliseconds: 1), acl: AccessControlList([])
        ).bucket
    }
}

private func object(_ key: String, _ content: ObjectContent = .inline([1]), etag: String = "e") throws -> ObjectRecord {
    ObjectRecord(
        key: try ObjectKey(Array(key.utf8)), size: 1, etag: etag, modified: Timestamp(milliseconds: 5), account: "1",
        acl: AccessControlList([]),
        attributes: ObjectAttributes(), checksum: nil, content: content)
}

@Suite struct ListPagingTests {
    /// Entries by the book: all keys in order, cut at the delimiter, without repetition.
    private func model(_ keys: [[UInt8]], _ prefix: [UInt8], _ delimiter: [UInt8]) -> [[UInt8]] {
        var out: [[UInt8]] = []
        for key in keys where key.starts(with: prefix) {
            var entry = key
            if !delimiter.isEmpty, key.count >= prefix.count + delimiter.count {
                for at in prefix.count...(key.count - delimiter.count) where key[at..<at + delimiter.count].elementsEqual(delimiter) {
                    entry = Array(key[..<(at + delimiter.count)])
                    break
                }
            }
            if out.last != entry { out.append(entry) }
        }
        return out
    }

    @Test func pagesAgreeWithTheModel() async throws {
        let pool = try await migratedPool()
        defer { pool.close() }
        let bucket = try await bucket(pool)
        var seed: UInt64 = 42
        func next(_ n: Int) -> Int {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(seed >> 33) % n
        }
        let letters = ["a", "b", "/", "//", "é", "\u{10FFFF}", "-", "0", "\u{1}", "A"]
        var keys: Set<String> = []
        for _ in 0..<400 { keys.insert((0..<(1 + next(6))).map { _ in letters[next(letters.count)] }.joined()) }
        let objects = try keys.map { try object($0) }
        try await pool.transaction { t in for o in objects { try ObjectStore.objectPut(t, bucket: bucket.id, o) { _ in } } }
        let sorted = keys.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
        for prefix in ["", "a", "/", "é", "b/", "none", "\u{10FFFF}"] {
            for delimiter in ["", "/", "//", "é", "\u{10FFFF}"] {
                for limit in [1, 3, 1000] {
                    var query = ListQuery(prefix: Array(prefix.utf8), delimiter: Array(delimiter.utf8), after: [], maxKeys: limit)
                    var seen: [[UInt8]] = []
                    while true {
                        let q = query
                        let page = try await pool.read {
                            try ListStore.listPage(
                                $0, bucket: bucket.id, prefix: q.prefix, delimiter: q.delimiter, reach: q.reach, limit: q.maxKeys)
                        }
                        seen += page.map(\.key)
                        guard let last = page.last else { break }
                        query.after = last.key
                    }
                    #expect(seen == model(sorted, query.prefix, query.delimiter), "prefix \(prefix) delimiter \(delimiter) limit \(limit)")
                }
            }
        }
    }

    /// A page over a few common prefixes must not read the keys in them.
    @Test func skippedPrefixesCostNothing() async throws {
        let pool = try await migratedPool()
        defer { pool.close() }
        let bucket = try await bucket(pool)
        try await pool.transaction { t in
            try t.execute(
                """
                INSERT INTO walrus.objects (bucket, key, size, etag, modified, account, grants, headers, metadata, inline)
                SELECT $1, convert_to('dir' || (n % 5) || '/' || n, 'UTF8'), 0, '', 0, '1', '{}', '{}', '{}', '' FROM generate_series(1, 20000) n
                """, SQLValue(bucket.id))
        }
        try await pool.transaction { t in try t.script("ANALYZE walrus.objects") }
        let (entries, fetched) = try await pool.read { t in
            let before = try t.execute(
                "SELECT COALESCE(sum(idx_tup_fetch), 0)::bigint AS n FROM pg_stat_xact_user_tables WHERE relname = 'objects'")[0].int("n")
            let entries = try ListStore.listPage(t, bucket: bucket.id, prefix: [], delimiter: [0x2f], reach: [], limit: 1001)
            let after = try t.execute(
                "SELECT COALESCE(sum(idx_tup_fetch), 0)::bigint AS n FROM pg_stat_xact_user_tables WHERE relname = 'objects'")[0].int("n")
            return (entries, after - before)
        }
        #expect(entries.map { String(decoding: $0.key, as: UTF8.self) } == (0..<5).map { "dir\($0)/" })
        #expect(fetched < 200, "\(fetched) rows read for 5 entries")
    }
}

@Suite struct ObjectStoreTests {
    /// Of writers that all want to be the first, one is; each replaced blob is handed to the collector exactly once.
    @Test func concurrentPutsHaveASerialOrder() async throws {
        let pool = try await migratedPool()
        defer { pool.close() }
        let bucket = try await bucket(pool)
        let wins = try await withThrowingTaskGroup(of: Bool.self) { group in
            for n in 0..<16 {
                group.addTask {
                    let new = try object("first", .blob(BlobID(random: [UInt8](repeating: UInt8(n), count: 16))), etag: "e\(n)")
                    do {
                        try await pool.transaction(isolation: .readCommitted) { t in
                            try ObjectStore.objectPut(t, bucket: bucket.id, new) {
                                try Preconditions(ifNoneMatch: "*").write(current: $0?.etag, key: "first")
                            }
                        }
                        return true
                    } catch let error as CloudError {
                        #expect(S3ErrorCode.of(error).code == "PreconditionFailed")
                        return false
                    }
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(wins == 1)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for n in 0..<16 {
                group.addTask {
                    let new = try object("last", .blob(BlobID(random: [UInt8](repeating: UInt8(100 + n), count: 16))))
                    try await pool.transaction(isolation: .readCommitted) { try ObjectStore.objectPut($0, bucket: bucket.id, new) { _ in } }
                }
            }
            try await group.waitForAll()
        }
        let garbage = try await pool.read { try GarbageStore.garbageList($0, before: Timestamp(milliseconds: 10), limit: 100) }
        #expect(Set(garbage.map(\.text)).count == 15 && garbage.count == 15)
    }

    @Test func deletedBucketsTakeNoObjects() async throws {
        let pool = try await migratedPool()
        defer { pool.close() }
        let bucket = try await bucket(pool)
        try await pool.transaction { try BucketStore.bucketDelete($0, name: "bucket", now: Timestamp(milliseconds: 1)) }
        let new = try object("k")
        do {
            try await pool.transaction(isolation: .readCommitted) { try ObjectStore.objectPut($0, bucket: bucket.id, new) { _ in } }
            Issue.record("the object went into a bucket that is gone")
        } catch { #expect(S3ErrorCode.of(error).code == "NoSuchBucket") }
    }

    @Test func everythingComesBack() async throws {
        let pool = try await migratedPool()
        defer { pool.close() }
        let made = try await bucket(pool)
        var o = try object("ключ\u{0}/x", .inline(Array(0...255)))
        o.attributes = ObjectAttributes(
            headers: [("content-type", "a\"b\\c"), ("expires", "x,y")], metadata: [("k", "{}"), ("ü", "")], tags: [("a", "NULL")],
            storageClass: "GLACIER")
        o.checksum = StoredChecksum(.crc64nvme, .fullObject, "AAAA")
        o.acl = AccessControlList([.init(.allUsers, .read)])
        let stored = o
        try await pool.transaction { try ObjectStore.objectPut($0, bucket: made.id, stored) { _ in } }
        let found = try await pool.read { try ObjectStore.objectFetch($0, bucket: "bucket", key: stored.key, withBytes: true) }
        #expect(found.object == stored)
        #expect(found.bucket == made)
    }
}

@Suite struct LocalBytesTests {
    private func id(_ n: UInt8) -> BlobID { BlobID(random: [UInt8](repeating: n, count: 16)) }

    @Test func theLifeOfABlob() async throws {
        let folder = TemporaryFolder()
        let bytes = try LocalBytes(root: folder.path, pool: .singleton)
        let writer = try await bytes.create(id(1))
        let seen = Mutex<[UInt8]>([])
        try await writer.append(ByteBuffer(bytes: [1, 2, 3])) { raw in seen.withLock { $0 += raw } }
        try await writer.append(ByteBuffer(bytes: [4])) { raw in seen.withLock { $0 += raw } }
        #expect(try await bytes.incoming().isEmpty, "what this process is writing is nobody's leftover")
        try await writer.makeDurable()
        #expect(seen.withLock { $0 } == [1, 2, 3, 4])
        #expect(try await bytes.incoming().map(\.id) == [id(1)])
        // Readable before and after it is settled; settling twice is once.
        for _ in 0..<2 {
            let blob = try #require(try await bytes.open(id(1)))
            #expect(blob.size == 4)
            #expect(try await Array(blob.read(offset: 1, length: 2).readableBytesView) == [2, 3])
            try await bytes.settle(id(1))
        }
        #expect(try await bytes.incoming().isEmpty)
        #expect(try await bytes.settled(prefix: "01").map(\.id) == [id(1)])
        // An open blob outlives its name.
        let open = try #require(try await bytes.open(id(1)))
        try await bytes.remove([id(1), id(2)])
        #expect(try await bytes.open(id(1)) == nil)
        #expect(try await Array(open.read(offset: 0, length: 4).readableBytesView) == [1, 2, 3, 4])
        do {
            _ = try await open.read(offset: 2, length: 9)
            Issue.record("read past the end")
        } catch { #expect(error.reason == .bug) }
    }

    @Test func abandonedAndDroppedWritersLeaveNothing() async throws {
        let folder = TemporaryFolder()
        let bytes = try LocalBytes(root: folder.path, pool: .singleton)
        let writer = try await bytes.create(id(1))
        try await writer.append(ByteBuffer(bytes: [1])) { _ in }
        await writer.abandon()
        await writer.abandon()
        do {
            let dropped = try await bytes.create(id(2))
            try await dropped.append(ByteBuffer(bytes: [1])) { _ in }
        }
        #expect(try await bytes.incoming().isEmpty)
        #expect(try await bytes.open(id(1)) == nil)
        #expect(try await bytes.open(id(2)) == nil)
    }

    @Test func oneStoreHasOneMaster() throws {
        let folder = TemporaryFolder()
        let first = try LocalBytes(root: folder.path, pool: .singleton)
        #expect(throws: CloudError.self) { try LocalBytes(root: folder.path, pool: .singleton) }
        _ = try LocalBytes(root: folder.path, pool: .singleton, exclusive: false)
        withExtendedLifetime(first) {}
    }
}

@Suite struct SpaceLedgerTests {
    @Test func reservesAndRefusesWithNumbers() async throws {
        let folder = TemporaryFolder()
        let bytes = try LocalBytes(root: folder.path, pool: .singleton)
        let free = try await bytes.capacity().free
        // Others use the file system too: margins of a GiB.
        let ledger = SpaceLedger(bytes: bytes, clock: SystemClock(), keepMiB: 0)
        let most = free - (4 << 30)
        var held: SpaceReservation? = try await ledger.reserve(most)
        #expect(ledger.reservedBytes == most)
        do {
            _ = try await ledger.reserve(6 << 30)
            Issue.record("promised the same space twice")
        } catch {
            #expect(S3ErrorCode.of(error) == ("InsufficientStorage", 507))
            #expect(error.message.contains("asked \(6 << 30) bytes"))
        }
        held?.written(most / 2)
        #expect(ledger.reservedBytes == most - most / 2)
        held = nil
        #expect(ledger.reservedBytes == 0)
    }
}
