import Domain

/// What an XML document from outside may be. Each is checked before the tree is built.
public struct XMLLimits: Sendable {
    /// Too high: one request holds much memory; too low: RunInstances with 16 KiB of user data and a certificate does not fit.
    public var maxBytes: Int
    /// libxml2 stops at 256 itself; our readers recurse.
    public var maxDepth: Int
    public var maxElements: Int
    /// libxml2 2.9 compares each attribute with each other: 32,000 on one element take 8 s (`reference/soap.md` §6.3).
    public var maxAttributes: Int
    public var maxNamespaces: Int

    public init(
        maxBytes: Int = 262_144, maxDepth: Int = 64, maxElements: Int = 20_000, maxAttributes: Int = 64, maxNamespaces: Int = 32
    ) {
        self.maxBytes = maxBytes
        self.maxDepth = maxDepth
        self.maxElements = maxElements
        self.maxAttributes = maxAttributes
        self.maxNamespaces = maxNamespaces
    }

    /// Messages between daemons: a cluster's network or all its instances are larger than any client's request.
    public static let `internal` = XMLLimits(maxBytes: 16_777_216, maxElements: 1_000_000)
}

/// A linear look over the bytes before libxml2 sees them: refuses what must not reach the parser at all.
///
/// Markup declarations, comments and processing instructions (but the XML declaration at the very start) are refused, so is any
/// encoding but UTF-8 and ASCII, and a tag with too many attributes, whose duplicate check is quadratic inside libxml2.
enum XMLPrescan {
    static func check(_ bytes: [UInt8], _ limits: XMLLimits) throws(CloudError) {
        guard bytes.count <= limits.maxBytes else { throw CloudError(.requestTooLarge(limit: limits.maxBytes)) }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw refused("the document is not UTF-8") }
        var i = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
        let head = i
        var depth = 0
        var elements = 0
        while i < bytes.count {
            guard bytes[i] == 0x3c else {
                if bytes[i] == 0 { throw refused("a NUL byte") }
                i += 1
                continue
            }
            let next = i + 1 < bytes.count ? bytes[i + 1] : 0
            switch next {
            case 0x21:  // <!
                guard has(bytes, i, "<![CDATA[") else { throw refused("a comment or a declaration") }
                guard let end = find(bytes, i + 9, "]]>") else { throw refused("an open CDATA section") }
                i = end + 3
            case 0x3f:  // <?
                guard i == head, has(bytes, i, "<?xml"), i + 5 < bytes.count, isBlank(bytes[i + 5]), let end = find(bytes, i, "?>") else {
                    throw refused("a processing instruction")
                }
                if try declaresASCII(bytes[(i + 5)..<end]), bytes.contains(where: { $0 >= 0x80 }) { throw refused("what is not ASCII") }
                i = end + 2
            case 0x2f:  // </
                depth -= 1
                i += 2
            default:
                depth += 1
                elements += 1
                guard depth <= limits.maxDepth else { throw refused("more than \(limits.maxDepth) levels") }
                guard elements <= limits.maxElements else { throw refused("more than \(limits.maxElements) elements") }
                i = try tag(bytes, i + 1, limits, &depth)
            }
        }
    }

    /// From after `<` to after `>`; counts the quoted values.
    private static func tag(_ bytes: [UInt8], _ start: Int, _ limits: XMLLimits, _ depth: inout Int) throws(CloudError) -> Int {
        var i = start
        var values = 0
        while i < bytes.count {
            let c = bytes[i]
            switch c {
            case 0x22, 0x27:
                values += 1
                guard values <= limits.maxAttributes + limits.maxNamespaces else { throw refused("too many attributes") }
                i += 1
                while i < bytes.count, bytes[i] != c { i += 1 }
            case 0x3e:
                if bytes[i - 1] == 0x2f { depth -= 1 }
                return i + 1
            case 0x3c: throw refused("a tag in a tag")
            default: break
            }
            i += 1
        }
        throw refused("an open tag")
    }

    /// `encoding`, when it is named, must be UTF-8 or its part ASCII (the manifests of euca2ools): libxml2 is told UTF-8 and never looks.
    /// - Returns: whether it is ASCII.
    private static func declaresASCII(_ declaration: ArraySlice<UInt8>) throws(CloudError) -> Bool {
        let text = String(decoding: declaration, as: UTF8.self)
        guard let range = text.firstRange(of: "encoding") else { return false }
        var rest = text[range.upperBound...]
        func skip() { while let c = rest.utf8.first, isBlank(c) { rest = rest.dropFirst() } }
        skip()
        guard rest.first == "=" else { throw refused("a malformed declaration") }
        rest = rest.dropFirst()
        skip()
        guard let quote = rest.first, quote == "\"" || quote == "'", let end = rest.dropFirst().firstIndex(of: quote) else {
            throw refused("a malformed declaration")
        }
        let name = rest[rest.index(after: rest.startIndex)..<end].uppercased()
        switch name {
        case "UTF-8", "UTF8": return false
        case "ASCII", "US-ASCII": return true
        default: throw refused("the encoding \(Scalar.shown(name))")
        }
    }

    static func refused(_ what: String) -> CloudError {
        CloudError(.malformedRequest, "The XML document is not accepted: \(what).")
    }

    private static func isBlank(_ c: UInt8) -> Bool { c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09 }

    private static func has(_ bytes: [UInt8], _ at: Int, _ word: StaticString) -> Bool {
        let n = word.utf8CodeUnitCount
        guard at + n <= bytes.count else { return false }
        for k in 0..<n where bytes[at + k] != word.utf8Start[k] { return false }
        return true
    }

    private static func find(_ bytes: [UInt8], _ from: Int, _ word: StaticString) -> Int? {
        var i = from
        while i + word.utf8CodeUnitCount <= bytes.count {
            if has(bytes, i, word) { return i }
            i += 1
        }
        return nil
    }
}
