import Synchronization

/// Runs every job of a simulation on one thread, in an order that the seed tells. Child tasks and default actors follow the root task onto
/// it; an unstructured `Task {}` would escape, which is why Kits have none (`Tests/StyleTests`).
public final class SeededExecutor: TaskExecutor, SerialExecutor {
    /// Why a simulation stopped without reaching its end.
    public enum Failure: Error, CustomStringConvertible {
        /// Nothing can run, and nobody waits for a time.
        case deadlock
        /// This many jobs without time going on: something spins.
        case livelock(jobs: Int)
        public var description: String {
            switch self {
            case .deadlock: "nothing can run and nobody waits for a time"
            case .livelock(let jobs): "\(jobs) jobs ran at one moment: something spins"
            }
        }
    }
    /// Too low: a large launch looks like a spin; too high: a spin takes minutes to be noticed.
    static let mostJobsAtOneMoment = 2_000_000

    private let ready = Mutex<[UnownedJob]>([])
    private let random: SeededRandom

    public init(seed: UInt64) { random = SeededRandom(seed: seed) }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        ready.withLock { $0.append(job) }
    }

    public func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

    /// Runs `body`, and all that it waits for, on the calling thread; time jumps when nothing can run.
    /// - Throws: `Failure`, or what `body` throws. After a `Failure` the tasks are left where they are.
    public static func run<R: Sendable>(
        seed: UInt64, clock: VirtualClock, _ body: @escaping @Sendable () async throws -> R
    ) throws -> R {
        let executor = SeededExecutor(seed: seed)
        let box = Box<R>()
        Task(executorPreference: executor) {
            let result: Result<R, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            box.set(result)
        }
        try executor.drain(clock) { box.isSet }
        return try box.take().get()
    }

    private func drain(_ clock: VirtualClock, until done: () -> Bool) throws(Failure) {
        var jobs = 0
        while !done() {
            let job = ready.withLock { queue -> UnownedJob? in
                guard !queue.isEmpty else { return nil }
                queue.swapAt(random.below(queue.count), queue.count - 1)
                return queue.removeLast()
            }
            guard let job else {
                guard clock.advance() else { throw .deadlock }
                jobs = 0
                continue
            }
            jobs += 1
            guard jobs < Self.mostJobsAtOneMoment else { throw .livelock(jobs: jobs) }
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
        }
    }

    private final class Box<R: Sendable>: Sendable {
        private let state = Mutex<Result<R, any Error>?>(nil)
        init() {}
        func set(_ result: Result<R, any Error>) { state.withLock { $0 = result } }
        var isSet: Bool { state.withLock { $0 != nil } }
        func take() -> Result<R, any Error> { state.withLock { $0 } ?? .failure(CancellationError()) }
    }
}
