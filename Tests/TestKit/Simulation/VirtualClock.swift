public import Domain
import Synchronization
public import Workflow

/// Time that jumps: it stands still while anything can run, and then goes to the next moment for which anyone waits.
public final class VirtualClock: Workflow.Clock {
    private struct Sleeper {
        let id: UInt64
        let due: Int64
        let continuation: CheckedContinuation<Void, any Error>
    }
    private struct State {
        var now: Int64
        /// A binary heap: earliest first, and of the same moment the one who came first.
        var sleepers: [Sleeper] = []
        var nextID: UInt64 = 0
        /// Cancelled before they slept, or while they did; those in the heap are passed over.
        var cancelled: Set<UInt64> = []
    }
    private let state: Mutex<State>
    private let start: Int64

    /// - Parameter start: milliseconds since 1970.
    public init(start: Int64 = 1_700_000_000_000) {
        self.start = start
        state = Mutex(State(now: start))
    }

    public func now() -> Timestamp { Timestamp(milliseconds: state.withLock { $0.now }) }
    public func monotonic() -> Int64 { state.withLock { $0.now } * 1_000_000 }
    /// Milliseconds since the start of the simulation.
    public var elapsed: Int64 { state.withLock { $0.now } - start }

    public func sleep(milliseconds: Int) async throws {
        let id = state.withLock { s in
            s.nextID += 1
            return s.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let cancelled = state.withLock { s -> Bool in
                    if s.cancelled.remove(id) != nil { return true }
                    Self.push(Sleeper(id: id, due: s.now + Int64(max(0, milliseconds)), continuation: continuation), &s.sleepers)
                    return false
                }
                if cancelled { continuation.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            let sleeper = state.withLock { s -> Sleeper? in
                guard let i = s.sleepers.firstIndex(where: { $0.id == id }) else {
                    s.cancelled.insert(id)
                    return nil
                }
                return Self.remove(at: i, &s.sleepers)
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
        // A cancellation that came after the wake-up leaves its mark behind.
        state.withLock { s in _ = s.cancelled.remove(id) }
    }

    /// Goes to the next moment for which somebody waits, and wakes one who does.
    /// - Returns: false when nobody waits.
    func advance() -> Bool {
        let sleeper = state.withLock { s -> Sleeper? in
            guard !s.sleepers.isEmpty else { return nil }
            let first = Self.remove(at: 0, &s.sleepers)
            s.now = max(s.now, first.due)
            return first
        }
        sleeper?.continuation.resume()
        return sleeper != nil
    }

    // MARK: the heap

    private static func isBefore(_ a: Sleeper, _ b: Sleeper) -> Bool { (a.due, a.id) < (b.due, b.id) }

    private static func push(_ sleeper: Sleeper, _ heap: inout [Sleeper]) {
        heap.append(sleeper)
        rise(heap.count - 1, &heap)
    }

    private static func rise(_ from: Int, _ heap: inout [Sleeper]) {
        var i = from
        while i > 0, isBefore(heap[i], heap[(i - 1) / 2]) {
            heap.swapAt(i, (i - 1) / 2)
            i = (i - 1) / 2
        }
    }

    private static func remove(at index: Int, _ heap: inout [Sleeper]) -> Sleeper {
        heap.swapAt(index, heap.count - 1)
        let removed = heap.removeLast()
        guard index < heap.count else { return removed }
        rise(index, &heap)
        var i = index
        while true {
            var least = i
            for child in [2 * i + 1, 2 * i + 2] where child < heap.count && isBefore(heap[child], heap[least]) { least = child }
            if least == i { return removed }
            heap.swapAt(i, least)
            i = least
        }
    }
}
