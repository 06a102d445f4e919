import Domain

/// The next thing to do for an instance. One is done at a time; then the node looks again.
enum InstanceStep: Equatable {
    case nothing
    /// Look again at this time at the latest, even if no event comes.
    case wait(until: Timestamp)
    /// Image, disk, network, definition, start: each is skipped when it is done.
    case launch
    /// It runs, but the journal does not say yet that its start is done (a kill came between).
    case noteStarted
    /// The started machine has ended by itself, in this way.
    case noteEnding(String)
    /// It was seen ended, and runs again.
    case noteResurrection
    case askShutdown
    case destroy
    case askReboot
    case reset
    /// It stands still because the disk was full: let it go on when there is room.
    case resumeWhenThereIsRoom
    /// Everything of it is to go from the node; then it is a tombstone.
    case remove
}

/// What a node does for one instance, from the record, the domain and the time alone: no await, no clock.
///
///     desired     domain: absent / shut off      running                    paused by a full disk
///     running     launch, if not started yet     note, reboot               resume when there is room
///     stopped     nothing                        ACPI, then force           force
///     terminated  remove                         ACPI, then force           force
///
/// Deliberately not done: a machine whose start is done and that has ended (by the guest, by a crash, by the host's restart) is not
/// started again. The node says so, and the cloud decides.
enum InstancePlan {
    /// Between one ACPI request and the next, while the grace lasts: a guest that is still booting does not hear the first one.
    static let askAgainSeconds: Int64 = 10
    /// How long a guest may take to restart by itself before it is reset.
    static let rebootGraceSeconds: Int64 = 60

    static func next(_ record: InstanceRecord, _ domain: DomainStatus?, now: Timestamp) -> InstanceStep {
        if record.isTombstone { return .nothing }
        let state = domain?.state
        switch (record.desired, state) {
        case (.terminated, nil), (.terminated, .shutOff): return .remove
        case (.stopped, nil), (.stopped, .shutOff): return .nothing
        case (.stopped, .some), (.terminated, .some): return end(record, domain, now)
        case (.running, _):
            if !record.failure.isEmpty { return .nothing }
            return record.startedGeneration < record.generation ? start(record, domain, now) : keep(record, domain, now)
        }
    }

    private static func start(_ record: InstanceRecord, _ domain: DomainStatus?, _ now: Timestamp) -> InstanceStep {
        switch domain?.state {
        case nil, .shutOff: .launch
        // It was on its way down when it was wanted again: first all the way down.
        case .running where record.shutdownAskedAt != nil, .paused where record.shutdownAskedAt != nil: end(record, domain, now)
        case .shuttingDown: .wait(until: now.adding(seconds: 1))
        case .paused(.starting): .wait(until: now.adding(milliseconds: 500))
        case .running, .paused: .noteStarted
        }
    }

    private static func keep(_ record: InstanceRecord, _ domain: DomainStatus?, _ now: Timestamp) -> InstanceStep {
        if let state = domain?.state, state.isActive, !record.ending.isEmpty { return .noteResurrection }
        switch domain?.state {
        case nil: return record.ending.isEmpty ? .noteEnding("gone") : .nothing
        case .shutOff(let reason):
            if !record.ending.isEmpty { return .nothing }
            switch reason {
            case .shutdown: return .noteEnding("guest")
            case .destroyed: return .noteEnding("destroyed")
            case .crashed, .failed: return .noteEnding("crashed")
            case .unknown: return .noteEnding("host")
            }
        case .paused(.ioError): return .resumeWhenThereIsRoom
        case .paused, .shuttingDown: return .nothing
        case .running:
            guard record.rebootCount > record.rebootsDone else { return .nothing }
            guard let asked = record.rebootAskedAt else { return .askReboot }
            let limit = asked.adding(seconds: rebootGraceSeconds)
            return now < limit ? .wait(until: limit) : .reset
        }
    }

    private static func end(_ record: InstanceRecord, _ domain: DomainStatus?, _ now: Timestamp) -> InstanceStep {
        switch domain?.state {
        // A machine that stands still hears nothing.
        case .paused: return .destroy
        case nil, .shutOff: return .nothing
        case .running, .shuttingDown:
            if record.force { return .destroy }
            guard let asked = record.shutdownAskedAt else { return .askShutdown }
            let limit = asked.adding(seconds: Int64(record.graceSeconds))
            if now >= limit { return .destroy }
            return .wait(until: min(limit, now.adding(seconds: askAgainSeconds)))
        }
    }
}
