internal import CPostgres
internal import Domain

/// PostgreSQL's type numbers that we know the binary form of. Source: `pg_type.dat`; they never change.
enum TypeNumber {
    static let bool: Oid = 16
    static let bytea: Oid = 17
    static let name: Oid = 19
    static let int8: Oid = 20
    static let int2: Oid = 21
    static let int4: Oid = 23
    static let text: Oid = 25
    static let oid: Oid = 26
    static let float8: Oid = 701
    static let textArray: Oid = 1009
    static let bpchar: Oid = 1042
    static let varchar: Oid = 1043
    static let void: Oid = 2278

    /// What `Row` reads in binary form; a result with a column of any other type comes as text.
    static func isReadable(_ type: Oid) -> Bool {
        switch type {
        case bool, bytea, name, int8, int2, int4, text, oid, float8, textArray, bpchar, varchar, void: true
        default: false
        }
    }
}

/// The parameters of one statement as libpq takes them: all values in one buffer, binary where the parameter's type is one that we know, so
/// that bytes do not go as hexadecimal text.
struct Parameters {
    private var storage: [UInt8] = []
    /// -1: null.
    private var offsets: [Int] = []
    private var lengths: [Int32] = []
    private var formats: [Int32] = []

    var count: Int32 { Int32(offsets.count) }

    /// - Parameter types: of the parameters, as the server inferred them.
    /// - Throws: `InvalidParameterValue` for a text with a NUL: PostgreSQL cannot hold it.
    init(_ values: [SQLValue], types: [Oid]) throws(CloudError) {
        offsets.reserveCapacity(values.count)
        lengths.reserveCapacity(values.count)
        formats.reserveCapacity(values.count)
        storage.reserveCapacity(values.reduce(into: 0) { $0 += Self.estimate($1) })
        for (index, value) in values.enumerated() { try append(value, index < types.count ? types[index] : 0) }
    }

    private static func estimate(_ value: SQLValue) -> Int {
        switch value {
        case .text(let text): text.utf8.count + 1
        case .bytes(let bytes): bytes.count
        case .textArray(let items): items.reduce(into: 24) { $0 += 8 + $1.utf8.count }
        case .integer, .timestamp: 8
        case .boolean: 1
        case .null: 0
        }
    }

    private mutating func append(_ value: SQLValue, _ type: Oid) throws(CloudError) {
        let start = storage.count
        var isBinary = true
        switch value {
        case .null:
            offsets.append(-1)
            lengths.append(0)
            formats.append(0)
            return
        case .text(let text):
            let before = storage.count
            storage.append(contentsOf: text.utf8)
            try refuseNUL(from: before)
            isBinary = type == TypeNumber.text || type == TypeNumber.varchar
        case .bytes(let bytes) where type == TypeNumber.bytea: storage.append(contentsOf: bytes)
        case .integer(let number) where type == TypeNumber.int8: appendBigEndian(number)
        case .timestamp(let moment) where type == TypeNumber.int8: appendBigEndian(Int64(moment.milliseconds))
        case .integer(let number) where type == TypeNumber.int4 && Int32(exactly: number) != nil:
            appendBigEndian(Int32(truncatingIfNeeded: number))
        case .boolean(let flag) where type == TypeNumber.bool: storage.append(flag ? 1 : 0)
        case .textArray(let items) where type == TypeNumber.textArray:
            // Source: PostgreSQL's array_recv: dimensions, has-null flag, element type, then size and lower bound of each dimension.
            appendBigEndian(Int32(items.isEmpty ? 0 : 1))
            appendBigEndian(Int32(0))
            appendBigEndian(Int32(TypeNumber.text))
            if !items.isEmpty {
                appendBigEndian(Int32(items.count))
                appendBigEndian(Int32(1))
            }
            for item in items {
                appendBigEndian(Int32(item.utf8.count))
                let before = storage.count
                storage.append(contentsOf: item.utf8)
                try refuseNUL(from: before)
            }
        default:
            isBinary = false
            storage.append(contentsOf: (value.wireText ?? "").utf8)
            try refuseNUL(from: start)
        }
        offsets.append(start)
        lengths.append(Int32(storage.count - start))
        formats.append(isBinary ? 1 : 0)
        if !isBinary { storage.append(0) }
    }

    private mutating func appendBigEndian<T: FixedWidthInteger>(_ number: T) {
        withUnsafeBytes(of: number.bigEndian) { storage.append(contentsOf: $0) }
    }

    private func refuseNUL(from start: Int) throws(CloudError) {
        guard storage[start...].contains(0) else { return }
        throw CloudError(.invalidParameter("text"), "A text contains a NUL character, which cannot be stored")
    }

    /// Values, lengths and formats in libpq's order.
    // SAFETY: the pointers live until `body` has returned; libpq copies what it sends.
    func withPointers<R>(
        _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> R
    ) -> R {
        storage.withUnsafeBytes { bytes in
            let base = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            return withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: offsets.count + 1) { values in
                for (index, offset) in offsets.enumerated() {
                    // An empty value in an empty buffer still has to be something else than null.
                    values[index] = offset < 0 ? nil : base.map { $0 + offset } ?? Self.empty
                }
                values[offsets.count] = nil
                return lengths.withUnsafeBufferPointer { lengths in
                    formats.withUnsafeBufferPointer { formats in body(values.baseAddress, lengths.baseAddress, formats.baseAddress) }
                }
            }
        }
    }

    // SAFETY: one zero byte that lives as long as the process and is never written.
    private nonisolated(unsafe) static let empty: UnsafePointer<CChar> = {
        let byte = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafePointer(byte)
    }()
}

/// A statement that the server has parsed, on one connection.
final class PreparedStatement {
    let name: String
    let parameterTypes: [Oid]
    let columns: ResultColumns

    init(name: String, parameterTypes: [Oid], columns: ResultColumns) {
        self.name = name
        self.parameterTypes = parameterTypes
        self.columns = columns
    }
}
