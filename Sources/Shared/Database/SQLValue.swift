public import Domain

/// A parameter of a statement (`$1`). Everything goes as text, and the server infers the type from where it is used.
public enum SQLValue: Sendable, Equatable {
    case text(String)
    case integer(Int64)
    case boolean(Bool)
    /// A `bytea`.
    case bytes([UInt8])
    case null
    /// A `text[]`, for `= ANY($1)`.
    case textArray([String])
    /// Stored as `bigint` milliseconds since 1970.
    case timestamp(Timestamp)

    public init(_ value: String?) { self = value.map { .text($0) } ?? .null }
    public init(_ value: Int?) { self = value.map { .integer(Int64($0)) } ?? .null }
    public init(_ value: Int64?) { self = value.map { .integer($0) } ?? .null }
    public init(_ value: Bool?) { self = value.map { .boolean($0) } ?? .null }
    public init(_ value: [UInt8]?) { self = value.map { .bytes($0) } ?? .null }
    public init(_ value: [String]?) { self = value.map { .textArray($0) } ?? .null }
    public init(_ value: Timestamp?) { self = value.map { .timestamp($0) } ?? .null }

    /// As PostgreSQL reads it; `nil` for null.
    var wireText: String? {
        switch self {
        case .text(let text): text
        case .integer(let number): String(number)
        case .boolean(let flag): flag ? "t" : "f"
        case .bytes(let bytes): "\\x" + Hex.encode(bytes)
        case .null: nil
        case .textArray(let items): Self.arrayLiteral(items)
        case .timestamp(let moment): String(moment.milliseconds)
        }
    }

    /// `{"a","b\"c"}` (PostgreSQL manual 8.15.6: quoted elements escape `"` and `\`).
    private static func arrayLiteral(_ items: [String]) -> String {
        var out: [UInt8] = [UInt8(ascii: "{")]
        for (index, item) in items.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out.append(UInt8(ascii: "\""))
            for byte in item.utf8 {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { out.append(UInt8(ascii: "\\")) }
                out.append(byte)
            }
            out.append(UInt8(ascii: "\""))
        }
        out.append(UInt8(ascii: "}"))
        return String(decoding: out, as: UTF8.self)
    }

    /// Reads what `arrayLiteral` and the server write. Null elements are left out; `nil` when it is not a one-dimensional array.
    static func parseArray(_ literal: String) -> [String]? {
        var bytes = Array(literal.utf8)[...]
        guard bytes.popFirst() == UInt8(ascii: "{"), bytes.popLast() == UInt8(ascii: "}") else { return nil }
        var items: [String] = []
        while let first = bytes.first {
            var item: [UInt8] = []
            let quoted = first == UInt8(ascii: "\"")
            if quoted { bytes.removeFirst() }
            scan: while let byte = bytes.first {
                switch byte {
                case UInt8(ascii: "\\"):
                    bytes.removeFirst()
                    guard let next = bytes.popFirst() else { return nil }
                    item.append(next)
                case UInt8(ascii: "\"") where quoted:
                    bytes.removeFirst()
                    break scan
                case UInt8(ascii: ",") where !quoted: break scan
                default: item.append(bytes.removeFirst())
                }
            }
            let text = String(decoding: item, as: UTF8.self)
            if quoted || text != "NULL" { items.append(text) }
            if let comma = bytes.popFirst() {
                guard comma == UInt8(ascii: ","), !bytes.isEmpty else { return nil }
            }
        }
        return items
    }
}

extension SQLValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral,
    ExpressibleByStringInterpolation
{
    public init(stringLiteral value: String) { self = .text(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .boolean(value) }
    public init(nilLiteral: ()) { self = .null }
}
