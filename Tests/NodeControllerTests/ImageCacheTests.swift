import API
import Daemon
import Domain
import Glibc
import Logging
import Signing
import Synchronization
import Testing
import Wire
import Workflow

@testable import NodeControllerKit

@Suite struct ImageCacheTests {
    private final class Bench: Sendable {
        let folder: String
        let store = FakeWalrus()
        let used = Mutex<Set<String>>([])
        private let key: PrivateKey
        private let scratch: String

        init() throws {
            scratch = "/tmp/karri-cache-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
            folder = scratch + "/cache"
            key = try #require(BundleFactory.key)
        }
        deinit { try? Folder.removeTree(scratch) }

        func cache(limitMiB: Int = 64) async throws -> ImageCache {
            let cache = ImageCache(
                folder: folder, limitMiB: limitMiB, fetcher: ImageFetcher(http: store, key: key, clock: SystemClock()),
                runner: CommandRunner(),
                clock: SystemClock(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, place: "node1",
                inUse: { self.used.withLock { $0 } })
            try await cache.open()
            return cache
        }
        /// A raw image of so many MiB, all data.
        func image(_ n: Int, mib: Int = 1) -> NC.ImageSource {
            let bytes = (0..<(mib << 20)).map { UInt8(truncatingIfNeeded: $0 / 7 + n) | 1 }
            let url = "http://walrus/image-\(n)"
            store.put(url, bytes)
            let digest = Hex.encode(Digest.sha256(bytes))
            return NC.ImageSource(
                imageId: "emi-\(n)", format: "raw", cacheKey: digest, digest: digest, size: bytes.count,
                parts: [NC.ImagePart(url: url, size: bytes.count)])
        }
        func files() throws -> [String] { try Folder.names(folder) }
    }

    @Test func oneDownloadHoweverManyAsk() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        let source = bench.image(1, mib: 3)
        let paths = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<25 { group.addTask { try await cache.image(source).path } }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(paths.count == 1)
        #expect(await cache.downloads == 1)
        let requests = bench.store.requests.count
        _ = try await cache.image(source)
        #expect(bench.store.requests.count == requests, "a hit makes no network call")
    }

