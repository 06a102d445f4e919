public import Domain
import NIOPosix

/// Threads for calls that block (fsync, big reads, digests of files), so that they never hold up the cooperative pool.
public enum BlockingPool {
    /// Not NIO's own pool, which has as many threads as cores: a few slow disks or commands would stop everybody else.
    static let threads: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 8)
        pool.start()
        return pool
    }()

    /// Runs `body` on a thread of the pool.
    public static func run<R: Sendable>(_ body: @escaping @Sendable () throws(CloudError) -> R) async throws(CloudError) -> R {
        let outcome: Result<R, CloudError>
        do {
            outcome = try await threads.runIfActive { () -> Result<R, CloudError> in
                return Result(catching: body)
            }
        } catch {
            throw CloudError(.unavailable("The service"), context: "the thread pool has ended: \(error)")
        }
        return try outcome.get()
    }
}
