import Daemon
import Synchronization

/// Counts actions that clients ask for and that this cloud has not got: what to build next.
final class UnknownActions: Sendable {
    /// A metric for each name is memory: after this many the rest counts as `other`. Only signed requests come this far.
    static let limit = 1000

    private let metrics: MetricsRegistry
    private let names = Mutex<Set<String>>([])

    init(_ metrics: MetricsRegistry) { self.metrics = metrics }

    func count(_ route: ServiceRoute, _ action: String) {
        let isName =
            (1...80).contains(action.utf8.count)
            && action.utf8.allSatisfy { ($0 >= 0x41 && $0 <= 0x5a) || ($0 >= 0x61 && $0 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39) }
        let label = names.withLock { names -> String in
            guard isName, names.contains(action) || names.count < Self.limit else { return "other" }
            names.insert(action)
            return action
        }
        metrics.counter(
            "karri_unknown_actions_total", ["service": route.rawValue, "action": label], help: "Actions asked for that do not exist here"
        ).increment()
    }
}
