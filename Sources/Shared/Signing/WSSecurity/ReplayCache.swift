import Domain
import Synchronization

/// Remembers the messages that were accepted until they expire, so that none is accepted twice.
///
/// Filled after verification only (else anybody could fill it), and full means refuse, not forget: an evicted message could be
/// replayed.
public final class ReplayCache: Sendable {
    /// 32 bytes of SHA-256 as four words: a dictionary of 100,000 takes about 8 MB.
    private struct Key: Hashable {
        let a, b, c, d: UInt64
        init(_ digest: [UInt8]) {
            func word(_ i: Int) -> UInt64 { digest[i..<(i + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
            (a, b, c, d) = (word(0), word(8), word(16), word(24))
        }
    }

    private struct State {
        var known: Set<Key> = []
        /// Keys by the second in which they may be forgotten.
        var expiring: [Int64: [Key]] = [:]
        var purgedUpTo: Int64?
    }

    private let state = Mutex(State())
    /// Too low: an honest burst is refused; too high: memory.
    public let capacity: Int

    public init(capacity: Int = 100_000) { self.capacity = capacity }

    public var count: Int { state.withLock { $0.known.count } }

    /// - Parameter until: the moment after which the message is refused for its age anyway.
    /// - Throws: `.unauthenticated(.replayed)`; `.unavailable` when full.
    func insert(_ digest: [UInt8], until: Timestamp, now: Timestamp) throws(CloudError) {
        let key = Key(digest)
        let outcome: CloudError? = state.withLock { s in
            Self.purge(&s, now: now.seconds)
            if s.known.contains(key) { return CloudError(.unauthenticated(.replayed), context: "a message was sent a second time") }
            guard s.known.count < capacity else {
                return CloudError(.unavailable("The message service"), context: "the replay cache holds \(capacity) messages")
            }
            s.known.insert(key)
            // A second more than needed, since seconds round down.
            s.expiring[max(until.seconds, now.seconds) + 1, default: []].append(key)
            return nil
        }
        if let outcome { throw outcome }
    }

    private static func purge(_ s: inout State, now: Int64) {
        let from = s.purgedUpTo ?? now
        guard now > from || s.purgedUpTo == nil else { return }
        s.purgedUpTo = now
        // Either second by second, or, after a long pause, by what there is.
        if now - from > Int64(s.expiring.count) {
            for second in s.expiring.keys where second < now { forget(&s, second) }
        } else {
            for second in from..<now { forget(&s, second) }
        }
    }

    private static func forget(_ s: inout State, _ second: Int64) {
        for key in s.expiring.removeValue(forKey: second) ?? [] { s.known.remove(key) }
    }
}
