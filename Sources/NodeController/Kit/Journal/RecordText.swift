import Domain
import Wire

/// The journal's text form of a `Value`: JSON of strings, arrays and objects, keys sorted, so that equal records are equal bytes and a
/// person can read a record with any tool. Not Wire's XML: a record must survive a change of API dates and element names.
enum RecordText {
    static func encode(_ value: Value) -> [UInt8] {
        var out: [UInt8] = []
        write(value, &out, indent: 0)
        out.append(0x0a)
        return out
    }

    private static func write(_ value: Value, _ out: inout [UInt8], indent: Int) {
        switch value {
        case .text(let text): quote(text, &out)
        case .list(let items):
            out.append(UInt8(ascii: "["))
            for (i, item) in items.enumerated() {
                if i > 0 { out += [0x2c, 0x20] }
                write(item, &out, indent: indent + 1)
            }
            out.append(UInt8(ascii: "]"))
        case .record(let fields):
            out.append(UInt8(ascii: "{"))
            for (i, key) in fields.keys.sorted().enumerated() {
                if i > 0 { out.append(0x2c) }
                out.append(0x0a)
                out += [UInt8](repeating: 0x20, count: (indent + 1) * 2)
                quote(key, &out)
                out += [0x3a, 0x20]
                write(fields[key] ?? .text(""), &out, indent: indent + 1)
            }
            out.append(UInt8(ascii: "}"))
        }
    }

    private static func quote(_ text: String, _ out: inout [UInt8]) {
        out.append(0x22)
        for b in text.utf8 {
            switch b {
            case 0x22, 0x5c: out += [0x5c, b]
            case 0x0a: out += [0x5c, 0x6e]
            case 0..<0x20: out += Array("\\u00".utf8) + Array(Hex.encode([b]).utf8)
            default: out.append(b)
            }
        }
        out.append(0x22)
    }

    /// - Throws: `.bug` with the place when the text is not what `encode` writes (white space apart).
    static func decode(_ bytes: [UInt8]) throws(CloudError) -> Value {
        var reader = Reader(bytes: bytes)
        let value = try reader.value(depth: 0)
        reader.blanks()
        guard reader.position == bytes.count else { throw reader.wrong("text after the record") }
        return value
    }

    private struct Reader {
        let bytes: [UInt8]
        var position = 0
        /// Our records are at most six deep.
        static let maxDepth = 32

        func wrong(_ what: String) -> CloudError { CloudError.bug("a journal record is damaged at byte \(position): \(what)") }
        mutating func blanks() {
            while position < bytes.count, [0x20, 0x0a, 0x0d, 0x09].contains(bytes[position]) { position += 1 }
        }
        mutating func take(_ byte: UInt8) -> Bool {
            blanks()
            guard position < bytes.count, bytes[position] == byte else { return false }
            position += 1
            return true
        }

        mutating func value(depth: Int) throws(CloudError) -> Value {
            guard depth < Self.maxDepth else { throw wrong("too deep") }
            blanks()
            guard position < bytes.count else { throw wrong("it ends too early") }
            switch bytes[position] {
            case 0x22: return .text(try string())
            case UInt8(ascii: "["):
                position += 1
                var items: [Value] = []
                if take(UInt8(ascii: "]")) { return .list([]) }
                repeat { items.append(try value(depth: depth + 1)) } while take(0x2c)
                guard take(UInt8(ascii: "]")) else { throw wrong("an open list") }
                return .list(items)
            case UInt8(ascii: "{"):
                position += 1
                var fields: [String: Value] = [:]
                if take(UInt8(ascii: "}")) { return .record([:]) }
                repeat {
                    blanks()
                    let key = try string()
                    guard take(0x3a) else { throw wrong("no colon") }
                    guard fields.updateValue(try value(depth: depth + 1), forKey: key) == nil else { throw wrong("a key twice") }
                } while take(0x2c)
                guard take(UInt8(ascii: "}")) else { throw wrong("an open record") }
                return .record(fields)
            default:
                // Numbers, true, false, null: nothing that we write, but programs of the system do.
                let start = position
                while position < bytes.count, ![0x2c, 0x5d, 0x7d, 0x20, 0x0a, 0x0d, 0x09].contains(bytes[position]) { position += 1 }
                let word = String(decoding: bytes[start..<position], as: UTF8.self)
                guard ["true", "false", "null"].contains(word) || Double(word) != nil else { throw wrong("not a value") }
                return .text(word)
            }
        }

        mutating func string() throws(CloudError) -> String {
            guard position < bytes.count, bytes[position] == 0x22 else { throw wrong("not a string") }
            position += 1
            var out: [UInt8] = []
            while position < bytes.count {
                let b = bytes[position]
                position += 1
                if b == 0x22 {
                    guard let text = String(validating: out, as: UTF8.self) else { throw wrong("not UTF-8") }
                    return text
                }
                guard b == 0x5c else {
                    out.append(b)
                    continue
                }
                guard position < bytes.count else { break }
                let e = bytes[position]
                position += 1
                switch e {
                case 0x22, 0x5c, 0x2f: out.append(e)
                case UInt8(ascii: "n"): out.append(0x0a)
                case UInt8(ascii: "t"): out.append(0x09)
                case UInt8(ascii: "r"): out.append(0x0d)
                case UInt8(ascii: "u"):
                    guard position + 4 <= bytes.count,
                        let code = UInt32(String(decoding: bytes[position..<(position + 4)], as: UTF8.self), radix: 16),
                        let scalar = Unicode.Scalar(code)
                    else { throw wrong("a wrong escape") }
                    position += 4
                    out += Array(String(Character(scalar)).utf8)
                default: throw wrong("a wrong escape")
                }
            }
            throw wrong("an open string")
        }
    }
}
