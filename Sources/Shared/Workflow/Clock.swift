public import Domain

/// Time as a Kit sees it. Kits never ask the system for the time, so that the simulator can hold, skip and replay it.
public protocol Clock: Sendable {
    /// Wall-clock time in UTC. It may jump; use it for what people and other machines see.
    func now() -> Timestamp
    /// Nanoseconds since an arbitrary moment. It never goes back; use it for measuring and for timeouts.
    func monotonic() -> Int64
    /// - Throws: `CancellationError` when the task is cancelled before the time is over.
    func sleep(milliseconds: Int) async throws
}

/// Randomness as a Kit sees it: from the kernel in a daemon, from the seed in a simulation.
public protocol Random: Sendable {
    /// - Returns: `count` bytes, good enough for secrets in a daemon.
    func bytes(_ count: Int) -> [UInt8]
    /// - Returns: a number in `0..<bound`, each equally likely. `bound` must be positive.
    func below(_ bound: Int) -> Int
}

/// Places where a test may make the code fail, wait or be killed. A daemon has `NoFaults`.
public protocol Faults: Sendable {
    /// - Parameter name: the place, unique in the code, such as `volume.create.beforeCommit`.
    func point(_ name: String) async throws(CloudError)
}

/// Nothing ever fails by order.
public struct NoFaults: Faults {
    public init() {}
    public func point(_ name: String) async throws(CloudError) {}
}
