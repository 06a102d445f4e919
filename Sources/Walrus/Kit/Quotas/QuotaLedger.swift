import Daemon
import Database
import Domain
import Synchronization
import Workflow

/// Holds accounts to their quotas of bytes and objects, without a counter that every write would have to change.
///
/// What an account holds is measured (a sum over its rows) and then only added to: each write that is under way, or ended after the
/// measurement began, counts in full; deletes count at the next measurement. So the ledger never believes less than there is, and
/// concurrent writes cannot together pass a limit. It measures again only where it would refuse. Accounts without a quota cost nothing.
/// One process owns the store (`LocalBytes`), so that nobody else writes.
final class QuotaLedger: Sendable {
    /// How old the known limits may be. Too high: a changed quota holds late; too low: a question to the database for each write.
    private static let limitsMilliseconds: UInt64 = 1000
    /// Between two measurements of an account that is at its limit. Too low: refusals cost sums; too high: space given back is seen late.
    private static let measureMilliseconds: UInt64 = 250

    private struct Account {
        var measured: (bytes: Int, objects: Int)?
        var measuredAt: UInt64 = 0
        var isMeasuring = false
        /// Writes that the measurement may not have seen, by number; `end`: the number of the next write when it ended.
        var writes: [Int: (bytes: Int, objects: Int, end: Int?)] = [:]
        var bytes: Int { writes.values.reduce(measured?.bytes ?? 0) { $0 + $1.bytes } }
        var objects: Int { writes.values.reduce(measured?.objects ?? 0) { $0 + $1.objects } }
    }
    private struct State {
        var limits: [String: Quota] = [:]
        var limitsAt: UInt64?
        var accounts: [String: Account] = [:]
        var next = 0
    }
    private let state = Mutex(State())
    private let pool: DatabasePool
    private let clock: any Clock
    private let refused: Counter

    init(pool: DatabasePool, clock: any Clock, metrics: MetricsRegistry) {
        self.pool = pool
        self.clock = clock
        refused = metrics.counter("karri_walrus_quota_refusals_total", help: "writes refused because an account is at its quota")
    }

    private var milliseconds: UInt64 { UInt64(clock.monotonic()) / 1_000_000 }

    /// Room for a write of an account's bucket; hold it until the write has ended, and say so (`Room.keep`).
    /// - Parameter objects: 1 when a key may become an object that none was.
    /// - Throws: 403 `QuotaExceeded`, with the numbers.
    func reserve(_ account: String, bytes: Int, objects: Int) async throws(CloudError) -> Room? {
        guard let limit = try await limits()[account], limit.bytes != nil || limit.objects != nil else { return nil }
        while true {
            let now = milliseconds
            let decision = state.withLock { s -> Decision in
                var a = s.accounts[account] ?? Account()
                defer { s.accounts[account] = a }
                if a.measured != nil {
                    let fits = a.bytes + bytes <= limit.bytes ?? .max && a.objects + objects <= limit.objects ?? .max
                    if fits {
                        s.next += 1
                        a.writes[s.next] = (bytes, objects, nil)
                        return .room(s.next)
                    }
                    if !a.isMeasuring, now - a.measuredAt < Self.measureMilliseconds { return .refused(a.bytes, a.objects) }
                }
                if a.isMeasuring { return .wait }
                a.isMeasuring = true
                return .measure(before: s.next)
            }
            switch decision {
            case .room(let number): return Room(self, account, number)
            case .refused(let heldBytes, let heldObjects):
                refused.increment()
                throw Self.refusal(account, limit, bytes: (bytes, heldBytes), objects: (objects, heldObjects))
            case .wait:
                do { try await clock.sleep(milliseconds: 20) } catch { throw CloudError(.unavailable("The service"), context: "cancelled") }
            case .measure(let before): try await measure(account, before: before)
            }
        }
    }

    private enum Decision { case room(Int), refused(Int, Int), wait, measure(before: Int) }

    /// - Parameter before: writes that ended up to this number are in the database's answer.
    private func measure(_ account: String, before: Int) async throws(CloudError) {
        let use: QuotaUse
        do throws(CloudError) { use = try await pool.read { try QuotaStore.use($0, account: account) } } catch {
            state.withLock { $0.accounts[account]?.isMeasuring = false }
            throw error
        }
        let now = milliseconds
        state.withLock { s in
            var a = s.accounts[account] ?? Account()
            a.measured = (use.bytes, use.objects)
            a.measuredAt = now
            a.isMeasuring = false
            a.writes = a.writes.filter { write in write.value.end.map { $0 > before } ?? true }
            s.accounts[account] = a
        }
    }

    private func limits() async throws(CloudError) -> [String: Quota] {
        let now = milliseconds
        if let known = state.withLock({ s in s.limitsAt.flatMap { now - $0 < Self.limitsMilliseconds ? s.limits : nil } }) { return known }
        let limits = try await pool.read { try QuotaStore.quotaList($0) }
        state.withLock { s in
            s.limits = limits
            s.limitsAt = now
        }
        return limits
    }

    fileprivate func end(_ account: String, _ number: Int, isKept: Bool) {
        state.withLock { s in
            guard var a = s.accounts[account] else { return }
            if isKept {
                // Greater than `before` of every measurement that began already.
                s.next += 1
                a.writes[number]?.end = s.next
            } else {
                a.writes[number] = nil
            }
            s.accounts[account] = a
        }
    }

    private static func refusal(
        _ account: String, _ limit: Quota, bytes: (asked: Int, held: Int), objects: (asked: Int, held: Int)
    ) -> CloudError {
        var words: [String] = []
        if let most = limit.bytes, bytes.held + bytes.asked > most {
            words.append("\(bytes.asked) bytes asked, \(max(0, most - bytes.held)) free of \(most)")
        }
        if let most = limit.objects, objects.held + objects.asked > most {
            words.append("\(objects.asked) object asked, \(max(0, most - objects.held)) free of \(most)")
        }
        return S3Failure.named("QuotaExceeded", 403, "The quota of account \(account) is exceeded: \(words.joined(separator: "; ")).")
    }

    /// A write's room. Given back when this object goes without `keep`.
    final class Room: Sendable {
        private let ledger: QuotaLedger
        private let account: String
        private let number: Int
        private let isKept = Atomic<Bool>(false)

        fileprivate init(_ ledger: QuotaLedger, _ account: String, _ number: Int) {
            self.ledger = ledger
            self.account = account
            self.number = number
        }

        /// From here on the write may reach the database, and counts until a measurement has seen whether it did.
        func keep() { isKept.store(true, ordering: .releasing) }

        deinit { ledger.end(account, number, isKept: isKept.load(ordering: .acquiring)) }
    }
}
