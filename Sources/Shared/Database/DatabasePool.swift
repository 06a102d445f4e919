public import Domain
internal import Glibc
internal import Synchronization

/// Connections to PostgreSQL, one thread each. A transaction is one synchronous closure on such a thread: there is no await inside it, so
/// no task can hold a connection while it waits for another one.
///
/// When the server goes away, transactions fail with `.unavailable`; each connection connects again by itself at its next use.
public final class DatabasePool: Sendable {
    /// How often a transaction runs again after a serialization failure or a deadlock before it gives up with `.unavailable`.
    public static let retryLimit = 20
    /// Transactions that wait for a connection. Too high: callers time out before their turn; too low: bursts are refused.
    public static let waitingLimit = 4096

    private typealias Job = @Sendable (Connection?) -> Void
    private struct State {
        var started = false
        var closed = false
        var listeners: [Listener] = []
    }

    let url: String
    let name: String
    private let size: Int
    private let queue = JobQueue<Job>()
    private let state = Mutex(State())
    private let reading: StatementLane
    private let writing: StatementLane
    /// `nil` for the ordinary pool, with its threads.
    private let inline: InlineConnection?

    /// - Parameters:
    ///   - url: a libpq connection string: `postgresql:///karri?host=/run/karri&user=cloud`, or `host=… dbname=…`.
    ///   - size: connections, at least 1.
    ///   - name: shown in `pg_stat_activity`.
    public init(url: String, size: Int = 4, name: String) {
        self.url = url
        self.size = max(1, size)
        self.name = name
        inline = nil
        reading = StatementLane(.reading, url: url, name: name)
        writing = StatementLane(.writing, url: url, name: name)
    }

    /// A pool of one connection and no thread: a transaction runs where it is called, before the call returns. Only for the simulation,
    /// whose one thread must see the same order of events in every run; a daemon's cooperative threads must not block.
    /// - Parameter pause: before and after each transaction: there a kill can come.
    public init(inlineForSimulation url: String, name: String, pause: @escaping @Sendable () async -> Void = {}) {
        self.url = url
        size = 1
        self.name = name
        inline = InlineConnection(url: url, name: name, pause: pause)
        reading = StatementLane(.reading, url: url, name: name)
        writing = StatementLane(.writing, url: url, name: name)
    }

    /// Starts the threads; they connect at their first job. The first transaction starts a pool that is not started.
    public func start() {
        let first = state.withLock { s -> Bool in
            defer { s.started = true }
            return !s.started && !s.closed
        }
        guard first, inline == nil else { return }
        for index in 0..<size {
            let (queue, url, name) = (queue, url, name)
            // Without a thread the others serve; with none at all, every transaction would hang, which `precondition` makes loud.
            let started = SystemThread.start {
                let connection = Connection(url: url, name: name)
                while let job = queue.pop() { job(connection) }
                connection.disconnect()
            }
            precondition(started || index > 0, "the system has no room for a thread")
        }
    }

    /// Running transactions end, waiting ones fail with `.unavailable`, listeners end.
    public func close() {
        let listeners = state.withLock { s -> [Listener] in
            s.closed = true
            defer { s.listeners = [] }
            return s.listeners
        }
        inline?.close()
        for job in queue.close() { job(nil) }
        reading.close()
        writing.close()
        for listener in listeners { listener.stop() }
    }

    public enum Isolation: String, Sendable {
        /// As if transactions ran one after the other. The default: rules that span rows hold without thinking about locks.
        case serializable = "SERIALIZABLE"
        /// Each statement sees what is committed. For single-row work under contention, with row locks.
        case readCommitted = "READ COMMITTED"
    }

    /// Runs `body` in a transaction and commits. When it throws, everything is rolled back and the error goes to the caller. It runs again
    /// (up to `retryLimit` times) after serialization failures and deadlocks, so it must have no other effects than on the database.
    /// - Throws: `.unavailable` when the server cannot be reached, also when the connection broke during the commit, whose outcome is then
    ///   unknown (the context says so): repeating must be safe; `.capacity(connections)` when too many wait already.
    @discardableResult
    public func transaction<R: Sendable>(
        isolation: Isolation = .serializable, _ body: @escaping @Sendable (Transaction) throws -> R
    ) async throws(CloudError) -> R {
        try await submit("BEGIN ISOLATION LEVEL \(isolation.rawValue)", body)
    }

    /// A read-only transaction with one snapshot for all its statements.
    @discardableResult
    public func read<R: Sendable>(_ body: @escaping @Sendable (Transaction) throws -> R) async throws(CloudError) -> R {
        try await submit(Self.readingBegin, body)
    }

    /// One reading statement by itself, without a transaction around it: the cheap way for questions that one statement answers. Those that
    /// are asked at the same time go to the server together. It sees everything that was committed before the call.
    /// - Throws: as `transaction`; a statement that writes is `.bug`.
    public func query(_ sql: String, _ parameters: SQLValue...) async throws(CloudError) -> Rows {
        if inline != nil { return try await read { try $0.execute(sql, parameters: parameters) } }
        return try await reading.submit(sql, parameters, order: [])
    }

