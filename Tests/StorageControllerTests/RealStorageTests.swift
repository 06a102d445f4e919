import API
import Daemon
import Database
import Domain
import Glibc
import StorageControllerKit
import TestKit
import Testing
import Wire

private let a = "vol-00000000000000aaa"
private let b = "vol-00000000000000bbb"
private let snap = "snap-00000000000000001"
private let attach1 = "attach-00000000000000001"
private let attach2 = "attach-00000000000000002"

/// The controller with real files, real qemu-storage-daemons and a real client over TLS.
@Suite(.serialized) struct RealStorageTests {
    private struct Host: Sendable {
        let folder: String
        let data: String
        let certificates: TestCertificates
        let guest: NBDGuest

        init() throws {
            var template = Array("/tmp/karri-sct-XXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw CloudError.bug("mkdtemp: errno \(errno)") }
            folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            self.data = "\(folder)/storage"
            certificates = try TestCertificates(folder: "\(folder)/keys")
            try certificates.issue(role: "sc", name: "sc")
            try certificates.issue(role: "nc", name: "alpha")
            guest = try NBDGuest(certificates, name: "alpha")
        }

        func backend() throws -> FileBlockBackend {
            try FileBlockBackend(
                folder: data, host: "127.0.0.1", ports: 21_410...21_419, certificate: certificates.certificatePath("sc"),
                key: certificates.keyPath("sc"), ca: certificates.caPath)
        }

        func io(_ export: SC.VolumeExport, _ commands: String...) async throws -> (ok: Bool, text: String) {
            try await guest.io(export.host ?? "", export.port ?? 0, export.exportName ?? "", commands)
        }

        func run(_ command: String, _ arguments: String...) async throws -> Bool {
            try await CommandRunner().run(Command(command, arguments)).status == 0
        }
    }

    private func settled(_ bench: StorageBench, _ isDone: () async throws -> Bool) async throws {
        for _ in 0..<200 {
            await bench.pass()
            if try await isDone() { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record("it does not settle")
    }

    @Test(.timeLimit(.minutes(2))) func theLifeOfAVolumeWithAKillInTheMiddle() async throws {
        let host = try Host()
        let backend = try host.backend()
        var bench = try await StorageBench(backend: backend)
        try await bench.create(a)
        await bench.pass()
        let export = try await bench.export(a, attach1)
        #expect(export.tlsHostname == "127.0.0.1")
        let wrote = try await host.io(export, "write -P 0x61 0 8M", "flush")
        #expect(wrote.ok, "\(wrote.text)")
        try await bench.snapshot(snap, of: a)
        #expect(try await host.io(export, "write -P 0x62 0 4M", "flush").ok)

        // The controller dies and comes back; the guest's volume never went away, and keeps its address and its name.
        bench.restart()
        #expect(try await host.io(export, "read -P 0x62 0 4M", "read -P 0x61 4M 4M").ok)
        #expect(try await bench.export(a, attach1) == export)
        try await settled(bench) { try await bench.snapshotState(snap)?.state == "completed" }
        let bytes = await bench.objects.objects.values.reduce(0) { $0 + $1.count }
        #expect(bytes < 4 << 20, "a sparse volume's snapshot is small and compressed: \(bytes)")

        try await bench.create(b, 2, snapshot: snap)
        try await settled(bench) { try await bench.volume(b)?.state == "available" }
        let copy = try await bench.export(b, attach2)
        #expect(copy.sizeBytes == 2 << 30)
        let read = try await host.io(copy, "read -P 0x61 0 8M", "read -P 0 8M 8M", "write -P 0x63 2047M 1M")
        #expect(read.ok, "\(read.text)")

        try await bench.unexport(a, attach1)
        #expect(try await host.io(export, "read 0 4k").ok == false)
        try await bench.unexport(b, attach2)
        #expect(try await backend.runningVolumes() == [])
        for id in [a, b] { try await bench.delete(id) }
        await bench.pass()
        #expect(try await backend.space().used == 0)
        bench.pool.close()
        _ = try await host.run("rm", "-rf", host.folder)
    }

    /// Others have filled the disk: a write fails with "no space", nothing that was written is lost, and it goes on when there is room.
    @Test(.timeLimit(.minutes(2)), .enabled(if: geteuid() == 0)) func aFullDiskRefusesAndLosesNothing() async throws {
        let host = try Host()
        try FileSystem.makeFolder(host.data)
        guard try await host.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", host.data) else {
            _ = try await host.run("rm", "-rf", host.folder)
            return
        }
        let backend = try host.backend()
        let grant = ExportGrant(attachment: attach1, secretName: "secret", node: "nc alpha")
        try await backend.volumeCreate(a, bytes: 48 << 20)
        let place = try #require(try await backend.exportsApply(a, [grant]))
        func io(_ commands: String...) async throws -> (ok: Bool, text: String) {
            try await host.guest.io(place.host, place.port, "secret", commands)
        }
        #expect(try await io("write -P 0x71 0 16M", "flush").ok)
        #expect(try await host.run("dd", "if=/dev/zero", "of=\(host.data)/other", "bs=1M", "count=36"))
        let full = try await io("write -P 0x72 16M 32M")
        #expect(!full.ok)
        #expect(full.text.contains("No space left on device"), "\(full.text)")
        #expect(try await backend.space().free < 1 << 20)
        #expect(try await io("read -P 0x71 0 16M").ok)
        #expect(try await host.run("rm", "\(host.data)/other"))
        #expect(try await io("write -P 0x72 16M 32M", "flush").ok)
        #expect(try await io("read -P 0x71 0 16M", "read -P 0x72 16M 32M").ok)
        _ = try await backend.exportsApply(a, [])
        #expect(try await host.run("umount", host.data))
        _ = try await host.run("rm", "-rf", host.folder)
    }
}
