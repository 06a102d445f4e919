import Domain

/// Standard base64 (RFC 4648 §4) for blobs. White space is skipped when reading, because SOAP clients wrap lines.
public enum BlobCoding {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let reverse: [UInt8] = {
        var table = [UInt8](repeating: 0xff, count: 256)
        for (i, c) in alphabet.enumerated() { table[Int(c)] = UInt8(i) }
        return table
    }()

    public static func encode(_ bytes: [UInt8]) -> String {
        let table = alphabet
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        var i = 0
        while i + 2 < bytes.count {
            let n = Int(bytes[i]) << 16 | Int(bytes[i + 1]) << 8 | Int(bytes[i + 2])
            out.append(table[n >> 18])
            out.append(table[n >> 12 & 63])
            out.append(table[n >> 6 & 63])
            out.append(table[n & 63])
            i += 3
        }
        if i + 1 == bytes.count {
            out += [table[Int(bytes[i]) >> 2], table[Int(bytes[i]) << 4 & 63], 0x3d, 0x3d]
        } else if i + 2 == bytes.count {
            let n = Int(bytes[i]) << 8 | Int(bytes[i + 1])
            out += [table[n >> 10], table[n >> 4 & 63], table[n << 2 & 63], 0x3d]
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// `nil` for everything but whole groups of four with at most two `=` at the end and no bits left over.
    public static func decode(_ text: String) -> [UInt8]? {
        let table = reverse
        var out: [UInt8] = []
        out.reserveCapacity(text.utf8.count / 4 * 3)
        var bits = 0
        var held = 0
        var padding = 0
        var count = 0
        for c in text.utf8 {
            switch c {
            case 0x20, 0x09, 0x0a, 0x0d: continue
            case 0x3d:
                padding += 1
                count += 1
                continue
            default: break
            }
            let v = table[Int(c)]
            guard v != 0xff, padding == 0 else { return nil }
            bits = (bits << 6 | Int(v)) & 0xffff
            held += 6
            count += 1
            if held >= 8 {
                held -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> held))
            }
        }
        guard count % 4 == 0, padding <= 2, held == padding * 2, bits & ((1 << held) - 1) == 0 else { return nil }
        return out
    }
}

/// Reads one scalar of a request into its canonical text and checks the definition's limits. One place for all wires.
enum Scalar {
    /// - Parameter where: the parameter as the caller wrote it (`Filter.1.Name`, `filterSet/item/name`), for messages.
    static func canonical(_ raw: String, _ type: MemberType, _ member: Member, at where: String) throws(CloudError) -> String {
        switch type {
        case .string:
            guard isXMLText(raw) else { throw invalid(`where`, "It has a character that XML cannot carry.") }
            try length(raw.unicodeScalars.count, member, "characters", at: `where`)
            if !member.allowed.isEmpty, !member.allowed.contains(where: { $0.utf8.elementsEqual(raw.utf8) }) {
                throw invalid(`where`, "Value (\(shown(raw))) is not one of: \(member.allowed.joined(separator: ", ")).")
            }
            return raw
        case .integer:
            guard let n = integer(trimmed(raw)) else { throw invalid(`where`, "Value (\(shown(raw))) is not an integer.") }
            if let min = member.min, n < min { throw invalid(`where`, "Value (\(n)) is less than \(min).") }
            if let max = member.max, n > max { throw invalid(`where`, "Value (\(n)) is greater than \(max).") }
            return String(n)
        case .double:
            guard let n = double(trimmed(raw)) else { throw invalid(`where`, "Value (\(shown(raw))) is not a number.") }
            if let min = member.min, n < Double(min) { throw invalid(`where`, "Value (\(n)) is less than \(min).") }
            if let max = member.max, n > Double(max) { throw invalid(`where`, "Value (\(n)) is greater than \(max).") }
            return String(n)
        case .boolean:
            switch trimmed(raw) {
            case "true", "True", "TRUE", "1": return "true"
            case "false", "False", "FALSE", "0": return "false"
            default: throw invalid(`where`, "Value (\(shown(raw))) is neither true nor false.")
            }
        case .timestamp:
            guard let t = Timestamp(iso8601: trimmed(raw)) else {
                throw invalid(`where`, "Value (\(shown(raw))) is not a time of the form 2026-01-31T23:59:59Z.")
            }
            return t.iso8601
        case .blob:
            guard let bytes = BlobCoding.decode(raw) else { throw invalid(`where`, "It is not base64.") }
            try length(bytes.count, member, "bytes", at: `where`)
            return BlobCoding.encode(bytes)
        case .list, .record:
            throw CloudError.bug("\(`where`) is no scalar")
        }
    }

    static func checkCount(_ count: Int, _ member: Member, at where: String) throws(CloudError) {
        try length(count, member, "items", at: `where`)
    }

    private static func length(_ n: Int, _ member: Member, _ unit: String, at where: String) throws(CloudError) {
        if let min = member.min, n < min { throw invalid(`where`, "It has \(n) \(unit), fewer than \(min).") }
        if let max = member.max, n > max { throw invalid(`where`, "It has \(n) \(unit), more than \(max).") }
    }

    static func invalid(_ where: String, _ why: String) -> CloudError {
        CloudError(.invalidParameter(`where`), "The value of the parameter \(`where`) is not valid. \(why)")
    }

    /// At most 64 characters of what the caller sent: a message is no place to give a megabyte back.
    static func shown(_ raw: String) -> String {
        let scalars = raw.unicodeScalars
        guard scalars.count > 64 else { return raw }
        return String(String.UnicodeScalarView(scalars.prefix(64))) + "…"
    }

    private static func trimmed(_ raw: String) -> String {
        var b = raw.utf8[...]
        func blank(_ c: UInt8) -> Bool { c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d }
        while let c = b.first, blank(c) { b = b.dropFirst() }
        while let c = b.last, blank(c) { b = b.dropLast() }
        return String(Substring(b))
    }

    private static func integer(_ text: String) -> Int? {
        guard text.utf8.count <= 20 else { return nil }
        return Int(text)
    }

    private static func double(_ text: String) -> Double? {
        guard !text.isEmpty, text.utf8.count <= 32,
            text.utf8.allSatisfy({
                switch $0 {
                case 0x30...0x39, 0x2b, 0x2d, 0x2e, 0x45, 0x65: true
                default: false
                }
            }),
            let n = Double(text), n.isFinite
        else { return nil }
        return n
    }

    /// XML 1.0 §2.2: tab, newline, return, and everything from space but the surrogates, U+FFFE and U+FFFF.
    static func isXMLText(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { s in
            switch s.value {
            case 0x9, 0xa, 0xd, 0x20...0xd7ff, 0xe000...0xfffd, 0x10000...0x10ffff: true
            default: false
            }
        }
    }
}
