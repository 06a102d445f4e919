/// The next step of one instance. Pure: a row's intent and what is seen of it in, one step out. The reconciler does the step and
/// asks again; it holds nothing between two rounds, so that restart, nudge and timer are one path.
///
/// ```
///            Run                guest shuts down / Stop           Start
/// (row) ──▶ pending ──▶ running ──────────────────▶ stopped ──▶ pending
///              │           │                           │
///              └───────────┴── Terminate, give up ─────┴──▶ [save?] ──▶ terminating ──▶ tombstone ──▶ finish
/// ```
///
/// Deliberately not done: an instance that a node does not report is never called terminated on that ground alone. A command may
/// still be on its way; only a tombstone with our generation (or a node that an operator removed) ends an instance.
public enum InstanceStep: Sendable, Equatable {
    public enum Waiting: Sendable, Equatable { case nodeSilent, nodeWorking, saving }

    /// The world is as the row wants it.
    case settled
    case wait(Waiting)
    /// Send RunInstance with the row's generation.
    case run
    case stop(force: Bool)
    case terminate(force: Bool)
    case reboot
    /// It failed or was lost: count the attempt, raise the generation, run again in the next round.
    case retry(reason: String)
    /// It cannot be started: `desired` becomes terminated, with this reason for the owner.
    case giveUp(reason: String)
    /// The guest shut itself down: `desired` becomes what the behaviour says.
    case guestShutDown(ShutdownBehaviour)
    /// The node has seen a newer generation than the row has (a restored database): raise the row's beyond it.
    case overtake(Int64)
    /// It is stopped and its disk is to be saved: begin the saga.
    case beginSave
    /// The node has confirmed that nothing is left: give back the addresses, close the row.
    case finish
}

public enum InstancePlanner {
    /// How often an instance is tried again before it is given up. Too low: one full cache or a restarted node ends instances;
    /// too high: an owner waits for minutes to learn that an image does not boot.
    public static let attemptLimit = 3

    public static func plan(_ intent: InstanceIntent, _ sight: InstanceSight) -> InstanceStep {
        switch (intent.desired, sight) {
        case (.running, .silent), (.stopped, .silent), (.terminated, .silent):
            return .wait(.nodeSilent)
        case (.running, .nodeGone), (.stopped, .nodeGone):
            return .giveUp(reason: "Server.InternalError: the node of the instance was removed from the cloud")
        case (.terminated, .nodeGone):
            return .finish
        case (.running, .absent):
            return .run
        case (.stopped, .absent):
            // Stopped before its node had taken the order: told all the same, so that an order that is still on its way comes too late.
            return .stop(force: intent.force)
        case (.terminated, .absent):
            return .terminate(force: intent.force)
        case (_, .reported(let facts)) where facts.generation > intent.generation:
            return .overtake(facts.generation)
        case (.running, .reported(let facts)):
            return running(intent, facts)
        case (.stopped, .reported(let facts)):
            return stopped(intent, facts)
        case (.terminated, .reported(let facts)):
            return terminated(intent, facts)
        }
    }

    private static func running(_ intent: InstanceIntent, _ facts: InstanceFacts) -> InstanceStep {
        guard facts.generation == intent.generation else { return .run }
        switch facts.state {
        case .pending, .stopping:
            return .wait(.nodeWorking)
        case .running:
            return facts.rebootCount < intent.rebootCount ? .reboot : .settled
        case .paused:
            return .settled
        case .stopped where facts.reason == InstanceFacts.guestShutdown:
            return .guestShutDown(intent.onGuestShutdown)
        case .stopped, .crashed, .failed:
            let reason = facts.reason.isEmpty ? "the instance \(facts.state.rawValue) on its node" : facts.reason
            return intent.attempts < attemptLimit ? .retry(reason: reason) : .giveUp(reason: "Server.InternalError: " + reason)
        case .terminating, .terminated:
            return .giveUp(reason: "Server.InternalError: the node has removed the instance")
        }
    }

    private static func stopped(_ intent: InstanceIntent, _ facts: InstanceFacts) -> InstanceStep {
        guard facts.generation == intent.generation else { return .stop(force: intent.force) }
        switch facts.state {
        case .pending, .running, .paused, .stopping: return .wait(.nodeWorking)
        case .stopped, .crashed, .failed: return .settled
        case .terminating, .terminated: return .giveUp(reason: "Server.InternalError: the node has removed the instance")
        }
    }

    private static func terminated(_ intent: InstanceIntent, _ facts: InstanceFacts) -> InstanceStep {
        if facts.state == .terminated, facts.generation == intent.generation { return .finish }
        switch intent.save {
        case .none, .saved, .failed:
            guard facts.generation == intent.generation, facts.state == .terminating else { return .terminate(force: intent.force) }
            return .wait(.nodeWorking)
        case .saving:
            return .wait(.saving)
        case .wanted:
            // The disk is read from a stopped instance. A repeat of stop with the same generation is harmless.
            switch facts.state {
            case .stopped, .crashed: return .beginSave
            case .pending, .running, .paused, .failed: return .stop(force: intent.force)
            case .stopping: return .wait(.nodeWorking)
            // It has no disk any more: there is nothing to save.
            case .terminating, .terminated: return .terminate(force: intent.force)
            }
        }
    }

    /// What a client is shown. `facts` is the last report that was recorded, however old: a silent node changes nothing about
    /// what was known (it shows in the instance's status instead).
    public static func state(_ intent: InstanceIntent, _ facts: InstanceFacts?, finished: Bool) -> EC2InstanceState {
        if finished { return .terminated }
        switch intent.desired {
        case .terminated:
            return .shuttingDown
        case .stopped:
            guard let facts else { return .stopped }
            guard facts.generation == intent.generation else { return .stopping }
            switch facts.state {
            case .pending, .running, .paused, .stopping: return .stopping
            case .stopped, .crashed, .failed, .terminating, .terminated: return .stopped
            }
        case .running:
            guard let facts, facts.generation == intent.generation else { return .pending }
            switch facts.state {
            case .running, .paused: return .running
            case .stopping, .stopped: return facts.reason == InstanceFacts.guestShutdown ? .stopping : .pending
            case .pending, .crashed, .failed, .terminating, .terminated: return .pending
            }
        }
    }
}
