public import Domain
import Synchronization
public import Workflow

/// A hypervisor in memory: the same state machine, real in every answer but without machines. It outlives the node object, as libvirt
/// outlives the node controller. What a guest does (shut down, crash, let go of a disk) is told by a test or happens after a time of the
/// injected clock.
public final class SimulatedHypervisor: Hypervisor {
    /// How its guests behave.
    public struct Behaviour: Sendable {
        /// The guest answers ACPI requests.
        public var hearsACPI = true
        /// From the ACPI request to the end of the machine.
        public var shutdownMilliseconds = 2000
        public var rebootMilliseconds = 2000
        /// The guest lets go of disks.
        public var releasesDisks = true
        public var releaseMilliseconds = 300
        public init() {}
    }

    /// Makes a call fail: `call` is the method's name. Return `nil` to let it work.
    public typealias Failure = @Sendable (_ call: String, _ domain: String) -> CloudError?

    private struct Machine {
        var specification: DomainSpecification
        var state: DomainState
        var disks: [NetworkDisk] = []
        var dueShutdown: Timestamp?
        var dueReboot: Timestamp?
        var dueRelease: [String: Timestamp] = [:]
        var starts = 0
    }
    private struct State {
        var machines: [String: Machine] = [:]
        /// Domains of somebody else: name to status.
        var foreign: [String: DomainStatus] = [:]
        var behaviour: [String: Behaviour] = [:]
        var standard = Behaviour()
        var failure: Failure?
        var calls: [String] = []
    }
    private let state = Mutex(State())
    private let broadcaster = EventBroadcaster()
    private let clock: any Clock
    public let capabilities = HypervisorCapabilities.libvirt(.simulated)

    public init(clock: any Clock) { self.clock = clock }

    public func events() -> AsyncStream<HypervisorEvent> { broadcaster.subscribe() }

    // MARK: What a test does

    public func setBehaviour(_ behaviour: Behaviour, for domain: String? = nil) {
        state.withLock {
            if let domain { $0.behaviour[domain] = behaviour } else { $0.standard = behaviour }
        }
    }
    public func setFailure(_ failure: Failure?) { state.withLock { $0.failure = failure } }
    /// Every call that changed something, in order: `start i-…`.
    public var calls: [String] { state.withLock { $0.calls } }
    /// How often the domain was started.
    public func starts(_ name: String) -> Int { state.withLock { $0.machines[name]?.starts ?? 0 } }
    public func specification(_ name: String) -> DomainSpecification? { state.withLock { $0.machines[name]?.specification } }

    /// The user types `shutdown` in the guest.
    public func guestShutsDown(_ name: String) { becomes(name, .shutOff(.shutdown)) }
    public func guestReboots(_ name: String) { broadcaster.send(.rebooted(name: name)) }
    /// The hypervisor's process is killed.
    public func crash(_ name: String) { becomes(name, .shutOff(.crashed)) }
    /// The guest writes and the host's disk is full.
    public func diskFull(_ name: String) {
        becomes(name, .paused(.ioError))
        broadcaster.send(.ioError(name: name, reason: "enospc"))
    }
    /// The host is switched off and on: no machine runs, all definitions are there.
    public func restartHost() {
        state.withLock { s in
            for name in s.machines.keys where s.machines[name]?.state.isActive == true {
                s.machines[name]?.state = .shutOff(.unknown)
                s.machines[name]?.disks = []
                s.machines[name]?.dueShutdown = nil
                s.machines[name]?.dueReboot = nil
                s.machines[name]?.dueRelease = [:]
            }
        }
        broadcaster.send(.reconnected)
    }
    /// A domain that Karri did not make.
    public func addForeign(_ status: DomainStatus) { state.withLock { $0.foreign[status.name] = status } }

    private func becomes(_ name: String, _ new: DomainState) {
        let changed = state.withLock { s -> Bool in
            guard s.machines[name]?.state.isActive == true else { return false }
            s.machines[name]?.state = new
            if !new.isActive { Self.unplug(&s, name) }
            return true
        }
        if changed { broadcaster.send(.lifecycle(name: name)) }
    }

