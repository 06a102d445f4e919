import Daemon
import Domain
import ServiceLifecycle
import Workflow

/// What buckets are configured to have done without a request: lifecycle, access logs, notifications.
struct BucketDuties: Service {
    let core: WalrusCore
    let runtime: DaemonRuntime
    let options: BucketOptions

    /// Too high: events are told late; too low: idle work.
    static let notificationMilliseconds = 1000

    func run() async throws {
        let calendar = LifecycleCalendar(day: Int64(options.lifecycleDaySeconds) * 1000)
        let lifecycle = Lifecycle(core: core, calendar: calendar)
        let logs = AccessLogDelivery(core: core)
        let dropped = runtime.metrics.counter("karri_walrus_notifications_dropped_total", help: "notifications given up after a day")
        let notifications = NotificationDelivery(core: core, client: HTTPClient(), dropped: dropped)
        let applied = runtime.metrics.counter("karri_walrus_lifecycle_total", help: "things that lifecycle rules did")
        // A short day, as tests have it, wants a short period.
        let period = min(options.lifecyclePeriodSeconds * 1000, max(500, options.lifecycleDaySeconds * 500))
        let loops = [
            loop("walrus.lifecycle", period, applied) { await lifecycle.pass() },
            loop("walrus.access-logs", options.accessLogSeconds * 1000, nil) { await logs.pass() },
            loop("walrus.notifications", Self.notificationMilliseconds, nil) { await notifications.pass() },
        ]
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                for loop in loops { group.addTask { await loop.run() } }
            }
        }
        // What was logged since the last delivery.
        _ = await logs.pass()
    }

    private func loop(
        _ name: String, _ milliseconds: Int, _ changed: Counter?, _ body: @escaping @Sendable () async -> ReconcileReport
    ) -> ReconcilerLoop {
        ReconcilerLoop(name: name, periodMilliseconds: milliseconds, retryMilliseconds: 1000, clock: runtime.clock) { report in
            changed?.increment(by: report.changed)
            runtime.health.set(name, report.failures.isEmpty ? .ok : .degraded(report.failures.joined(separator: "; ")))
        } body: {
            await body()
        }
    }
}
