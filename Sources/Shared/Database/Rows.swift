internal import CPostgres
public import Domain

/// The columns that a statement returns, and whether they come in binary form.
final class ResultColumns: Sendable {
    let indexes: [String: Int32]
    let types: [Oid]
    let isBinary: Bool

    /// - Parameter description: of a prepared statement, or a result.
    init(_ description: OpaquePointer?, isBinary binary: Bool? = nil) {
        var indexes: [String: Int32] = [:]
        var types: [Oid] = []
        for index in 0..<PQnfields(description) {
            if let name = PQfname(description, index) { indexes[String(cString: name)] = index }
            types.append(PQftype(description, index))
        }
        self.indexes = indexes
        self.types = types
        isBinary = binary ?? types.allSatisfy(TypeNumber.isReadable)
    }
}

/// What a statement returned. Safe to keep and to pass on: nothing changes it.
public struct Rows: RandomAccessCollection, Sendable {
    // SAFETY: a PGresult is not changed after libpq has returned it; all uses read, PQclear runs in deinit only.
    final class Storage: @unchecked Sendable {
        let result: OpaquePointer?
        let columns: ResultColumns
        let count: Int

        init(_ result: OpaquePointer?, _ columns: ResultColumns) {
            self.result = result
            self.columns = columns
            count = Int(PQntuples(result))
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
    public var affected: Int { PQcmdTuples(storage.result).flatMap { Int(String(cString: $0)) } ?? 0 }
}

/// One row. To ask for a column that the statement does not return, or for a value that is null or of another type than the accessor
/// says, is a mistake in the program and stops it: use the `optional` accessors for columns that can be null.
public struct Row: Sendable {
    let storage: Rows.Storage
    let index: Int32

    public func isNull(_ column: String) -> Bool { PQgetisnull(storage.result, index, field(column)) == 1 }

    public func optionalText(_ column: String) -> String? {
        guard let (bytes, type) = value(column) else { return nil }
        return storage.columns.isBinary ? Self.text(bytes, type) : String(decoding: bytes, as: UTF8.self)
    }
    public func optionalInt(_ column: String) -> Int? {
        guard let (bytes, type) = value(column) else { return nil }
        if storage.columns.isBinary, let number = Self.integer(bytes, type) { return Int(number) }
        return parsed(Int(String(decoding: bytes, as: UTF8.self)), column)
    }
    public func optionalInt64(_ column: String) -> Int64? { optionalInt(column).map(Int64.init) }
    public func optionalBool(_ column: String) -> Bool? {
        guard let (bytes, type) = value(column) else { return nil }
        if storage.columns.isBinary, type == TypeNumber.bool { return bytes.first == 1 }
        return bytes.elementsEqual("t".utf8)
    }
    public func optionalDouble(_ column: String) -> Double? {
        guard let (bytes, type) = value(column) else { return nil }
        if storage.columns.isBinary {
            if type == TypeNumber.float8 { return Double(bitPattern: Self.bigEndian(bytes)) }
            if let number = Self.integer(bytes, type) { return Double(number) }
        }
        return parsed(Double(String(decoding: bytes, as: UTF8.self)), column)
    }
    /// A `bytea`.
    public func optionalBytes(_ column: String) -> [UInt8]? {
        guard let (bytes, _) = value(column) else { return nil }
        if storage.columns.isBinary { return Array(bytes) }
        return parsed(bytes.starts(with: "\\x".utf8) ? Hex.decode(String(decoding: bytes.dropFirst(2), as: UTF8.self)) : nil, column)
    }
    /// From `bigint` milliseconds since 1970.
    public func optionalTimestamp(_ column: String) -> Timestamp? { optionalInt64(column).map { Timestamp(milliseconds: $0) } }
    public func optionalTextArray(_ column: String) -> [String]? {
        guard let (bytes, type) = value(column) else { return nil }
        if storage.columns.isBinary, type == TypeNumber.textArray { return parsed(Self.textArray(bytes), column) }
        return parsed(SQLValue.parseArray(String(decoding: bytes, as: UTF8.self)), column)
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

    private func field(_ column: String) -> Int32 { present(storage.columns.indexes[column], column) }

    /// The bytes of a value in the result's own memory, with its type; `nil` for null.
    // SAFETY: they live as long as `storage`, which the caller holds; no accessor keeps them.
    private func value(_ column: String) -> (UnsafeRawBufferPointer, Oid)? {
        let field = field(column)
        guard PQgetisnull(storage.result, index, field) == 0, let start = PQgetvalue(storage.result, index, field) else { return nil }
        let bytes = UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(storage.result, index, field)))
        return (bytes, storage.columns.types[Int(field)])
    }

    private static func bigEndian<T: FixedWidthInteger>(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) -> T {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= bytes.count, "a value is shorter than its type")
        return T(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    private static func integer(_ bytes: UnsafeRawBufferPointer, _ type: Oid) -> Int64? {
        switch type {
        case TypeNumber.int8: bigEndian(bytes)
        case TypeNumber.int4: Int64(bigEndian(bytes) as Int32)
        case TypeNumber.int2: Int64(bigEndian(bytes) as Int16)
        case TypeNumber.oid: Int64(bigEndian(bytes) as UInt32)
        default: nil
        }
    }

    private static func text(_ bytes: UnsafeRawBufferPointer, _ type: Oid) -> String {
        switch type {
        case TypeNumber.bool: bytes.first == 1 ? "t" : "f"
        case TypeNumber.bytea: "\\x" + Hex.encode(Array(bytes))
        case TypeNumber.float8: "\(Double(bitPattern: bigEndian(bytes)))"
        default: integer(bytes, type).map(String.init) ?? String(decoding: bytes, as: UTF8.self)
        }
    }

    /// Null elements are left out, as in the text form; `nil` when it is not a one-dimensional array.
    private static func textArray(_ bytes: UnsafeRawBufferPointer) -> [String]? {
        let dimensions: Int32 = bigEndian(bytes)
        if dimensions == 0 { return [] }
        guard dimensions == 1 else { return nil }
        let count = Int(bigEndian(bytes, at: 12) as Int32)
        var items: [String] = []
        items.reserveCapacity(count)
        var at = 20
        for _ in 0..<count {
            let length = Int(bigEndian(bytes, at: at) as Int32)
            at += 4
            if length < 0 { continue }
            guard at + length <= bytes.count else { return nil }
            items.append(String(decoding: UnsafeRawBufferPointer(rebasing: bytes[at..<at + length]), as: UTF8.self))
            at += length
        }
        return items
    }

    private func present<T>(_ value: T?, _ column: String) -> T {
        guard let value else { preconditionFailure("column \(column) is null or is not in the result") }
        return value
    }
    private func parsed<T>(_ value: T?, _ column: String) -> T {
        guard let value else { preconditionFailure("column \(column) is of another type") }
        return value
    }
}
