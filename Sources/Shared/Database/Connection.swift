internal import CPostgres
internal import Domain
internal import Glibc

/// One libpq connection. It belongs to one thread: it is made there, used there and never leaves it.
final class Connection {
    /// Prepared statements that are kept per connection. Too low: parsing again and again; too high: the server's memory.
    static let statementLimit = 500
    static let connectTimeoutSeconds = 5

    private let url: String
    private let name: String
    private let settings: String
    private var handle: OpaquePointer?
    private var statements: [String: PreparedStatement] = [:]
    private var statementCounter = 0
    /// The BEGIN that goes out together with the transaction's first statement.
    private var pendingBegin: String?
    /// The COMMIT of a read-only transaction is on its way; its answer is read at the next use, since nothing depends on it.
    private var awaitsCommit = false
    /// A statement of this transaction failed before the transaction had begun on the server.
    private var failedEarly = false

    /// The connection broke, or the server said that it goes away, since the last `begin`.
    private(set) var isLost = false
    /// A statement said, since the last `begin`, that the transaction should run again. Kept here because the closure may swallow the
    /// error.
    private(set) var wantsRetry = false

    /// - Parameter settings: more of libpq's `options`, such as `-c default_transaction_read_only=on`.
    init(url: String, name: String, settings: String = "") {
        self.url = url
        self.name = name
        self.settings = settings
    }

    deinit { disconnect() }

    func disconnect() {
        if let handle { PQfinish(handle) }
        handle = nil
        statements = [:]
        awaitsCommit = false
    }

    var isConnected: Bool { handle != nil }
    var socket: Int32 { PQsocket(handle) }

    /// - Throws: `.unavailable`, with libpq's words in the context (they hold no password).
    func connect() throws(CloudError) {
        disconnect()
        // A statement may take 30 s: longer means a lock that nobody releases. tcp_user_timeout: a server that vanished without a word.
        let options = [
            ("dbname", url), ("application_name", name), ("connect_timeout", String(Self.connectTimeoutSeconds)),
            ("client_encoding", "UTF8"), ("tcp_user_timeout", "15000"),
            (
                "options",
                "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c client_min_messages=warning \(settings)"
            ),
        ]
        let handle = Self.withCStrings(options.map { $0.0 }) { names in
            Self.withCStrings(options.map { $0.1 }) { values in PQconnectdbParams(names, values, 1) }
        }
        guard let handle, PQstatus(handle) == CONNECTION_OK else {
            let words = handle.map { String(cString: PQerrorMessage($0)) } ?? "out of memory"
            if let handle { PQfinish(handle) }
            throw CloudError(.unavailable("The database"), context: "cannot connect to PostgreSQL: \(words)")
        }
        _ = PQsetNoticeProcessor(handle, { _, _ in }, nil)
        self.handle = handle
        isLost = false
    }

    /// Connects where needed. A connection that died while it was idle is noticed here: the server's last words, or the end of the stream,
    /// wait in the socket.
    func ensureConnected() throws(CloudError) {
        isLost = false
        wantsRetry = false
        finishCommit()
        if handle != nil {
            var descriptor = pollfd(fd: PQsocket(handle), events: Int16(POLLIN), revents: 0)
            if poll(&descriptor, 1, 0) > 0 { disconnect() }
        }
        if handle == nil { try connect() }
    }

    /// Forgets what happened before. The statement is sent with the transaction's first statement, or never when there is none.
    func begin(_ statement: String) {
        isLost = false
        wantsRetry = false
        failedEarly = false
        pendingBegin = statement
    }

    /// - Parameter isReading: nothing depends on the answer, and it is not waited for.
    /// - Returns: false when the server rolled back instead, because a statement had failed.
    func commit(isReading: Bool) throws(CloudError) -> Bool {
        if pendingBegin != nil || failedEarly {
            pendingBegin = nil
            return !failedEarly
        }
        if isReading, PQtransactionStatus(handle) == PQTRANS_INTRANS, PQsendQuery(handle, "COMMIT") == 1 {
            awaitsCommit = true
            return true
        }
        let result = PQexec(handle, "COMMIT")
        defer { PQclear(result) }
        try check(result, "COMMIT")
        return String(cString: PQcmdStatus(result)) == "COMMIT"
    }

