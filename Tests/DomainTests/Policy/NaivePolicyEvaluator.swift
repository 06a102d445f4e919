import Domain

/// A second evaluator, written from the rules and not from the first: it works on the JSON itself, expands everything, tries everything, and
/// is slow. What it says is what the evaluator of Domain must say.
enum NaivePolicyEvaluator {
    struct Question {
        var action: String
        var resource: String
        var account: String?
        var arn: String
        var context: [String: [String]]
    }

    enum Mark: Equatable {
        case anything, one
        case letter(Character)
    }

    static func decide(_ question: Question, _ policies: [JSONValue]) -> PolicyDecision {
        let effects = policies.flatMap { policy in
            statements(policy).filter { matches($0, question, hasVariables(policy)) }.map { $0["Effect"]?.text }
        }
        if effects.contains("Deny") { return .explicitlyDenied }
        return effects.contains("Allow") ? .allowed : .notMentioned
    }

    static func decide(_ question: Question, identity: [JSONValue], boundary: JSONValue?, session: [JSONValue]?) -> PolicyDecision {
        var verdicts = [decide(question, identity)]
        if let boundary { verdicts.append(decide(question, [boundary])) }
        if let session { verdicts.append(decide(question, session)) }
        if verdicts.contains(.explicitlyDenied) { return .explicitlyDenied }
        return verdicts.allSatisfy { $0 == .allowed } ? .allowed : .notMentioned
    }

    static func decide(
        _ question: Question, identity: [JSONValue], boundary: JSONValue?, session: [JSONValue]?, resource: JSONValue, isOwn: Bool
    ) -> PolicyDecision {
        let own = decide(question, identity: identity, boundary: boundary, session: session)
        let theirs = decide(question, [resource])
        if own == .explicitlyDenied || theirs == .explicitlyDenied { return .explicitlyDenied }
        if !isOwn { return own == .allowed && theirs == .allowed ? .allowed : .notMentioned }
        if own == .allowed { return .allowed }
        guard theirs == .allowed else { return .notMentioned }
        let isBounded =
            boundary.map { decide(question, [$0]) != .allowed } ?? false || session.map { decide(question, $0) != .allowed } ?? false
        if !isBounded { return .allowed }
        // By name only.
        let named = statements(resource).contains { statement in
            list(statement["Principal"]?["AWS"]).contains(question.arn) && statement["Effect"]?.text == "Allow"
                && matches(statement, question, hasVariables(resource))
        }
        return named ? .allowed : .notMentioned
    }

    private static func hasVariables(_ policy: JSONValue) -> Bool { policy["Version"]?.text == "2012-10-17" }
    private static func statements(_ policy: JSONValue) -> [JSONValue] { policy["Statement"]?.items ?? [policy["Statement"] ?? .null] }
    private static func list(_ value: JSONValue?) -> [String] { value?.items?.compactMap(\.text) ?? [value?.text].compactMap { $0 } }

    private static func matches(_ statement: JSONValue, _ question: Question, _ variables: Bool) -> Bool {
        let isDeny = statement["Effect"]?.text == "Deny"
        if let who = statement["Principal"], !names(who, question) { return false }
        if let who = statement["NotPrincipal"], names(who, question) { return false }

        let action = question.action.lowercased()
        if let some = statement["Action"] {
            guard list(some).contains(where: { like(marks($0.lowercased()), action) }) else { return false }
        } else if list(statement["NotAction"]).contains(where: { like(marks($0.lowercased()), action) }) {
            return false
        }

        func expand(_ text: String) -> [Mark]? { variables ? expanded(text, question.context) : marks(text) }
        if let some = statement["Resource"] {
            guard list(some).contains(where: { expand($0).map { like($0, question.resource) } ?? false }) else { return false }
        } else {
            let texts = list(statement["NotResource"])
            if texts.contains(where: { expand($0).map { like($0, question.resource) } ?? false }) { return false }
            // What cannot be known is kept from whom it would be given.
            if !isDeny, texts.contains(where: { expand($0) == nil }) { return false }
        }

        for test in statement["Condition"]?.members ?? [] {
            for key in test.value.members ?? [] {
                let actual = question.context[key.name.lowercased()] ?? []
                guard holds(test.name, list(key.value), actual, expand, isDeny) else { return false }
            }
        }
        return true
    }

    private static func names(_ who: JSONValue, _ question: Question) -> Bool {
        if who.text == "*" { return true }
        return list(who["AWS"]).contains { name in
            if name == "*" { return true }
            guard let account = question.account else { return false }
            return name == account || name == "arn:aws:iam::\(account):root" || name == question.arn
        }
    }

    private static func holds(
        _ test: String, _ values: [String], _ actual: [String], _ expand: (String) -> [Mark]?, _ isDeny: Bool
    ) -> Bool {
        var name = test
        var quantifier = ""
        for prefix in ["ForAnyValue:", "ForAllValues:"] where name.hasPrefix(prefix) {
            quantifier = prefix
            name = String(name.dropFirst(prefix.count))
        }
        let ifExists = name.hasSuffix("IfExists")
        if ifExists { name = String(name.dropLast(8)) }
        if name == "Null" { return values.contains(actual.isEmpty ? "true" : "false") }
        let isNegated = name.contains("Not")
        let positive = isNegated ? name.replacing("Not", with: "") : name
        if isNegated, values.contains(where: { expand($0) == nil }) { return isDeny }
        if actual.isEmpty {
            if quantifier == "ForAllValues:" { return true }
            return ifExists || (quantifier.isEmpty && isNegated)
        }
        func hit(_ one: String) -> Bool { values.contains { expand($0).map { compare(positive, $0, one) } ?? false } }
        switch (quantifier, isNegated) {
        case ("ForAllValues:", false): return !actual.contains { !hit($0) }
        case ("ForAllValues:", true), ("", true): return !actual.contains { hit($0) }
        case (_, true): return actual.contains { !hit($0) }
        default: return actual.contains { hit($0) }
        }
    }