    /// One writing statement with a commit that it shares with others that come at the same time: each has its own outcome, and all are on
    /// stable storage when it returns. A statement that fails takes nobody with it.
    /// - Parameter order: statements in one commit run in this order (a key, say), so that two batches do not wait for each other in a
    ///   circle.
    /// - Throws: as `transaction` with `.readCommitted`.
    public func shared(_ sql: String, order: [UInt8], _ parameters: [SQLValue]) async throws(CloudError) -> Rows {
        if inline != nil { return try await transaction(isolation: .readCommitted) { try $0.execute(sql, parameters: parameters) } }
        return try await writing.submit(sql, parameters, order: order)
    }

    private static let readingBegin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    private func submit<R: Sendable>(
        _ begin: String, _ body: @escaping @Sendable (Transaction) throws -> R
    ) async throws(CloudError) -> R {
        if let inline {
            return try await inline.use { (connection: Connection) throws(CloudError) -> R in try Self.run(begin, connection, body) }
        }
        start()
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<R, CloudError>, Never>) in
            let pushed = queue.push(
                { connection in
                    guard let connection else {
                        return continuation.resume(returning: .failure(CloudError(.unavailable("The database"), context: "pool closed")))
                    }
                    continuation.resume(returning: Result { () throws(CloudError) -> R in try Self.run(begin, connection, body) })
                }, limit: Self.waitingLimit)
            switch pushed {
            case .queued: break
            case .closed:
                continuation.resume(returning: .failure(CloudError(.unavailable("The database"), context: "pool closed")))
            case .full:
                let place = Shortage.Place("database", .connections, asked: 1, free: 0, limit: Self.waitingLimit)
                continuation.resume(returning: .failure(CloudError(.capacity(Shortage(.connections, [place])))))
            }
        }
        return try result.get()
    }

    /// On the connection's thread.
    private static func run<R>(
        _ begin: String, _ connection: Connection, _ body: (Transaction) throws -> R
    ) throws(CloudError) -> R {
        var attempt = 0
        while true {
            attempt += 1
            connection.begin(begin)
            let outcome: Result<R, CloudError>
            do {
                outcome = .success(try body(Transaction(connection: connection)))
            } catch let error as CloudError {
                outcome = .failure(error)
            } catch {
                outcome = .failure(.bug("\(error)"))
            }
            var failure: CloudError?
            switch outcome {
            case .success(let value):
                do throws(CloudError) {
                    if try connection.commit(isReading: begin == readingBegin) { return value }
                    // The closure swallowed a statement's error: nothing was committed, and it must not look as if it were.
                    failure = .bug("a transaction went on after a failed statement; use Transaction.attempt")
                } catch {
                    if connection.isLost, !connection.wantsRetry {
                        connection.disconnect()
                        throw CloudError(.unavailable("The database"), context: "the outcome of a COMMIT is unknown: \(error.context)")
                    }
                    failure = error
                }
            case .failure(let error):
                failure = error
            }
            connection.rollback()
            if connection.wantsRetry, attempt < retryLimit {
                pause(attempt)
                continue
            }
            throw connection.wantsRetry
                ? CloudError(.unavailable("The database"), context: "gave up after \(attempt) conflicts")
                : failure ?? .bug("no outcome")
        }
    }

    /// Colliding transactions must not collide again in step: thread ids and the clock's nanoseconds are random enough for that.
    static func pause(_ attempt: Int) {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let ceiling = 1000 << min(attempt, 6)
        usleep(UInt32(200 + (Int(now.tv_nsec) / 100 + attempt * 7919) % ceiling))
    }

    // MARK: notifications

    /// What the listeners get.
    public enum Notification: Sendable, Equatable {
        /// The connection was made (first or again), or the receiver was too slow: anything may have been missed.
        case reconnected
        case message(channel: String, payload: String)
    }

    /// Listens on its own connection, which is made again when it breaks. Ends with `close()`, or when the stream is dropped.
    public func listen(_ channels: [String]) -> AsyncStream<Notification> {
        let (stream, continuation) = AsyncStream<Notification>.makeStream(bufferingPolicy: .bufferingOldest(Listener.bufferLimit))
        let listener = Listener(url: url, name: "\(name)-listen", channels: channels, continuation: continuation)
        let open = state.withLock { s -> Bool in
            guard !s.closed else { return false }
            s.listeners.removeAll { $0.isStopped }
            s.listeners.append(listener)
            return true
        }
        guard open, listener.start() else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { _ in listener.stop() }
        return stream
    }
}

/// The connection of a pool without threads.
private final class InlineConnection: Sendable {
    private let connection: Mutex<Connection?>
    private let pause: @Sendable () async -> Void

    init(url: String, name: String, pause: @escaping @Sendable () async -> Void) {
        connection = Mutex(Connection(url: url, name: name))
        self.pause = pause
    }

    func close() { connection.withLock { $0 = nil } }

    func use<R: Sendable>(_ body: (Connection) throws(CloudError) -> R) async throws(CloudError) -> R {
        await pause()
        let result = try connection.withLock { (connection: inout Connection?) throws(CloudError) -> R in
            guard let connection else { throw CloudError(.unavailable("The database"), context: "pool closed") }
            return try body(connection)
        }
        await pause()
        return result
    }
}