    private func finishCommit() {
        guard awaitsCommit else { return }
        awaitsCommit = false
        var isGood = true
        while let result = PQgetResult(handle) {
            if PQresultStatus(result) != PGRES_COMMAND_OK { isGood = false }
            PQclear(result)
        }
        if !isGood || PQstatus(handle) != CONNECTION_OK { disconnect() }
    }

    /// Leaves the transaction whatever its state; a connection that cannot is closed.
    func rollback() {
        pendingBegin = nil
        guard handle != nil else { return }
        if isLost || PQstatus(handle) != CONNECTION_OK { return disconnect() }
        if PQtransactionStatus(handle) == PQTRANS_IDLE { return }
        let result = PQexec(handle, "ROLLBACK")
        if PQresultStatus(result) != PGRES_COMMAND_OK { disconnect() }
        PQclear(result)
    }

    /// One or more statements without parameters.
    func simple(_ sql: String) throws(CloudError) {
        if let begin = pendingBegin {
            try retryingWhenIdleBroke { () throws(CloudError) in try run(begin) }
            pendingBegin = nil
        }
        try run(sql)
    }

    private func run(_ sql: String) throws(CloudError) {
        let result = PQexec(handle, sql)
        defer { PQclear(result) }
        try check(result, sql)
    }

    func execute(_ sql: String, _ parameters: [SQLValue]) throws(CloudError) -> Rows {
        if pendingBegin == nil {
            let statement = try prepare(sql)
            return try take(execute(statement, try Parameters(parameters, types: statement.parameterTypes)), statement, sql)
        }
        do throws(CloudError) {
            let rows = try retryingWhenIdleBroke { () throws(CloudError) in try beginAndExecute(sql, parameters) }
            pendingBegin = nil
            return rows
        } catch {
            // Whatever the closure makes of it: this transaction does not commit.
            failedEarly = pendingBegin != nil
            throw error
        }
    }

    /// Nothing of a transaction has happened before its first statement: when that finds the connection broken, a new one serves as well.
    private func retryingWhenIdleBroke<R>(_ body: () throws(CloudError) -> R) throws(CloudError) -> R {
        finishCommit()
        let wasConnected = isConnected
        if !wasConnected { try connect() }
        do throws(CloudError) { return try body() } catch {
            guard isLost, wasConnected else { throw error }
            try connect()
            return try body()
        }
    }

    /// BEGIN and the first statement in one journey.
    private func beginAndExecute(_ sql: String, _ parameters: [SQLValue]) throws(CloudError) -> Rows {
        guard let begin = pendingBegin else { throw .bug("no transaction to begin") }
        let opening = try prepare(begin)
        let statement = try prepare(sql)
        let values = try Parameters(parameters, types: statement.parameterTypes)
        PQenterPipelineMode(handle)
        send(opening, try Parameters([], types: []))
        send(statement, values)
        PQpipelineSync(handle)
        let began = nextResult()
        let result = nextResult()
        finishPipeline()
        defer { PQclear(began) }
        do throws(CloudError) { try check(began, begin) } catch {
            PQclear(result)
            throw error
        }
        pendingBegin = nil
        return try take(result, statement, sql)
    }

    // MARK: statements that stand alone

    /// One of several statements that are sent together.
    struct Order {
        let sql: String
        let parameters: [SQLValue]
    }

