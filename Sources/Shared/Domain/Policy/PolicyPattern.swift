/// A text with `*` and `?`, where what a variable stood for is taken literally (a user called `*` must not become a wildcard).
/// Source: IAM User Guide, "IAM policy elements: variables and tags".
struct PolicyPattern {
    enum Token: Equatable {
        case byte(UInt8)
        case one
        case many
    }
    let tokens: [Token]

    /// Without variables.
    init(_ text: String) {
        tokens = text.utf8.map(Self.token)
    }

    /// With `${name}` and `${name, 'default'}`; `${*}`, `${?}` and `${$}` are the characters themselves.
    /// `nil` when a variable has no value (or several): then nothing matches. Source: the same page.
    init?(_ text: String, variables: PolicyContext) {
        var tokens: [Token] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.first {
            if byte == UInt8(ascii: "$"), rest.dropFirst().first == UInt8(ascii: "{"), let end = rest.firstIndex(of: UInt8(ascii: "}")) {
                let name = String(decoding: rest[(rest.startIndex + 2)..<end], as: UTF8.self)
                guard let value = Self.value(of: name, variables) else { return nil }
                tokens += value.utf8.map { .byte($0) }
                rest = rest[(end + 1)...]
            } else {
                tokens.append(Self.token(byte))
                rest.removeFirst()
            }
        }
        self.tokens = tokens
    }

    private static func token(_ byte: UInt8) -> Token {
        switch byte {
        case UInt8(ascii: "*"): .many
        case UInt8(ascii: "?"): .one
        default: .byte(byte)
        }
    }

    private static func value(of name: String, _ variables: PolicyContext) -> String? {
        if ["*", "?", "$"].contains(name) { return name }
        let parts = name.split(separator: ",", maxSplits: 1).map { $0.trimmingSpaces }
        let values = variables[parts.first ?? ""]
        if values.count == 1 { return values[0] }
        guard values.isEmpty, parts.count == 2 else { return nil }
        let quoted = parts[1]
        guard quoted.count >= 2, quoted.hasPrefix("'"), quoted.hasSuffix("'") else { return nil }
        return String(quoted.dropFirst().dropLast())
    }

    /// In time proportional to the product of the lengths at worst (the newest `*` is the only one that is tried again).
    func matches(_ text: String, ignoringCase: Bool = false) -> Bool {
        let bytes = Array((ignoringCase ? text.asciiLowercased : text).utf8)
        var (t, b) = (0, 0)
        var star: (token: Int, byte: Int)?
        while b < bytes.count {
            if t < tokens.count, tokens[t] == .many {
                star = (t, b)
                t += 1
            } else if t < tokens.count, accepts(tokens[t], bytes[b], ignoringCase) {
                t += 1
                b += 1
            } else if let last = star {
                star = (last.token, last.byte + 1)
                (t, b) = (last.token + 1, last.byte + 1)
            } else {
                return false
            }
        }
        return tokens[t...].allSatisfy { $0 == .many }
    }

    /// The text itself; `nil` when there are wildcards.
    var isLiteral: Bool { tokens.allSatisfy { if case .byte = $0 { true } else { false } } }

    private func accepts(_ token: Token, _ byte: UInt8, _ ignoringCase: Bool) -> Bool {
        switch token {
        case .one: true
        case .many: false
        case .byte(let own): ignoringCase ? own.asciiLowercased == byte : own == byte
        }
    }
}

extension UInt8 {
    var asciiLowercased: UInt8 { self >= 0x41 && self <= 0x5a ? self + 0x20 : self }
}

extension String {
    var asciiLowercased: String { String(decoding: utf8.map(\.asciiLowercased), as: UTF8.self) }
}

extension Substring {
    var trimmingSpaces: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
