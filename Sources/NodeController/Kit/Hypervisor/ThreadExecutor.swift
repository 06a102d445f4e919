import Glibc
import Synchronization

/// A serial executor on one thread of its own, for an actor around calls that block (libvirt, fsync, pipes): the cooperative pool has as
/// many threads as there are cores, and a blocked one is lost to everybody.
///
/// The thread ends when the executor is released. Jobs run in the order in which they came.
final class ThreadExecutor: SerialExecutor {
    private final class Queue: @unchecked Sendable {
        // SAFETY: `jobs` and `closed` are touched only with `mutex` held; the mutex and the condition are made in init and never move.
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        var jobs: [UnownedJob] = []
        var head = 0
        var closed = false

        init() {
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(condition, nil)
        }
        deinit {
            pthread_cond_destroy(condition)
            pthread_mutex_destroy(mutex)
            condition.deallocate()
            mutex.deallocate()
        }
        func push(_ job: UnownedJob) {
            pthread_mutex_lock(mutex)
            jobs.append(job)
            pthread_cond_signal(condition)
            pthread_mutex_unlock(mutex)
        }
        func close() {
            pthread_mutex_lock(mutex)
            closed = true
            pthread_cond_signal(condition)
            pthread_mutex_unlock(mutex)
        }
        /// `nil` when closed and empty.
        func pop() -> UnownedJob? {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while head == jobs.count {
                if closed { return nil }
                pthread_cond_wait(condition, mutex)
            }
            let job = jobs[head]
            head += 1
            if head == jobs.count {
                jobs.removeAll(keepingCapacity: true)
                head = 0
            }
            return job
        }
    }

    private let queue = Queue()
    private let identity: Identity

    /// What jobs are told to run on; the thread must not keep the executor itself alive, or it would never end.
    private final class Identity: @unchecked Sendable {
        // SAFETY: set once before the thread starts; the executor outlives every job that is queued on it (actors hold it).
        unowned(unsafe) var executor: ThreadExecutor?
    }

    init() {
        identity = Identity()
        identity.executor = self
        let queue = queue
        let identity = identity
        Self.startThread {
            while let job = queue.pop() {
                guard let executor = identity.executor else { return }
                job.runSynchronously(on: executor.asUnownedSerialExecutor())
            }
        }
    }

    deinit { queue.close() }

    func enqueue(_ job: consuming ExecutorJob) { queue.push(UnownedJob(job)) }
    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

    /// A detached thread of the system.
    static func startThread(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        // Signals are for the threads that wait for them.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(body)).toOpaque()
        let rc = pthread_create(
            &thread, nil,
            { pointer in
                // SAFETY: the retained box is taken exactly once, by the thread that it was made for.
                if let pointer { Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body() }
                return nil
            }, box)
        precondition(rc == 0, "the system gives no more threads")
        pthread_detach(thread)
    }
}
