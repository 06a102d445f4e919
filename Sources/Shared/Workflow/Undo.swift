import Synchronization

/// What one function has to take back if it does not reach its end.
public final class UndoStack: Sendable {
    private let actions = Mutex<[@Sendable () async -> Void]>([])

    fileprivate init() {}

    /// Undo actions run in reverse order. They must not fail: what cannot be undone now is a reconciler's work.
    public func add(_ action: @escaping @Sendable () async -> Void) {
        actions.withLock { $0.append(action) }
    }

    fileprivate func unwind() async {
        let all = actions.withLock { list -> [@Sendable () async -> Void] in
            let all = list
            list = []
            return all
        }
        for action in all.reversed() { await action() }
    }
}

/// Runs `body`; when it throws (or its task was cancelled and it threw for that), what was added to the stack is undone, last first, before
/// the error goes on. It does not survive a kill: for that there are reconcilers and sagas.
public func withUndo<R: Sendable>(_ body: (UndoStack) async throws -> R) async throws -> R {
    let undo = UndoStack()
    do {
        return try await body(undo)
    } catch {
        await undo.unwind()
        throw error
    }
}