    private static func compare(_ test: String, _ pattern: [Mark], _ actual: String) -> Bool {
        let plain = String(
            pattern.map { mark -> Character in
                switch mark {
                case .anything: "*"
                case .one: "?"
                case .letter(let letter): letter
                }
            })
        switch test {
        case "StringEquals", "BinaryEquals": return plain == actual
        case "StringEqualsIgnoreCase": return plain.lowercased() == actual.lowercased()
        case "StringLike": return like(pattern, actual)
        case "Bool": return plain.lowercased() == actual.lowercased()
        case "NumericEquals": return number(actual, plain) { $0 == $1 }
        case "NumericLessThan": return number(actual, plain) { $0 < $1 }
        case "NumericLessThanEquals": return number(actual, plain) { $0 <= $1 }
        case "NumericGreaterThan": return number(actual, plain) { $0 > $1 }
        case "NumericGreaterThanEquals": return number(actual, plain) { $0 >= $1 }
        // The cases have whole seconds of one zone: as texts they are in order.
        case "DateEquals": return date(actual).map { $0 == plain } ?? false
        case "DateLessThan": return date(actual).map { $0 < plain } ?? false
        case "DateLessThanEquals": return date(actual).map { $0 <= plain } ?? false
        case "DateGreaterThan": return date(actual).map { $0 > plain } ?? false
        case "DateGreaterThanEquals": return date(actual).map { $0 >= plain } ?? false
        case "IpAddress": return address(actual, in: plain)
        case "ArnEquals", "ArnLike": return arn(pattern, actual)
        default: return false
        }
    }

    private static func number(_ a: String, _ b: String, _ compare: (Int, Int) -> Bool) -> Bool {
        guard let a = Int(a), let b = Int(b) else { return false }
        return compare(a, b)
    }

    /// The numbers of the cases are seconds of 1969 and 1970, long before their dates.
    private static func date(_ text: String) -> String? {
        if Int(text) != nil { return "1970" }
        return text.contains("T") && text.hasSuffix("Z") ? text : nil
    }

    /// As texts of ones and zeros.
    private static func address(_ actual: String, in range: String) -> Bool {
        func bits(_ text: Substring) -> String {
            text.split(separator: ".").map { part in
                let digits = String(Int(part) ?? 0, radix: 2)
                return String(repeating: "0", count: 8 - digits.count) + digits
            }.joined()
        }
        let parts = range.split(separator: "/")
        let length = parts.count > 1 ? Int(parts[1]) ?? 32 : 32
        let bytes = actual.split(separator: ".").map { Int($0) }
        guard bytes.count == 4, !bytes.contains(nil) else { return false }
        return bits(actual[...]).prefix(length) == bits(parts[0]).prefix(length)
    }

    private static func arn(_ pattern: [Mark], _ actual: String) -> Bool {
        func parts<T: Equatable>(_ all: [T], _ colon: T) -> [[T]] {
            all.split(separator: colon, maxSplits: 5, omittingEmptySubsequences: false).map { Array($0) }
        }
        let wanted = parts(pattern, .letter(":"))
        let found = parts(Array(actual), ":")
        guard found.count == 6 else { return false }
        if pattern == [.anything] { return true }
        guard wanted.count == 6 else { return false }
        return (0..<6).allSatisfy { like(wanted[$0], String(found[$0])) }
    }

    static func marks(_ text: String) -> [Mark] { text.map { $0 == "*" ? .anything : $0 == "?" ? .one : .letter($0) } }

    private static func like(_ pattern: [Mark], _ text: String) -> Bool {
        func rest(_ p: ArraySlice<Mark>, _ t: Substring) -> Bool {
            guard let first = p.first else { return t.isEmpty }
            switch first {
            case .anything: return rest(p.dropFirst(), t) || (!t.isEmpty && rest(p, t.dropFirst()))
            case .one: return !t.isEmpty && rest(p.dropFirst(), t.dropFirst())
            case .letter(let letter): return t.first == letter && rest(p.dropFirst(), t.dropFirst())
            }
        }
        return rest(pattern[...], text[...])
    }

    /// `nil` when a variable has no value.
    private static func expanded(_ text: String, _ context: [String: [String]]) -> [Mark]? {
        guard let start = text.firstRange(of: "${") else { return marks(text) }
        let after = text[start.upperBound...]
        guard let end = after.firstIndex(of: "}") else { return marks(text) }
        let inside = String(after[..<end])
        let value: String
        if ["*", "?", "$"].contains(inside) {
            value = inside
        } else {
            let parts = inside.split(separator: ",", maxSplits: 1).map { $0.trimmingPrefix(while: { $0 == " " }) }
            let known = context[parts[0].lowercased()] ?? []
            if known.count == 1 {
                value = known[0]
            } else if known.isEmpty, parts.count == 2 {
                value = String(parts[1].dropFirst().dropLast())
            } else {
                return nil
            }
        }
        guard let rest = expanded(String(after[after.index(after: end)...]), context) else { return nil }
        return marks(String(text[..<start.lowerBound])) + value.map { .letter($0) } + rest
    }
}
