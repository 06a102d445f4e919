internal import CPostgres
internal import Domain

/// One libpq connection. It belongs to one thread: it is made there, used there and never leaves it.
final class Connection {
    /// Prepared statements that are kept per connection. Too low: parsing again and again; too high: the server's memory.
    static let statementLimit = 500
    static let connectTimeoutSeconds = 5

    private let url: String
    private let name: String
    private var handle: OpaquePointer?
    private var statements: [String: String] = [:]
    private var statementCounter = 0

    /// The connection broke, or the server said that it goes away, since the last `begin`.
    private(set) var isLost = false
    /// A statement said, since the last `begin`, that the transaction should run again. Kept here because the closure may swallow the
    /// error.
    private(set) var wantsRetry = false

    init(url: String, name: String) {
        self.url = url
        self.name = name
    }

    deinit { disconnect() }

    func disconnect() {
        if let handle { PQfinish(handle) }
        handle = nil
        statements = [:]
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
            ("options", "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c client_min_messages=warning"),
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

    /// Forgets what happened before; the next statement starts a new transaction.
    func begin(_ statement: String) throws(CloudError) {
        isLost = false
        wantsRetry = false
        try simple(statement)
    }

    /// - Returns: false when the server rolled back instead, because a statement had failed.
    func commit() throws(CloudError) -> Bool {
        let result = PQexec(handle, "COMMIT")
        defer { PQclear(result) }
        try check(result, "COMMIT")
        return String(cString: PQcmdStatus(result)) == "COMMIT"
    }

    /// Leaves the transaction whatever its state; a connection that cannot is closed.
    func rollback() {
        guard handle != nil else { return }
        if isLost || PQstatus(handle) != CONNECTION_OK { return disconnect() }
        let result = PQexec(handle, "ROLLBACK")
        if PQresultStatus(result) != PGRES_COMMAND_OK { disconnect() }
        PQclear(result)
    }

    /// One or more statements without parameters.
    func simple(_ sql: String) throws(CloudError) {
        let result = PQexec(handle, sql)
        defer { PQclear(result) }
        try check(result, sql)
    }

    func execute(_ sql: String, _ parameters: [SQLValue]) throws(CloudError) -> Rows {
        let texts = parameters.map(\.wireText)
        // libpq takes C strings: what comes after a NUL would be lost in silence, and PostgreSQL's text cannot hold it.
        for text in texts {
            if let text, text.utf8.contains(0) {
                throw CloudError(.invalidParameter("text"), "A text contains a NUL character, which cannot be stored")
            }
        }
        let name = try prepare(sql)
        let result = Self.withCStrings(texts) { values in
            PQexecPrepared(handle, name, Int32(texts.count), values, nil, nil, 0)
        }
        do throws(CloudError) { try check(result, sql) } catch {
            PQclear(result)
            throw error
        }
        return Rows(storage: Rows.Storage(result))
    }

    private func prepare(_ sql: String) throws(CloudError) -> String {
        if let name = statements[sql] { return name }
        if statements.count >= Self.statementLimit {
            try simple("DEALLOCATE ALL")
            statements = [:]
        }
        statementCounter += 1
        let name = "s\(statementCounter)"
        let result = PQprepare(handle, name, sql, 0, nil)
        defer { PQclear(result) }
        try check(result, sql)
        statements[sql] = name
        return name
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
