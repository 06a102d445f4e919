import Daemon
import Domain
import Glibc
import NodeControllerKit
import Synchronization
import Testing
import Workflow

/// What every `Hypervisor` must do: one script, run on the simulated one and, where libvirt and QEMU work, on the real one. The
/// guest has no operating system, so it hears nothing and lets go of nothing; the simulated one is told to behave so too.
@Suite(.serialized) struct HypervisorContractTests {
    @Test func simulated() async throws {
        let hypervisor = SimulatedHypervisor(clock: SystemClock())
        var deaf = SimulatedHypervisor.Behaviour()
        deaf.hearsACPI = false
        deaf.releasesDisks = false
        hypervisor.setBehaviour(deaf)
        let contract = HypervisorContract(
            hypervisor: hypervisor, root: "/nowhere/root.qcow2", console: "/nowhere/console", bridge: "br", port: 1)
        try await contract.run()
        try await contract.survives { hypervisor.crash(contract.name) }
    }

    @Test(.timeLimit(.minutes(3))) func libvirt() async throws {
        guard let daemon = try await PrivateLibvirt.start() else { return }
        do {
            let hypervisor = LibvirtHypervisor(uri: daemon.uri, kind: .qemu)
            try await hypervisor.check()
            let contract = HypervisorContract(
                hypervisor: hypervisor, root: daemon.rootDisk, console: daemon.consolePath, bridge: PrivateLibvirt.bridge,
                port: PrivateLibvirt.exportPort)
            try await contract.run()
            try await restart(daemon, hypervisor, contract)
            try await contract.survives {
                // The hypervisor's process is killed, as the kernel does when memory runs out.
                let pid = try FileSystem.read("\(daemon.folder)/run/libvirt/qemu/\(contract.name).pid")
                let number = Int32(String(decoding: pid, as: UTF8.self).filter(\.isNumber))
                kill(try #require(number), SIGKILL)
            }
        } catch {
            await daemon.stop()
            throw error
        }
        await daemon.stop()
    }

    /// libvirtd is killed and started again: the machine runs on, the connection comes back by itself, events too.
    private func restart(_ daemon: PrivateLibvirt, _ hypervisor: LibvirtHypervisor, _ contract: HypervisorContract) async throws {
        try await hypervisor.define(contract.specification())
        try await hypervisor.start(contract.name)
        let log = EventLog(hypervisor.events())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await log.collect() }
            try await daemon.restartDaemon()
            try await contract.until("libvirtd is there again") { (try? await hypervisor.domain(named: contract.name)?.state) == .running }
            try await contract.until("reconnected was told") { log.events.contains(.reconnected) }
            try await hypervisor.destroy(contract.name)
            try await contract.until("events come again") { log.events.contains(.lifecycle(name: contract.name)) }
            group.cancelAll()
        }
        try await hypervisor.undefine(contract.name)
    }
}

/// Events as they came.
final class EventLog: Sendable {
    private let list = Mutex<[HypervisorEvent]>([])
    private let stream: AsyncStream<HypervisorEvent>
    init(_ stream: AsyncStream<HypervisorEvent>) { self.stream = stream }
    var events: [HypervisorEvent] { list.withLock { $0 } }
    func collect() async { for await event in stream { list.withLock { $0.append(event) } } }
}

struct HypervisorContract: Sendable {
    let hypervisor: any Hypervisor
    let root, console, bridge: String
    let port: Int
    let name = "i-0c0ffee00c0ffee00"

    func specification(memoryMiB: Int = 64) -> DomainSpecification {
        DomainSpecification(
            instanceID: name, accountID: "123456789012", kind: .qemu, cores: 1, memoryMiB: memoryMiB, boot: .disk,
            root: .init(path: root, format: "qcow2", direct: false),
            interface: .init(macAddress: "d0:0d:00:00:00:01", tap: InstanceNames.tap(name), bridge: bridge, mtu: 1450), consolePath: console
        )
    }

    func until(_ what: Comment, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<300 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record(what)
    }

    private func status() async throws -> DomainStatus? { try await hypervisor.domain(named: name) }

