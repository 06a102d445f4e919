import Domain
import Wire

/// Random messages of a shape, within its limits. Only what every wire can carry: no empty lists and no empty records (a Query
/// request has no form for them), no text that XML forbids.
struct RandomValues {
    var choices: SeededChoices

    init(seed: UInt64) { choices = SeededChoices(seed: seed) }

    mutating func record(_ shape: Shape, depth: Int = 0) -> Value {
        let members = shape.members.filter { $0.exists(in: nil) && !isEmptyRecord($0.type) }
        var fields: [String: Value] = [:]
        for member in members where member.required || choices.chance(depth > 3 ? 20 : 60) {
            fields[member.name] = value(member.type, member, depth: depth + 1)
        }
        if fields.isEmpty, let member = members.first { fields[member.name] = value(member.type, member, depth: depth + 1) }
        return .record(fields)
    }

    /// A choice of SOAP that is an element without content has no Query form.
    private func isEmptyRecord(_ type: MemberType) -> Bool {
        if case .record(let shape) = type { shape().members.isEmpty } else { false }
    }

    private mutating func value(_ type: MemberType, _ member: Member, depth: Int) -> Value {
        switch type {
        case .string:
            if !member.allowed.isEmpty { return .text(member.allowed[choices.below(member.allowed.count)]) }
            return .text(text(min: member.min ?? 0, max: Swift.min(member.max ?? 24, 24)))
        case .integer:
            let low = member.min ?? -1_000_000
            let high = Swift.max(member.max ?? 1_000_000, low)
            return .integer(low + choices.below(high - low + 1))
        case .double: return .double(Double(choices.below(1_000_000)) / 64)
        case .boolean: return .boolean(choices.chance(50))
        case .timestamp: return .timestamp(Timestamp(milliseconds: Int64(choices.below(4_000_000_000)) * 1000))
        case .blob:
            let n = Swift.min(member.max ?? 40, 40)
            return .blob((0..<choices.below(n + 1)).map { _ in UInt8(truncatingIfNeeded: choices.next()) })
        case .list(let element, _):
            var one = member
            one.min = nil
            one.max = nil
            let n = 1 + choices.below(Swift.max(1, Swift.min(member.max ?? 3, 3)))
            return .list((0..<Swift.max(n, member.min ?? 1)).map { _ in value(element, one, depth: depth + 1) })
        case .record(let shape): return record(shape(), depth: depth)
        }
    }

    private mutating func text(min: Int, max: Int) -> String {
        let pieces = [
            "a", "Z", "0", "&", "<", ">", "\"", "'", " ", "\n", "\r", "\t", "é", "e\u{301}", "漢", "😀", "%", "+", "=", "]]>", "\u{FFFD}",
        ]
        var out = ""
        let wanted = min + choices.below(max - min + 1)
        while out.unicodeScalars.count < wanted {
            let piece = pieces[choices.below(pieces.count)]
            if out.unicodeScalars.count + piece.unicodeScalars.count <= Swift.max(wanted, min) { out += piece }
        }
        return out
    }
}
