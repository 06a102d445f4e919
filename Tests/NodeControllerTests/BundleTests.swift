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

/// The way back: from a disk to parts that every bundler's tools can read.
@Suite struct BundleWriterTests {
    @Test func whatWeBundleOthersUnbundleAndSoDoWe() async throws {
        let scratch = try ScratchFolder()
        let key = try #require(BundleFactory.key)
        let user = try #require(BundleFactory.otherKey)
        func certificate(_ key: PrivateKey, _ name: String) throws -> String {
            try CertificateAuthority.selfSigned(name: name, key: key, days: 1).pem
        }
        try FileSystem.makeFolder(scratch.path + "/parts")
        try await BundleFactory.run(
            """
            cd "$1/parts"; truncate -s 30000000 root.img
            dd if=/dev/urandom of=root.img bs=1M count=12 seek=3 conv=notrunc status=none
            cp --sparse=always root.img ../original
            """, scratch.path)
        let result = try await BundleWriter(random: SystemRandom()).bundle(
            "root.img", in: scratch.path + "/parts", for: [try certificate(user, "user"), try certificate(key, "cloud")],
            isCancelled: { false })
        #expect(result.parts.count == 2)
        #expect(result.parts[0].size == BundleWriter.partBytes)
        #expect(result.parts.map(\.filename) == ["root.img.part.0", "root.img.part.1"])
        for part in result.parts {
            let bytes = try FileSystem.read(scratch.path + "/parts/" + part.filename)
            #expect(bytes.count == part.size)
            #expect(Hex.encode(Digest.sha1(bytes)) == part.digest)
        }
        // As euca-unbundle does, with the user's key, by openssl and tar.
        func unwrap(_ text: String, _ key: PrivateKey) throws -> String {
            String(decoding: try key.unwrap(try #require(Hex.decode(text))), as: UTF8.self)
        }
        let aes = try unwrap(result.encryptedKeys[0], user)
        #expect(aes.utf8.count == 32)
        try await BundleFactory.run(
            """
            cd "$1"; mkdir out; cat parts/root.img.part.0 parts/root.img.part.1 | openssl enc -d -aes-128-cbc -K "$2" -iv "$3" | gzip -dc > archive
            [ "$(sha1sum < archive | cut -d' ' -f1)" = "$4" ]
            tar -C out -xSf archive; cmp original out/root.img
            """, scratch.path, aes, try unwrap(result.encryptedIVs[0], user), result.digest)
        // And as a node does, with the cloud's.
        let store = FakeWalrus()
        var parts: [NC.ImagePart] = []
        for part in result.parts {
            store.put("http://w/" + part.filename, try FileSystem.read(scratch.path + "/parts/" + part.filename))
            parts.append(NC.ImagePart(url: "http://w/" + part.filename, size: part.size, digest: part.digest))
        }
        let source = NC.ImageSource(
            imageId: "emi-1", format: "bundle", cacheKey: result.digest, digest: result.digest, size: 30_000_000, virtualSize: 30_000_000,
            encryptedKey: result.encryptedKeys[1], encryptedIv: result.encryptedIVs[1], parts: parts)
        try await ImageFetcher(http: store, key: key, clock: SystemClock()).fetch(source, to: scratch.path + "/again", limit: 30_000_000)
        try await BundleFactory.run("cmp \"$1/original\" \"$1/again\"", scratch.path)
    }

    @Test func aCancelledBundleStops() async throws {
        let scratch = try ScratchFolder()
        try await BundleFactory.run("truncate -s 20M \"$1/i\"; dd if=/dev/urandom of=\"$1/i\" bs=1M count=20 status=none", scratch.path)
        await #expect(throws: CloudError.self) {
            try await BundleWriter(random: SystemRandom()).bundle("i", in: scratch.path, for: [], isCancelled: { true })
        }
    }

    @Test func namesBecomeFilesOnlyIfTheyAreNames() {
        for name in ["disk", "debian-12.img", "a_b"] { #expect(BundleKeeper.isName(name)) }
        for name in ["", ".", "..", "../x", "a/b", "-rf", "a b", "ä", String(repeating: "x", count: 129)] {
            #expect(!BundleKeeper.isName(name))
        }
    }
}

/// Tasks on a node: journaled, one after the other, resumable. Staging is simulated where the bytes do not matter.
@Suite struct BundleTaskTests {
    private let i1 = "i-00000001"
    private let task = "bun-00000001"

    private func running(_ world: NodeWorld) async throws {
        try await world.connect([i1], generation: 1)
        try await world.run(i1)
        try await world.until { try await world.state(i1) == "running" }
    }
    private func bundle(_ world: NodeWorld) async throws -> NC.BundleReport? {
        try await world.actions.describeInstances(NC.DescribeInstances(), world.context).bundles.first { $0.taskId == task }
    }
    private func begin(_ world: NodeWorld) async throws {
        _ = try await world.actions.bundleInstance(
            NC.BundleInstance(taskId: task, instanceId: i1, imageName: "disk", recipients: ["PEM"]), world.context)
    }

    @Test func aRunningMachineStandsStillOnlyForTheCopy() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            try await begin(world)
            try await begin(world)
            try await world.until { try await bundle(world)?.state == "ready" }
            #expect(world.hypervisor.calls.filter { $0.hasPrefix("pause") || $0.hasPrefix("resume") } == ["pause \(i1)", "resume \(i1)"])
            #expect(try await world.state(i1) == "running")
            #expect(try await bundle(world)?.parts.count == 1)
            _ = try await world.actions.endBundle(NC.EndBundle(taskId: task), world.context)
            #expect(try await bundle(world) == nil)
            _ = try await world.actions.endBundle(NC.EndBundle(taskId: task), world.context)
        }
    }

