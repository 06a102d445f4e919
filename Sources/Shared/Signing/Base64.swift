/// Base64 (RFC 4648 §4).
public enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let values: [UInt8] = {
        var table = [UInt8](repeating: 0xff, count: 256)
        for (i, c) in alphabet.enumerated() { table[Int(c)] = UInt8(i) }
        return table
    }()

    /// With padding and without line breaks.
    public static func encode(_ bytes: some Collection<UInt8>) -> String {
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        var word: UInt32 = 0
        var held = 0
        for byte in bytes {
            word = word << 8 | UInt32(byte)
            held += 1
            if held == 3 {
                for shift in [18, 12, 6, 0] { out.append(alphabet[Int(word >> UInt32(shift)) & 63]) }
                word = 0
                held = 0
            }
        }
        if held > 0 {
            word <<= UInt32((3 - held) * 8)
            out.append(alphabet[Int(word >> 18) & 63])
            out.append(alphabet[Int(word >> 12) & 63])
            out.append(held == 2 ? alphabet[Int(word >> 6) & 63] : 0x3d)
            out.append(0x3d)
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// - Returns: `nil` for another letter, a wrong length or padding in the wrong place. White space is skipped (MIME and XML
    ///   signatures break lines) unless `strict`.
    public static func decode(_ text: some StringProtocol, strict: Bool = false) -> [UInt8]? {
        var out: [UInt8] = []
        out.reserveCapacity(text.utf8.count / 4 * 3)
        var word: UInt32 = 0
        var letters = 0
        var padding = 0
        for c in text.utf8 {
            if !strict, c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09 { continue }
            if c == 0x3d {
                padding += 1
                letters += 1
                guard padding <= 2 else { return nil }
                word <<= 6
            } else {
                let value = values[Int(c)]
                guard padding == 0, value != 0xff else { return nil }
                word = word << 6 | UInt32(value)
                letters += 1
            }
            if letters % 4 == 0 {
                out.append(UInt8(truncatingIfNeeded: word >> 16))
                if padding < 2 { out.append(UInt8(truncatingIfNeeded: word >> 8)) }
                if padding < 1 { out.append(UInt8(truncatingIfNeeded: word)) }
                word = 0
            }
        }
        return letters % 4 == 0 ? out : nil
    }
}
