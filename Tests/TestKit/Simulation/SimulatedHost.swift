public import Domain
import Synchronization
public import Wire
import Workflow

/// A machine with one daemon, which can be killed and started again any number of times. What is durable belongs to the machine and is
/// captured by `boot`; what `boot` makes dies with the life.
public final class SimulatedHost: Sendable {
    /// One life's daemon.
    public struct Daemon: Sendable {
        let service: ServiceDefinition
        let dispatch: @Sendable (String, Value, CallContext) async throws(CloudError) -> Value
        let work: @Sendable () async -> Void

        public init(
            service: ServiceDefinition, dispatch: @escaping @Sendable (String, Value, CallContext) async throws(CloudError) -> Value,
            work: @escaping @Sendable () async -> Void
        ) {
            self.service = service
            self.dispatch = dispatch
            self.work = work
        }
    }

    public let name: String
    public let role: String
    public let endpoint: String
    private let network: LossyNetwork
    private let trace: Trace
    private let boot: @Sendable (Life) async throws -> Daemon
    private let current = Mutex<Life?>(nil)
    private let mayRun = Mutex(true)
    private let changed = Nudge()

    public init(
        role: String, name: String, endpoint: String, network: LossyNetwork, trace: Trace,
        boot: @escaping @Sendable (Life) async throws -> Daemon
    ) {
        self.role = role
        self.name = name
        self.endpoint = endpoint
        self.network = network
        self.trace = trace
        self.boot = boot
    }

    public var identity: PeerIdentity { PeerIdentity(cloud: "sim", role: role, name: name) }
    /// The life that runs now.
    public var life: Life? { current.withLock { $0 } }
    public var isUp: Bool { mayRun.withLock { $0 } }

    /// Kill -9. The daemon stays down until `start()`.
    public func kill() {
        mayRun.withLock { $0 = false }
        trace.note("kill \(name)")
        network.detach(endpoint)
        current.withLock { $0 }?.kill()
    }

    public func start() {
        let was = mayRun.withLock { state -> Bool in
            defer { state = true }
            return state
        }
        if !was { trace.note("start \(name)") }
        changed.signal()
    }

    /// Lives until the task is cancelled.
    public func run() async {
        while !Task.isCancelled {
            guard isUp else {
                await changed.wait()
                continue
            }
            let life = Life(name)
            current.withLock { $0 = life }
            do {
                let daemon = try await boot(life)
                // Killed while it started.
                if isUp, life.isAlive {
                    network.attach(endpoint, .init(host: name, service: daemon.service, life: life, dispatch: daemon.dispatch))
                    await life.run(daemon.work)
                }
            } catch {
                trace.note("\(name) did not start: \(error)")
                try? await network.clock.sleep(milliseconds: 500)
            }
            life.kill()
            if isUp { network.detach(endpoint) }
        }
    }
}
