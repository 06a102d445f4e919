import API
import Daemon
import Domain
import Glibc
import Logging
import NodeControllerKit
import Testing
import Wire
import Workflow

/// A node whose disk fills up pauses and reports, and loses nothing: the whole node controller on libvirt and QEMU, its journal and its
/// instances on a small file system of their own, and a guest that writes more than there is. Runs when `KARRI_GUEST` names a folder with
/// vmlinuz and initrd.gz (`deploy/build-image`); `make integration` does so.
@Suite(.serialized) struct FullDiskTests {
    @Test(.timeLimit(.minutes(10))) func aGuestThatFillsTheDiskLosesNothing() async throws {
        guard let variable = getenv("KARRI_GUEST"), let disk = try await SmallDisk.make() else { return }
        // Mounted before, so that libvirt's own namespace has it.
        let daemon: PrivateLibvirt?
        do { daemon = try await PrivateLibvirt.start() } catch {
            await disk.remove()
            throw error
        }
        guard let daemon else { return await disk.remove() }
        let outcome: (any Error)?
        do {
            try await FullDiskNode(disk, daemon, guest: String(cString: variable)).run()
            outcome = nil
        } catch { outcome = error }
        await daemon.stop()
        await disk.remove()
        if let outcome { throw outcome }
    }
}

/// A file system of 64 MiB.
private struct SmallDisk {
    let path: String
    private var ballast: String { path + "/ballast" }

