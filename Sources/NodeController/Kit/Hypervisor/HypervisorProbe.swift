public import Daemon
public import Domain
import Glibc

/// Which hypervisor this host really has. Opening `/dev/kvm`, libvirt's capabilities and a real-mode probe all lie on some hosts, so the
/// probe enters long mode (`ProbeProgram`), in a process that is killed if it hangs.
public struct HypervisorProbe: Sendable {
    public struct Result: Sendable, Equatable {
        public var kind: HypervisorKind
        /// What somebody should know; `nil` when all is as it should be.
        public var warning: String?
    }
    public enum Accelerator: String, Sendable { case kvm, tcg }

    private let runner: any CommandRunning
    /// Too low: a loaded host with KVM is taken for one without; too high: each start on a host whose KVM hangs waits for so long.
    public static let limitMilliseconds = 3000

    public init(runner: any CommandRunning) { self.runner = runner }

    /// - Parameter folder: where the probe's program may be written for the time of the probe.
    public func run(folder: String) async throws(CloudError) -> Result {
        if FileSystem.exists("/proc/xen/capabilities"), let text = try? FileSystem.read("/proc/xen/capabilities", limit: 4096),
            String(decoding: text, as: UTF8.self).contains("control_d")
        {
            return Result(kind: .xen, warning: nil)
        }
        let path = folder + "/probe-\(getpid()).bios"
        try FileSystem.makeFolder(folder)
        try FileSystem.writeAtomically(ProbeProgram.image, to: path)
        defer {
            unlink(path)
            // Only if nothing else is in it.
            rmdir(folder)
        }
        let why: String
        if access("/dev/kvm", R_OK | W_OK) != 0 {
            why = "there is no /dev/kvm, or it cannot be opened"
        } else {
            let status = try await enters(.kvm, path)
            if status == ProbeProgram.success { return Result(kind: .kvm, warning: nil) }
            why = status == nil ? "a guest that enters long mode hangs" : "a guest does not get into long mode (status \(status ?? 0))"
        }
        let tcg = try await enters(.tcg, path)
        guard tcg == ProbeProgram.success else {
            throw CloudError(
                .unavailable("QEMU"), "QEMU itself does not work on this host: its emulation does not get into long mode",
                context:
                    "status \(tcg.map(String.init) ?? "none: killed after \(Self.limitMilliseconds) ms"), not \(ProbeProgram.success)"
            )
        }
        return Result(kind: .qemu, warning: "KVM does not work on this host (\(why)): instances run by emulation, many times slower")
    }

    /// - Returns: QEMU's exit status; `nil` when it had to be killed.
    func enters(_ accelerator: Accelerator, _ bios: String) async throws(CloudError) -> Int32? {
        let seconds = "\(Double(Self.limitMilliseconds) / 1000)"
        let result = try await runner.run(
            Command(
                "timeout",
                [
                    "-s", "KILL", seconds, "qemu-system-x86_64", "-accel", accelerator.rawValue, "-machine", "pc,graphics=off", "-m", "32",
                    "-nodefaults", "-display", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios", bios,
                ], timeoutMilliseconds: Self.limitMilliseconds + 2000))
        return result.timedOut || result.status == 137 || result.status == 124 ? nil : Int32(result.status)
    }
}
