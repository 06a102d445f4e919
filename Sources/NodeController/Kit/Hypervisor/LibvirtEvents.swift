import CLibvirt
import Synchronization

/// Hands hypervisor events to whoever subscribed.
final class EventBroadcaster: Sendable {
    private struct State {
        var next = 0
        var subscribers: [Int: AsyncStream<HypervisorEvent>.Continuation] = [:]
        var closed = false
    }
    private let state = Mutex(State())

    func subscribe() -> AsyncStream<HypervisorEvent> {
        // Bounded: a subscriber that does not look gets the newest, and re-reads everything on its next pass anyway.
        let (stream, continuation) = AsyncStream.makeStream(of: HypervisorEvent.self, bufferingPolicy: .bufferingNewest(4096))
        let id = state.withLock { s -> Int? in
            if s.closed { return nil }
            s.next += 1
            s.subscribers[s.next] = continuation
            return s.next
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { _ = $0.subscribers.removeValue(forKey: id) } }
        return stream
    }

    func send(_ event: HypervisorEvent) {
        let all = state.withLock { Array($0.subscribers.values) }
        for continuation in all { continuation.yield(event) }
    }

    func close() {
        let all = state.withLock { s -> [AsyncStream<HypervisorEvent>.Continuation] in
            s.closed = true
            defer { s.subscribers = [:] }
            return Array(s.subscribers.values)
        }
        for continuation in all { continuation.finish() }
    }
}

/// libvirt's event loop and the callbacks. The loop runs on one thread for the whole process, and is registered before the first
/// connection is opened (libvirt: `virEventRegisterDefaultImpl`).
enum LibvirtEventLoop {
    /// Starts the loop, once. Also stops libvirt from writing errors to standard error.
    static func start() { _ = started }

    private static let started: Bool = {
        virInitialize()
        virSetErrorFunc(nil) { _, _ in }
        guard virEventRegisterDefaultImpl() == 0 else { return false }
        // libvirt's loop sleeps until something happens; a timer that never fires keeps it from ending when it has nothing to watch.
        virEventAddTimeout(3_600_000, { _, _ in }, nil, nil)
        ThreadExecutor.startThread { while virEventRunDefaultImpl() == 0 {} }
        return true
    }()

    /// What the callbacks get: retained once for each registration, released by libvirt through `release`.
    private final class Sink: Sendable {
        let broadcaster: EventBroadcaster
        init(_ broadcaster: EventBroadcaster) { self.broadcaster = broadcaster }
    }

    private static let release: virFreeCallback = { opaque in
        // SAFETY: balances `passRetained` of the registration; libvirt calls it once, after the last callback.
        if let opaque { Unmanaged<Sink>.fromOpaque(opaque).release() }
    }

    /// Registers all events in use. Callbacks run on the loop's thread and only pass values on.
    static func register(_ connection: virConnectPtr, _ broadcaster: EventBroadcaster) throws(LibvirtError) {
        func sink() -> UnsafeMutableRawPointer { Unmanaged.passRetained(Sink(broadcaster)).toOpaque() }
        var ids: [Int32] = []
        ids.append(
            karri_vir_register_lifecycle(
                connection,
                { _, domain, _, _, opaque in
                    LibvirtEventLoop.tell(opaque, domain) { .lifecycle(name: $0) }
                    return 0
                }, sink(), release))
        ids.append(
            karri_vir_register_device_removed(
                connection, { _, domain, _, opaque in LibvirtEventLoop.tell(opaque, domain) { .deviceRemoved(name: $0) } }, sink(), release)
        )
        ids.append(
            karri_vir_register_io_error(
                connection,
                { _, domain, _, _, _, reason, opaque in
                    let reason = reason.map { String(cString: $0) } ?? ""
                    LibvirtEventLoop.tell(opaque, domain) { .ioError(name: $0, reason: reason) }
                }, sink(), release))
        ids.append(
            karri_vir_register_reboot(
                connection, { _, domain, opaque in LibvirtEventLoop.tell(opaque, domain) { .rebooted(name: $0) } }, sink(), release))
        if ids.contains(where: { $0 < 0 }) { throw LibvirtError.last() }
        virConnectRegisterCloseCallback(
            connection,
            { _, _, opaque in
                guard let opaque else { return }
                // SAFETY: retained by the registration below, and released through `release`.
                Unmanaged<Sink>.fromOpaque(opaque).takeUnretainedValue().broadcaster.send(.disconnected)
            }, sink(), release)
    }

    private static func tell(_ opaque: UnsafeMutableRawPointer?, _ domain: virDomainPtr?, _ event: (String) -> HypervisorEvent) {
        guard let opaque, let domain, let name = virDomainGetName(domain) else { return }
        // SAFETY: the registration holds the sink for as long as callbacks come; the name lives as long as the domain, which is
        // this call.
        Unmanaged<Sink>.fromOpaque(opaque).takeUnretainedValue().broadcaster.send(event(String(cString: name)))
    }
}