    private static func unplug(_ s: inout State, _ name: String) {
        s.machines[name]?.disks = []
        s.machines[name]?.dueShutdown = nil
        s.machines[name]?.dueReboot = nil
        s.machines[name]?.dueRelease = [:]
    }

    // MARK: Time

    /// Lets happen what is due. Every call does it; `run` does it in time, so that events come without a call.
    public func settle() {
        let now = clock.now()
        let events = state.withLock { s -> [HypervisorEvent] in
            var events: [HypervisorEvent] = []
            for name in s.machines.keys.sorted() {
                guard let machine = s.machines[name], machine.state.isActive else { continue }
                if let due = machine.dueShutdown, due <= now {
                    s.machines[name]?.state = .shutOff(.shutdown)
                    Self.unplug(&s, name)
                    events.append(.lifecycle(name: name))
                    continue
                }
                if let due = machine.dueReboot, due <= now {
                    s.machines[name]?.dueReboot = nil
                    events.append(.rebooted(name: name))
                }
                for (serial, due) in machine.dueRelease where due <= now {
                    s.machines[name]?.dueRelease[serial] = nil
                    s.machines[name]?.disks.removeAll { $0.serial == serial }
                    events.append(.deviceRemoved(name: name))
                }
            }
            return events
        }
        for event in events { broadcaster.send(event) }
    }

    /// Until the task is cancelled: settles as time goes on.
    public func run() async {
        while !Task.isCancelled {
            settle()
            do { try await clock.sleep(milliseconds: 100) } catch { return }
        }
    }

    // MARK: Hypervisor

    private func enter(_ call: String, _ name: String) throws(CloudError) {
        settle()
        let error = state.withLock { s -> CloudError? in
            let error = s.failure?(call, name)
            if error == nil { s.calls.append("\(call) \(name)") }
            return error
        }
        if let error { throw error }
    }

    private func behaviour(_ s: State, _ name: String) -> Behaviour { s.behaviour[name] ?? s.standard }

    public func define(_ domain: DomainSpecification) async throws(CloudError) {
        try enter("define", domain.instanceID)
        let refused = state.withLock { s -> Bool in
            guard s.foreign[domain.instanceID] == nil else { return true }
            if s.machines[domain.instanceID]?.state.isActive == true {
                // libvirt takes a new definition of a running domain for its next start.
                s.machines[domain.instanceID]?.specification = domain
                return false
            }
            let starts = s.machines[domain.instanceID]?.starts ?? 0
            s.machines[domain.instanceID] = Machine(specification: domain, state: .shutOff(.unknown), starts: starts)
            return false
        }
        if refused {
            throw CloudError(
                .named(code: "HypervisorError", status: 500), "define \(domain.instanceID): the name is taken by another domain")
        }
        broadcaster.send(.lifecycle(name: domain.instanceID))
    }

    public func start(_ name: String) async throws(CloudError) {
        try enter("start", name)
        let found = state.withLock { s -> Bool? in
            guard let machine = s.machines[name] else { return nil }
            if machine.state.isActive { return false }
            s.machines[name]?.state = .running
            s.machines[name]?.starts += 1
            s.machines[name]?.disks = machine.specification.volumes
            return true
        }
        guard let found else { throw CloudError(.notFound(.instance, id: name)) }
        if found { broadcaster.send(.lifecycle(name: name)) }
    }

    public func shutdown(_ name: String) async throws(CloudError) {
        try enter("shutdown", name)
        let due = clock.now()
        state.withLock { s in
            let b = behaviour(s, name)
            guard b.hearsACPI, s.machines[name]?.state == .running, s.machines[name]?.dueShutdown == nil else { return }
            s.machines[name]?.dueShutdown = due.adding(milliseconds: Int64(b.shutdownMilliseconds))
        }
    }

    public func destroy(_ name: String) async throws(CloudError) {
        try enter("destroy", name)
        becomes(name, .shutOff(.destroyed))
    }

