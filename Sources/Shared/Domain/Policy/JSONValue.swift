/// A JSON value (RFC 8259): for policies, and for the small protocols that speak JSON (QEMU's QMP). Our own because Foundation's decoder
/// wants types, and policies are free form.
public indirect enum JSONValue: Sendable, Equatable {
    case null
    case boolean(Bool)
    /// As it was written, so that no digit is lost.
    case number(String)
    case string(String)
    case array([JSONValue])
    /// Members in order; a name stands once.
    case object([Member])

    public struct Member: Sendable, Equatable {
        public let name: String
        public let value: JSONValue
        public init(_ name: String, _ value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    /// Where and why a text is not JSON, or more than we take.
    public struct ParseError: Error, Sendable, Equatable, CustomStringConvertible {
        public let offset: Int
        public let problem: String
        public var description: String { "\(problem) at byte \(offset)" }
    }

    /// Deeper nesting is refused: the parser recurses, and a policy or a reply is never that deep.
    public static let depthLimit = 32

    public init(parsing text: String, maxBytes: Int = 1 << 20) throws(ParseError) {
        try self.init(parsing: Array(text.utf8), maxBytes: maxBytes)
    }

    public init(parsing bytes: [UInt8], maxBytes: Int = 1 << 20) throws(ParseError) {
        guard bytes.count <= maxBytes else { throw ParseError(offset: maxBytes, problem: "longer than \(maxBytes) bytes") }
        var parser = JSONParser(bytes: bytes)
        self = try parser.document()
    }

    // MARK: access

    /// The member of an object; `nil` for others and when there is none.
    public subscript(name: String) -> JSONValue? {
        if case .object(let members) = self { return members.first { $0.name == name }?.value }
        return nil
    }
    public var text: String? { if case .string(let text) = self { text } else { nil } }
    public var items: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
    public var members: [Member]? { if case .object(let members) = self { members } else { nil } }
    public var flag: Bool? { if case .boolean(let flag) = self { flag } else { nil } }
    public var integer: Int? { if case .number(let text) = self { Int(text) } else { nil } }

    public static func integer(_ value: Int) -> JSONValue { .number(String(value)) }

    // MARK: writing

    /// On one line, without spaces.
    public var encoded: String {
        var out: [UInt8] = []
        write(into: &out)
        return String(decoding: out, as: UTF8.self)
    }

    private func write(into out: inout [UInt8]) {
        switch self {
        case .null: out += Array("null".utf8)
        case .boolean(let flag): out += Array((flag ? "true" : "false").utf8)
        case .number(let text): out += Array(text.utf8)
        case .string(let text): Self.write(text, into: &out)
        case .array(let items):
            out.append(UInt8(ascii: "["))
            for (index, item) in items.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                item.write(into: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let members):
            out.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                Self.write(member.name, into: &out)
                out.append(UInt8(ascii: ":"))
                member.value.write(into: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }

    private static func write(_ text: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), byte]
            case 0..<0x20: out += Array("\\u00".utf8) + Array(Hex.encode([byte]).utf8)
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral, ExpressibleByStringInterpolation
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .boolean(value) }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) { self = .object(elements.map { Member($0.0, $0.1) }) }
}

private struct JSONParser {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONValue.ParseError) -> JSONValue {
        skipSpace()
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw failure("something follows the value") }
        return value
    }

    private func failure(_ problem: String) -> JSONValue.ParseError { JSONValue.ParseError(offset: position, problem: problem) }
    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard current == byte else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(JSONValue.ParseError) -> JSONValue {
        guard depth <= JSONValue.depthLimit else { throw failure("nested deeper than \(JSONValue.depthLimit)") }
        switch current {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .boolean(true))
        case UInt8(ascii: "f"): return try word("false", .boolean(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case let byte? where byte == UInt8(ascii: "-") || (byte >= 0x30 && byte <= 0x39): return try number()
        default: throw failure("a value is expected")
        }
    }

    private mutating func word(_ text: String, _ value: JSONValue) throws(JSONValue.ParseError) -> JSONValue {
        for byte in text.utf8 {
            guard take(byte) else { throw failure("a value is expected") }
        }
        return value
    }

    private mutating func object(depth: Int) throws(JSONValue.ParseError) -> JSONValue {
        position += 1
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object([]) }
        while true {
            skipSpace()
            guard current == UInt8(ascii: "\"") else { throw failure("a name is expected") }
            let name = try string()
            // Which of two would count is a guess that has cost others their security.
            guard names.insert(name).inserted else { throw failure("the name \"\(name)\" stands twice") }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw failure("':' is expected") }
            skipSpace()
            members.append(JSONValue.Member(name, try value(depth: depth + 1)))
            skipSpace()
            if take(UInt8(ascii: "}")) { return .object(members) }
            guard take(UInt8(ascii: ",")) else { throw failure("',' or '}' is expected") }
        }
    }

    private mutating func array(depth: Int) throws(JSONValue.ParseError) -> JSONValue {
        position += 1
        var items: [JSONValue] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array([]) }
        while true {
            skipSpace()
            items.append(try value(depth: depth + 1))
            skipSpace()
            if take(UInt8(ascii: "]")) { return .array(items) }
            guard take(UInt8(ascii: ",")) else { throw failure("',' or ']' is expected") }
        }
    }

    private mutating func digits() -> Int {
        let start = position
        while let byte = current, byte >= 0x30, byte <= 0x39 { position += 1 }
        return position - start
    }

    private mutating func number() throws(JSONValue.ParseError) -> JSONValue {
        let start = position
        _ = take(UInt8(ascii: "-"))
        let leadingZero = current == 0x30
        let count = digits()
        guard count > 0, !leadingZero || count == 1 else { throw failure("not a number") }
        if take(UInt8(ascii: ".")) {
            guard digits() > 0 else { throw failure("not a number") }
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            _ = take(UInt8(ascii: "+")) || take(UInt8(ascii: "-"))
            guard digits() > 0 else { throw failure("not a number") }
        }
        return .number(String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func string() throws(JSONValue.ParseError) -> String {
        position += 1
        var out: [UInt8] = []
        while let byte = current {
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: out, as: UTF8.self) else { throw failure("not UTF-8") }
                return text
            case UInt8(ascii: "\\"): try escape(into: &out)
            case 0..<0x20: throw failure("a control character in a string")
            default: out.append(byte)
            }
        }
        throw failure("the string does not end")
    }

    private mutating func escape(into out: inout [UInt8]) throws(JSONValue.ParseError) {
        guard let byte = current else { throw failure("the string does not end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0c)
        case UInt8(ascii: "n"): out.append(0x0a)
        case UInt8(ascii: "r"): out.append(0x0d)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "u"):
            var code = UInt32(try hexUnit())
            if code >= 0xd800, code < 0xdc00 {
                guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw failure("half of a surrogate pair") }
                let low = UInt32(try hexUnit())
                guard low >= 0xdc00, low < 0xe000 else { throw failure("half of a surrogate pair") }
                code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair") }
            out += Array(String(Character(scalar)).utf8)
        default: throw failure("an unknown escape")
        }
    }

    private mutating func hexUnit() throws(JSONValue.ParseError) -> UInt16 {
        guard position + 4 <= bytes.count, let pair = Hex.decode(String(decoding: bytes[position..<position + 4], as: UTF8.self)),
            pair.count == 2
        else { throw failure("four hexadecimal digits are expected") }
        position += 4
        return UInt16(pair[0]) << 8 | UInt16(pair[1])
    }
}
