import Domain
import Synchronization

/// When the use of each key was written down last by this process.
final class UseNotes: Sendable {
    /// Too short: each request writes; too long: GetAccessKeyLastUsed lags.
    private static let intervalMilliseconds: Int64 = 15 * 60 * 1000
    private static let limit = 10_000
    private let notes = Mutex<[String: Timestamp]>([:])

    /// Whether it is time to write again; then it counts as written.
    func isDue(_ key: String, now: Timestamp) -> Bool {
        notes.withLock { notes in
            if let last = notes[key], now < last.adding(milliseconds: Self.intervalMilliseconds) { return false }
            if notes.count >= Self.limit { notes = [:] }
            notes[key] = now
            return true
        }
    }
}
