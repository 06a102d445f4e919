public import API
import Domain
public import Logging
import Synchronization
import Wire
public import Workflow

/// "Look at me": tells the cluster controller which instances have changed. Only a hint: it looks at everything on its own period
/// anyway, so a nudge that does not arrive is not repeated for long.
public final class CloudNudger: Sendable {
    private let pending = Mutex<Set<String>>([])
    private let nudge = Nudge()
    private let cluster: any CCClusterActions
    private let node: String
    private let clock: any Clock
    private let random: any Random
    private let logger: Logger

    /// Changes within this time go together.
    private static let gatherMilliseconds = 20

    public init(cluster: any CCClusterActions, node: String, clock: any Clock, random: any Random, logger: Logger) {
        self.cluster = cluster
        self.node = node
        self.clock = clock
        self.random = random
        self.logger = logger
    }

    public func tell(_ ids: [String]) {
        pending.withLock { $0.formUnion(ids) }
        nudge.signal()
    }

    /// Until the task is cancelled.
    public func run() async {
        var failures = 0
        while !Task.isCancelled {
            await nudge.wait()
            do { try await clock.sleep(milliseconds: Self.gatherMilliseconds) } catch { return }
            let ids = pending.withLock { set in
                defer { set = [] }
                return set.sorted()
            }
            guard !ids.isEmpty else { continue }
            do throws(CloudError) {
                let context = CallContext(requestID: "nc-" + Hex.encode(random.bytes(8)))
                _ = try await cluster.nudge(CC.Nudge(node: node, ids: ids), context)
                if failures > 0 { logger.info("the cluster controller answers again") }
                failures = 0
            } catch {
                failures += 1
                if failures == 1 {
                    logger.warning(
                        "the cluster controller cannot be nudged", metadata: ["error": "\(error.message)", "context": "\(error.context)"])
                }
                // Once more, in case it was being restarted.
                if failures <= 3 {
                    do { try await clock.sleep(milliseconds: 500 * failures) } catch { return }
                    tell(ids)
                }
            }
        }
    }
}
