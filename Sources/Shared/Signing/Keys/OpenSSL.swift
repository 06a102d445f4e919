import COpenSSL

/// The few idioms of OpenSSL that repeat: memory BIOs, DER in two calls, the error queue.
enum OpenSSL {
    /// Hands `text` to a reader as a BIO; the error queue is empty afterwards.
    static func reading(_ text: String, _ body: (OpaquePointer?) -> OpaquePointer?) -> OpaquePointer? {
        let bytes = Array(text.utf8)
        return bytes.withUnsafeBytes { buffer in
            let bio = BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count))
            defer {
                BIO_free(bio)
                ERR_clear_error()
            }
            return body(bio)
        }
    }

    /// What a writer writes into a BIO.
    static func text(_ body: (OpaquePointer?) -> Int32) -> String {
        let bio = BIO_new(BIO_s_mem())
        defer { BIO_free(bio) }
        precondition(body(bio) == 1, "OpenSSL could not write")
        var start: UnsafeMutablePointer<CChar>?
        let length = karri_bio_mem_data(bio, &start)
        return String(decoding: UnsafeRawBufferPointer(start: start, count: Int(length)), as: UTF8.self)
    }

    /// DER by an `i2d` function: it is asked for the length, then for the bytes.
    static func der(_ body: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32) -> [UInt8] {
        let length = Int(body(nil))
        guard length > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            var cursor = buffer.baseAddress
            count = Int(body(&cursor))
        }
    }

    /// The oldest error of this thread, for logs; empties the queue.
    static func lastError() -> String {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0 else { return "no reason given" }
        var buffer = [CChar](repeating: 0, count: 256)
        ERR_error_string_n(code, &buffer, buffer.count)
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// The text armour of keys and certificates (RFC 7468).
enum PEM {
    static func wrap(_ label: String, _ der: [UInt8], columns: Int) -> String {
        let text = Array(Base64.encode(der).utf8)
        var out = "-----BEGIN \(label)-----\n"
        var i = 0
        while i < text.count {
            out += String(decoding: text[i..<min(i + columns, text.count)], as: UTF8.self) + "\n"
            i += columns
        }
        return out + "-----END \(label)-----\n"
    }
}

/// ssh's wire types (RFC 4251 §5).
enum SSHWire {
    static func string(_ bytes: [UInt8]) -> [UInt8] {
        let n = UInt32(bytes.count)
        return [
            UInt8(truncatingIfNeeded: n >> 24), UInt8(truncatingIfNeeded: n >> 16), UInt8(truncatingIfNeeded: n >> 8),
            UInt8(truncatingIfNeeded: n),
        ] + bytes
    }

    /// A positive `mpint`: a zero byte goes in front when the highest bit is set.
    static func number(_ magnitude: [UInt8]) -> [UInt8] {
        let significant = Array(magnitude.drop { $0 == 0 })
        return string((significant.first ?? 0) >= 0x80 ? [0] + significant : significant)
    }

    /// Takes one string off the front.
    static func takeString(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        guard rest.count >= 4 else { return nil }
        let n = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        rest = rest.dropFirst(4)
        guard n <= rest.count else { return nil }
        defer { rest = rest.dropFirst(n) }
        return Array(rest.prefix(n))
    }
}
