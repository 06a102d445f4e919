import API
import Domain
import Synchronization

/// When to send a node the next addresses of a bundle's parts. Kept in memory only: after a restart the missing parts are sent once
/// more, which costs nothing but a message.
final class UploadPace: Sendable {
    enum Next: Equatable { case send, wait, giveUp(String) }

    /// A batch that has made no progress for so long is sent again: the node was restarted, and addresses are not kept there.
    static let stallSeconds = 120.0
    /// The pause after an upload that did not work.
    static let retrySeconds = 5.0
    /// Uploads that fail in a row without a single part getting through.
    static let failureLimit = 4

    private struct State {
        var sent: Set<Int> = []
        var at = Timestamp(milliseconds: 0)
        var missing = Int.max
        var failures = 0
    }
    private let states = Mutex<[String: State]>([:])

    func next(task: String, _ report: NC.BundleReport, missing: [Int], now: Timestamp) -> Next {
        states.withLock { states in
            guard var state = states[task] else { return .send }
            defer { states[task] = state }
            if missing.count < state.missing {
                state.missing = missing.count
                state.failures = 0
            }
            let age = now.seconds(since: state.at)
            if report.state == "ready" {
                let error = report.error ?? ""
                if error.isEmpty { return age > Self.retrySeconds ? .send : .wait }
                guard age > Self.retrySeconds else { return .wait }
                state.failures += 1
                return state.failures >= Self.failureLimit ? .giveUp(error) : .send
            }
            if state.sent.isDisjoint(with: missing) { return .send }
            return age > Self.stallSeconds ? .send : .wait
        }
    }

    func sent(task: String, _ parts: [Int], now: Timestamp) {
        states.withLock { states in
            states[task, default: State()].sent = Set(parts)
            states[task, default: State()].at = now
        }
    }

    func forget(task: String) { states.withLock { $0[task] = nil } }
}
