public import Domain

extension CloudError {
    /// PostgreSQL's SQLSTATE when a statement broke a constraint (class 23). Other errors of statements are `.bug` or `.unavailable`.
    public var sqlState: String? {
        if case .named(let code, _) = reason, code.utf8.count == 5, code.hasPrefix("23") { return code }
        return nil
    }
    /// SQLSTATE 23505. The constraint's name is in `context`.
    public var isUniqueViolation: Bool { sqlState == "23505" }
    /// SQLSTATE 23503.
    public var isForeignKeyViolation: Bool { sqlState == "23503" }
    /// SQLSTATE 23514.
    public var isCheckViolation: Bool { sqlState == "23514" }
}

/// How a failed statement is told to the caller of the transaction. Source: PostgreSQL manual, appendix A.
enum SQLFailure {
    /// The server is going away or does not take this connection: the same as a broken connection.
    static func isDisconnect(_ state: String) -> Bool {
        state.isEmpty || state.hasPrefix("08") || ["57P01", "57P02", "57P03", "57P05"].contains(state)
    }

    /// The whole transaction may run again: serialization failure, deadlock, a plan that the schema's change made void.
    static func isRetryable(_ state: String, message: String) -> Bool {
        state == "40001" || state == "40P01" || state == "26000"
            || (state == "0A000" && message.contains("cached plan must not change result type"))
    }

    static func error(state: String, message: String, constraint: String, sql: String) -> CloudError {
        let context = "SQLSTATE \(state) \(constraint.isEmpty ? "" : "constraint \(constraint) ")\(message) in: \(sql)"
        if isDisconnect(state) { return CloudError(.unavailable("The database"), context: context) }
        if state.hasPrefix("23") {
            return CloudError(.named(code: state, status: 500), "An internal error has occurred", context: context)
        }
        if state == "53100" {
            return CloudError(.named(code: "InsufficientStorage", status: 507), "The database has no space left.", context: context)
        }
        // 53: out of memory, connections; 55P03: lock not available; 57014: a timeout's cancellation; 58: the server's own system
        // errors; 40: a conflict that did not go away by repeating.
        if state.hasPrefix("53") || state.hasPrefix("58") || state.hasPrefix("40") || state == "57014" || state == "55P03" {
            return CloudError(.unavailable("The database"), context: context)
        }
        return CloudError(.bug, context: context)
    }
}
