import NIOCore

/// Runs the tasks of a connection on its own event loop: a request then needs no journey between threads, which costs more than a small
/// request's work. For handlers that never block and whose long work (digests, disks, the database) has threads of its own.
final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }
}
