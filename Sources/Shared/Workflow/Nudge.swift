import Synchronization

/// "Look now": any number of signals before the next `wait()` make it return once. For one waiter.
public final class Nudge: Sendable {
    private struct State {
        var signalled = false
        var waiter: (id: UInt64, continuation: CheckedContinuation<Void, Never>)?
        var nextID: UInt64 = 0
        var cancelled: Set<UInt64> = []
    }
    private let state = Mutex(State())

    public init() {}

    public func signal() {
        let waiter = state.withLock { s -> CheckedContinuation<Void, Never>? in
            guard let waiter = s.waiter else {
                s.signalled = true
                return nil
            }
            s.waiter = nil
            return waiter.continuation
        }
        waiter?.resume()
    }

    /// Returns when signalled (or signalled since the last wait), or when the task is cancelled.
    public func wait() async {
        let id = state.withLock { s in
            s.nextID += 1
            return s.nextID
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { s -> Bool in
                    // The cancellation handler may have run before there was anything to resume.
                    if s.cancelled.remove(id) != nil { return true }
                    if s.signalled {
                        s.signalled = false
                        return true
                    }
                    s.waiter = (id, continuation)
                    return false
                }
                if now { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { s -> CheckedContinuation<Void, Never>? in
                if let waiter = s.waiter, waiter.id == id {
                    s.waiter = nil
                    return waiter.continuation
                }
                s.cancelled.insert(id)
                return nil
            }
            waiter?.resume()
        }
        // A cancellation that came after the signal leaves its mark behind.
        state.withLock { s in _ = s.cancelled.remove(id) }
    }

    /// Waits for a signal, but no longer than this.
    public func wait(atMost milliseconds: Int, clock: any Clock) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait() }
            group.addTask { try? await clock.sleep(milliseconds: milliseconds) }
            await group.next()
            group.cancelAll()
        }
    }
}
