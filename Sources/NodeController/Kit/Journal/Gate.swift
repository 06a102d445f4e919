import Domain

/// At most `permits` at once; the others wait in the order in which they came. Waiting does not end by cancellation: what is behind
/// a gate is bounded, and a task that gave up half-way would leave its place in the row to be cleaned.
actor Gate {
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(_ permits: Int) { free = max(1, permits) }

    func enter() async {
        if free > 0 {
            free -= 1
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func leave() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
    }

    /// Runs `body` behind the gate.
    nonisolated func within<R: Sendable>(_ body: @Sendable () async throws(CloudError) -> R) async throws(CloudError) -> R {
        await enter()
        do throws(CloudError) {
            let result = try await body()
            await leave()
            return result
        } catch {
            await leave()
            throw error
        }
    }
}