    public func undefine(_ name: String) async throws(CloudError) {
        try enter("undefine", name)
        let running = state.withLock { s -> Bool in
            if s.machines[name]?.state.isActive == true { return true }
            s.machines[name] = nil
            return false
        }
        if running { throw CloudError(.incorrectState(.instance, id: name, state: "running")) }
        broadcaster.send(.lifecycle(name: name))
    }

    public func reboot(_ name: String) async throws(CloudError) {
        try enter("reboot", name)
        let now = clock.now()
        state.withLock { s in
            let b = behaviour(s, name)
            guard b.hearsACPI, s.machines[name]?.state == .running, s.machines[name]?.dueReboot == nil else { return }
            s.machines[name]?.dueReboot = now.adding(milliseconds: Int64(b.rebootMilliseconds))
        }
    }

    public func reset(_ name: String) async throws(CloudError) {
        try enter("reset", name)
        let active = state.withLock { s -> Bool in
            s.machines[name]?.dueReboot = nil
            s.machines[name]?.dueShutdown = nil
            return s.machines[name]?.state.isActive == true
        }
        if active { broadcaster.send(.rebooted(name: name)) }
    }

    public func pause(_ name: String) async throws(CloudError) {
        try enter("pause", name)
        let running = state.withLock { $0.machines[name]?.state == .running }
        if running { becomes(name, .paused(.user)) }
    }

    public func resume(_ name: String) async throws(CloudError) {
        try enter("resume", name)
        let paused = state.withLock { s in
            if case .paused? = s.machines[name]?.state { return true }
            return false
        }
        if paused { becomes(name, .running) }
    }

    public func domains() async throws(CloudError) -> [DomainStatus] {
        settle()
        if let error = state.withLock({ $0.failure?("domains", "") }) { throw error }
        return state.withLock { s in
            s.machines.keys.sorted().compactMap { Self.status(s, $0) } + s.foreign.values.sorted { $0.name < $1.name }
        }
    }

    public func domain(named name: String) async throws(CloudError) -> DomainStatus? {
        settle()
        if let error = state.withLock({ $0.failure?("domain", name) }) { throw error }
        return state.withLock { s in Self.status(s, name) ?? s.foreign[name] }
    }

    private static func status(_ s: State, _ name: String) -> DomainStatus? {
        guard let machine = s.machines[name] else { return nil }
        return DomainStatus(
            name: name, uuid: DomainXML.uuid(instanceID: name), instanceID: name, state: machine.state, cores: machine.specification.cores,
            memoryMiB: machine.specification.memoryMiB,
            diskSerials: ["root"] + (machine.state.isActive ? machine.disks : machine.specification.volumes).map(\.serial))
    }

    public func attachDisk(_ disk: NetworkDisk, to name: String) async throws(CloudError) {
        try enter("attachDisk", name)
        let found = state.withLock { s -> Bool? in
            guard let machine = s.machines[name] else { return nil }
            guard machine.state.isActive else { return false }
            if !machine.disks.contains(where: { $0.serial == disk.serial }) { s.machines[name]?.disks.append(disk) }
            s.machines[name]?.dueRelease[disk.serial] = nil
            return true
        }
        guard let found else { throw CloudError(.notFound(.instance, id: name)) }
        if !found { throw CloudError(.incorrectState(.instance, id: name, state: "stopped")) }
    }

    public func detachDisk(serial: String, from name: String) async throws(CloudError) {
        try enter("detachDisk", name)
        let now = clock.now()
        state.withLock { s in
            let b = behaviour(s, name)
            guard let machine = s.machines[name], machine.state == .running, b.releasesDisks,
                machine.disks.contains(where: { $0.serial == serial }), machine.dueRelease[serial] == nil
            else { return }
            s.machines[name]?.dueRelease[serial] = now.adding(milliseconds: Int64(b.releaseMilliseconds))
        }
    }

    public func check() async throws(CloudError) {
        if let error = state.withLock({ $0.failure?("check", "") }) { throw error }
    }
}
