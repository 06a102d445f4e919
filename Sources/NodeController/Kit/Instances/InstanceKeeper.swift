public import API
import Domain
import Logging
import Synchronization
import Workflow

/// Makes the domains of this node what the journal says. Takes no input: commands change the journal and wake it, libvirt's events and a
/// timer wake it, a restart wakes it for everything. One pass does one step for one instance; at most one pass of an instance is
/// under way.
public actor InstanceKeeper {
    nonisolated let environment: NodeEnvironment
    nonisolated let starts: Gate
    private nonisolated let wakeups: AsyncStream<String>
    private nonisolated let wakeupContinuation: AsyncStream<String>.Continuation
    private nonisolated let timer = Nudge()
    /// Tells the cluster controller to look at these.
    private nonisolated let nudge: @Sendable ([String]) -> Void

    /// The domains as they were seen last.
    private var observed: [String: DomainStatus] = [:]
    /// Whether the hypervisor has answered since the node was started.
    private var hasLooked = false
    /// Names that are worked on; true: look again afterwards.
    private var active: [String: Bool] = [:]
    private var due: [String: Timestamp] = [:]
    private var attempts: [String: Attempts] = [:]
    private var lastReports: [String: NC.InstanceReport] = [:]
    private var lastProblem: String?
    /// Launches under way, by the generation that they are for.
    private var launches: [String: (generation: Int, cancel: Nudge)] = [:]
    var shutdownAsked: [String: Timestamp] = [:]
    var detachAsked: [String: Timestamp] = [:]

    private struct Attempts {
        var generation: Int
        var count: Int
    }

    public init(environment: NodeEnvironment, nudge: @escaping @Sendable ([String]) -> Void) {
        self.environment = environment
        self.nudge = nudge
        starts = Gate(environment.settings.maxConcurrentStarts)
        (wakeups, wakeupContinuation) = AsyncStream.makeStream(of: String.self)
    }

    // MARK: Driving

    /// "Look at this instance": coalesced while it is being looked at.
    public nonisolated func wake(_ id: String) { wakeupContinuation.yield(id) }

    /// A command for this instance is in the journal. A launch that it makes pointless ends at once, however long its download
    /// would take.
    func commandAccepted(_ record: InstanceRecord) {
        if let launch = launches[record.instanceID], record.generation != launch.generation || record.desired != .running {
            launch.cancel.signal()
        }
        wake(record.instanceID)
    }

    /// The network in force has changed: instances may be waiting for it.
    public func networkChanged() async {
        for record in await environment.journal.allInstances()
        where record.desired == .running && record.startedGeneration < record.generation {
            wake(record.instanceID)
        }
    }

    /// Runs until the task is cancelled. Instances that are being worked on when that happens are where the journal and the world say.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.watchEvents() }
            group.addTask { await self.watchTime() }
            for await id in wakeups {
                if Task.isCancelled { break }
                if begin(id) { group.addTask { await self.work(id) } }
            }
            group.cancelAll()
        }
    }

    private func begin(_ id: String) -> Bool {
        if active[id] != nil {
            active[id] = true
            return false
        }
        active[id] = false
        due[id] = nil
        return true
    }

    /// - Returns: whether it was woken meanwhile.
    private func end(_ id: String) -> Bool {
        if active[id] == true {
            active[id] = false
            return true
        }
        active[id] = nil
        return false
    }

    private func work(_ id: String) async {
        repeat {
            if Task.isCancelled { break }
            let result = await pass(id)
            switch result {
            case .again: active[id] = true
            case .settled: break
            case .at(let time): schedule(id, time)
            }
        } while end(id)
    }

    private func schedule(_ id: String, _ time: Timestamp) {
        due[id] = min(due[id] ?? time, time)
        timer.signal()
    }

    private nonisolated func watchEvents() async {
        for await event in environment.hypervisor.events() {
            switch event {
            case .reconnected:
                environment.logger.notice("the hypervisor is there again")
                await look()
            case .disconnected: environment.logger.warning("the connection to the hypervisor is lost")
            case .rebooted(let name):
                await rebooted(name)
                wake(name)
            case .ioError(let name, let reason):
                environment.logger.warning("a disk had an error", metadata: ["instance": "\(name)", "reason": "\(reason)"])
                wake(name)
            case .lifecycle(let name), .deviceRemoved(let name): wake(name)
            }
        }
    }

    private nonisolated func watchTime() async {
        var nextPoll = environment.clock.now()
        while !Task.isCancelled {
            let now = environment.clock.now()
            if now >= nextPoll {
                await look()
                nextPoll = now.adding(milliseconds: Int64(environment.settings.pollMilliseconds))
            }
            for id in await takeDue(now) { wake(id) }
            let next = min(nextPoll, await earliestDue() ?? nextPoll)
            let pause = max(10, next.milliseconds - environment.clock.now().milliseconds)
            await timer.wait(atMost: Int(pause), clock: environment.clock)
        }
    }

    private func takeDue(_ now: Timestamp) -> [String] {
        let ids = due.filter { $0.value <= now }.map(\.key).sorted()
        for id in ids { due[id] = nil }
        return ids
    }
    private func earliestDue() -> Timestamp? { due.values.min() }

    // MARK: Looking

    /// Looks at every domain at once, and wakes what is not as it should be.
    public func look() async {
        let before = observed
        do throws(CloudError) {
            let domains = try await environment.hypervisor.domains()
            observed = Dictionary(domains.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
            if lastProblem != nil { environment.logger.notice("the hypervisor answers again") }
            lastProblem = nil
            hasLooked = true
            environment.health(nil)
        } catch {
            if lastProblem == nil {
                environment.logger.error(
                    "the hypervisor does not answer", metadata: ["error": "\(error.message)", "context": "\(error.context)"])
            }
            environment.health(error.message)
            lastProblem = error.message + (error.context.isEmpty ? "" : " (\(error.context))")
            return
        }
        let now = environment.clock.now()
        for record in await environment.journal.allInstances() where !record.isTombstone {
            let domain = observed[record.instanceID]
            if domain != before[record.instanceID] || needsWork(record, domain, now) { wake(record.instanceID) }
        }
        for (name, domain) in observed where before[name]?.state != domain.state {
            if Self.isOurs(domain), await environment.journal.instance(name) == nil { nudge([name]) }
        }
    }

    private func needsWork(_ record: InstanceRecord, _ domain: DomainStatus?, _ now: Timestamp) -> Bool {
        // A launch that failed waits for its time.
        if due[record.instanceID] != nil { return false }
        return InstancePlan.next(record, domain, now: now) != .nothing || VolumePlan.hasWork(record)
    }

    /// Karri's by its metadata, or by its name.
    static func isOurs(_ domain: DomainStatus) -> Bool { domain.instanceID != nil || InstanceNames.isInstance(domain.name) }

    /// What the hypervisor's last trouble was; `nil` when it answers.
    public func problem() -> String? { lastProblem }

    // MARK: One pass

    private enum PassResult {
        case again
        case settled
        case at(Timestamp)
    }

    private func pass(_ id: String) async -> PassResult {
        guard let record = await environment.journal.instance(id) else {
            await observe(id)
            return .settled
        }
        let now = environment.clock.now()
        do throws(CloudError) {
            observed[id] = try await environment.hypervisor.domain(named: id)
            let step = InstancePlan.next(record, observed[id], now: now)
            let outcome = try await perform(step, record, observed[id])
            attempts[id] = nil
            await reportChange(id)
            guard let outcome else { return step == .nothing ? .settled : .again }
            return outcome <= now ? .again : .at(outcome)
        } catch {
            let result = await failed(record, error)
            await reportChange(id)
            return result
        }
    }

    /// - Returns: when to look again; `nil`: at once, or not at all if there was nothing to do.
    private func perform(_ step: InstanceStep, _ record: InstanceRecord, _ domain: DomainStatus?) async throws(CloudError) -> Timestamp? {
        let id = record.instanceID
        let hypervisor = environment.hypervisor
        let now = environment.clock.now()
        switch step {
        case .nothing: return try await reconcileVolumes(record, domain)
        case .wait(let until):
            if record.desired != .running || record.shutdownAskedAt != nil { try await askShutdownAgain(id, now) }
            _ = try await reconcileVolumes(record, domain)
            return max(until, now.adding(milliseconds: 50))
        case .launch: return try await launchUnlessOvertaken(record)
        case .noteStarted:
            try await noteStarted(id, record.generation)
            return nil
        case .noteEnding(let how):
            environment.logger.notice("an instance has ended by itself", metadata: ["instance": "\(id)", "how": "\(how)"])
            try await environment.journal.update(id) { $0?.ending = how }
            return nil
        case .noteResurrection:
            try await environment.journal.update(id) { $0?.ending = "" }
            return nil
        case .askShutdown:
            // Written first: after a kill the grace goes on, it does not begin again.
            try await environment.journal.update(id) { $0?.shutdownAskedAt = now }
            shutdownAsked[id] = now
            try await hypervisor.shutdown(id)
            return nil
        case .destroy:
            try await hypervisor.destroy(id)
            return nil
        case .askReboot:
            try await environment.journal.update(id) { $0?.rebootAskedAt = now }
            try await hypervisor.reboot(id)
            return nil
        case .reset:
            environment.logger.notice("the guest did not restart in time: reset", metadata: ["instance": "\(id)"])
            try await hypervisor.reset(id)
            await rebooted(id)
            return nil
        case .resumeWhenThereIsRoom:
            let free = await environment.disks.freeBytes()
            if free >= environment.settings.resumeFreeMiB << 20 {
                environment.logger.notice("there is room on the disk again: the instance goes on", metadata: ["instance": "\(id)"])
                try await hypervisor.resume(id)
            }
            // A resumed guest that meets a full disk again is paused again: not faster than this.
            return now.adding(seconds: 2)
        case .remove:
            try await remove(record)
            return nil
        }
    }

    private func launchUnlessOvertaken(_ record: InstanceRecord) async throws(CloudError) -> Timestamp? {
        let cancel = Nudge()
        launches[record.instanceID] = (record.generation, cancel)
        defer { launches[record.instanceID] = nil }
        // A command that came just before it could be cancelled.
        guard let current = await environment.journal.instance(record.instanceID), current.generation == record.generation else {
            return nil
        }
        typealias Outcome = Result<Timestamp?, CloudError>
        let outcome = await withTaskGroup(of: Outcome?.self) { group -> Outcome? in
            group.addTask {
                do throws(CloudError) { return .success(try await self.launch(record)) } catch { return .failure(error) }
            }
            group.addTask {
                await cancel.wait()
                return nil
            }
            // Whichever ends first ends the other. A cancelled launch ends or gives up what it has begun; then the newer command is
            // looked at.
            var result: Outcome?
            for await ended in group {
                group.cancelAll()
                result = ended ?? result
            }
            return result
        }
        guard let outcome else { return nil }
        if case .failure(let error) = outcome, let now = await environment.journal.instance(record.instanceID),
            now.generation != record.generation || now.desired != .running
        {
            environment.logger.info("a launch was overtaken", metadata: ["instance": "\(record.instanceID)", "error": "\(error.context)"])
            return nil
        }
        return try outcome.get()
    }

    private func askShutdownAgain(_ id: String, _ now: Timestamp) async throws(CloudError) {
        if let asked = shutdownAsked[id], now < asked.adding(seconds: InstancePlan.askAgainSeconds) { return }
        shutdownAsked[id] = now
        try await environment.hypervisor.shutdown(id)
    }

    private func rebooted(_ id: String) async {
        do throws(CloudError) {
            try await environment.journal.update(id) { record in
                guard var changed = record, changed.rebootAskedAt != nil else { return }
                changed.rebootsDone = changed.rebootCount
                changed.rebootAskedAt = nil
                record = changed
            }
        } catch {
            environment.logger.error("a reboot could not be journaled", metadata: ["instance": "\(id)", "error": "\(error.context)"])
        }
    }

    /// Launches that fail are tried again, each time later, and in the end reported; everything else is tried for ever.
    private func failed(_ record: InstanceRecord, _ error: CloudError) async -> PassResult {
        let id = record.instanceID
        var tries = attempts[id] ?? Attempts(generation: record.generation, count: 0)
        if tries.generation != record.generation { tries = Attempts(generation: record.generation, count: 0) }
        tries.count += 1
        attempts[id] = tries
        environment.logger.warning(
            "an instance's step did not work",
            metadata: [
                "instance": "\(id)", "desired": "\(record.desired.rawValue)", "try": "\(tries.count)", "error": "\(error.message)",
                "context": "\(error.context)",
            ])
        let launching = record.desired == .running && record.startedGeneration < record.generation
        if launching, !error.isWorthRetrying || tries.count >= environment.settings.launchAttempts {
            let generation = record.generation
            do throws(CloudError) {
                try await environment.journal.update(id) { record in
                    if record?.generation == generation { record?.failure = error.message }
                }
                attempts[id] = nil
                return .again
            } catch {
                // The disk is full or broken: the failure is told when it can be written down.
            }
        }
        let pause = Int64(min(30_000, 500 << min(tries.count - 1, 6)))
        return .at(environment.clock.now().adding(milliseconds: pause))
    }

    func noteStarted(_ id: String, _ generation: Int) async throws(CloudError) {
        let now = environment.clock.now()
        shutdownAsked[id] = nil
        try await environment.journal.update(id) { record in
            guard var changed = record, changed.generation == generation, changed.desired == .running else { return }
            changed.startedGeneration = generation
            changed.ending = ""
            changed.shutdownAskedAt = nil
            // A machine that has just started needs no reboot.
            changed.rebootsDone = changed.rebootCount
            changed.rebootAskedAt = nil
            changed.note("boot", at: now)
            record = changed
        }
    }

    // MARK: Reports

    /// A domain without a record: remembered for the reports, nothing else.
    private func observe(_ name: String) async {
        if let domain = try? await environment.hypervisor.domain(named: name) {
            let changed = observed[name]?.state != domain.state
            observed[name] = domain
            if changed, Self.isOurs(domain) { nudge([name]) }
        } else if observed.removeValue(forKey: name) != nil {
            nudge([name])
        }
    }

    private func reportChange(_ id: String) async {
        guard let record = await environment.journal.instance(id) else { return }
        let report = record.report(observed[id], hasLooked: hasLooked || observed[id] != nil)
        if lastReports[id] != report {
            lastReports[id] = record.isTombstone ? nil : report
            nudge([id])
        }
    }

    /// Every instance that the node has or had, and Karri's domains that nobody ordered. `ids` empty: all.
    public func reports(_ ids: [String]) async -> [NC.InstanceReport] {
        let records = await environment.journal.allInstances()
        let wanted = Set(ids)
        var out = records.map { $0.report(observed[$0.instanceID], hasLooked: hasLooked) }
        let known = Set(records.map(\.instanceID))
        for domain in observed.values.sorted(by: { $0.name < $1.name }) where !known.contains(domain.name) && Self.isOurs(domain) {
            out.append(domain.unknownReport)
        }
        return wanted.isEmpty ? out : out.filter { wanted.contains($0.instanceId ?? "") }
    }

    public func report(_ record: InstanceRecord) -> NC.InstanceReport { record.report(observed[record.instanceID], hasLooked: hasLooked) }

    func seen(_ id: String) -> DomainStatus? { observed[id] }
    func saw(_ id: String, _ status: DomainStatus?) { observed[id] = status }
}

extension CloudError {
    /// Whether the same may work in a moment.
    var isWorthRetrying: Bool {
        switch reason {
        case .unavailable, .bug, .capacity, .stale: true
        case .named(let code, _): code == "HypervisorError" || code == "CommandFailed"
        default: false
        }
    }
}

extension InstanceKeeper: MetadataSource {
    public func order(privateAddress: String) async -> NC.InstanceOrder? {
        for record in await environment.journal.allInstances() where record.desired != .terminated {
            if let order = record.order, order.privateAddress == privateAddress { return order }
        }
        return nil
    }

    public func metadataServed(instanceID: String) async {
        let now = environment.clock.now()
        guard let record = await environment.journal.instance(instanceID), !record.trace.contains(where: { $0.step == "metadata" }) else {
            return
        }
        do throws(CloudError) {
            try await environment.journal.update(instanceID) { $0?.note("metadata", at: now) }
            nudge([instanceID])
        } catch { environment.logger.warning("a step could not be journaled", metadata: ["error": "\(error.context)"]) }
    }
}
