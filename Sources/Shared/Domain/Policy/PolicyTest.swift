/// A condition operator with its modifiers: `ForAnyValue:StringLikeIfExists`.
/// Source: IAM User Guide, "IAM JSON policy elements: Condition operators".
public struct PolicyTest: Sendable, Equatable {
    enum Comparison: Sendable, Equatable {
        case stringEquals, stringEqualsIgnoreCase, stringLike, numeric(Order), date(Order), boolean, binary, ipAddress, arnLike, null
    }
    enum Order: Sendable, Equatable { case equal, less, lessOrEqual, greater, greaterOrEqual }
    enum Quantifier: Sendable, Equatable { case single, any, all }

    let comparison: Comparison
    let isNegated: Bool
    let ifExists: Bool
    let quantifier: Quantifier

    /// `nil` for an operator that is not known: such a policy is refused, never half understood.
    init?(_ name: String) {
        var base = name[...]
        quantifier =
            if base.hasPrefix("ForAnyValue:") { .any } else if base.hasPrefix("ForAllValues:") { .all } else { .single }
        if let colon = base.firstIndex(of: ":") { base = base[base.index(after: colon)...] }
        ifExists = base.hasSuffix("IfExists")
        if ifExists { base = base.dropLast(8) }
        guard let (comparison, isNegated) = Self.table[String(base)], !(comparison == .null && ifExists) else { return nil }
        self.comparison = comparison
        self.isNegated = isNegated
    }

    private static let table: [String: (Comparison, Bool)] = [
        "StringEquals": (.stringEquals, false), "StringNotEquals": (.stringEquals, true),
        "StringEqualsIgnoreCase": (.stringEqualsIgnoreCase, false), "StringNotEqualsIgnoreCase": (.stringEqualsIgnoreCase, true),
        "StringLike": (.stringLike, false), "StringNotLike": (.stringLike, true),
        "NumericEquals": (.numeric(.equal), false), "NumericNotEquals": (.numeric(.equal), true),
        "NumericLessThan": (.numeric(.less), false), "NumericLessThanEquals": (.numeric(.lessOrEqual), false),
        "NumericGreaterThan": (.numeric(.greater), false), "NumericGreaterThanEquals": (.numeric(.greaterOrEqual), false),
        "DateEquals": (.date(.equal), false), "DateNotEquals": (.date(.equal), true),
        "DateLessThan": (.date(.less), false), "DateLessThanEquals": (.date(.lessOrEqual), false),
        "DateGreaterThan": (.date(.greater), false), "DateGreaterThanEquals": (.date(.greaterOrEqual), false),
        "Bool": (.boolean, false), "BinaryEquals": (.binary, false),
        "IpAddress": (.ipAddress, false), "NotIpAddress": (.ipAddress, true),
        "ArnEquals": (.arnLike, false), "ArnLike": (.arnLike, false), "ArnNotEquals": (.arnLike, true), "ArnNotLike": (.arnLike, true),
        "Null": (.null, false),
    ]

    /// Whether a policy may have this value; what has a variable in it is looked at later.
    func understands(_ value: String) -> Bool {
        if value.contains("${") { return true }
        switch comparison {
        case .numeric: return Self.number(value) != nil
        case .date: return Self.moment(value) != nil
        case .boolean, .null: return ["true", "false"].contains(value.asciiLowercased)
        case .ipAddress: return AddressRange(value) != nil
        case .binary: return Self.isBase64(value)
        case .stringEquals, .stringEqualsIgnoreCase, .stringLike, .arnLike: return true
        }
    }

    /// - Parameter variables: `nil` when the document's version has none.
    func holds(_ values: [String], _ actual: [String], variables: PolicyContext?) -> Bool {
        if comparison == .null {
            // {"Null": {"key": "true"}}: the key must be missing.
            return values.contains { ($0.asciiLowercased == "true") == actual.isEmpty }
        }
        if actual.isEmpty {
            // A key that is not there differs from everything, but equals nothing. Source: the operators' page.
            switch quantifier {
            case .all: return true
            case .any: return ifExists
            case .single: return ifExists || isNegated
            }
        }
        func one(_ actual: String) -> Bool { values.contains { matches($0, actual, variables) } != isNegated }
        switch quantifier {
        case .all: return actual.allSatisfy(one)
        // Negated over several values without a quantifier: none of them may match.
        case .single: return isNegated ? actual.allSatisfy(one) : actual.contains(where: one)
        case .any: return actual.contains(where: one)
        }
    }

