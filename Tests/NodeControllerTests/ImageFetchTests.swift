import API
import Daemon
import Domain
import Glibc
import Signing
import Synchronization
import Testing
import Workflow

@testable import NodeControllerKit

/// From presigned parts to a verified file: what bundlers write is read, and what is broken is named.
@Suite struct ImageFetchTests {
    private struct Bench {
        let scratch: ScratchFolder
        let store = FakeWalrus()
        let key: PrivateKey
        let fetcher: ImageFetcher
        var target: String { scratch.path + "/target" }
        init() throws {
            scratch = try ScratchFolder()
            key = try #require(BundleFactory.key)
            fetcher = ImageFetcher(http: store, key: key, clock: SystemClock())
        }
        func same(_ a: String, _ b: String) throws -> Bool {
            try FileSystem.read(a, limit: 1 << 30) == FileSystem.read(b, limit: 1 << 30)
        }
        /// A file with data, holes and zeros.
        func makeImage(_ name: String = "image") async throws {
            try await BundleFactory.run(
                """
                cd "$1"; truncate -s 9000001 "$2"
                for at in 0 3 40 41 200 900 1500; do dd if=/dev/urandom of="$2" bs=4096 count=9 seek=$at conv=notrunc status=none; done
                printf tail | dd of="$2" bs=1 seek=8999997 conv=notrunc status=none
                """, scratch.path, name)
        }
    }

    @Test(arguments: [
        "--sparse", "--format=ustar", "--format=gnu", "--format=pax", "--format=pax --sparse", "--format=pax --sparse --sparse-version=0.1",
    ])
    func whatTarWritesIsRead(_ options: String) async throws {
        let bench = try Bench()
        try await bench.makeImage()
        var source = try await BundleFactory.bundle(bench.scratch.path, file: "image", store: bench.store, key: bench.key)
        try await BundleFactory.run(
            "cd \"$1\"; rm -f archive part.*; tar \(options) -cf archive image; gzip -c archive > a.gz", bench.scratch.path)
        // The same key and parts, another archive.
        source = try await rebundle(bench, source)
        try await bench.fetcher.fetch(source, to: bench.target, limit: 9_000_001)
        #expect(try bench.same(bench.target, bench.scratch.path + "/image"))
        let size = try #require(Folder.size(bench.target))
        #expect(size.allocated < 2_000_000, "holes must stay holes")
        var info = stat()
        #expect(stat(bench.target, &info) == 0 && info.st_mode & 0o222 == 0)
        #expect(bench.store.most <= ImageFetcher.ahead)
    }

    private func rebundle(_ bench: Bench, _ source: NC.ImageSource) async throws -> NC.ImageSource {
        var out = source
        let key = String(repeating: "2b", count: 16)
        let iv = String(repeating: "51", count: 16)
        try await BundleFactory.run(
            "cd \"$1\"; openssl enc -e -aes-128-cbc -K \(key) -iv \(iv) -in a.gz -out enc; split -b 65536 -d -a 3 enc part.",
            bench.scratch.path)
        out.parts = []
        for name in try Folder.names(bench.scratch.path) where name.hasPrefix("part.") {
            let bytes = try FileSystem.read(bench.scratch.path + "/" + name)
            bench.store.put("http://walrus/re/" + name, bytes)
            out.parts.append(NC.ImagePart(url: "http://walrus/re/" + name, size: bytes.count, digest: Hex.encode(Digest.sha1(bytes))))
        }
        out.digest = Hex.encode(Digest.sha1(try FileSystem.read(bench.scratch.path + "/archive", limit: 1 << 30)))
        return out
    }

