/// One at a time for each key, in the order of asking. What a volume's or a snapshot's work may not overlap with holds its id.
public actor KeyedLock {
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    public init() {}

    private func acquire(_ key: String) async {
        guard waiting[key] != nil else {
            waiting[key] = []
            return
        }
        await withCheckedContinuation { waiting[key]?.append($0) }
    }

    private func release(_ key: String) {
        guard var queue = waiting[key], !queue.isEmpty else {
            waiting[key] = nil
            return
        }
        let next = queue.removeFirst()
        waiting[key] = queue
        next.resume()
    }

    /// Runs `body` while no one else holds `key`. Not for nesting with the same key.
    public nonisolated func hold<R: Sendable, E: Error>(
        _ key: String, _ body: @Sendable () async throws(E) -> R
    ) async throws(E) -> R {
        await acquire(key)
        do throws(E) {
            let value = try await body()
            await release(key)
            return value
        } catch {
            await release(key)
            throw error
        }
    }
}