    private func matches(_ value: String, _ actual: String, _ variables: PolicyContext?) -> Bool {
        let pattern: PolicyPattern
        if let variables {
            guard let made = PolicyPattern(value, variables: variables) else { return false }
            pattern = made
        } else {
            pattern = PolicyPattern(value)
        }
        switch comparison {
        case .stringLike: return pattern.matches(actual)
        case .arnLike: return Self.arnMatches(pattern, actual)
        default: break
        }
        // `*` and `?` are ordinary characters for the others.
        let text = pattern.text
        switch comparison {
        case .stringEquals, .binary: return text == actual
        case .stringEqualsIgnoreCase: return text.lowercased() == actual.lowercased()
        case .boolean: return text.asciiLowercased == actual.asciiLowercased
        case .numeric(let order):
            guard let left = Self.number(actual), let right = Self.number(text) else { return false }
            return Self.compare(left, order, right)
        case .date(let order):
            guard let left = Self.moment(actual), let right = Self.moment(text) else { return false }
            return Self.compare(left, order, right)
        case .ipAddress:
            guard let range = AddressRange(text), let address = AddressRange(actual) else { return false }
            return range.contains(address)
        case .stringLike, .arnLike, .null: return false
        }
    }

    private static func compare<T: Comparable>(_ left: T, _ order: Order, _ right: T) -> Bool {
        switch order {
        case .equal: left == right
        case .less: left < right
        case .lessOrEqual: left <= right
        case .greater: left > right
        case .greaterOrEqual: left >= right
        }
    }

    /// A decimal number; Swift would take `nan`, `inf` and hexadecimal too.
    private static func number(_ text: String) -> Double? {
        guard text.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || "+-.eE".utf8.contains($0) }) else { return nil }
        return Double(text)
    }

    private static func isBase64(_ text: String) -> Bool {
        let data = text.utf8.prefix { $0 != UInt8(ascii: "=") }
        let padding = text.utf8.count - data.count
        return text.utf8.count % 4 == 0 && padding <= 2 && text.utf8.suffix(padding).allSatisfy { $0 == UInt8(ascii: "=") }
            && data.allSatisfy { byte in
                let lower = byte.asciiLowercased
                return (lower >= 0x61 && lower <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte == 0x2b || byte == 0x2f
            }
    }

    /// ISO 8601, or seconds since 1970.
    private static func moment(_ text: String) -> Timestamp? {
        Timestamp(iso8601: text) ?? Int64(text).flatMap { abs($0) < 1 << 40 ? Timestamp(seconds: $0) : nil }
    }

    /// The six parts are compared one by one, so that a `*` does not reach over a colon; the last part takes the rest.
    private static func arnMatches(_ pattern: PolicyPattern, _ actual: String) -> Bool {
        let patterns = pattern.tokens.split(separator: .byte(UInt8(ascii: ":")), maxSplits: 5, omittingEmptySubsequences: false)
        let parts = actual.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        guard parts.count == 6 else { return false }
        if patterns.count != 6 { return pattern.tokens == [.many] }
        return zip(patterns, parts).allSatisfy { PolicyPattern(tokens: Array($0)).matches(String($1)) }
    }
}

extension PolicyPattern {
    init(tokens: [Token]) { self.tokens = tokens }

    /// As text, wildcards as their characters.
    var text: String {
        String(
            decoding: tokens.map { token -> UInt8 in
                switch token {
                case .byte(let byte): byte
                case .one: UInt8(ascii: "?")
                case .many: UInt8(ascii: "*")
                }
            }, as: UTF8.self)
    }
}

/// An IPv4 or IPv6 address with a prefix length, as the operators IpAddress and NotIpAddress have it.
struct AddressRange: Equatable {
    let bytes: [UInt8]
    let bits: Int

    init?(_ text: String) {
        let halves = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let bytes = Self.version4(halves[0]) ?? Self.version6(halves[0]) else { return nil }
        var bits = bytes.count * 8
        if halves.count == 2 {
            guard let number = Int(halves[1]), number >= 0, number <= bits, halves[1].utf8.allSatisfy({ $0 != UInt8(ascii: "+") }) else {
                return nil
            }
            bits = number
        }
        self.bytes = bytes
        self.bits = bits
    }

    func contains(_ other: AddressRange) -> Bool {
        guard bytes.count == other.bytes.count, other.bits >= bits else { return false }
        return (0..<bytes.count).allSatisfy { index in
            let kept = max(0, min(8, bits - index * 8))
            let mask = UInt8(truncatingIfNeeded: 0xff00 >> kept)
            return bytes[index] & mask == other.bytes[index] & mask
        }
    }

    private static func version4(_ text: Substring) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bytes: [UInt8] = []
        for part in parts {
            guard part.utf8.count <= 3, part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let byte = UInt8(part) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }

    private static func version6(_ text: Substring) -> [UInt8]? {
        func groups(_ text: Substring) -> [UInt8]? {
            if text.isEmpty { return [] }
            var bytes: [UInt8] = []
            for part in text.split(separator: ":", omittingEmptySubsequences: false) {
                guard (1...4).contains(part.utf8.count), let group = UInt16(part, radix: 16), part.first != "+" else { return nil }
                bytes += [UInt8(group >> 8), UInt8(group & 255)]
            }
            return bytes
        }
        guard let gap = text.firstRange(of: "::") else {
            let bytes = groups(text)
            return bytes?.count == 16 ? bytes : nil
        }
        guard let head = groups(text[..<gap.lowerBound]), let tail = groups(text[gap.upperBound...]), head.count + tail.count <= 14 else {
            return nil
        }
        return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }
}
