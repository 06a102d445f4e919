import Daemon
import Database
import Domain

/// Cross-origin requests of browsers: the answer to a preflight, and what is added to every answer that such a page gets.
/// Source: S3 API reference, "OPTIONS object"; the Fetch standard, "CORS protocol".
enum CORS {
    private static let vary = ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")

    /// `OPTIONS` on a bucket or an object: unsigned always.
    static func preflight(_ http: HTTPRequest, _ target: S3Target, _ core: WalrusCore) async throws(CloudError) -> HTTPReply {
        guard let origin = http.headers.first("origin") else {
            throw S3Failure.named("BadRequest", 400, "Insufficient information. Origin request header needed.")
        }
        guard let method = http.headers.first("access-control-request-method") else {
            throw S3Failure.named("BadRequest", 400, "Invalid Access-Control-Request-Method: null")
        }
        guard ["GET", "PUT", "HEAD", "POST", "DELETE"].contains(method) else {
            throw S3Failure.named("BadRequest", 400, "Invalid Access-Control-Request-Method: \(method)")
        }
        guard let name = target.bucket else { throw S3Failure.methodNotAllowed() }
        guard let bucket = try await core.bucket(named: name) else { throw S3Failure.noSuchBucket(name) }
        guard let configuration = try bucket.loaded().cors else {
            throw S3Failure.named("AccessForbidden", 403, "CORSResponse: CORS is not enabled for this bucket.")
        }
        let asked = (http.headers.first("access-control-request-headers") ?? "").split(separator: ",")
            .map { String($0).trimmed.lowercased() }.filter { !$0.isEmpty }
        guard let (rule, pattern) = configuration.match(origin: origin, method: method, headers: asked) else {
            throw S3Failure.named(
                "AccessForbidden", 403,
                "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request method / "
                    + "Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.")
        }
        var headers = common(rule, pattern, origin)
        if !asked.isEmpty { headers.append(("Access-Control-Allow-Headers", asked.joined(separator: ", "))) }
        return HTTPReply(status: 200, headers: headers)
    }

    /// What an answer to a page of another origin says beside its own headers; nothing when no rule covers it.
    static func headers(_ http: HTTPRequest, _ bucket: BucketRecord) -> [(String, String)] {
        guard let origin = http.headers.first("origin"), let configuration = bucket.settings?.cors else { return [] }
        // Some clients repeat the preflight's question; it is what the page is going to do then.
        let method = http.headers.first("access-control-request-method") ?? http.method
        guard let (rule, pattern) = configuration.match(origin: origin, method: method, headers: []) else { return [] }
        return common(rule, pattern, origin)
    }

    private static func common(_ rule: CORSConfiguration.Rule, _ pattern: String, _ origin: String) -> [(String, String)] {
        var headers: [(String, String)] = [("Access-Control-Allow-Origin", pattern == "*" ? "*" : origin)]
        headers.append(("Access-Control-Allow-Methods", rule.methods.joined(separator: ", ")))
        if !rule.exposed.isEmpty { headers.append(("Access-Control-Expose-Headers", rule.exposed.joined(separator: ", "))) }
        if let age = rule.maxAgeSeconds { headers.append(("Access-Control-Max-Age", String(age))) }
        if pattern != "*" { headers.append(("Access-Control-Allow-Credentials", "true")) }
        headers.append(vary)
        return headers
    }
}