    @Test func aFailureIsToldToAllAndLeavesNothing() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        var source = bench.image(1)
        source.digest = String(repeating: "0", count: 64)
        let broken = source
        let failures = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<5 { group.addTask { (try? await cache.image(broken)) == nil } }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(failures == 5)
        #expect(try bench.files() == [])
        #expect(await cache.space().freeMiB == 64)
    }

    @Test func whoHasAddressesThatAreValidTriesThem() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        let good = bench.image(1)
        var expired = good
        expired.parts[0].url = "http://walrus/expired"
        bench.store.setFault { url, _ in url.hasSuffix("expired") ? FakeWalrus.reply(403) : nil }
        let stale = expired
        async let first: CachedImage? = try? await cache.image(stale)
        async let second: CachedImage? = try? await cache.image(good)
        _ = await first
        #expect(await second != nil)
    }

    @Test func aCancelledDownloadIsTakenOver() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        let source = bench.image(1, mib: 20)
        let leader = Task { try await cache.image(source) }
        while bench.store.requests.isEmpty { await Task.yield() }
        let follower = Task { try await cache.image(source) }
        for _ in 0..<50 { await Task.yield() }
        leader.cancel()
        _ = await leader.result
        let image = try await follower.value
        #expect(FileSystem.exists(image.path))
    }

    @Test func theLeastRecentlyUsedGoesAndWhatIsInUseStays() async throws {
        let bench = try Bench()
        let cache = try await bench.cache(limitMiB: 3)
        let (a, b, c, d) = (bench.image(1), bench.image(2), bench.image(3), bench.image(4))
        for source in [a, b, c] { _ = try await cache.image(source) }
        _ = try await cache.image(a)
        bench.used.withLock { $0 = [b.cacheKey ?? ""] }
        _ = try await cache.image(d)
        let there = try bench.files().joined(separator: " ")
        #expect(there.contains(a.cacheKey ?? "?"), "used after c")
        #expect(there.contains(b.cacheKey ?? "?"), "in use")
        #expect(!there.contains(c.cacheKey ?? "?"))
        // All in use: refused with numbers, nothing evicted.
        bench.used.withLock { $0 = Set([a, b, d].compactMap(\.cacheKey)) }
        do {
            _ = try await cache.image(c)
            Issue.record("it was taken")
        } catch {
            #expect(error.message.contains("node node1: asked 1 MiB of image cache, 0 free of 3"))
        }
        #expect(try bench.files().count == 3)
        // Larger than the whole cache.
        await #expect(throws: CloudError.self) { _ = try await cache.image(bench.image(5, mib: 4)) }
    }

    @Test func aRestartReadsTheCacheAndSweepsTheRest() async throws {
        let bench = try Bench()
        var cache = try await bench.cache(limitMiB: 3)
        let (a, b, c, d) = (bench.image(1), bench.image(2), bench.image(3), bench.image(4))
        for source in [b, a, c] { _ = try await cache.image(source) }
        _ = try await cache.image(b)
        try FileSystem.writeAtomically([1, 2, 3], to: bench.folder + "/abcd.partial")
        cache = try await bench.cache(limitMiB: 3)
        #expect(try bench.files().count == 3)
        let requests = bench.store.requests.count
        _ = try await cache.image(c)
        #expect(bench.store.requests.count == requests)
        // The order of use was kept: a goes first.
        _ = try await cache.image(d)
        #expect(try !bench.files().joined().contains(a.cacheKey ?? "?"))
    }

    @Test func aQcow2ImageIsInspected() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        let scratch = try ScratchFolder()
        func upload(_ name: String) throws -> NC.ImageSource {
            let bytes = try FileSystem.read(scratch.path + "/" + name)
            bench.store.put("http://walrus/" + name, bytes)
            let digest = Hex.encode(Digest.sha256(bytes))
            return NC.ImageSource(
                imageId: "emi-" + name, format: "qcow2", cacheKey: digest, digest: digest, size: bytes.count,
                parts: [NC.ImagePart(url: "http://walrus/" + name, size: bytes.count)])
        }
        try await BundleFactory.run(
            """
            cd "$1"; echo secret > secret; truncate -s 1M secret
            qemu-img create -q -f qcow2 good 33M
            qemu-img create -q -f qcow2 -b /etc/passwd -F raw backed 33M
            qemu-img create -q -f qcow2 -o data_file=secret,data_file_raw=on external 1M
            head -c 65536 /dev/urandom > garbage
            """, scratch.path)
        let image = try await cache.image(try upload("good"))
        #expect(image.format == "qcow2")
        #expect(image.virtualSize == 33 << 20)
        for (name, words) in [("backed", "backing file"), ("external", "external data file"), ("garbage", "not a sound qcow2")] {
            let source = try upload(name)
            do {
                _ = try await cache.image(source)
                Issue.record("\(name) was taken")
            } catch { #expect(error.message.contains(words), "\(name): \(error)") }
        }
        #expect(try bench.files().count == 1)
    }

    @Test func rootDisksLieOverTheirImages() async throws {
        let bench = try Bench()
        let cache = try await bench.cache()
        let image = try await cache.image(bench.image(1, mib: 2))
        let scratch = try ScratchFolder()
        let disks = FileInstanceDisks(root: scratch.path + "/instances", runner: CommandRunner())
        let disk = try await disks.root("i-00000001", over: image, diskGiB: 1)
        #expect(disk.format == "qcow2")
        let info = try await CommandRunner().check(Command("qemu-img", ["info", "--output=json", disk.path]))
        let fields = try RecordText.decode(info.output).fields()
        #expect(fields["virtual-size"] == .text("\(1 << 30)"))
        #expect(fields["backing-filename"] == .text(image.path))
        #expect(fields["backing-filename-format"] == .text("raw"))
        // It is never made anew.
        try FileSystem.writeAtomically(Array("x".utf8), to: disks.consolePath("i-00000001"))
        let before = Folder.size(disk.path)?.length
        #expect(try await disks.root("i-00000001", over: image, diskGiB: 9) == disk)
        #expect(Folder.size(disk.path)?.length == before)
        #expect(try await disks.console("i-00000001", last: 10) == Array("x".utf8))
        try await disks.remove("i-00000001")
        #expect(await disks.existingRoot("i-00000001") == nil)
        #expect(try await disks.console("i-00000001", last: 10) == [])
        try await disks.remove("i-00000001")
    }

    @Test func aConsoleIsReadAtItsEndAndTrimmed() async throws {
        let scratch = try ScratchFolder()
        let disks = FileInstanceDisks(root: scratch.path, runner: CommandRunner())
        try FileSystem.makeFolder(scratch.path + "/i-00000001")
        try FileSystem.makeFolder(scratch.path + "/i-00000002")
        let path = disks.consolePath("i-00000001")
        let line = Array("0123456789abcdef".utf8)
        let bytes = (0..<(FileInstanceDisks.consoleLimit / 16 + 100_000)).flatMap { _ in line }
        try FileSystem.writeAtomically(bytes + Array("the end".utf8), to: path)
        #expect(try await disks.console("i-00000001", last: 7) == Array("the end".utf8))
        // After the log daemon has begun a new file.
        try FileSystem.writeAtomically(Array("before|".utf8), to: disks.consolePath("i-00000002") + ".0")
        try FileSystem.writeAtomically(Array("after".utf8), to: disks.consolePath("i-00000002"))
        #expect(try await disks.console("i-00000002", last: 8) == Array("re|after".utf8))
        let before = Folder.size(path)
        await disks.trimConsoles()
        let after = try #require(Folder.size(path))
        #expect(after.length == before?.length)
        #expect(after.allocated <= FileInstanceDisks.consoleLimit)
        #expect(try await disks.console("i-00000001", last: 65_536).suffix(7) == Array("the end".utf8)[...])
    }
}
