import Glibc

/// A job queue for threads of our own: libpq blocks, and blocking calls must not sit on the cooperative pool.
final class JobQueue<Job: Sendable>: @unchecked Sendable {
    // SAFETY: `jobs` and `closed` are touched under `lock` only; the mutex and the condition live as long as the object.
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [Job] = []
    private var head = 0
    private var closed = false

    init() {
        pthread_mutex_init(lock, nil)
        pthread_cond_init(condition, nil)
    }
    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(lock)
        condition.deallocate()
        lock.deallocate()
    }

    enum PushResult { case queued, full, closed }

    func push(_ job: Job, limit: Int) -> PushResult {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        if closed { return .closed }
        if jobs.count - head >= limit { return .full }
        jobs.append(job)
        pthread_cond_signal(condition)
        return .queued
    }

    /// Waits for a job. `nil` when the queue is closed.
    func pop() -> Job? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while head == jobs.count, !closed { pthread_cond_wait(condition, lock) }
        guard head < jobs.count else { return nil }
        let job = jobs[head]
        head += 1
        if head == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024 {
            jobs.removeFirst(head)
            head = 0
        }
        return job
    }

    /// Waits for a job, and takes with it what else is there. Empty when the queue is closed.
    func popSome(limit: Int) -> [Job] {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while head == jobs.count, !closed { pthread_cond_wait(condition, lock) }
        let count = min(limit, jobs.count - head)
        let some = Array(jobs[head..<head + count])
        head += count
        if head == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024 {
            jobs.removeFirst(head)
            head = 0
        }
        return some
    }

    /// No more jobs. - Returns: those that nobody has taken yet.
    func close() -> [Job] {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        closed = true
        let rest = Array(jobs[head...])
        jobs = []
        head = 0
        pthread_cond_broadcast(condition)
        return rest
    }
}

enum SystemThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// A detached thread with 1 MiB of stack. - Returns: false when the system has no room for it.
    static func start(_ run: @escaping @Sendable () -> Void) -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, 1 << 20)
        var thread = pthread_t()
        let body = Unmanaged.passRetained(Body(run))
        let failure = pthread_create(
            &thread, &attributes,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, body.toOpaque())
        if failure != 0 { body.release() }
        return failure == 0
    }
}
