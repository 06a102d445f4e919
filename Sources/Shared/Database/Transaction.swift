public import Domain

/// An open transaction: lives in the closure that got it, on the connection's thread, and does not leave it.
///
/// The closure may run more than once (serialization failures, deadlocks): it must do nothing that the database does not take back.
public struct Transaction {
    let connection: Connection

    /// Runs one statement with parameters `$1`, `$2`, …; prepared on first use and kept by its text, so the text must not hold values.
    /// - Throws: `sqlState` is set for broken constraints; `.unavailable` when the server is gone; otherwise `.bug`. After an error the
    ///   transaction is dead (everything rolls back), except inside `attempt`.
    @discardableResult
    public func execute(_ sql: String, _ parameters: SQLValue...) throws(CloudError) -> Rows {
        try connection.execute(sql, parameters)
    }

    /// The same, for parameters that are a list already.
    @discardableResult
    public func execute(_ sql: String, parameters: [SQLValue]) throws(CloudError) -> Rows {
        try connection.execute(sql, parameters)
    }

    /// Several statements without parameters, as in migrations.
    public func script(_ sql: String) throws(CloudError) { try connection.simple(sql) }

    /// A savepoint: when `body` throws, only its own changes are taken back, and the transaction goes on with whoever catches the error.
    public func attempt<R>(_ body: (Transaction) throws -> R) throws -> R {
        try connection.simple("SAVEPOINT karri_attempt")
        do {
            let value = try body(self)
            try connection.simple("RELEASE SAVEPOINT karri_attempt")
            return value
        } catch {
            // A transaction that must run again anyway is not worth saving.
            if !connection.isLost, !connection.wantsRetry {
                try connection.simple("ROLLBACK TO SAVEPOINT karri_attempt; RELEASE SAVEPOINT karri_attempt")
            }
            throw error
        }
    }

    /// Sent to the listeners of `channel` when (and if) the transaction commits. `payload` holds at most 7,999 bytes; the same payload
    /// twice in one transaction arrives once.
    public func notify(_ channel: String, _ payload: String = "") throws(CloudError) {
        _ = try connection.execute("SELECT pg_notify($1, $2)", [.text(channel), .text(payload)])
    }
}
