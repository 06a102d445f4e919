public import Domain
import Synchronization
public import Workflow

/// One life of a daemon: from a start to a kill. Whatever the daemon does in the world goes through something that asks its life first, so
/// that after the kill nothing of it happens, although its tasks still have to find their ends.
public final class Life: Sendable {
    private struct State {
        var isAlive = true
        var onKill: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())
    private let killed = Nudge()
    private let jobs: AsyncStream<@Sendable () async -> Void>
    private let jobsContinuation: AsyncStream<@Sendable () async -> Void>.Continuation
    public let name: String

    public init(_ name: String) {
        self.name = name
        (jobs, jobsContinuation) = AsyncStream.makeStream()
    }

    public var isAlive: Bool { state.withLock { $0.isAlive } }

    /// - Throws: `.unavailable` after the kill.
    public func check() throws(CloudError) {
        guard isAlive else { throw CloudError(.unavailable(name), context: "killed") }
    }

    /// What has to happen at the very moment of the kill: a disk decides which of its unsynced writes it has.
    public func onKill(_ action: @escaping @Sendable () -> Void) { state.withLock { $0.onKill.append(action) } }

    public func kill() {
        let actions = state.withLock { s -> [@Sendable () -> Void] in
            guard s.isAlive else { return [] }
            s.isAlive = false
            return s.onKill
        }
        for action in actions { action() }
        killed.signal()
    }

    /// Has the daemon do this, as a task of its own: a request that came in.
    /// - Returns: false when it is dead.
    @discardableResult
    public func submit(_ job: @escaping @Sendable () async -> Void) -> Bool {
        guard isAlive else { return false }
        jobsContinuation.yield(job)
        return true
    }

    /// Runs the daemon's own work and the submitted jobs, until it is killed (or the task is cancelled, which is the same).
    public func run(_ work: @escaping @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withDiscardingTaskGroup { inner in
                    inner.addTask { await work() }
                    for await job in self.jobs { inner.addTask { await job() } }
                    inner.cancelAll()
                }
            }
            await killed.wait()
            kill()
            group.cancelAll()
        }
    }

    /// The daemon's clock: in a dead life nobody sleeps.
    public func clock(_ clock: VirtualClock) -> any Workflow.Clock { LifeClock(life: self, clock: clock) }
}

private struct LifeClock: Workflow.Clock {
    let life: Life
    let clock: VirtualClock
    func now() -> Timestamp { clock.now() }
    func monotonic() -> Int64 { clock.monotonic() }
    func sleep(milliseconds: Int) async throws {
        if !life.isAlive { throw CancellationError() }
        try await clock.sleep(milliseconds: milliseconds)
        if !life.isAlive { throw CancellationError() }
    }
}

/// Something that a daemon does in the world (a system call, libvirt, a disk): it takes a moment, and a kill may come before it or after it.
public struct Deeds: Sendable {
    public let life: Life
    let clock: VirtualClock
    let random: SeededRandom

    public init(life: Life, clock: VirtualClock, random: SeededRandom) {
        self.life = life
        self.clock = clock
        self.random = random
    }

    public func pause(atMost milliseconds: Int) async {
        try? await clock.sleep(milliseconds: random.below(max(1, milliseconds + 1)))
    }

    /// - Throws: `.unavailable` in a dead life: not done, or done and nobody hears of it.
    public func perform<R: Sendable>(
        atMost milliseconds: Int = 10, _ body: () async throws(CloudError) -> R
    ) async throws(CloudError) -> R {
        await pause(atMost: milliseconds)
        try life.check()
        let result = try await body()
        await pause(atMost: milliseconds)
        try life.check()
        return result
    }
}