    @Test func killedWhileItBundlesItBundlesAgain() async throws {
        let world = NodeWorld()
        let fault = FaultAt("bundle.flattened")
        try await world.life(faults: fault) {
            try await running(world)
            try await begin(world)
            try await world.until { fault.wasHit }
            try await world.until { try await bundle(world)?.state == "failed" }
        }
        try await world.life {
            #expect(try await bundle(world)?.error?.contains("killed") == true)
            #expect(try await world.hypervisor.domain(named: i1)?.state == .running)
            _ = try await world.actions.endBundle(NC.EndBundle(taskId: task), world.context)
            try await begin(world)
            try await world.until { try await bundle(world)?.state == "ready" }
        }
    }

    @Test func whatCannotBeBundledIsRefused() async throws {
        let world = NodeWorld()
        try await world.life {
            await #expect(throws: CloudError(.notFound(.instance, id: i1))) { try await begin(world) }
            try await world.run(i1)
            await #expect(throws: CloudError.self, "it has no disk yet") {
                _ = try await world.actions.bundleInstance(
                    NC.BundleInstance(taskId: task, instanceId: i1, imageName: "../x", recipients: ["PEM"]), world.context)
            }
            await #expect(throws: CloudError(.notFound(.bundleTask, id: task))) {
                try await world.actions.uploadBundleParts(NC.UploadBundleParts(taskId: task), world.context)
            }
        }
    }

    @Test func uploadsGoOnWhereTheyWere() async throws {
        let scratch = try ScratchFolder()
        let store = FakeWalrus()
        let journal = Journal(storage: MemoryJournalStorage())
        _ = try await journal.open()
        let runner = CommandRunner()
        let staging = FileBundleStaging(root: scratch.path + "/bundles", place: "node1", runner: runner, random: SystemRandom())
        let disks = FileInstanceDisks(root: scratch.path + "/instances", runner: runner)
        // A real disk: an overlay with data over a base.
        try await BundleFactory.run(
            """
            cd "$1"; truncate -s 24M base; dd if=/dev/urandom of=base bs=1M count=14 conv=notrunc status=none
            mkdir -p instances/i-00000001; qemu-img create -q -f qcow2 -b "$1/base" -F raw instances/i-00000001/root.qcow2 32M
            qemu-io -c 'write -P 0x5a 1M 64k' instances/i-00000001/root.qcow2 > /dev/null
            qemu-img convert -O raw instances/i-00000001/root.qcow2 expected
            """, scratch.path)
        let world = NodeWorld()
        let environment = NodeEnvironment(
            name: "node1", hypervisor: world.hypervisor, journal: journal, images: world.images, disks: disks, network: world.network,
            storage: { _ in world.storage.client }, clock: SystemClock(), random: SystemRandom(),
            logger: .init(label: "test"), settings: NodeSettings(capacity: world.capacity))
        try await journal.update(i1) {
            $0 = InstanceRecord(instanceID: "i-00000001", desired: .stopped, generation: 1, order: NodeWorld.order("i-00000001"))
        }
        let key = try #require(BundleFactory.key)
        let pem = try CertificateAuthority.selfSigned(name: "cloud", key: key, days: 1).pem
        let keeper = BundleKeeper(environment: environment, staging: staging, http: store) { _ in }
        let work = Task { await keeper.run() }
        defer { work.cancel() }
        _ = try await keeper.begin(NC.BundleInstance(taskId: task, instanceId: i1, imageName: "disk", recipients: [pem]))
        func state(_ wanted: String) async throws -> NC.BundleReport {
            for _ in 0..<600 {
                if let report = await keeper.reports().first, report.state == wanted || report.state == "failed" { return report }
                try await Task.sleep(for: .milliseconds(50))
            }
            throw CloudError(.unavailable("state \(wanted)"))
        }
        let ready = try await state("ready")
        #expect(ready.state == "ready", "\(ready.error ?? "")")
        #expect(ready.size == 32 << 20)
        #expect(ready.parts.count == 2)
        #expect(!FileSystem.exists(scratch.path + "/bundles/\(task)/disk"), "the raw file is not kept")
        let urls = ready.parts.map { "http://walrus/up/\($0.filename ?? "")" }
        // The second part is refused: ready again, with the first one uploaded.
        store.setFault { url, _ in url == urls[1] ? FakeWalrus.reply(403) : nil }
        func upload() async throws {
            _ = try await keeper.upload(
                NC.UploadBundleParts(taskId: task, parts: urls.enumerated().map { NC.PartUpload(index: $0.offset, url: $0.element) }))
        }
        try await upload()
        while await keeper.reports().first?.error == nil { try await Task.sleep(for: .milliseconds(20)) }
        let half = try #require(await keeper.reports().first)
        #expect(half.state == "ready")
        #expect(half.error?.contains("part 1: the object store answers 403") == true)
        store.setFault(nil)
        try await upload()
        let uploaded = try await state("uploaded")
        #expect(uploaded.parts.allSatisfy { $0.uploaded == true })
        #expect(store.requests.filter { $0 == "PUT \(urls[0])" }.count == 1, "what is there is not sent again")
        // What was uploaded is the disk.
        var parts: [NC.ImagePart] = []
        for (part, url) in zip(uploaded.parts, urls) { parts.append(NC.ImagePart(url: url, size: part.size, digest: part.digest)) }
        let source = NC.ImageSource(
            imageId: "emi-1", format: "bundle", cacheKey: uploaded.digest, digest: uploaded.digest, size: uploaded.size,
            virtualSize: uploaded.size,
            encryptedKey: uploaded.encryptedKeys[0], encryptedIv: uploaded.encryptedIvs[0], parts: parts)
        try await ImageFetcher(http: store, key: key, clock: SystemClock()).fetch(source, to: scratch.path + "/again", limit: 32 << 20)
        try await BundleFactory.run("cmp \"$1/expected\" \"$1/again\"", scratch.path)
        try await keeper.end(task)
        #expect(!FileSystem.exists(scratch.path + "/bundles/\(task)"))
    }
}
