import Daemon
import Domain
import Glibc
import NodeControllerKit
import Testing
import Workflow

/// The part of the contract that needs a guest with an operating system: it hears ACPI, restarts, lets go of disks, and writes a console.
/// Runs on the simulated hypervisor always; on libvirt when `KARRI_GUEST` names a folder with vmlinuz, initrd.gz and root.img
/// (`deploy/build-image`), as emulation makes it a minute long.
@Suite(.serialized) struct HypervisorGuestTests {
    @Test func simulated() async throws {
        let hypervisor = SimulatedHypervisor(clock: SystemClock())
        try await GuestContract(
            contract: HypervisorContract(hypervisor: hypervisor, root: "/nowhere/root", console: "/nowhere/console", bridge: "br", port: 1),
            kernel: "/nowhere/vmlinuz", ramdisk: "/nowhere/initrd.gz", hasBooted: { true }
        ).run()
    }

    @Test(.timeLimit(.minutes(10))) func libvirt() async throws {
        guard let variable = getenv("KARRI_GUEST"), let daemon = try await PrivateLibvirt.start() else { return }
        let image = String(cString: variable)
        do {
            let disk = daemon.folder + "/guest.qcow2"
            try await CommandRunner().check(
                Command("qemu-img", ["create", "-q", "-f", "qcow2", "-b", image + "/root.img", "-F", "raw", disk, "256M"]))
            let hypervisor = LibvirtHypervisor(uri: daemon.uri, kind: .qemu)
            let console = daemon.consolePath
            try await GuestContract(
                contract: HypervisorContract(
                    hypervisor: hypervisor, root: disk, console: console, bridge: PrivateLibvirt.bridge, port: PrivateLibvirt.exportPort),
                kernel: image + "/vmlinuz", ramdisk: image + "/initrd.gz",
                hasBooted: {
                    let text = String(decoding: (try? FileSystem.read(console)) ?? [], as: UTF8.self)
                    return text.contains("rc start") || text.contains("rc done") || text.contains("login:")
                }
            ).run()
        } catch {
            await daemon.stop()
            throw error
        }
        await daemon.stop()
    }
}

private struct GuestContract {
    let contract: HypervisorContract
    let kernel, ramdisk: String
    let hasBooted: () -> Bool

    private var hypervisor: any Hypervisor { contract.hypervisor }
    private var name: String { contract.name }

    func run() async throws {
        var specification = contract.specification(memoryMiB: 128)
        specification.boot = .direct(kernel: kernel, ramdisk: ramdisk)
        let log = EventLog(hypervisor.events())
        let defined = specification
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await log.collect() }
            try await hypervisor.define(defined)
            try await hypervisor.start(name)
            try await patiently("it boots") { hasBooted() }

            // A disk comes and goes, and the event tells when it is gone.
            let disk = NetworkDisk(
                serial: "vol-00000001", target: "vdb", host: "127.0.0.1", port: contract.port, export: "secret", tlsHostname: nil,
                tls: false)
            try await hypervisor.attachDisk(disk, to: name)
            // A guest that was still starting drivers hears a second request; that is how the node asks too.
            try await patiently("the disk goes", every: 20) {
                try await hypervisor.detachDisk(serial: disk.serial, from: name)
            } until: {
                try await hypervisor.domain(named: name)?.diskSerials.contains(disk.serial) == false
            }
            try await patiently("it is told") { log.events.contains(.deviceRemoved(name: name)) }

            try await patiently("it restarts", every: 30) {
                try await hypervisor.reboot(name)
            } until: {
                log.events.contains(.rebooted(name: name))
            }
            #expect(try await hypervisor.domain(named: name)?.state == .running)

            try await patiently("it shuts down", every: 30) {
                try await hypervisor.shutdown(name)
            } until: {
                try await hypervisor.domain(named: name)?.state == .shutOff(.shutdown)
            }
            try await hypervisor.undefine(name)
            group.cancelAll()
        }
    }

    private func patiently(
        _ what: Comment, every: Int = 1_000_000, _ ask: () async throws -> Void = {}, until condition: () async throws -> Bool
    ) async throws {
        for i in 0..<1200 {
            if i % every == 0 { try await ask() }
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record(what)
        throw CloudError(.unavailable("\(what)"))
    }
}
