import Domain
import Synchronization
import Testing
import Workflow

final class Counter: Sendable {
    private let value = Mutex(0)
    /// - Returns: the new value.
    @discardableResult
    func count() -> Int {
        value.withLock { n in
            n += 1
            return n
        }
    }
    var now: Int { value.withLock { $0 } }
}

/// A log that may lose an append before or after it became durable, as a killed machine does.
private actor MemoryLog: SagaLog {
    var events: [String: [SagaEvent]] = [:]
    var failBefore = -1
    var failAfter = -1
    var appends = 0

    func arm(before: Int = -1, after: Int = -1) {
        (failBefore, failAfter, appends) = (before, after, 0)
    }
    func sagaEvents(_ id: String) async throws(CloudError) -> [SagaEvent] { events[id] ?? [] }
    func sagaAppend(_ id: String, _ event: SagaEvent) async throws(CloudError) {
        defer { appends += 1 }
        if appends == failBefore { throw CloudError(.unavailable("log")) }
        events[id, default: []].append(event)
        if appends == failAfter { throw CloudError(.unavailable("log")) }
    }
}

/// The world that the saga under test changes.
private actor World {
    var done: Set<Int> = []
    var calls = 0
    var failStep = -1
    var unavailableOnce: Set<Int> = []
    var ids: Set<String> = []

    func setUp(failStep: Int = -1, unavailableOnce: Set<Int> = []) {
        self.failStep = failStep
        self.unavailableOnce = unavailableOnce
    }
    func perform(_ step: Int, _ id: String?) throws(CloudError) {
        calls += 1
        if let id { ids.insert(id) }
        if unavailableOnce.remove(step) != nil { throw CloudError(.unavailable("world")) }
        done.insert(step)
        if step == failStep { throw CloudError(.invalidParameter("step \(step)")) }
    }
    func undo(_ step: Int) { done.remove(step) }
}

private let stepCount = 4

private func saga() -> Saga<World> {
    Saga(
        "test",
        (0..<stepCount).map { step in
            SagaStep("s\(step)") { (world: World, facts) async throws(CloudError) -> SagaFacts in
                try await world.perform(step, facts["id"])
                return step == 0 ? ["id": "i-1"] : ["s\(step)": "done"]
            } undo: { world, _ async throws(CloudError) in
                await world.undo(step)
            }
        })
}

private func runToTheEnd(_ world: World, _ log: MemoryLog) async throws -> (SagaOutcome, restarts: Int) {
    for restarts in 0..<50 {
        do { return (try await saga().run("x", context: world, log: log), restarts) } catch {
            guard case .unavailable = error.reason else { throw error }
        }
    }
    throw CloudError.bug("never ends")
}

@Suite struct SagaTests {
    @Test func allSteps() async throws {
        let world = World()
        let (outcome, _) = try await runToTheEnd(world, MemoryLog())
        #expect(outcome == .completed(["id": "i-1", "s1": "done", "s2": "done", "s3": "done"]))
        #expect(await world.done == [0, 1, 2, 3])
    }

    @Test(arguments: 0..<stepCount) func failsAtEachStepAndUndoesAll(step: Int) async throws {
        let world = World()
        await world.setUp(failStep: step)
        let (outcome, _) = try await runToTheEnd(world, MemoryLog())
        guard case .undone = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(await world.done == [])
    }

    @Test(arguments: 0..<stepCount) func aStepThatIsUnavailableIsRepeated(step: Int) async throws {
        let world = World()
        await world.setUp(unavailableOnce: [step])
        let (outcome, restarts) = try await runToTheEnd(world, MemoryLog())
        #expect(restarts == 1)
        #expect(await world.done == [0, 1, 2, 3])
        guard case .completed = outcome else {
            Issue.record("\(outcome)")
            return
        }
    }

