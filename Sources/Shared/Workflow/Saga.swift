public import Domain

/// What a saga has learned so far: ids that its first step made, addresses, digests. Small texts only; it is stored with the events.
public typealias SagaFacts = [String: String]

/// What happened, in order. `Saga.run` continues from any prefix of it.
public enum SagaEvent: Sendable, Equatable {
    case started(step: Int, facts: SagaFacts)
    /// All facts known after the step.
    case succeeded(step: Int, facts: SagaFacts)
    /// From here on the steps are undone, last first. The message goes to whoever asks how it ended.
    case failed(step: Int, message: String)
    case undone(step: Int)
}

/// Where a saga's events are kept. `append` returns when the event is durable.
public protocol SagaLog: Sendable {
    func sagaEvents(_ id: String) async throws(CloudError) -> [SagaEvent]
    func sagaAppend(_ id: String, _ event: SagaEvent) async throws(CloudError)
}

/// One step. `perform` and `undo` may run more than once (the machine may die after the work and before the event is written), so both
/// must be idempotent for the same facts. `undo` also runs for the step that failed: it must cope with work half done.
public struct SagaStep<Context: Sendable>: Sendable {
    public let name: String
    let perform: @Sendable (Context, SagaFacts) async throws(CloudError) -> SagaFacts
    let undo: @Sendable (Context, SagaFacts) async throws(CloudError) -> Void

    /// - Parameter perform: gets the facts so far; returns the new ones, which are merged in.
    public init(
        _ name: String, perform: @escaping @Sendable (Context, SagaFacts) async throws(CloudError) -> SagaFacts,
        undo: @escaping @Sendable (Context, SagaFacts) async throws(CloudError) -> Void = { _, _ throws(CloudError) in }
    ) {
        self.name = name
        self.perform = perform
        self.undo = undo
    }
}

public enum SagaOutcome: Sendable, Equatable {
    case completed(SagaFacts)
    /// Everything that was done is undone; the message is that of the step that failed.
    case undone(SagaFacts, message: String)
}

/// Fixed steps across daemons with no row that expresses the middle (`ARCHITECTURE.md` §4.3).
///
///     started(0) succeeded(0) started(1) succeeded(1) … ─▶ completed
///                             │ failed(1) ─▶ undone(1) undone(0) ─▶ undone
///
/// A step that throws `.unavailable` has not failed: `run` throws it on, and is called again later (by the owner's reconciler) with the
/// same id. So a saga needs no retry of its own, and a restart is nothing special.
public struct Saga<Context: Sendable>: Sendable {
    public let name: String
    public let steps: [SagaStep<Context>]

    public init(_ name: String, _ steps: [SagaStep<Context>]) {
        self.name = name
        self.steps = steps
    }

    /// Starts or continues the saga `id`.
    /// - Parameter facts: known at the start; ignored when it was started before.
    /// - Throws: `.unavailable` (or what the log throws): call again later.
    public func run(
        _ id: String, facts initial: SagaFacts = [:], context: Context, log: any SagaLog, faults: any Faults = NoFaults()
    ) async throws(CloudError) -> SagaOutcome {
        var position = Position(try await log.sagaEvents(id), facts: initial)
        while position.failure == nil, position.next < steps.count {
            let index = position.next
            let step = steps[index]
            try await faults.point("saga.\(name).\(step.name).before")
            if !position.isStarted { try await append(.started(step: index, facts: position.facts), id, log, &position) }
            do {
                let learned = try await step.perform(context, position.facts)
                try await faults.point("saga.\(name).\(step.name).performed")
                let merged = position.facts.merging(learned) { _, new in new }
                try await append(.succeeded(step: index, facts: merged), id, log, &position)
            } catch {
                if case .unavailable = error.reason { throw error }
                try await append(.failed(step: index, message: error.message), id, log, &position)
            }
        }
        guard let failure = position.failure else { return .completed(position.facts) }
        while let index = position.nextUndo {
            let step = steps[index]
            try await faults.point("saga.\(name).\(step.name).beforeUndo")
            try await step.undo(context, position.facts)
            try await faults.point("saga.\(name).\(step.name).undid")
            try await append(.undone(step: index), id, log, &position)
        }
        return .undone(position.facts, message: failure)
    }

    private func append(_ event: SagaEvent, _ id: String, _ log: any SagaLog, _ position: inout Position) async throws(CloudError) {
        try await log.sagaAppend(id, event)
        position.apply(event)
    }
}

/// Where a saga stands, folded from its events.
private struct Position {
    var next = 0
    var isStarted = false
    var facts: SagaFacts
    var failure: String?
    /// The step to undo next; `nil` when there is none (or nothing failed).
    var nextUndo: Int?

    init(_ events: [SagaEvent], facts: SagaFacts) {
        self.facts = facts
        for event in events { apply(event) }
    }

    mutating func apply(_ event: SagaEvent) {
        switch event {
        case .started(_, let known):
            isStarted = true
            facts = known
        case .succeeded(let step, let known):
            next = step + 1
            isStarted = false
            facts = known
        case .failed(let step, let message):
            failure = message
            nextUndo = step
        case .undone(let step):
            nextUndo = step > 0 ? step - 1 : nil
        }
    }
}
