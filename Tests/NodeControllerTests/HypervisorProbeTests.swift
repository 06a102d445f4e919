import Daemon
import Domain
import Glibc
import Synchronization
import Testing

@testable import NodeControllerKit

/// The choice of the hypervisor: by what a guest can really do.
@Suite struct HypervisorProbeTests {
    /// Answers instead of QEMU.
    private struct FakeQEMU: CommandRunning {
        let kvm, tcg: CommandResult
        let commands = Recorder()
        func run(_ command: Command) async throws(CloudError) -> CommandResult {
            commands.list.withLock { $0.append(command.description) }
            return command.arguments.contains("kvm") ? kvm : tcg
        }
    }
    private final class Recorder: Sendable {
        let list = Mutex<[String]>([])
    }
    private let folder = "/tmp/karri-probe-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"

    @Test func theProgramIsABIOS() {
        let image = ProbeProgram.image
        #expect(image.count == 65536)
        #expect(Array(image[0xfff0..<0xfff5]) == [0xea, 0, 0, 0, 0xf0])
    }

    @Test func emulationReallyGetsIntoLongMode() async throws {
        guard access("/usr/bin/qemu-system-x86_64", X_OK) == 0 else { return }
        try FileSystem.makeFolder(folder)
        defer { try? Folder.removeTree(folder) }
        let path = folder + "/tcg.bios"
        try FileSystem.writeAtomically(ProbeProgram.image, to: path)
        let status = try await HypervisorProbe(runner: CommandRunner()).enters(.tcg, path)
        // On a machine that is very busy it may have been killed; it must never end otherwise.
        #expect(status == 65 || status == nil)
    }

    @Test func aWorkingKVMIsTaken() async throws {
        guard access("/dev/kvm", R_OK | W_OK) == 0 else { return }
        let qemu = FakeQEMU(kvm: CommandResult(status: 65), tcg: CommandResult(status: 65))
        let result = try await HypervisorProbe(runner: qemu).run(folder: folder)
        #expect(result == HypervisorProbe.Result(kind: .kvm, warning: nil))
    }

    @Test(arguments: [137, 33, 1])
    func aKVMThatDoesNotGetThereIsNotTaken(_ status: Int) async throws {
        let qemu = FakeQEMU(kvm: CommandResult(status: status), tcg: CommandResult(status: 65))
        let result = try await HypervisorProbe(runner: qemu).run(folder: folder)
        #expect(result.kind == .qemu)
        #expect(result.warning?.contains("emulation") == true)
    }

    @Test func anEmulatorThatIsBrokenIsAnError() async throws {
        let qemu = FakeQEMU(kvm: CommandResult(status: 137), tcg: CommandResult(status: 1))
        await #expect(throws: CloudError.self) { try await HypervisorProbe(runner: qemu).run(folder: folder) }
    }

    @Test func aDescriptionIsReadBack() {
        let xml = DomainXML.render(HypervisorXMLTests.specification(.qemu, volumes: [HypervisorXMLTests.volume]))
        let read = DomainDescription(xml: xml)
        #expect(read.instanceID == "i-0123456789abcdef0")
        #expect(read.cores == 2)
        #expect(read.memoryMiB == 512)
        #expect(read.serials == ["root", "vol-00000001"])
        #expect(DomainDescription.diskElement(serial: "vol-00000001", in: xml)?.contains("dev='vdf'") == true)
        #expect(DomainDescription.diskElement(serial: "vol-00000002", in: xml) == nil)
        #expect(DomainDescription(xml: "<domain").uuid == "")
    }
}