    /// Sends all of them in one journey, each for itself, and none waits for another's answer. The reading lane's way: one that fails makes
    /// those behind it fail with it (`nil`: to be asked again).
    /// - Throws: when the connection broke: some may have no outcome.
    func batch(_ orders: [Order], _ outcome: (Int, Result<Rows, CloudError>?) -> Void) throws(CloudError) {
        var sent: [(index: Int, statement: PreparedStatement)] = []
        var values: [Parameters] = []
        for (index, order) in orders.enumerated() {
            do throws(CloudError) {
                let statement = try prepare(order.sql)
                values.append(try Parameters(order.parameters, types: statement.parameterTypes))
                sent.append((index, statement))
            } catch {
                if isLost { throw error }
                outcome(index, .failure(error))
            }
        }
        guard !sent.isEmpty else { return }
        PQenterPipelineMode(handle)
        for (item, value) in zip(sent, values) { send(item.statement, value) }
        PQpipelineSync(handle)
        var lost: CloudError?
        for (index, statement) in sent {
            let result = nextResult()
            if PQresultStatus(result) == PGRES_PIPELINE_ABORTED {
                PQclear(result)
                outcome(index, nil)
                continue
            }
            do throws(CloudError) { outcome(index, .success(try take(result, statement, orders[index].sql))) } catch {
                if isLost {
                    lost = error
                    break
                }
                outcome(index, .failure(error))
            }
        }
        if let lost { throw lost }
        finishPipeline()
    }

    /// Runs them in one transaction, BEGIN and COMMIT included, in one journey.
    /// - Returns: the rows of each when the COMMIT was confirmed; `nil` when one of them failed and nothing happened, with `failure` set.
    /// - Throws: when the connection broke, or nobody knows the outcome.
    func together(_ orders: [Order], failure: inout CloudError?) throws(CloudError) -> [Rows]? {
        let opening = try prepare("BEGIN ISOLATION LEVEL READ COMMITTED")
        let closing = try prepare("COMMIT")
        let nothing = try Parameters([], types: [])
        var sent: [PreparedStatement] = []
        var values: [Parameters] = []
        do throws(CloudError) {
            for order in orders {
                let statement = try prepare(order.sql)
                values.append(try Parameters(order.parameters, types: statement.parameterTypes))
                sent.append(statement)
            }
        } catch {
            if isLost { throw error }
            failure = error
            return nil
        }
        PQenterPipelineMode(handle)
        send(opening, nothing)
        for (statement, value) in zip(sent, values) { send(statement, value) }
        send(closing, nothing)
        PQpipelineSync(handle)
        var rows: [Rows] = []
        rows.reserveCapacity(orders.count)
        func keep(_ result: OpaquePointer?, _ statement: PreparedStatement, _ sql: String) throws(CloudError) {
            if PQresultStatus(result) == PGRES_PIPELINE_ABORTED { return PQclear(result) }
            do throws(CloudError) { rows.append(try take(result, statement, sql)) } catch {
                if isLost { throw error }
                if failure == nil { failure = error }
            }
        }
        try keep(nextResult(), opening, "BEGIN")
        for (index, statement) in sent.enumerated() { try keep(nextResult(), statement, orders[index].sql) }
        let committed = nextResult()
        let isCommitted = PQresultStatus(committed) == PGRES_COMMAND_OK && String(cString: PQcmdStatus(committed)) == "COMMIT"
        try keep(committed, closing, "COMMIT")
        finishPipeline()
        guard isCommitted, failure == nil, rows.count == orders.count + 2 else {
            if failure == nil { failure = .bug("a batch rolled back without an error") }
            rollback()
            return nil
        }
        return Array(rows[1...orders.count])
    }

    private func send(_ statement: PreparedStatement, _ parameters: Parameters) {
        // A failure to queue shows as a missing result, which `check` reports.
        _ = parameters.withPointers { values, lengths, formats in
            PQsendQueryPrepared(
                handle, statement.name, parameters.count, values, lengths, formats, statement.columns.isBinary ? 1 : 0)
        }
    }

    /// The one result of a statement in a pipeline.
    private func nextResult() -> OpaquePointer? {
        let result = PQgetResult(handle)
        if result != nil { PQclear(PQgetResult(handle)) }
        return result
    }