    @Test func aVeryFragmentedSparseFileIsRead() async throws {
        let bench = try Bench()
        // More segments than the header and the first extension block have room for.
        try await BundleFactory.run(
            "cd \"$1\"; truncate -s 4M image; i=0; while [ $i -lt 120 ]; do printf x$i | dd of=image bs=1 seek=$((i * 8192)) conv=notrunc status=none; i=$((i+1)); done",
            bench.scratch.path)
        let source = try await BundleFactory.bundle(bench.scratch.path, file: "image", store: bench.store, key: bench.key)
        try await bench.fetcher.fetch(source, to: bench.target, limit: 4 << 20)
        #expect(try bench.same(bench.target, bench.scratch.path + "/image"))
    }

    /// Expects a named error and that no file is left.
    private func refused(_ bench: Bench, _ source: NC.ImageSource, _ code: String, limit: Int = 9_000_001, _ words: String) async {
        do {
            try await bench.fetcher.fetch(source, to: bench.target, limit: limit)
            Issue.record("it was taken")
        } catch {
            #expect(error.reason == .named(code: code, status: 400), "\(error)")
            #expect(error.message.contains(words), "\(error.message)")
        }
        #expect(!FileSystem.exists(bench.target))
    }

    @Test func whatIsBrokenIsNamed() async throws {
        let bench = try Bench()
        try await bench.makeImage()
        let good = try await BundleFactory.bundle(bench.scratch.path, file: "image", store: bench.store, key: bench.key)
        #expect(good.parts.count > 2)
        let url = try #require(good.parts[1].url)
        let bytes = try #require(bench.store.get(url))

        // A damaged part, a truncated part, a part that is not there.
        var damaged = bytes
        damaged[500] ^= 1
        bench.store.put(url, damaged)
        await refused(bench, good, "InvalidImage.Part", "part 1 of image emi-00000001 is damaged")
        bench.store.put(url, Array(bytes.dropLast(10)))
        await refused(bench, good, "InvalidImage.Part", "truncated")
        bench.store.put(url, bytes)
        bench.store.setFault { u, _ in u == url ? FakeWalrus.reply(403, Array("<Error/>".utf8)) : nil }
        await refused(bench, good, "ImageUnavailable", "answers 403")
        bench.store.setFault(nil)

        // Parts in a wrong order, a part too few, with digests that are right for each.
        var swapped = good
        swapped.parts.swapAt(0, 1)
        await refused(bench, swapped, "InvalidImage.Compression", "no gzip file")
        var short = good
        short.parts.removeLast()
        await refused(bench, short, "InvalidImage.Decryption", "parts are missing")

        // Another archive than the manifest says; another size; too large for its place.
        var other = good
        other.digest = String(repeating: "ab", count: 20)
        await refused(bench, other, "InvalidImage.Digest", "not abab")
        other = good
        other.size = 5
        await refused(bench, other, "InvalidImage.Size", "not the declared 5")
        await refused(bench, good, "InvalidImage.Size", limit: 1_000_000, "larger than the 1000000 bytes")

        // Wrapped for another node; not a key.
        let stranger = try #require(BundleFactory.otherKey)
        var wrong = good
        wrong.encryptedKey = Hex.encode(try stranger.publicKey.wrap(Array(String(repeating: "2b", count: 16).utf8)))
        do {
            try await bench.fetcher.fetch(wrong, to: bench.target, limit: 9_000_001)
            Issue.record("it was taken")
        } catch { #expect(error.reason == .named(code: "InvalidImage.Key", status: 400)) }
        wrong.encryptedKey = Hex.encode(try bench.key.publicKey.wrap(Array("no key".utf8)))
        await refused(bench, wrong, "InvalidImage.Key", "not one of AES-128")
        wrong.encryptedKey = Hex.encode(try bench.key.publicKey.wrap(Array(String(repeating: "ff", count: 16).utf8)))
        do {
            try await bench.fetcher.fetch(wrong, to: bench.target, limit: 9_000_001)
            Issue.record("it was taken")
        } catch { #expect(error.message.contains("another key")) }
        #expect(!FileSystem.exists(bench.target))

        // And the good one still is.
        try await bench.fetcher.fetch(good, to: bench.target, limit: 9_000_001)
        #expect(try bench.same(bench.target, bench.scratch.path + "/image"))
    }

    @Test func archivesWithMoreThanOneFileOrLinksAreRefused() async throws {
        let bench = try Bench()
        try await BundleFactory.run("cd \"$1\"; mkdir d; echo a > d/a; echo b > d/b; mkdir l; ln -s /etc/passwd l/x", bench.scratch.path)
        let two = try await BundleFactory.bundle(bench.scratch.path, file: "d", store: bench.store, key: bench.key)
        var source = two
        source.size = 0
        await refused(bench, source, "InvalidImage.Archive", "more than one file")
        source = try await BundleFactory.bundle(bench.scratch.path, file: "l", store: bench.store, key: bench.key)
        source.size = 0
        await refused(bench, source, "InvalidImage.Archive", "no file")
    }

    @Test func aBusyStoreIsAskedAgain() async throws {
        let bench = try Bench()
        try await bench.makeImage()
        let source = try await BundleFactory.bundle(bench.scratch.path, file: "image", store: bench.store, key: bench.key)
        let failures = Mutex(2)
        bench.store.setFault { _, _ in
            failures.withLock { n in
                n -= 1
                return n >= 0 ? FakeWalrus.reply(503) : nil
            }
        }
        try await bench.fetcher.fetch(source, to: bench.target, limit: 9_000_001)
        #expect(try bench.same(bench.target, bench.scratch.path + "/image"))
    }

    @Test func singleObjectsComeByRanges() async throws {
        let bench = try Bench()
        let count = ImageFetcher.rangeBytes * 2 + 12_345
        var bytes = [UInt8](repeating: 0, count: count)
        for i in stride(from: 0, to: count, by: 9973) { bytes[i] = UInt8(truncatingIfNeeded: i) }
        bench.store.put("http://walrus/disk", bytes)
        var source = NC.ImageSource(
            imageId: "emi-2", format: "raw", cacheKey: "abcdabcd", digest: Hex.encode(Digest.sha256(bytes)), size: count,
            parts: [NC.ImagePart(url: "http://walrus/disk", size: count)])
        try await bench.fetcher.fetch(source, to: bench.target, limit: count)
        #expect(try FileSystem.read(bench.target, limit: 1 << 30) == bytes)
        #expect(bench.store.requests.count == 3)
        unlink(bench.target)
        source.digest = String(repeating: "00", count: 32)
        await refused(bench, source, "InvalidImage.Digest", limit: count, "SHA-256")
        source.parts[0].size = count + 100
        await refused(bench, source, "InvalidImage.Size", limit: count + 100, "not the declared")
    }

    @Test func damagedArchivesNeverCrash() throws {
        let scratch = try ScratchFolder()
        var seed: UInt64 = 7
        var block = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<3000 {
            for i in block.indices where i % 512 < 200 {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                block[i] = seed >> 60 == 0 ? UInt8(truncatingIfNeeded: seed >> 32) : [0x30, 0, 0x20, 0x37][Int(seed >> 40) & 3]
            }
            let kinds = Array("0SxLg5".utf8)
            block[156] = kinds[Int(seed >> 45) % kinds.count]
            // A right checksum, so that the rest of the header is read.
            for i in 148..<156 { block[i] = 0x20 }
            let sum = block[0..<512].reduce(0) { $0 + Int($1) }
            let octal = Array(String(sum, radix: 8).utf8)
            let padded = [UInt8](repeating: 0x30, count: 6 - octal.count) + octal + [0, 0x20]
            block.replaceSubrange(148..<156, with: padded)
            let file = try SparseFile(creating: scratch.path + "/f", limit: 1 << 16)
            var reader = TarReader(into: file)
            block.withUnsafeBytes { raw in
                do throws(CloudError) { try reader.feed(raw) } catch { #expect(error.message != "") }
            }
        }
    }
}
