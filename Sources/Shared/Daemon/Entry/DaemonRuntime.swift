public import Logging
public import Workflow

/// What every daemon needs from its process. Made once by `DaemonProgram`; handed down, never global.
public struct DaemonRuntime: Sendable {
    public let name: String
    public let logger: Logger
    public let clock: any Clock
    public let random: any Random
    public let metrics: MetricsRegistry
    public let health: HealthRegistry

    public init(
        name: String, logger: Logger, clock: any Clock = SystemClock(), random: any Random = SystemRandom(),
        metrics: MetricsRegistry = MetricsRegistry(), health: HealthRegistry? = nil
    ) {
        self.name = name
        self.logger = logger
        self.clock = clock
        self.random = random
        self.metrics = metrics
        self.health = health ?? HealthRegistry(daemon: name)
    }

    /// `/metrics` and `/health` for an HTTP listener of this process.
    /// - Parameter metricsForAnyone: false: `/metrics` answers loopback clients only (for listeners that the public can reach).
    public func admin(metricsForAnyone: Bool = false) -> AdminEndpoints {
        AdminEndpoints(metrics: metrics, health: health, metricsForAnyone: metricsForAnyone)
    }
}