    private func finishPipeline() {
        while let result = PQgetResult(handle) {
            let isSync = PQresultStatus(result) == PGRES_PIPELINE_SYNC
            PQclear(result)
            if isSync { break }
        }
        if PQexitPipelineMode(handle) != 1 { isLost = true }
    }

    private func execute(_ statement: PreparedStatement, _ parameters: Parameters) -> OpaquePointer? {
        parameters.withPointers { values, lengths, formats in
            PQexecPrepared(
                handle, statement.name, parameters.count, values, lengths, formats, statement.columns.isBinary ? 1 : 0)
        }
    }

    /// The rows of a result, which they own.
    private func take(_ result: OpaquePointer?, _ statement: PreparedStatement, _ sql: String) throws(CloudError) -> Rows {
        do throws(CloudError) { try check(result, sql) } catch {
            PQclear(result)
            throw error
        }
        return Rows(storage: Rows.Storage(result, statement.columns))
    }

    private func prepare(_ sql: String) throws(CloudError) -> PreparedStatement {
        if let there = statements[sql] { return there }
        if statements.count >= Self.statementLimit {
            try run("DEALLOCATE ALL")
            statements = [:]
        }
        statementCounter += 1
        let name = "s\(statementCounter)"
        let result = PQprepare(handle, name, sql, 0, nil)
        defer { PQclear(result) }
        try check(result, sql)
        let description = PQdescribePrepared(handle, name)
        defer { PQclear(description) }
        try check(description, sql)
        let statement = PreparedStatement(
            name: name, parameterTypes: (0..<PQnparams(description)).map { PQparamtype(description, $0) },
            columns: ResultColumns(description))
        statements[sql] = statement
        return statement
    }

    private func check(_ result: OpaquePointer?, _ sql: String) throws(CloudError) {
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: return
        default: break
        }
        // The field codes are macros of postgres_ext.h: 'C' SQLSTATE, 'M' message, 'n' constraint.
        func field(_ code: Character) -> String {
            PQresultErrorField(result, Int32(code.asciiValue ?? 0)).map { String(cString: $0) } ?? ""
        }
        let state = result == nil ? "" : field("C")
        let message = result == nil || state.isEmpty ? String(cString: PQerrorMessage(handle)) : field("M")
        if PQstatus(handle) != CONNECTION_OK || SQLFailure.isDisconnect(state) { isLost = true }
        if SQLFailure.isRetryable(state, message: message) {
            wantsRetry = true
            // A plan of before a migration: all of them may be void.
            if state == "26000" || state == "0A000" { isLost = true }
        }
        throw SQLFailure.error(state: isLost ? "" : state, message: message, constraint: field("n"), sql: sql)
    }

    // MARK: notifications

    /// Takes what has arrived on the socket. - Returns: false when the connection is gone.
    func consumeInput() -> Bool { PQconsumeInput(handle) == 1 }

    func nextNotification() -> (channel: String, payload: String)? {
        guard let notification = PQnotifies(handle) else { return nil }
        defer { PQfreemem(notification) }
        return (String(cString: notification.pointee.relname), String(cString: notification.pointee.extra))
    }

    // SAFETY: the C strings live until `body` has returned; libpq copies what it keeps.
    private static func withCStrings<R>(_ texts: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R) -> R {
        let buffers = texts.map { text -> UnsafeMutableBufferPointer<CChar>? in
            guard let text else { return nil }
            let bytes = text.utf8CString
            let buffer = UnsafeMutableBufferPointer<CChar>.allocate(capacity: bytes.count)
            _ = buffer.initialize(from: bytes)
            return buffer
        }
        defer { for buffer in buffers { buffer?.deallocate() } }
        var pointers: [UnsafePointer<CChar>?] = buffers.map { $0.flatMap { UnsafePointer($0.baseAddress) } }
        pointers.append(nil)
        return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
    }
}