    /// Killed before and after every event, in runs that succeed and in runs that fail at each step: the end is always the same.
    @Test(arguments: -1..<stepCount) func killedAtEveryEvent(failStep: Int) async throws {
        for kill in 0..<(2 * stepCount + 4) {
            for after in [false, true] {
                let world = World()
                await world.setUp(failStep: failStep)
                let log = MemoryLog()
                await log.arm(before: after ? -1 : kill, after: after ? kill : -1)
                let (outcome, _) = try await runToTheEnd(world, log)
                if failStep < 0 {
                    #expect(await world.done == [0, 1, 2, 3])
                    #expect(outcome == .completed(["id": "i-1", "s1": "done", "s2": "done", "s3": "done"]))
                } else {
                    #expect(await world.done == [])
                }
                // Running it once more does nothing at all.
                let calls = await world.calls
                #expect(try await runToTheEnd(world, log).0 == outcome)
                #expect(await world.calls == calls)
                #expect(await world.ids.isSubset(of: ["i-1"]))
            }
        }
    }
}

@Suite struct ReconcilerLoopTests {
    /// Sleeps are recorded and never end by themselves, so only nudges and cancellation go on.
    private final class StillClock: Clock {
        let sleeps = Mutex<[Int]>([])
        func now() -> Timestamp { Timestamp(milliseconds: 0) }
        func monotonic() -> Int64 { 0 }
        func sleep(milliseconds: Int) async throws {
            sleeps.withLock { $0.append(milliseconds) }
            try await Task.sleep(for: .seconds(3600))
        }
    }

    @Test(.timeLimit(.minutes(1))) func runsAtOnceAndOnNudgesAndEndsWhenCancelled() async throws {
        let nudge = Nudge()
        let (passes, passed) = AsyncStream<Int>.makeStream()
        let count = Counter()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await ReconcilerLoop(name: "t", periodMilliseconds: 1000, nudge: nudge, clock: StillClock()) {
                    passed.yield(count.count())
                    return ReconcileReport()
                }.run()
            }
            var iterator = passes.makeAsyncIterator()
            #expect(await iterator.next() == 1)
            nudge.signal()
            nudge.signal()
            #expect(await iterator.next() == 2)
            nudge.signal()
            _ = await iterator.next()
            group.cancelAll()
        }
        #expect(count.now >= 3)
    }

    @Test func nudgesBeforeTheWaitAreNotLost() async {
        let nudge = Nudge()
        nudge.signal()
        nudge.signal()
        await nudge.wait()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await nudge.wait() }
            group.cancelAll()
        }
    }

    /// Each sleep ends at once and is written down; the fifth pass works.
    private final class QuickClock: Clock {
        let sleeps = Mutex<[Int]>([])
        func now() -> Timestamp { Timestamp(milliseconds: 0) }
        func monotonic() -> Int64 { 0 }
        func sleep(milliseconds: Int) async throws { sleeps.withLock { $0.append(milliseconds) } }
    }

    @Test(.timeLimit(.minutes(1))) func failuresPauseLongerEachTime() async {
        let clock = QuickClock()
        let passes = Counter()
        await withTaskGroup(of: Void.self) { group in
            let (done, finish) = AsyncStream<Void>.makeStream()
            group.addTask {
                await ReconcilerLoop(name: "t", periodMilliseconds: 1000, retryMilliseconds: 100, clock: clock) {
                    let pass = passes.count()
                    if pass == 6 { finish.finish() }
                    return ReconcileReport(failures: pass < 6 ? ["no"] : [])
                }.run()
            }
            for await _ in done {}
            group.cancelAll()
        }
        #expect(Array(clock.sleeps.withLock { $0 }.prefix(9)) == [100, 100, 100, 100, 300, 100, 700, 100, 900])
    }
}

@Suite struct UndoTests {
    @Test func undoesInReverseWhenItThrows() async throws {
        let order = Mutex<[Int]>([])
        await #expect(throws: CloudError.self) {
            try await withUndo { undo in
                for i in 0..<3 { undo.add { order.withLock { $0.append(i) } } }
                throw CloudError(.unavailable("x"))
            }
        }
        #expect(order.withLock { $0 } == [2, 1, 0])
        let value = try await withUndo { undo in
            undo.add { order.withLock { $0.append(9) } }
            return 5
        }
        #expect(value == 5)
        #expect(order.withLock { $0 } == [2, 1, 0])
    }
}
