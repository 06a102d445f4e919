import Daemon
import Database
import Domain
import Glibc
import Identity
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Signing
import Synchronization
import TestKit
import Testing
import Workflow

@testable import WalrusKit

/// A real Walrus in this process: its HTTP listener, PostgreSQL, the file system, and accounts in the identity schema.
struct TestWalrus: Sendable {
    struct User: Sendable {
        let account: Account
        let key: AccessKeyPair
    }
    let endpoint: String
    let folder: String
    let pool: DatabasePool
    let alice, bob, system: User

    func client(_ user: User) -> S3Client {
        S3Client(endpoint: endpoint, accessKeyID: user.key.id, secret: user.key.secret, clock: SystemClock())
    }

    static func run(
        limits: CollectorLimits = CollectorLimits(), buckets: BucketOptions = BucketOptions(),
        _ body: @escaping @Sendable (TestWalrus) async throws -> Void
    ) async throws {
        let folder = TemporaryFolder()
        let url = try TransientPostgres.database()
        var logger = Logger(label: "walrus-test")
        logger.logLevel = .critical
        let runtime = DaemonRuntime(name: "karri-walrus", logger: logger)
        let keyFile = folder.path + "/secret.key"
        try FileSystem.writeAtomically(Array(Hex.encode([UInt8](repeating: 7, count: 32)).utf8), to: keyFile)
        var configuration = WalrusConfiguration(
            port: 0, databaseURL: url, dataDirectory: folder.path + "/data", secretKeyFile: keyFile, domain: "s3.test")
        configuration.buckets = buckets
        let walrus = try await WalrusService.make(configuration, runtime)
        let pool = DatabasePool(url: url, size: 2, name: "test")
        let identity = IdentityStore(pool: pool, secretKey: [UInt8](repeating: 7, count: 32))
        func user(_ account: Account) async throws -> User {
            User(account: account, key: try await identity.accessKeyCreate(account: account.id))
        }
        let alice = try await user(identity.accountCreate(name: "alice"))
        let bob = try await user(identity.accountCreate(name: "bob"))
        let system = try await user(identity.systemAccountEnsure())
        let group = ServiceGroup(configuration: .init(services: walrus.services, logger: logger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            let port = await walrus.server.waitUntilListening()
            let world = TestWalrus(
                endpoint: "http://127.0.0.1:\(port)", folder: folder.path, pool: pool, alice: alice, bob: bob, system: system)
            let result: Result<Void, any Error>
            do { result = .success(try await body(world)) } catch { result = .failure(error) }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
            try result.get()
        }
        pool.close()
        withExtendedLifetime(folder) {}
    }
}

@Suite(.serialized) struct ServerTests {
    /// The daemons' own client: what images and snapshots go through.
    @Test func ourOwnClient() async throws {
        try await TestWalrus.run { w in
            let s3 = w.client(w.alice)
            try await s3.createBucket("images")
            try await s3.createBucket("images")
            #expect(try await s3.bucketExists("images"))
            #expect(try await !s3.bucketExists("no-such-bucket"))
            let small = Array("hello".utf8)
            let etag = try await s3.put("images", "a b/ü+1", .bytes(small), contentType: "text/plain", metadata: ["k": "v"])
            #expect(etag == Hex.encode(Digest.md5(small)))
            #expect(try await s3.get("images", "a b/ü+1") == small)
            let info = try #require(try await s3.head("images", "a b/ü+1"))
            #expect(info.size == 5 && info.etag == etag && info.contentType == "text/plain" && info.metadata == ["k": "v"])
            #expect(try await s3.head("images", "none") == nil)

            // From and to files, in parts.
            let path = w.folder + "/upload"
            let data = (0..<(11 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
            try FileSystem.writeAtomically(data, to: path)
            try await s3.put("images", "file", .file(path: path, offset: 0, length: data.count))
            try await s3.get("images", "file", into: .file(w.folder + "/download"))
            #expect(try FileSystem.read(w.folder + "/download", limit: 1 << 30) == data)
            let upload = try await s3.createUpload("images", "parts")
            var parts: [String] = []
            for n in 0..<3 {
                let from = n * 5 << 20
                let length = min(5 << 20, data.count - from)
                parts.append(
                    try await s3.uploadPart(
                        "images", "parts", upload: upload, number: n + 1, .file(path: path, offset: from, length: length)))
            }
            try await s3.completeUpload("images", "parts", upload: upload, parts: parts)
            #expect(try await s3.get("images", "parts") == data)
            try await s3.get("images", "parts", range: (5 << 20) - 3..<(5 << 20) + 7, into: .file(w.folder + "/range"))
            #expect(try FileSystem.read(w.folder + "/range", limit: 1 << 20) == Array(data[(5 << 20) - 3..<(5 << 20) + 7]))
            #expect(try await s3.list("images").map(\.key) == ["a b/ü+1", "file", "parts"])

            // Presigned addresses, as node controllers use them.
            let http = HTTPClient()
            let got = try await http.execute(HTTPClientRequest("GET", url: s3.presignGet("images", "a b/ü+1", expires: 60)))
            #expect(got.status == 200 && got.body == small)
            let put = try await http.execute(
                HTTPClientRequest("PUT", url: s3.presignPut("images", "put", expires: 60), body: .bytes([1, 2])))
            #expect(put.status == 200)
            let wrong = try await http.execute(
                HTTPClientRequest("PUT", url: s3.presignGet("images", "put", expires: 60), body: .bytes([1, 2])))
            #expect(wrong.status == 403)

            // Rights: another account has none, the cloud has all.
            for call in [{ try await w.client(w.bob).get("images", "put") }] as [@Sendable () async throws -> [UInt8]] {
                do {
                    _ = try await call()
                    Issue.record("another account could read")
                } catch let error as CloudError { #expect(error.reason == .forbidden(action: "s3") || S3ErrorCode.of(error).status == 403) }
            }
            try await w.client(w.system).put("images", "snapshot", .bytes([9]))
            #expect(try await s3.get("images", "snapshot") == [9])
            for key in ["a b/ü+1", "file", "parts", "put", "snapshot"] { try await s3.delete("images", key) }
            try await s3.deleteBucket("images")
        }
    }

    @Test func healthAndMetrics() async throws {
        try await TestWalrus.run { w in
            let http = HTTPClient()
            let health = try await http.execute(HTTPClientRequest("GET", url: w.endpoint + "/health"))
            #expect(health.status == 200 && String(decoding: health.body, as: UTF8.self).contains("\"karri-walrus\""))
            let refused = try await http.execute(HTTPClientRequest("GET", url: w.endpoint + "/"))
            #expect(refused.status == 403)
            #expect(String(decoding: refused.body, as: UTF8.self).contains("<Code>AccessDenied</Code>"))
            let metrics = try await http.execute(HTTPClientRequest("GET", url: w.endpoint + "/metrics"))
            let text = String(decoding: metrics.body, as: UTF8.self)
            #expect(text.contains("karri_walrus_requests_total{operation=\"ListBuckets\",status=\"403\"} 1"), "\(text)")
        }
    }

    /// Deleted and replaced bytes go, kept ones stay, and `fsck` agrees at every step.
    @Test func theCollectorLeavesNothingAndTakesNothing() async throws {
        try await TestWalrus.run { w in
            let s3 = w.client(w.alice)
            try await s3.createBucket("waste")
            let big = [UInt8](repeating: 1, count: 40_000)
            for n in 0..<6 { try await s3.put("waste", "k\(n)", .bytes(big + [UInt8(n)])) }
            for n in 0..<2 { try await s3.put("waste", "k\(n)", .bytes(big)) }
            for n in 2..<4 { try await s3.delete("waste", "k\(n)") }
            let upload = try await s3.createUpload("waste", "u")
            _ = try await s3.uploadPart("waste", "u", upload: upload, number: 1, .bytes(big))
            try await s3.abortUpload("waste", "u", upload: upload)

            let bytes = try LocalBytes(root: w.folder + "/data", pool: .singleton, exclusive: false)
            // A leftover of a crash: durable bytes whose commit never came; and one whose commit came but which was not settled.
            let leftover = BlobID(random: [UInt8](repeating: 0xaa, count: 16))
            let unsettled = BlobID(random: [UInt8](repeating: 0xbb, count: 16))
            for id in [leftover, unsettled] {
                let writer = try await bytes.create(id)
                try await writer.append(ByteBuffer(bytes: big)) { _ in }
                try await writer.makeDurable()
            }
            let record = try #require(
                try await w.pool.read {
                    try ObjectStore.objectFetch($0, bucket: "waste", key: try ObjectKey(Array("k5".utf8)), withBytes: true)
                }.object)
            let bucket = try #require(try await w.pool.read { try BucketStore.bucketFetch($0, "waste") })
            var copy = record
            copy.key = try ObjectKey(Array("unsettled".utf8))
            copy.size = big.count
            copy.etag = Hex.encode(Digest.md5(big))
            copy.content = .blob(unsettled)
            let object = copy
            try await w.pool.transaction { try ObjectStore.objectPut($0, bucket: bucket.id, object) { _ in } }

            let before = try await Fsck(pool: w.pool, bytes: bytes, now: SystemClock().now()).run(repair: false)
            #expect(before.isClean && before.garbage == 5 && before.underWay == 1, "\(before)")
            let strict = try await Fsck(pool: w.pool, bytes: bytes, now: SystemClock().now(), settleMilliseconds: 0).run(repair: false)
            #expect(strict.orphans == [leftover.text])

            let clock = TestClock()
            clock.turn(milliseconds: 100 * 365 * 86_400 * 1000 / 10)
            let ledger = SpaceLedger(bytes: bytes, clock: clock, keepMiB: 0)
            let directory = try await IdentityDirectory.open(
                w.pool, secretKeyFile: w.folder + "/secret.key", clock: clock, random: SystemRandom())
            let core = WalrusCore(
                pool: w.pool, bytes: bytes, intake: Intake(bytes: bytes, ledger: ledger, random: SystemRandom()), directory: directory,
                leases: BlobLeases(),
                clock: clock, random: SystemRandom(), logger: Logger(label: "t"), region: "r", domain: "")
            var limits = CollectorLimits()
            limits.incomingMilliseconds = 0
            // A leased blob survives.
            let garbage = try await w.pool.read { try GarbageStore.garbageList($0, before: Timestamp(milliseconds: .max), limit: 10) }
            var lease: BlobLease? = core.leases.take([garbage[0]])
            _ = await Collector(core: core, limits: limits).pass()
            #expect(try await bytes.open(garbage[0]) != nil)
            #expect(try await bytes.open(garbage[1]) == nil)
            lease = nil
            #expect(lease == nil)
            let report = await Collector(core: core, limits: limits).pass()
            #expect(report.failures.isEmpty)
            #expect(try await bytes.incoming().isEmpty)
            let after = try await Fsck(pool: w.pool, bytes: bytes, now: clock.now(), settleMilliseconds: 0).run(repair: false)
            #expect(after.isClean && after.garbage == 0 && after.blobs == 5, "\(after)")
            for (key, want) in [("k0", big), ("k4", big + [4]), ("unsettled", big)] { #expect(try await s3.get("waste", key) == want) }
        }
    }

    /// boto3, aws CLI, s3cmd and curl, where this machine has boto3.
    @Test(.enabled(if: system("python3 -c 'import boto3' 2>/dev/null") == 0), .timeLimit(.minutes(5)))
    func stockClients() async throws {
        let script = String(#filePath.dropLast("WalrusTests/ServerTests.swift".count)) + "IntegrationTests/walrus_clients.py"
        try await TestWalrus.run { w in
            func user(_ u: TestWalrus.User) -> String { "\(u.key.id):\(u.key.secret):\(u.account.canonicalUserID):\(u.account.id)" }
            let log = w.folder + "/clients.log"
            let variables = [
                "KARRI_S3_ENDPOINT=\(w.endpoint)", "KARRI_S3_ALICE=\(user(w.alice))", "KARRI_S3_BOB=\(user(w.bob))",
                "KARRI_S3_SYSTEM=\(user(w.system))",
            ].joined(separator: " ")
            // With the environment of the tests: its python3 is the one that has boto3.
            let status = try await NIOThreadPool.singleton.runIfActive { system("\(variables) python3 \(script) >\(log) 2>&1") }
            let output = String(decoding: try FileSystem.read(log), as: UTF8.self)
            #expect(status == 0, "\(output)")
        }
    }
}
