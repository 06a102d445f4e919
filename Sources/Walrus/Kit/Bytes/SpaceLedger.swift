public import Domain
public import Workflow
import Synchronization

/// Space is reserved before a body is read, so that a full disk refuses uploads by name instead of breaking them
/// (`ARCHITECTURE.md` §6). Counts what is free, less what is promised to uploads that run, less what must stay free.
public final class SpaceLedger: Sendable {
    private struct State {
        var reserved = 0
        var capacity: BytesCapacity?
        var measured: Int64 = 0
    }
    private let state = Mutex(State())
    private let bytes: any ObjectBytes
    private let clock: any Clock
    /// Bytes that stay free for the database's log, deletes and the administrator.
    private let keep: Int
    /// A measurement is good for one second as long as it is this far from the edge: what others may write meanwhile.
    private static let margin = 1 << 30

    public init(bytes: any ObjectBytes, clock: any Clock, keepMiB: Int) {
        self.bytes = bytes
        self.clock = clock
        keep = keepMiB << 20
    }

    /// - Throws: 507 `InsufficientStorage` with the numbers.
    public func reserve(_ size: Int) async throws(CloudError) -> SpaceReservation {
        let now = clock.monotonic()
        let cached = state.withLock { s -> Bool in
            guard let capacity = s.capacity, now - s.measured < 1_000_000_000,
                capacity.free - s.reserved - keep - size > Self.margin
            else { return false }
            s.reserved += size
            return true
        }
        if cached { return SpaceReservation(ledger: self, size: size) }
        let capacity = try await bytes.capacity()
        let refused = state.withLock { s -> Shortage? in
            s.capacity = capacity
            s.measured = now
            let free = max(0, capacity.free - s.reserved - keep)
            if size > free {
                return Shortage(.objectBytes, [.init("the object store", .objectBytes, asked: size, free: free, limit: capacity.total)])
            }
            s.reserved += size
            return nil
        }
        if let refused { throw S3Failure.insufficientStorage(refused) }
        return SpaceReservation(ledger: self, size: size)
    }

    fileprivate func release(_ size: Int) { state.withLock { $0.reserved -= size } }

    /// For metrics.
    public var reservedBytes: Int { state.withLock { $0.reserved } }
    /// At the last measurement; `nil` before the first.
    public var freeBytes: Int? { state.withLock { $0.capacity?.free } }
}

/// Space for one upload. Given back as it is filled (the file system then counts it) and, the rest, when this object goes.
public final class SpaceReservation: Sendable {
    private let ledger: SpaceLedger
    private let rest: Mutex<Int>

    fileprivate init(ledger: SpaceLedger, size: Int) {
        self.ledger = ledger
        rest = Mutex(size)
    }

    func written(_ count: Int) {
        let released = rest.withLock { r in
            let n = min(r, count)
            r -= n
            return n
        }
        ledger.release(released)
    }

    deinit { ledger.release(rest.withLock { $0 }) }
}
