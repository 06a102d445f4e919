/// Writes XML as bytes, escaping as it goes: 0.8 MB in 2.4 ms, against 1.2 s of a library's encoder (`reference/swift.md` §6).
///
/// Names are trusted (they come from definitions), text is not: the five special characters and return are escaped, and a
/// character that XML 1.0 cannot carry becomes U+FFFD, so that no text of a user can make a reply that does not parse.
public struct XMLWriter: Sendable {
    public private(set) var bytes: [UInt8] = []
    private var open: [String] = []

    public init(capacity: Int = 4096) { bytes.reserveCapacity(capacity) }

    /// `<?xml version="1.0" encoding="UTF-8"?>` and a newline.
    public mutating func declaration() { raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") }

    public mutating func open(_ name: String, attributes: [(String, String)] = []) {
        bytes.append(0x3c)
        raw(name)
        for (key, value) in attributes {
            bytes.append(0x20)
            raw(key)
            raw("=\"")
            escape(value, inAttribute: true)
            bytes.append(0x22)
        }
        bytes.append(0x3e)
        open.append(name)
    }

    public mutating func text(_ text: String) { escape(text, inAttribute: false) }

    /// Closes the element that was opened last.
    public mutating func close() {
        guard let name = open.popLast() else { return }
        raw("</")
        raw(name)
        bytes.append(0x3e)
    }

    /// `<name>text</name>`; `<name/>` when the text is empty.
    public mutating func element(_ name: String, _ content: String, attributes: [(String, String)] = []) {
        if content.isEmpty { return empty(name, attributes: attributes) }
        open(name, attributes: attributes)
        text(content)
        close()
    }

    public mutating func empty(_ name: String, attributes: [(String, String)] = []) {
        open(name, attributes: attributes)
        _ = open.popLast()
        bytes[bytes.count - 1] = 0x2f
        bytes.append(0x3e)
    }

    /// Bytes that are XML already.
    public mutating func raw(_ xml: [UInt8]) { bytes.append(contentsOf: xml) }

    public mutating func raw(_ xml: String) { bytes.append(contentsOf: xml.utf8) }

    public var string: String { String(decoding: bytes, as: UTF8.self) }

    private mutating func escape(_ text: String, inAttribute: Bool) {
        var text = text
        text.withUTF8 { u in
            var start = 0
            var i = 0
            while i < u.count {
                let c = u[i]
                var width = 1
                let replacement: StaticString
                switch c {
                case 0x26: replacement = "&amp;"
                case 0x3c: replacement = "&lt;"
                case 0x3e: replacement = "&gt;"
                case 0x22: replacement = "&quot;"
                case 0x0d: replacement = "&#13;"
                case 0x09 where inAttribute: replacement = "&#9;"
                case 0x0a where inAttribute: replacement = "&#10;"
                case 0x09, 0x0a, 0x20...0xee:
                    i += 1
                    continue
                case 0xef where i + 2 < u.count && u[i + 1] == 0xbf && u[i + 2] >= 0xbe:  // U+FFFE, U+FFFF
                    replacement = "\u{FFFD}"
                    width = 3
                case 0..<0x20: replacement = "\u{FFFD}"
                default:
                    i += 1
                    continue
                }
                bytes.append(contentsOf: u[start..<i])
                bytes.append(contentsOf: UnsafeBufferPointer(start: replacement.utf8Start, count: replacement.utf8CodeUnitCount))
                i += width
                start = i
            }
            bytes.append(contentsOf: u[start...])
        }
    }
}
