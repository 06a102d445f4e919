import Domain

/// The policy of a bucket: the text as it was given, what it means, and whether it is public.
struct BucketPolicy: Sendable {
    let text: String
    let document: PolicyDocument
    let isPublic: Bool

    /// Source: S3 User Guide, "Bucket policies": at most 20 KB.
    static let limit = 20 * 1024

    private static func malformed(_ message: String, _ context: String = "") -> CloudError {
        S3Failure.named("MalformedPolicy", 400, message, context: context)
    }

    init(stored bytes: [UInt8]) throws(CloudError) {
        text = String(decoding: bytes, as: UTF8.self)
        document = try PolicyDocument(parsing: text, for: .resource, maxBytes: Self.limit)
        isPublic = Self.isPublic(document)
    }

    /// Reads and checks what a request brings.
    /// - Throws: `MalformedPolicy` (HTTP 400) in S3's words.
    init(_ bytes: [UInt8], bucket: String) throws(CloudError) {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Self.malformed("Policies must be valid JSON and the first byte must be '{'")
        }
        self.text = text
        guard text.utf8.first(where: { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }) == UInt8(ascii: "{") else {
            throw Self.malformed("Policies must be valid JSON and the first byte must be '{'")
        }
        do throws(CloudError) { document = try PolicyDocument(parsing: text, for: .resource, maxBytes: Self.limit) } catch {
            throw Self.inWords(error)
        }
        isPublic = Self.isPublic(document)
        try Self.check(document, bucket: bucket)
    }

    /// S3's sentence for the commonest mistakes, ours for the others.
    private static func inWords(_ error: CloudError) -> CloudError {
        let problem = error.message
        let sentence =
            if problem.utf8Contains("not valid JSON") {
                "This policy contains invalid Json"
            } else if problem.utf8Contains("Effect must be") {
                "Invalid effect"
            } else if problem.utf8Contains("Principal") {
                "Missing required field Principal"
            } else if problem.utf8Contains("Action") && problem.utf8Contains("must contain") {
                "Missing required field Action"
            } else if problem.utf8Contains("Resource") && problem.utf8Contains("must contain") {
                "Missing required field Resource"
            } else if problem.utf8Contains("Version") {
                "The policy must contain a valid version string"
            } else {
                problem
            }
        return malformed(sentence, problem)
    }

    private static func check(_ document: PolicyDocument, bucket: String) throws(CloudError) {
        for statement in document.statements {
            if let principals = statement.principals, principals.isInverted, statement.effect == .allow {
                throw malformed("Allow with NotPrincipal is not allowed.")
            }
            for id in statement.principals?.canonicalUsers ?? [] {
                guard id.utf8.count == 64, Hex.decode(id) != nil else { throw malformed("Invalid principal in policy", id) }
            }
            for action in statement.actions.patterns where action != "*" {
                guard action.lowercased().hasPrefix("s3:") else { throw malformed("Policy has invalid action", action) }
            }
            for resource in statement.resources.patterns {
                guard isOf(bucket, resource) else { throw malformed("Policy has invalid resource", resource) }
            }
        }
    }

    /// Whether a resource is the bucket or lies in it. Source: S3 answers `MalformedPolicy` for others.
    private static func isOf(_ bucket: String, _ resource: String) -> Bool {
        if resource == "*" { return true }
        let prefix = "arn:aws:s3:::"
        guard resource.hasPrefix(prefix) else { return false }
        let rest = resource.dropFirst(prefix.count)
        let name = rest.prefix { $0 != "/" }
        return name == bucket || PolicyWildcard.matches(String(name), bucket) || PolicyWildcard.matches(String(rest), bucket)
    }

    // MARK: public or not

    /// Keys that, compared with fixed values, keep a statement for somebody in particular. Source: S3 User Guide, "The meaning of public".
    private static let narrowing: Set<String> = [
        "aws:sourceip", "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:sourceaccount", "aws:userid",
        "aws:principalarn", "aws:principalaccount", "aws:principalorgid", "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:dataaccesspointarn", "s3:dataaccesspointaccount", "aws:username",
    ]

    /// A policy is public when one of its statements lets everybody in.
    static func isPublic(_ document: PolicyDocument) -> Bool {
        document.statements.contains { statement in
            guard statement.effect == .allow, let principals = statement.principals, principals.anyone, !principals.isInverted else {
                return false
            }
            return !statement.conditions.contains { condition in
                guard narrowing.contains(condition.key), condition.isPositiveComparison else { return false }
                if condition.key == "aws:sourceip" {
                    // Nearly the whole Internet is no restriction.
                    return condition.values.allSatisfy { value in
                        guard let slash = value.firstIndex(of: "/"), let bits = Int(value[value.index(after: slash)...]) else {
                            return true
                        }
                        return bits >= (value.utf8Contains(":") ? 32 : 8)
                    }
                }
                return condition.values.allSatisfy { !$0.utf8Contains("*") && !$0.utf8Contains("?") && !$0.utf8Contains("${") }
            }
        }
    }
}

extension PolicyDocument.Condition {
    /// Whether the operator asks for sameness: one that asks for a difference lets nearly everybody in, and so does one that holds when
    /// the key is missing.
    fileprivate var isPositiveComparison: Bool {
        ["StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike", "IpAddress", "NumericEquals"]
            .contains { PolicyTest.named($0) == test }
    }
}

extension PolicyTest {
    /// The test of this name, as a policy would have it.
    fileprivate static func named(_ name: String) -> PolicyTest? {
        let json = JSONValue.object([
            .init(
                "Statement",
                .object([
                    .init("Effect", .string("Allow")), .init("Action", .string("s3:*")), .init("Resource", .string("*")),
                    .init("Condition", .object([.init(name, .object([.init("aws:SourceIp", .string("10.0.0.0/8"))]))])),
                ]))
        ])
        return try? PolicyDocument(json).statements.first?.conditions.first?.test
    }
}

/// `*` and `?`, for the names of buckets.
enum PolicyWildcard {
    static func matches(_ pattern: String, _ text: String) -> Bool {
        let p = Array(pattern.utf8)
        let t = Array(text.utf8)
        var (i, j) = (0, 0)
        var star: (p: Int, t: Int)?
        while j < t.count {
            if i < p.count, p[i] == UInt8(ascii: "*") {
                star = (i, j)
                i += 1
            } else if i < p.count, p[i] == UInt8(ascii: "?") || p[i] == t[j] {
                i += 1
                j += 1
            } else if let last = star {
                star = (last.p, last.t + 1)
                (i, j) = (last.p + 1, last.t + 1)
            } else {
                return false
            }
        }
        return p[i...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
