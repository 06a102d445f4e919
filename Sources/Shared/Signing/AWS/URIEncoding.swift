/// Percent-encoding as Amazon's signatures want it: `A-Za-z0-9-_.~` stay, all else is `%XX` in upper case (RFC 3986 §2.3).
enum URIEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    static func isUnreserved(_ c: UInt8) -> Bool {
        (c >= 0x61 && c <= 0x7a) || (c >= 0x41 && c <= 0x5a) || (c >= 0x30 && c <= 0x39) || c == 0x2d || c == 0x5f || c == 0x2e || c == 0x7e
    }

    static func encode(_ bytes: some Sequence<UInt8>, keepingSlash: Bool = false) -> String {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.underestimatedCount + 16)
        for c in bytes {
            if isUnreserved(c) || (keepingSlash && c == 0x2f) {
                out.append(c)
            } else {
                out.append(0x25)
                out.append(digits[Int(c >> 4)])
                out.append(digits[Int(c & 15)])
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    static func encode(_ text: some StringProtocol, keepingSlash: Bool = false) -> String { encode(text.utf8, keepingSlash: keepingSlash) }

    /// A `%` that two hexadecimal digits do not follow stays as it is. `+` is a space where `plusIsSpace` (queries and forms).
    static func decode(_ text: some StringProtocol, plusIsSpace: Bool) -> [UInt8] {
        let bytes = Array(text.utf8)
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var i = 0
        while i < bytes.count {
            let c = bytes[i]
            if c == 0x25, i + 2 < bytes.count, let high = nibble(bytes[i + 1]), let low = nibble(bytes[i + 2]) {
                out.append(high << 4 | low)
                i += 3
                continue
            }
            out.append(c == 0x2b && plusIsSpace ? 0x20 : c)
            i += 1
        }
        return out
    }

    private static func nibble(_ c: UInt8) -> UInt8? {
        switch c {
        case 0x30...0x39: c - 0x30
        case 0x41...0x46: c - 0x41 + 10
        case 0x61...0x66: c - 0x61 + 10
        default: nil
        }
    }

    /// The pairs of a query as bytes, in order; `a` alone is (`a`, empty).
    static func pairs(rawQuery: String) -> [(name: [UInt8], value: [UInt8])] {
        rawQuery.utf8.isEmpty
            ? []
            : rawQuery.utf8.split(separator: 0x26).map { part in
                let split = part.split(separator: 0x3d, maxSplits: 1, omittingEmptySubsequences: false)
                let name = decode(Substring(split[0]), plusIsSpace: true)
                return (name, split.count > 1 ? decode(Substring(split[1]), plusIsSpace: true) : [])
            }
    }
}

extension String {
    /// ASCII only: header names and host names; Unicode's lower case has no place in a protocol.
    var asciiLowercased: String {
        String(decoding: utf8.map { $0 >= 0x41 && $0 <= 0x5a ? $0 + 0x20 : $0 }, as: UTF8.self)
    }

    /// Spaces and tabs at both ends removed and runs of them made one space, as SigV4's canonical headers want.
    var collapsedSpaces: String {
        var out: [UInt8] = []
        var pending = false
        for c in utf8 {
            if c == 0x20 || c == 0x09 || c == 0x0d || c == 0x0a {
                pending = !out.isEmpty
            } else {
                if pending { out.append(0x20) }
                pending = false
                out.append(c)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}

/// Byte order, which is what every signature sorts by (Swift's String order is Unicode's).
func byteOrder(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }

/// Equality of bytes: Swift's `==` holds canonically equivalent texts for equal, XML and HTTP do not.
func sameBytes(_ a: some StringProtocol, _ b: some StringProtocol) -> Bool { a.utf8.elementsEqual(b.utf8) }
