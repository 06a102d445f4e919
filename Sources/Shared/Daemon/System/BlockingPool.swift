public import Domain
import NIOPosix

/// Threads for calls that block (fsync, big reads, digests of files), so that they never hold up the cooperative pool.
public enum BlockingPool {
    /// Runs `body` on a thread of the pool.
    public static func run<R: Sendable>(_ body: @escaping @Sendable () throws(CloudError) -> R) async throws(CloudError) -> R {
        let outcome: Result<R, CloudError>
        do {
            outcome = try await NIOThreadPool.singleton.runIfActive { () -> Result<R, CloudError> in
                return Result(catching: body)
            }
        } catch {
            throw CloudError(.unavailable("The service"), context: "the thread pool has ended: \(error)")
        }
        return try outcome.get()
    }
}
