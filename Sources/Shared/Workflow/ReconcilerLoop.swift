/// What one pass of a reconciler saw and did. For logs, metrics and tests; nothing decides on it but the loop's pause.
public struct ReconcileReport: Sendable, Equatable {
    /// Rows that were looked at.
    public var examined: Int
    /// Things that were done in the world.
    public var changed: Int
    /// What did not work, each with its resource's id. Not empty: the loop waits longer each time.
    public var failures: [String]
    /// There is more to do: run again at once (passes are bounded).
    public var again: Bool
    /// Something outside is still at work and will not say when it is done: look again soon, not only after the period.
    public var soon: Bool

    public init(examined: Int = 0, changed: Int = 0, failures: [String] = [], again: Bool = false, soon: Bool = false) {
        self.examined = examined
        self.changed = changed
        self.failures = failures
        self.again = again
        self.soon = soon
    }
}

/// Drives a reconciler: once at the start, then on a period and on nudges. The body takes no input, so that restart, timer and nudge are
/// one path (`ARCHITECTURE.md` §4). Nudges that come during a pass are coalesced into one further pass.
public struct ReconcilerLoop: Sendable {
    /// When everything works: the pause between passes without a nudge. Too high: what a lost nudge would have told comes late;
    /// too low: idle work.
    public let periodMilliseconds: Int
    /// After failures the pause starts here, and doubles up to the period (or to this, if it is longer). A nudge cuts it short, but not
    /// below this: a failing pass that nudges itself would spin.
    public let retryMilliseconds: Int
    public let name: String
    private let nudge: Nudge
    private let nudges: AsyncStream<Void>?
    private let clock: any Clock
    private let observe: @Sendable (ReconcileReport) -> Void
    private let body: @Sendable () async -> ReconcileReport

    public init(
        name: String, periodMilliseconds: Int, retryMilliseconds: Int = 200, nudge: Nudge = Nudge(), nudges: AsyncStream<Void>? = nil,
        clock: any Clock, observe: @escaping @Sendable (ReconcileReport) -> Void = { _ in },
        body: @escaping @Sendable () async -> ReconcileReport
    ) {
        self.name = name
        self.periodMilliseconds = periodMilliseconds
        self.retryMilliseconds = retryMilliseconds
        self.nudge = nudge
        self.nudges = nudges
        self.clock = clock
        self.observe = observe
        self.body = body
    }

    /// Returns when the task is cancelled, never in the middle of a pass (a pass sees the cancellation itself and may end early).
    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            if let nudges {
                group.addTask { for await _ in nudges { nudge.signal() } }
            }
            var failedPasses = 0
            while !Task.isCancelled {
                let report = await body()
                observe(report)
                if Task.isCancelled { break }
                if report.failures.isEmpty {
                    failedPasses = 0
                    if report.again { continue }
                    await nudge.wait(atMost: report.soon ? min(retryMilliseconds, periodMilliseconds) : periodMilliseconds, clock: clock)
                } else {
                    let pause = Self.backOff(failures: failedPasses, first: retryMilliseconds, limit: periodMilliseconds)
                    failedPasses += 1
                    do { try await clock.sleep(milliseconds: retryMilliseconds) } catch { break }
                    if pause > retryMilliseconds { await nudge.wait(atMost: pause - retryMilliseconds, clock: clock) }
                }
            }
            group.cancelAll()
        }
    }

    /// `first`, doubled for each failure before, at most `limit` (or `first` when that is longer).
    static func backOff(failures: Int, first: Int, limit: Int) -> Int {
        var pause = max(1, first)
        for _ in 0..<min(failures, 30) where pause < limit { pause *= 2 }
        return max(first, min(pause, limit))
    }
}
