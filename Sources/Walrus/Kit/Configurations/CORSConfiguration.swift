import Domain
import Wire

/// Which pages of other origins may use a bucket. Source: S3 User Guide, "Using cross-origin resource sharing (CORS)"; the Fetch standard.
struct CORSConfiguration: Sendable, Equatable {
    struct Rule: Sendable, Equatable {
        var id: String?
        var origins: [String]
        var methods: [String]
        var headers: [String]
        var exposed: [String]
        var maxAgeSeconds: Int?
    }
    let rules: [Rule]

    /// Source: S3 API reference, PutBucketCors.
    static let ruleLimit = 100
    private static let methods = ["GET", "PUT", "HEAD", "POST", "DELETE"]

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "CORSConfiguration")
        var rules: [Rule] = []
        for element in root.children {
            guard element.name == "CORSRule" else { throw S3Failure.malformedXML("\(element.name) in a CORSConfiguration") }
            rules.append(try Self.rule(element))
        }
        guard !rules.isEmpty, rules.count <= Self.ruleLimit else { throw S3Failure.malformedXML("\(rules.count) rules") }
        self.rules = rules
    }

    private static func rule(_ element: XMLElement) throws(CloudError) -> Rule {
        func texts(_ name: String) -> [String] { element.all(name).map(\.text.trimmed) }
        let rule = Rule(
            id: element.first("ID")?.text, origins: texts("AllowedOrigin"), methods: texts("AllowedMethod"),
            headers: texts("AllowedHeader"),
            exposed: texts("ExposeHeader"),
            maxAgeSeconds: try element.first("MaxAgeSeconds").map { age throws(CloudError) in
                guard let n = Int(age.text.trimmed), n >= 0 else { throw S3Failure.malformedXML("MaxAgeSeconds") }
                return n
            })
        guard !rule.origins.isEmpty, !rule.methods.isEmpty, rule.id?.utf8.count ?? 0 <= 255 else {
            throw S3Failure.malformedXML("a CORSRule without AllowedOrigin or AllowedMethod, or with a long ID")
        }
        for method in rule.methods where !methods.contains(method) {
            throw S3Failure.invalidRequest("Found unsupported HTTP method in CORS config. Unsupported method is \(method)")
        }
        for origin in rule.origins where origin.filter({ $0 == "*" }).count > 1 {
            throw S3Failure.invalidRequest("AllowedOrigin \"\(origin)\" can not have more than one wildcard.")
        }
        for header in rule.headers where header.filter({ $0 == "*" }).count > 1 {
            throw S3Failure.invalidRequest("AllowedHeader \"\(header)\" can not have more than one wildcard.")
        }
        for header in rule.exposed where header.contains("*") {
            throw S3Failure.invalidRequest(
                "ExposeHeader \"\(header)\" contains wildcard. We currently do not support wildcard for ExposeHeader.")
        }
        return rule
    }

    var document: [UInt8] {
        S3Document.make("CORSConfiguration") { xml in
            for rule in rules {
                xml.open("CORSRule")
                if let id = rule.id { xml.element("ID", id) }
                for method in rule.methods { xml.element("AllowedMethod", method) }
                for origin in rule.origins { xml.element("AllowedOrigin", origin) }
                for header in rule.headers { xml.element("AllowedHeader", header) }
                if let age = rule.maxAgeSeconds { xml.element("MaxAgeSeconds", String(age)) }
                for header in rule.exposed { xml.element("ExposeHeader", header) }
                xml.close()
            }
        }
    }

    /// The first rule that covers a request.
    /// - Parameter headers: those that a preflight asks for.
    func match(origin: String, method: String, headers: [String]) -> (rule: Rule, pattern: String)? {
        for rule in rules where rule.methods.contains(method) {
            guard let pattern = rule.origins.first(where: { Self.matches($0, origin) }) else { continue }
            let covered = headers.allSatisfy { name in
                rule.headers.contains { Self.matches($0.lowercased(), name.lowercased()) }
            }
            if covered { return (rule, pattern) }
        }
        return nil
    }

    private static func matches(_ pattern: String, _ text: String) -> Bool {
        guard let star = pattern.firstIndex(of: "*") else { return pattern == text }
        let head = pattern[..<star]
        let tail = pattern[pattern.index(after: star)...]
        return text.utf8.count >= head.utf8.count + tail.utf8.count && text.hasPrefix(head) && text.hasSuffix(tail)
    }
}
