import Daemon
import Synchronization

/// Counts requests. The registry looks metrics up by the text of their labels, which is too dear for each request.
final class RequestMetrics: Sendable {
    private struct Name: Hashable {
        let operation: String
        let status: Int
    }
    private let registry: MetricsRegistry
    private let known = Mutex<[Name: (count: Counter, seconds: Histogram)]>([:])

    init(_ registry: MetricsRegistry) { self.registry = registry }

    func count(operation: String, status: Int, seconds: Double) {
        let name = Name(operation: operation, status: status)
        let metrics = known.withLock { known in
            if let there = known[name] { return there }
            let made = (
                registry.counter(
                    "karri_walrus_requests_total", ["operation": operation, "status": "\(status)"], help: "S3 requests answered"),
                registry.histogram("karri_walrus_request_seconds", ["operation": operation], help: "until the reply begins")
            )
            known[name] = made
            return made
        }
        metrics.0.increment()
        metrics.1.observe(seconds)
    }
}