    /// `nil` when this machine does not let us mount.
    static func make() async throws -> SmallDisk? {
        let disk = SmallDisk(path: "/tmp/karri-full-\(getpid())-\(UInt32.random(in: 0...UInt32.max))")
        let made = try await disk.shell(#"mkdir "$1" && mount -t tmpfs -o size=64M karri-full "$1""#)
        return made.status == 0 ? disk : nil
    }
    func remove() async { _ = try? await shell(#"n=0; until umount "$1" || [ $n -gt 20 ]; do n=$((n+1)); sleep 0.2; done; rmdir "$1""#) }

    private func shell(_ script: String) async throws -> CommandResult {
        try await CommandRunner().run(Command("sh", ["-c", script, "sh", path]))
    }

    /// Somebody else's file that leaves this much.
    func fill(butKiB left: Int) async throws {
        let made = try await shell("fallocate -l $(( ($(stat -f -c '%a*%S/1024' \"$1\") - \(left)) * 1024 )) \"$1/ballast\"")
        #expect(made.status == 0, "\(made.errors)")
    }
    /// To the last byte.
    func fillUp() async throws { _ = try await shell(#"cat /dev/zero > "$1/more" 2>/dev/null; true"#) }
    func free() async throws { _ = try await shell(#"rm -f "$1/ballast" "$1/more""#) }
}

/// Images that are there already.
private struct ReadyImages: ImageStore {
    let images: [String: CachedImage]
    func image(_ source: NC.ImageSource) async throws(CloudError) -> CachedImage {
        guard let image = images[source.imageId] else { throw CloudError(.notFound(.image, id: source.imageId)) }
        return image
    }
    func space() async -> (freeMiB: Int, totalMiB: Int) { (1000, 1000) }
}

/// Other daemons, which are not there: the node does without.
private struct Nobody: MessageTransport, HTTPRequesting {
    func call(
        _ service: ServiceDefinition, _ operation: Wire.Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value { throw CloudError(.unavailable("Nobody")) }
    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse { throw CloudError(.unavailable("Nobody")) }
}

private struct FullDiskNode {
    private let disk: SmallDisk
    private let daemon: PrivateLibvirt
    private let guest: String
    private let id = "i-0c0ffee00c0ffee01"
    private let other = "i-0c0ffee00c0ffee02"
    private let context = CallContext(requestID: "test")
    /// Lines that the guest writes: 7 MB.
    private let lines = 1_000_000

    init(_ disk: SmallDisk, _ daemon: PrivateLibvirt, guest: String) {
        self.disk = disk
        self.daemon = daemon
        self.guest = guest
    }

    /// Instead of the image's own first process: writes numbered lines over the disk, reads them back from it, and says their sum.
    private func ramdisk() async throws -> String {
        let script = """
            #!/bin/sh
            mount -t proc proc /proc
            mount -t sysfs sys /sys
            mount -t devtmpfs dev /dev
            for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do insmod /m/$m.ko; done
            b=/bin/busybox
            n=0; until [ -b /dev/vda ] || [ $n -gt 200 ]; do sleep 0.05; n=$((n+1)); done
            echo KARRI-READY
            sleep 5
            $b seq 1 \(lines) | $b dd of=/dev/vda bs=64k conv=fsync || echo KARRI-FAILED
            echo 3 > /proc/sys/vm/drop_caches
            $b head -c $($b seq 1 \(lines) | $b wc -c) /dev/vda | $b md5sum | $b sed 's/^/KARRI-SUM /'
            while true; do sleep 60; done
            """
        let folder = daemon.folder + "/guest"
        let path = daemon.folder + "/initrd.gz"
        try FileSystem.makeFolder(folder)
        try FileSystem.writeAtomically(Array(script.utf8), to: folder + "/init", mode: 0o755)
        // The kernel unpacks one archive after the other; the later one's file stays.
        try await CommandRunner().check(
            Command(
                "sh",
                [
                    "-c", #"cd "$1" && echo init | cpio -o -H newc --quiet | gzip | cat "$2" - > "$3""#, "sh", folder, guest + "/initrd.gz",
                    path,
                ]))
        try await CommandRunner().check(Command("truncate", ["-s", "16M", daemon.folder + "/base.raw"]))
        return path
    }

    private func order(_ id: String) -> NC.InstanceOrder {
        func image(_ name: String) -> NC.ImageSource {
            NC.ImageSource(
                imageId: name, format: "raw", cacheKey: "0011223344556677", size: 1 << 20, parts: [NC.ImagePart(url: "http://nobody/")])
        }
        return NC.InstanceOrder(
            instanceId: id, accountId: "123456789012", cores: 1, memoryMiB: 128, diskGiB: 1, machine: image("machine"),
            kernel: image("kernel"), ramdisk: image("ramdisk"), macAddress: "d0:0d:00:00:00:01", privateAddress: "10.1.0.10",
            rebootCount: 0)
    }

    func run() async throws {
        func file(_ path: String) -> CachedImage { CachedImage(key: "0011223344556677", path: path, format: "raw", virtualSize: 16 << 20) }
        let images = ReadyImages(
            images: [
                "machine": file(daemon.folder + "/base.raw"), "kernel": file(guest + "/vmlinuz"), "ramdisk": file(try await ramdisk()),
            ])
        var settings = NodeSettings(capacity: NodeCapacity(cores: 4, memoryMiB: 4096, diskGiB: 10))
        settings.bridge = PrivateLibvirt.bridge
        settings.mtu = 1450
        settings.resumeFreeMiB = 16
        settings.pollMilliseconds = 500
        let journal = Journal(storage: FileJournalStorage(root: disk.path + "/journal"))
        #expect(try await journal.open() == [])
        let disks = FileInstanceDisks(root: disk.path + "/instances", runner: CommandRunner())
        let hypervisor = LibvirtHypervisor(uri: daemon.uri, kind: .qemu)
        let controller = NodeController(
            environment: NodeEnvironment(
                name: "node1", hypervisor: hypervisor, journal: journal, images: images, disks: disks,
                network: SimulatedNetwork(storage: MemoryJournalStorage()),
                storage: { SCClient(transport: Nobody(), endpoint: $0) }, clock: SystemClock(), random: SystemRandom(),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, settings: settings),
            cluster: CCClient(transport: Nobody(), endpoint: "nobody"), staging: SimulatedBundleStaging(), http: Nobody(),
            facts: NodeFacts(version: "0", certificatePEM: "", startedAt: SystemClock().now()))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await controller.run() }
            defer { group.cancelAll() }
            try await life(controller.actions, hypervisor, disks, file(daemon.folder + "/base.raw"))
        }
    }

    private func life(
        _ actions: NodeActions, _ hypervisor: LibvirtHypervisor, _ disks: FileInstanceDisks, _ base: CachedImage
    ) async throws {
        func report() async throws -> NC.InstanceReport? {
            try await actions.describeInstances(NC.DescribeInstances(instanceIds: [id]), context).instances.first
        }
        func console() async throws -> String { String(decoding: try await disks.console(id, last: 1 << 20), as: UTF8.self) }
        func node() async throws -> NC.NodeReport? { try await actions.describeResource(NC.DescribeResource(), context).node }

        let network = NC.NetworkState(
            gateway: "10.1.0.1", prefixLength: 16,
            instances: [
                NC.InstanceAddress(instanceId: id, macAddress: "d0:0d:00:00:00:01", privateAddress: "10.1.0.10"),
                NC.InstanceAddress(instanceId: other, macAddress: "d0:0d:00:00:00:02", privateAddress: "10.1.0.11"),
            ])
        _ = try await actions.applyNetwork(NC.ApplyNetwork(network: network, generation: 1), context)
        _ = try await actions.runInstance(NC.RunInstance(order: order(id), generation: 1), context)
        try await until("it runs") { try await report()?.state == "running" }
        #expect(try await node()?.state == "ok")
        try await disk.fill(butKiB: 2 << 10)

        try await until("it stands still") { try await report()?.state == "paused" }
        #expect(try await hypervisor.domain(named: id)?.state == .paused(.ioError))
        #expect(try await report()?.reason?.contains("disk is full") == true)
        #expect(try await !console().contains("KARRI-FAILED"), "the guest has seen no error")
        try await disk.fillUp()
        let full = try #require(try await node())
        #expect(full.state == "degraded" && full.usedDiskGiB == 10, "nothing new is placed on it")
        #expect(full.lastError == "The disk is full: 0 MiB are free, 16 are needed; standing still: \(id)")

        // Nothing new is begun, and nothing of it is left.
        do {
            _ = try await actions.runInstance(NC.RunInstance(order: order(other), generation: 1), context)
            Issue.record("an instance was accepted on a full disk")
        } catch let error {
            #expect(
                error.reason
                    == .capacity(Shortage(.diskGiB, [.init("node node1", .diskGiB, asked: 1, free: 0, limit: 10)])))
            #expect(error.message.contains("0 MiB are free, 16 are needed"))
        }
        #expect(try await actions.describeInstances(NC.DescribeInstances(instanceIds: [other]), context).instances.isEmpty)
        do {
            _ = try await disks.root(other, over: base, diskGiB: 1)
            Issue.record("a disk was made on a full disk")
        } catch let error {
            guard case .capacity = error.reason else { throw error }
            #expect(error.message == "The node's disk is full: 0 MiB are free of 64")
        }
        #expect(await disks.existingRoot(other) == nil)
        // What ends something is written all the same.
        let ended = try await actions.terminateInstance(NC.TerminateInstance(instanceId: other, generation: 2), context)
        #expect(ended.instance?.generation == 2)

        #expect(try await report()?.state == "paused")
        try await disk.free()
        try await until("it goes on by itself") { try await report()?.state == "running" }
        try await until("it has written and read everything") { try await console().contains("KARRI-SUM") }
        let sum = try await CommandRunner().check(Command("sh", ["-c", "seq 1 \(lines) | md5sum | cut -c1-32"])).output
        let text = try await console()
        #expect(text.contains("KARRI-SUM " + String(decoding: sum, as: UTF8.self).filter(\.isHexDigit)), "\(text.suffix(400))")
        #expect(!text.contains("KARRI-FAILED"))
        #expect(text.split(separator: "KARRI-READY", omittingEmptySubsequences: false).count == 2, "it was started once")
        #expect(try await node()?.state == "ok")

        _ = try await actions.terminateInstance(NC.TerminateInstance(instanceId: id, generation: 2, force: true), context)
        try await until("it is gone") { try await report()?.state == "terminated" }
        #expect(!FileSystem.exists(disk.path + "/instances/" + id))
    }

    private func until(_ what: Comment, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<1800 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record(what)
        throw CloudError(.unavailable("\(what)"))
    }
}
