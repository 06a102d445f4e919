/// A small JSON reader for the definitions (RFC 8259): keeps the order of keys, refuses a key that comes twice, and knows lines,
/// which Foundation's does not; Foundation would also be the only reason to link 50 MB.
indirect enum JSON: Equatable {
    case object([Field])
    case array([JSON])
    case string(String)
    case number(String)
    case boolean(Bool)
    case null

    struct Field: Equatable {
        let key: String
        let value: JSON
    }

    struct Failure: Error, CustomStringConvertible {
        let line: Int
        let message: String
        var description: String { "line \(line): \(message)" }
    }

    init(parsing bytes: [UInt8]) throws(Failure) {
        var reader = Reader(bytes: bytes)
        self = try reader.value()
        reader.skipBlank()
        guard reader.at == bytes.count else { throw reader.failure("something stands after the value") }
    }

    subscript(_ key: String) -> JSON? {
        guard case .object(let fields) = self else { return nil }
        return fields.first { $0.key == key }?.value
    }
    var string: String? { if case .string(let s) = self { s } else { nil } }
    var boolean: Bool? { if case .boolean(let b) = self { b } else { nil } }
    var integer: Int? { if case .number(let n) = self { Int(n) } else { nil } }
    var array: [JSON]? { if case .array(let a) = self { a } else { nil } }
    var fields: [Field]? { if case .object(let f) = self { f } else { nil } }

    private struct Reader {
        let bytes: [UInt8]
        var at = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        func failure(_ message: String) -> Failure {
            Failure(line: 1 + bytes[..<min(at, bytes.count)].count { $0 == 0x0a }, message: message)
        }

        mutating func skipBlank() {
            while at < bytes.count, [0x20, 0x0a, 0x0d, 0x09].contains(bytes[at]) { at += 1 }
        }

        mutating func value() throws(Failure) -> JSON {
            skipBlank()
            guard at < bytes.count else { throw failure("a value is missing") }
            switch bytes[at] {
            case 0x7b: return try object()
            case 0x5b: return try array()
            case 0x22: return .string(try string())
            case 0x2d, 0x30...0x39: return number()
            default:
                for (word, value) in [("true", JSON.boolean(true)), ("false", .boolean(false)), ("null", .null)]
                where bytes[at...].starts(with: word.utf8) {
                    at += word.utf8.count
                    return value
                }
                throw failure("not a value")
            }
        }

        private mutating func object() throws(Failure) -> JSON {
            at += 1
            var fields: [Field] = []
            skipBlank()
            if take(0x7d) { return .object([]) }
            while true {
                skipBlank()
                guard at < bytes.count, bytes[at] == 0x22 else { throw failure("a key is missing") }
                let key = try string()
                guard !fields.contains(where: { $0.key == key }) else { throw failure("the key \"\(key)\" comes twice") }
                skipBlank()
                guard take(0x3a) else { throw failure("a colon is missing after \"\(key)\"") }
                fields.append(Field(key: key, value: try value()))
                skipBlank()
                if take(0x2c) { continue }
                if take(0x7d) { return .object(fields) }
                throw failure("a comma or } is missing")
            }
        }

        private mutating func array() throws(Failure) -> JSON {
            at += 1
            var items: [JSON] = []
            skipBlank()
            if take(0x5d) { return .array([]) }
            while true {
                items.append(try value())
                skipBlank()
                if take(0x2c) { continue }
                if take(0x5d) { return .array(items) }
                throw failure("a comma or ] is missing")
            }
        }

        private mutating func number() -> JSON {
            let start = at
            while at < bytes.count, bytes[at] == 0x2b || (0x2d...0x39).contains(bytes[at]) || bytes[at] == 0x65 || bytes[at] == 0x45 {
                at += 1
            }
            return .number(String(decoding: bytes[start..<at], as: UTF8.self))
        }

        private mutating func take(_ c: UInt8) -> Bool {
            guard at < bytes.count, bytes[at] == c else { return false }
            at += 1
            return true
        }

        private mutating func string() throws(Failure) -> String {
            at += 1
            var out: [UInt8] = []
            while at < bytes.count, bytes[at] != 0x22 {
                guard bytes[at] >= 0x20 else { throw failure("a control character in a string") }
                guard bytes[at] == 0x5c else {
                    out.append(bytes[at])
                    at += 1
                    continue
                }
                at += 1
                guard at < bytes.count else { break }
                let c = bytes[at]
                at += 1
                switch c {
                case 0x22, 0x5c, 0x2f: out.append(c)
                case 0x62: out.append(0x08)
                case 0x66: out.append(0x0c)
                case 0x6e: out.append(0x0a)
                case 0x72: out.append(0x0d)
                case 0x74: out.append(0x09)
                case 0x75: out.append(contentsOf: try escapedScalar())
                default: throw failure("an unknown escape in a string")
                }
            }
            guard take(0x22) else { throw failure("an open string") }
            guard let text = String(validating: out, as: UTF8.self) else { throw failure("a string that is not UTF-8") }
            return text
        }

        private mutating func escapedScalar() throws(Failure) -> [UInt8] {
            var code = try hex4()
            if (0xd800..<0xdc00).contains(code), bytes[min(at, bytes.count)...].starts(with: [0x5c, 0x75]) {
                at += 2
                code = 0x10000 + (code - 0xd800) << 10 + (try hex4() &- 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw failure("an unpaired surrogate") }
            return Array(String(Character(scalar)).utf8)
        }

        private mutating func hex4() throws(Failure) -> UInt32 {
            guard at + 4 <= bytes.count, let n = UInt32(String(decoding: bytes[at..<(at + 4)], as: UTF8.self), radix: 16) else {
                throw failure("a malformed \\u")
            }
            at += 4
            return n
        }
    }
}
