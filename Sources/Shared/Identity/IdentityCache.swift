import Domain
import Synchronization

/// What was looked up lately. Emptied by every change of identities (`NOTIFY identity`); off while nobody listens for these.
///
/// A lookup that began before a change must not put its old answer in after it: so answers carry the epoch in which they were asked for.
final class IdentityCache<Value: Sendable>: Sendable {
    /// Answers that are kept. Too high: memory; too low: clouds with more callers than this ask the database each time.
    private let limit = 10_000
    /// The longest that a notification that was lost (with its connection) can matter.
    private let lifeMilliseconds: Int64 = 60_000

    private struct State {
        var isOn = false
        var epoch: UInt64 = 0
        var entries: [String: (value: Value, until: Timestamp)] = [:]
    }
    private let state = Mutex(State())

    enum Lookup {
        case hit(Value)
        case miss(epoch: UInt64)
    }

    func look(_ key: String, now: Timestamp) -> Lookup {
        state.withLock { s in
            if s.isOn, let entry = s.entries[key], now < entry.until { return .hit(entry.value) }
            return .miss(epoch: s.epoch)
        }
    }

    func store(_ key: String, _ value: Value, epoch: UInt64, now: Timestamp) {
        state.withLock { s in
            guard s.isOn, s.epoch == epoch else { return }
            if s.entries.count >= limit { s.entries = [:] }
            s.entries[key] = (value, now.adding(milliseconds: lifeMilliseconds))
        }
    }

    func clear(on: Bool) {
        state.withLock { s in
            s.isOn = on
            s.epoch += 1
            s.entries = [:]
        }
    }
}
