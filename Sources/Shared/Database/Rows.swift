internal import CPostgres
public import Domain

/// What a statement returned. Safe to keep and to pass on: nothing changes it.
public struct Rows: RandomAccessCollection, Sendable {
    // SAFETY: a PGresult is not changed after PQexecPrepared has returned it; all uses read, PQclear runs in deinit only.
    final class Storage: @unchecked Sendable {
        let result: OpaquePointer?
        let columns: [String: Int32]
        let count: Int
        let affected: Int

        init(_ result: OpaquePointer?) {
            self.result = result
            var columns: [String: Int32] = [:]
            for index in 0..<PQnfields(result) {
                if let name = PQfname(result, index) { columns[String(cString: name)] = index }
            }
            self.columns = columns
            count = Int(PQntuples(result))
            affected = PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0
        }
        deinit { PQclear(result) }
    }
    let storage: Storage

    public var startIndex: Int { 0 }
    public var endIndex: Int { storage.count }
    public subscript(position: Int) -> Row {
        precondition(position >= 0 && position < storage.count, "no such row")
        return Row(storage: storage, index: Int32(position))
    }

    /// How many rows the statement inserted, changed, deleted (or selected).
    public var affected: Int { storage.affected }
}

/// One row. To ask for a column that the statement does not return, or for a value that is null or of another type than the accessor
/// says, is a mistake in the program and stops it: use the `optional` accessors for columns that can be null.
public struct Row: Sendable {
    let storage: Rows.Storage
    let index: Int32

    public func isNull(_ column: String) -> Bool { PQgetisnull(storage.result, index, field(column)) == 1 }

    public func optionalText(_ column: String) -> String? {
        let field = field(column)
        guard PQgetisnull(storage.result, index, field) == 0, let value = PQgetvalue(storage.result, index, field) else { return nil }
        return String(cString: value)
    }
    public func optionalInt(_ column: String) -> Int? { optionalText(column).map { parsed(Int($0), column) } }
    public func optionalInt64(_ column: String) -> Int64? { optionalText(column).map { parsed(Int64($0), column) } }
    public func optionalBool(_ column: String) -> Bool? { optionalText(column).map { $0 == "t" } }
    public func optionalDouble(_ column: String) -> Double? { optionalText(column).map { parsed(Double($0), column) } }
    /// A `bytea`.
    public func optionalBytes(_ column: String) -> [UInt8]? {
        optionalText(column).map { parsed($0.hasPrefix("\\x") ? Hex.decode($0.dropFirst(2)) : nil, column) }
    }
    /// From `bigint` milliseconds since 1970.
    public func optionalTimestamp(_ column: String) -> Timestamp? { optionalInt64(column).map { Timestamp(milliseconds: $0) } }
    public func optionalTextArray(_ column: String) -> [String]? {
        optionalText(column).map { parsed(SQLValue.parseArray($0), column) }
    }

    public func text(_ column: String) -> String { present(optionalText(column), column) }
    public func int(_ column: String) -> Int { present(optionalInt(column), column) }
    public func int64(_ column: String) -> Int64 { present(optionalInt64(column), column) }
    public func bool(_ column: String) -> Bool { present(optionalBool(column), column) }
    public func double(_ column: String) -> Double { present(optionalDouble(column), column) }
    public func bytes(_ column: String) -> [UInt8] { present(optionalBytes(column), column) }
    public func timestamp(_ column: String) -> Timestamp { present(optionalTimestamp(column), column) }
    /// An array column that is null reads as empty.
    public func textArray(_ column: String) -> [String] { optionalTextArray(column) ?? [] }

    private func field(_ column: String) -> Int32 { present(storage.columns[column], column) }

    private func present<T>(_ value: T?, _ column: String) -> T {
        guard let value else { preconditionFailure("column \(column) is null or is not in the result") }
        return value
    }
    private func parsed<T>(_ value: T?, _ column: String) -> T {
        guard let value else { preconditionFailure("column \(column) is of another type") }
        return value
    }
}