    func run() async throws {
        let log = EventLog(hypervisor.events())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await log.collect() }
            try await absent()
            try await life(log)
            try await disks()
            try await end()
            group.cancelAll()
        }
    }

    /// What is not there: an answer, not a failure, where that is what was wanted.
    private func absent() async throws {
        #expect(try await status() == nil)
        try await hypervisor.destroy(name)
        try await hypervisor.shutdown(name)
        try await hypervisor.undefine(name)
        try await hypervisor.detachDisk(serial: "vol-00000001", from: name)
        await #expect(throws: CloudError(.notFound(.instance, id: name))) { try await hypervisor.start(name) }
    }

    private func life(_ log: EventLog) async throws {
        try await hypervisor.define(specification())
        try await hypervisor.define(specification(memoryMiB: 80))
        let defined = try #require(try await status())
        #expect(defined.instanceID == name)
        #expect(defined.uuid == DomainXML.uuid(instanceID: name))
        #expect(defined.memoryMiB == 80)
        #expect(defined.cores == 1)
        #expect(!defined.state.isActive)
        await #expect(throws: CloudError(.incorrectState(.instance, id: name, state: "stopped"))) {
            try await hypervisor.attachDisk(disk, to: name)
        }
        try await hypervisor.start(name)
        #expect(try await status()?.state == .running)
        try await until("a lifecycle event") { log.events.contains(.lifecycle(name: name)) }
        // Repeats do nothing.
        try await hypervisor.start(name)
        #expect(try await hypervisor.domains().filter { $0.name == name }.count == 1)
        await #expect(throws: CloudError(.incorrectState(.instance, id: name, state: "running"))) { try await hypervisor.undefine(name) }
        // A guest that hears nothing goes on.
        try await hypervisor.shutdown(name)
        #expect(try await status()?.state == .running)
        try await hypervisor.pause(name)
        #expect(try await status()?.state == .paused(.user))
        try await hypervisor.resume(name)
        #expect(try await status()?.state == .running)
        try await hypervisor.reset(name)
        try await until("a reboot event") { log.events.contains(.rebooted(name: name)) }
        #expect(try await status()?.state == .running)
    }

    private var disk: NetworkDisk {
        NetworkDisk(serial: "vol-00000001", target: "vdb", host: "127.0.0.1", port: port, export: "secret", tlsHostname: nil, tls: false)
    }

    private func disks() async throws {
        #expect(try await status()?.diskSerials == ["root"])
        try await hypervisor.attachDisk(disk, to: name)
        #expect(try await status()?.diskSerials.sorted() == ["root", "vol-00000001"])
        try await hypervisor.attachDisk(disk, to: name)
        #expect(try await status()?.diskSerials.count == 2)
        // The answer to a detach means nothing: the guest has not let go, so the disk is there.
        try await hypervisor.detachDisk(serial: "vol-00000001", from: name)
        try await hypervisor.detachDisk(serial: "vol-00000001", from: name)
        try await Task.sleep(for: .milliseconds(500))
        #expect(try await status()?.diskSerials.contains("vol-00000001") == true)
        try await hypervisor.detachDisk(serial: "vol-99999999", from: name)
    }

    private func end() async throws {
        try await hypervisor.destroy(name)
        #expect(try await status()?.state == .shutOff(.destroyed))
        #expect(try await status()?.diskSerials == ["root"], "a hot-plugged disk goes with the machine")
        try await hypervisor.destroy(name)
        try await hypervisor.undefine(name)
        #expect(try await status() == nil)
        try await hypervisor.undefine(name)
    }

    /// A machine whose process dies is seen as crashed, and can be started again.
    func survives(_ kill: () async throws -> Void) async throws {
        try await hypervisor.define(specification())
        try await hypervisor.start(name)
        try await kill()
        try await until("it is seen as crashed") { try await status()?.state == .shutOff(.crashed) }
        try await hypervisor.start(name)
        #expect(try await status()?.state == .running)
        try await hypervisor.destroy(name)
        try await hypervisor.undefine(name)
    }
}
