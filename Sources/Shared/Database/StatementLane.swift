internal import Domain
internal import Synchronization

/// A connection for statements that stand alone, with its own thread. What waits while the server is busy goes to it together: readers
/// share a journey, writers also a commit, so that the price of both is divided by the number of callers.
final class StatementLane: Sendable {
    enum Kind: Sendable { case reading, writing }

    /// Statements in one journey. Too high: the first waits for the last; too low: more journeys and commits.
    static let batchLimit = 64
    private static let threads = [Kind.reading: 1, .writing: 2]

    /// The reading lane cannot write, by the server's own word. Its questions are for single rows: a plan that was made while a table was
    /// small must not read it whole when it has grown.
    private static let readingSettings = """
        -c default_transaction_read_only=on -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off
        """

    private struct Order: Sendable {
        let sql: String
        let parameters: [SQLValue]
        let key: [UInt8]
        let continuation: CheckedContinuation<Result<Rows, CloudError>, Never>

        var plain: Connection.Order { Connection.Order(sql: sql, parameters: parameters) }
        func end(_ outcome: Result<Rows, CloudError>) { continuation.resume(returning: outcome) }
    }

    private let kind: Kind
    private let url: String
    private let name: String
    private let queue = JobQueue<Order>()
    private let started = Mutex(false)

    init(_ kind: Kind, url: String, name: String) {
        self.kind = kind
        self.url = url
        self.name = name
    }

    func submit(_ sql: String, _ parameters: [SQLValue], order: [UInt8]) async throws(CloudError) -> Rows {
        start()
        let outcome = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Rows, CloudError>, Never>) in
            let order = Order(sql: sql, parameters: parameters, key: order, continuation: continuation)
            switch queue.push(order, limit: DatabasePool.waitingLimit) {
            case .queued: break
            case .closed: order.end(.failure(Self.closed))
            case .full:
                let place = Shortage.Place("database", .connections, asked: 1, free: 0, limit: DatabasePool.waitingLimit)
                order.end(.failure(CloudError(.capacity(Shortage(.connections, [place])))))
            }
        }
        return try outcome.get()
    }

    func close() {
        for order in queue.close() { order.end(.failure(Self.closed)) }
    }

    private static let closed = CloudError(.unavailable("The database"), context: "pool closed")

    private func start() {
        let first = started.withLock { started in
            defer { started = true }
            return !started
        }
        guard first else { return }
        for index in 0..<(Self.threads[kind] ?? 1) {
            let (queue, url, name, kind) = (queue, url, name, kind)
            let running = SystemThread.start {
                let connection = Connection(url: url, name: "\(name)-\(kind)", settings: kind == .reading ? Self.readingSettings : "")
                while true {
                    let orders = queue.popSome(limit: Self.batchLimit)
                    if orders.isEmpty { break }
                    switch kind {
                    case .reading: Self.read(orders, connection)
                    case .writing: Self.write(orders, connection)
                    }
                }
                connection.disconnect()
            }
            precondition(running || index > 0, "the system has no room for a thread")
        }
    }

    // MARK: on the lane's thread

    /// Asks again, one by one, what another one's failure took with it; and once more on a new connection what a broken one left open.
    private static func read(_ orders: [Order], _ connection: Connection) {
        var open = orders
        var attempt = 0
        while !open.isEmpty {
            attempt += 1
            var settled: Set<Int> = []
            let isSingle = attempt > 2
            let asked = isSingle ? Array(open.prefix(1)) : open
            do throws(CloudError) {
                try connection.ensureConnected()
                try connection.batch(asked.map(\.plain)) { index, outcome in
                    guard let outcome else { return }
                    if case .failure = outcome, connection.wantsRetry, attempt < DatabasePool.retryLimit { return }
                    asked[index].end(outcome)
                    settled.insert(index)
                }
            } catch {
                let isFresh = attempt > 1
                connection.disconnect()
                if isFresh {
                    for index in asked.indices where !settled.contains(index) {
                        asked[index].end(.failure(error))
                        settled.insert(index)
                    }
                }
            }
            open = open.enumerated().filter { !settled.contains($0.offset) }.map(\.element)
            if connection.isLost { connection.disconnect() }
        }
    }

    private static func write(_ orders: [Order], _ connection: Connection) {
        let sorted = orders.count == 1 ? orders : orders.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        if orders.count > 1 {
            var failure: CloudError?
            do throws(CloudError) {
                try connection.ensureConnected()
                if let rows = try connection.together(sorted.map(\.plain), failure: &failure) {
                    for (order, rows) in zip(sorted, rows) { order.end(.success(rows)) }
                    return
                }
            } catch {
                connection.disconnect()
                for order in sorted { order.end(.failure(unknown(error))) }
                return
            }
            if connection.isLost { connection.disconnect() }
        }
        for order in sorted { writeOne(order, connection) }
    }

    private static func writeOne(_ order: Order, _ connection: Connection) {
        for attempt in 1...DatabasePool.retryLimit {
            var failure: CloudError?
            do throws(CloudError) {
                try connection.ensureConnected()
                if let rows = try connection.together([order.plain], failure: &failure) { return order.end(.success(rows[0])) }
            } catch {
                connection.disconnect()
                return order.end(.failure(unknown(error)))
            }
            let again = connection.wantsRetry
            if connection.isLost { connection.disconnect() }
            guard again else { return order.end(.failure(failure ?? .bug("no outcome"))) }
            DatabasePool.pause(attempt)
        }
        order.end(.failure(CloudError(.unavailable("The database"), context: "gave up after \(DatabasePool.retryLimit) conflicts")))
    }

    private static func unknown(_ error: CloudError) -> CloudError {
        CloudError(.unavailable("The database"), context: "the outcome of a COMMIT is unknown: \(error.context)")
    }
}
