import Domain
import Signing

/// The policy of a POST form: until when, and which fields may say what.
/// Source: S3 API reference, "Creating a POST policy".
struct FormPolicy: Sendable {
    enum Condition: Sendable, Equatable {
        case equals(field: String, value: String)
        case startsWith(field: String, prefix: String)
    }
    let expiration: Timestamp
    let conditions: [Condition]
    /// All `content-length-range` conditions together.
    let sizes: ClosedRange<Int>

    private static func invalid(_ message: String) -> CloudError {
        S3Failure.named("InvalidPolicyDocument", 400, "Invalid Policy: \(message)")
    }

    /// - Throws: `InvalidPolicyDocument`.
    init(base64: String) throws(CloudError) {
        guard let bytes = Base64.decode(base64) else { throw Self.invalid("the policy is not Base64.") }
        let json: JSONValue
        do throws(JSONValue.ParseError) { json = try JSONValue(parsing: Self.unescapingDollars(bytes), maxBytes: 64 * 1024) } catch {
            throw Self.invalid("Invalid JSON: \(error.problem).")
        }
        guard let members = json.members else { throw Self.invalid("the policy is not an object.") }
        for member in members where member.name != "expiration" && member.name != "conditions" {
            throw Self.invalid("Unexpected: '\(member.name)'.")
        }
        guard let text = json["expiration"]?.text else { throw Self.invalid("Policy is missing expiration.") }
        guard let expiration = Timestamp(iso8601: text) else { throw Self.invalid("Invalid 'expiration' value: '\(text)'.") }
        guard let items = json["conditions"]?.items else { throw Self.invalid("Policy is missing conditions.") }
        self.expiration = expiration
        var conditions: [Condition] = []
        var (least, most) = (0, Int.max)
        for item in items {
            if let members = item.members {
                // All members count; a parser that looks at the last one only lets the others be anything.
                guard !members.isEmpty else { throw Self.invalid("Invalid Simple-Condition: a condition is empty.") }
                for member in members {
                    guard let value = member.value.text else {
                        throw Self.invalid("Invalid Simple-Condition: value of \(member.name) must be a string.")
                    }
                    conditions.append(.equals(field: member.name.lowercased(), value: value))
                }
                continue
            }
            guard let parts = item.items, parts.count == 3, let kind = parts[0].text?.lowercased() else {
                throw Self.invalid("a condition is an object or an array of three.")
            }
            if kind == "content-length-range" {
                guard let low = Self.number(parts[1]), let high = Self.number(parts[2]), low >= 0, high >= low else {
                    throw Self.invalid("Invalid content-length-range.")
                }
                (least, most) = (max(least, low), min(most, high))
                continue
            }
            guard let field = parts[1].text, field.hasPrefix("$"), field.utf8.count > 1, let value = parts[2].text else {
                throw Self.invalid("the second member of a condition is a field's name behind a dollar, the third a string.")
            }
            let name = field.dropFirst().lowercased()
            switch kind {
            case "eq": conditions.append(.equals(field: name, value: value))
            case "starts-with": conditions.append(.startsWith(field: name, prefix: value))
            default: throw Self.invalid("Unknown operation '\(kind)'.")
            }
        }
        guard least <= most else { throw Self.invalid("the content-length-ranges exclude each other.") }
        self.conditions = conditions
        sizes = least...most
    }

    /// S3's policies may write a dollar as `\$`, which JSON does not know.
    private static func unescapingDollars(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.contains(0x5c) else { return bytes }
        var out: [UInt8] = []
        var at = 0
        while at < bytes.count {
            if bytes[at] == 0x5c, at + 1 < bytes.count {
                if bytes[at + 1] != 0x24 { out.append(0x5c) }
                out.append(bytes[at + 1])
                at += 2
            } else {
                out.append(bytes[at])
                at += 1
            }
        }
        return out
    }

    private static func number(_ value: JSONValue) -> Int? { value.integer ?? value.text.flatMap { Int($0) } }

    /// The fields that no condition needs to name. Nor do checksums of the file need one: they can only refuse it.
    private static let exempt: Set<String> = ["x-amz-signature", "signature", "awsaccesskeyid", "policy", "file"]

    /// - Parameter fields: lower-case names, with the bucket and the key as they will be used; a name once.
    /// - Throws: `AccessDenied` with S3's words.
    func check(_ fields: [String: String], now: Timestamp) throws(CloudError) {
        func refuse(_ message: String) -> CloudError { S3Failure.named("AccessDenied", 403, "Invalid according to Policy: " + message) }
        guard now < expiration else { throw refuse("Policy expired.") }
        var named: Set<String> = []
        for condition in conditions {
            switch condition {
            case .equals(let field, let value):
                named.insert(field)
                guard fields[field] == value else { throw refuse("Policy Condition failed: [\"eq\", \"$\(field)\", \"\(value)\"]") }
            case .startsWith(let field, let prefix):
                named.insert(field)
                let value = fields[field] ?? ""
                // A list of types has to begin so in each of its members.
                let parts = field == "content-type" ? value.split(separator: ",").map { String($0).trimmed } : [value]
                guard prefix.isEmpty || (!parts.isEmpty && parts.allSatisfy { $0.hasBytePrefix(prefix) }) else {
                    throw refuse("Policy Condition failed: [\"starts-with\", \"$\(field)\", \"\(prefix)\"]")
                }
            }
        }
        let extra = fields.keys.filter {
            !named.contains($0) && !Self.exempt.contains($0) && !$0.hasPrefix("x-ignore-") && !$0.hasPrefix("x-amz-checksum-")
        }.sorted()
        if let first = extra.first { throw refuse("Extra input fields: \(first)") }
    }
}

extension String {
    /// By bytes: Swift's own comparison takes canonically equivalent texts for equal.
    func hasBytePrefix(_ other: String) -> Bool { utf8.starts(with: other.utf8) }
}
