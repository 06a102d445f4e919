import CLibvirt
public import Domain
import Glibc
import Wire

/// libvirt (KVM, QEMU, Xen) behind `Hypervisor`: one connection, used on one thread of its own. The connection is opened when it is first
/// needed and again whenever libvirtd was away; domains do not notice either.
///
/// virConnectPtr and virDomainPtr never leave this file.
public actor LibvirtHypervisor: Hypervisor {
    private let uri: String
    private nonisolated let executor: ThreadExecutor
    private nonisolated let broadcaster = EventBroadcaster()
    public nonisolated let capabilities: HypervisorCapabilities
    /// Owns the connection, so that it is closed when the actor goes.
    private final class Handle: @unchecked Sendable {
        // SAFETY: virConnectPtr is documented to be thread-safe; this object holds the one reference that was given out by
        // virConnectOpen.
        let connection: virConnectPtr
        init(_ connection: virConnectPtr) { self.connection = connection }
        deinit {
            virConnectUnregisterCloseCallback(connection, nil)
            virConnectClose(connection)
        }
    }
    private var handle: Handle?
    private var wasConnected = false

    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// - Parameter uri: libvirt's, such as `qemu:///system` or `qemu+unix:///system?socket=/path`.
    public init(uri: String, kind: HypervisorKind) {
        self.uri = uri
        capabilities = .libvirt(kind)
        executor = ThreadExecutor()
    }

    deinit { broadcaster.close() }

    public nonisolated func events() -> AsyncStream<HypervisorEvent> { broadcaster.subscribe() }

    public func check() async throws(CloudError) {
        try translating("connect") { c throws(LibvirtError) in if virConnectIsAlive(c) != 1 { throw LibvirtError.last() } }
    }

    // MARK: Connection

    private func connected() throws(LibvirtError) -> virConnectPtr {
        if let handle {
            if virConnectIsAlive(handle.connection) == 1 { return handle.connection }
            self.handle = nil
        }
        LibvirtEventLoop.start()
        guard let c = virConnectOpen(uri) else { throw LibvirtError.last() }
        let new = Handle(c)
        // Notices a libvirtd that hangs: a probe each 5 s, dead after 3 without an answer.
        virConnectSetKeepAlive(c, 5, 3)
        try LibvirtEventLoop.register(c, broadcaster)
        handle = new
        if wasConnected { broadcaster.send(.reconnected) }
        wasConnected = true
        return c
    }

    /// Runs `body` with the connection. A connection that turns out to be lost is opened again and the call made once more: every
    /// call of this actor may be repeated.
    private func translating<R>(_ doing: String, _ body: (virConnectPtr) throws(LibvirtError) -> R) throws(CloudError) -> R {
        do throws(LibvirtError) {
            do throws(LibvirtError) {
                return try body(try connected())
            } catch {
                guard error.isLostConnection, handle == nil || virConnectIsAlive(handle?.connection) != 1 else { throw error }
                handle = nil
                return try body(try connected())
            }
        } catch {
            throw error.cloudError(doing)
        }
    }

    /// Like `translating`, with the domain; `nil` when there is none of that name.
    private func withDomain<R>(_ name: String, _ doing: String, _ body: (virDomainPtr) throws(LibvirtError) -> R) throws(CloudError) -> R? {
        try translating("\(doing) \(name)") { c throws(LibvirtError) -> R? in
            guard let domain = virDomainLookupByName(c, name) else {
                let error = LibvirtError.last()
                if error.isNoDomain { return nil }
                throw error
            }
            defer { virDomainFree(domain) }
            do throws(LibvirtError) { return try body(domain) } catch {
                // It went away between the two calls.
                if error.isNoDomain { return nil }
                throw error
            }
        }
    }

    private func existing<R>(_ name: String, _ doing: String, _ body: (virDomainPtr) throws(LibvirtError) -> R) throws(CloudError) -> R {
        guard let result = try withDomain(name, doing, body) else { throw CloudError(.notFound(.instance, id: name)) }
        return result
    }

    private static func isActive(_ domain: virDomainPtr) throws(LibvirtError) -> Bool {
        let active = virDomainIsActive(domain)
        if active < 0 { throw LibvirtError.last() }
        return active == 1
    }

    // MARK: Life

    public func define(_ specification: DomainSpecification) async throws(CloudError) {
        let xml = DomainXML.render(specification)
        try translating("define \(specification.instanceID)") { c throws(LibvirtError) in
            guard let domain = virDomainDefineXMLFlags(c, xml, 0) else { throw LibvirtError.last() }
            virDomainFree(domain)
        }
    }

    public func start(_ name: String) async throws(CloudError) {
        try existing(name, "start") { domain throws(LibvirtError) in
            if try Self.isActive(domain) { return }
            guard virDomainCreate(domain) == 0 else {
                let error = LibvirtError.last()
                if error.isInvalidOperation, try Self.isActive(domain) { return }
                throw error
            }
        }
    }

    public func shutdown(_ name: String) async throws(CloudError) {
        try whenActive(name, "shut down") { domain in
            virDomainShutdownFlags(
                domain, self.capabilities.kind == .xen ? 0 : UInt32(VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN.rawValue))
        }
    }

    public func destroy(_ name: String) async throws(CloudError) { try whenActive(name, "destroy") { virDomainDestroy($0) } }

    public func reboot(_ name: String) async throws(CloudError) {
        try whenActive(name, "reboot") { domain in
            virDomainReboot(domain, self.capabilities.kind == .xen ? 0 : UInt32(VIR_DOMAIN_REBOOT_ACPI_POWER_BTN.rawValue))
        }
    }

    public func reset(_ name: String) async throws(CloudError) { try whenActive(name, "reset") { virDomainReset($0, 0) } }

    public func pause(_ name: String) async throws(CloudError) { try whenActive(name, "pause") { virDomainSuspend($0) } }

    public func resume(_ name: String) async throws(CloudError) { try whenActive(name, "resume") { virDomainResume($0) } }

    /// Does nothing when the domain is not there, does not run, or stops running meanwhile.
    private func whenActive(_ name: String, _ doing: String, _ body: (virDomainPtr) -> Int32) throws(CloudError) {
        _ = try withDomain(name, doing) { domain throws(LibvirtError) in
            guard try Self.isActive(domain) else { return }
            guard body(domain) == 0 else {
                let error = LibvirtError.last()
                if error.isInvalidOperation, try !Self.isActive(domain) { return }
                throw error
            }
        }
    }

    public func undefine(_ name: String) async throws(CloudError) {
        let active = try withDomain(name, "undefine") { domain throws(LibvirtError) -> Bool in
            if try Self.isActive(domain) { return true }
            // Only our own kinds of leftovers: saved memory, snapshots' metadata, firmware variables.
            let flags =
                VIR_DOMAIN_UNDEFINE_MANAGED_SAVE.rawValue | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA.rawValue
                | VIR_DOMAIN_UNDEFINE_NVRAM.rawValue
            if virDomainUndefineFlags(domain, flags) == 0 { return false }
            // libxl knows none of these flags.
            guard virDomainUndefine(domain) == 0 else { throw LibvirtError.last() }
            return false
        }
        if active == true { throw CloudError(.incorrectState(.instance, id: name, state: "running")) }
    }

    // MARK: Looking

    public func domains() async throws(CloudError) -> [DomainStatus] {
        try translating("list domains") { c throws(LibvirtError) in
            var list: UnsafeMutablePointer<virDomainPtr?>?
            let count = virConnectListAllDomains(c, &list, 0)
            guard count >= 0, let list else { throw LibvirtError.last() }
            // SAFETY: libvirt gives `count` references in an array that are ours to free, each once.
            defer {
                for i in 0..<Int(count) { virDomainFree(list[i]) }
                free(list)
            }
            var out: [DomainStatus] = []
            for i in 0..<Int(count) {
                guard let domain = list[i] else { continue }
                do throws(LibvirtError) { out.append(try Self.status(domain)) } catch { if !error.isNoDomain { throw error } }
            }
            return out
        }
    }

    public func domain(named name: String) async throws(CloudError) -> DomainStatus? {
        try withDomain(name, "look at") { d throws(LibvirtError) in try Self.status(d) }
    }

    private static func status(_ domain: virDomainPtr) throws(LibvirtError) -> DomainStatus {
        var state: Int32 = 0
        var reason: Int32 = 0
        guard virDomainGetState(domain, &state, &reason, 0) == 0 else { throw LibvirtError.last() }
        guard let text = virDomainGetXMLDesc(domain, 0) else { throw LibvirtError.last() }
        // SAFETY: the text is ours and is freed here, after it was copied.
        defer { free(text) }
        let description = DomainDescription(xml: String(cString: text))
        return DomainStatus(
            name: virDomainGetName(domain).map { String(cString: $0) } ?? "", uuid: description.uuid, instanceID: description.instanceID,
            state: Self.state(state, reason), cores: description.cores, memoryMiB: description.memoryMiB, diskSerials: description.serials)
    }

    /// Source: `virDomainState` and its reasons, libvirt-domain.h.
    private static func state(_ state: Int32, _ reason: Int32) -> DomainState {
        let reason = UInt32(bitPattern: reason)
        switch UInt32(bitPattern: state) {
        case VIR_DOMAIN_RUNNING.rawValue, VIR_DOMAIN_BLOCKED.rawValue: return .running
        case VIR_DOMAIN_PAUSED.rawValue, VIR_DOMAIN_PMSUSPENDED.rawValue:
            switch reason {
            case VIR_DOMAIN_PAUSED_USER.rawValue: return .paused(.user)
            case VIR_DOMAIN_PAUSED_IOERROR.rawValue: return .paused(.ioError)
            case VIR_DOMAIN_PAUSED_STARTING_UP.rawValue: return .paused(.starting)
            case VIR_DOMAIN_PAUSED_SHUTTING_DOWN.rawValue: return .shuttingDown
            default: return .paused(.other)
            }
        case VIR_DOMAIN_SHUTDOWN.rawValue: return .shuttingDown
        case VIR_DOMAIN_CRASHED.rawValue: return .shutOff(.crashed)
        default:
            switch reason {
            case VIR_DOMAIN_SHUTOFF_SHUTDOWN.rawValue: return .shutOff(.shutdown)
            case VIR_DOMAIN_SHUTOFF_DESTROYED.rawValue: return .shutOff(.destroyed)
            // "failed" is the QEMU process ending by itself, such as by a signal; a start that failed leaves it too.
            case VIR_DOMAIN_SHUTOFF_CRASHED.rawValue, VIR_DOMAIN_SHUTOFF_DAEMON.rawValue: return .shutOff(.crashed)
            case VIR_DOMAIN_SHUTOFF_FAILED.rawValue: return .shutOff(.failed)
            default: return .shutOff(.unknown)
            }
        }
    }

    // MARK: Disks

    public func attachDisk(_ disk: NetworkDisk, to name: String) async throws(CloudError) {
        let xml = DomainXML.disk(disk)
        let running = try existing(name, "attach \(disk.serial) to") { domain throws(LibvirtError) -> Bool in
            guard try Self.isActive(domain) else { return false }
            if try Self.liveSerials(domain).contains(disk.serial) { return true }
            guard virDomainAttachDeviceFlags(domain, xml, VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else { throw LibvirtError.last() }
            return true
        }
        if !running { throw CloudError(.incorrectState(.instance, id: name, state: "stopped")) }
    }

    public func detachDisk(serial: String, from name: String) async throws(CloudError) {
        _ = try withDomain(name, "detach \(serial) from") { domain throws(LibvirtError) in
            guard try Self.isActive(domain), let text = virDomainGetXMLDesc(domain, 0) else { return }
            // SAFETY: the text is ours and is freed here, after it was copied.
            defer { free(text) }
            guard let disk = DomainDescription.diskElement(serial: serial, in: String(cString: text)) else { return }
            guard virDomainDetachDeviceFlags(domain, disk, VIR_DOMAIN_AFFECT_LIVE.rawValue) == 0 else {
                let error = LibvirtError.last()
                // Asked before, and the guest has not answered yet; or gone meanwhile.
                if error.isNoDevice || error.message.contains("already in the process of unplug") { return }
                if error.isInvalidOperation, try !Self.isActive(domain) { return }
                throw error
            }
        }
    }

    private static func liveSerials(_ domain: virDomainPtr) throws(LibvirtError) -> [String] {
        guard let text = virDomainGetXMLDesc(domain, 0) else { throw LibvirtError.last() }
        // SAFETY: the text is ours and is freed here, after it was copied.
        defer { free(text) }
        return DomainDescription(xml: String(cString: text)).serials
    }
}
