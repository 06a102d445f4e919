import Daemon
import Domain
import Wire
import Workflow

/// Buckets as web sites, at `<bucket>.<website_domain>`: anonymous GET and HEAD, index and error documents, redirects.
/// Source: S3 User Guide, "Hosting a static website using Amazon S3", "Website endpoints".
struct Website: Sendable {
    let core: WalrusCore

    /// The bucket that a website's host names; `nil`: it is no website's host.
    static func bucket(_ http: HTTPRequest, _ core: WalrusCore) -> String? {
        S3Target.bucket(ofHost: http.headers.first("host"), domain: core.websiteDomain)
    }

    func reply(_ http: HTTPRequest, bucket name: String, _ trace: RequestTrace) async -> HTTPReply {
        do throws(CloudError) { return try await answer(http, name, trace) } catch { return Self.page(error) }
    }

    private func answer(_ http: HTTPRequest, _ name: String, _ trace: RequestTrace) async throws(CloudError) -> HTTPReply {
        guard http.method == "GET" || http.method == "HEAD" else { throw S3Failure.methodNotAllowed() }
        guard let bucket = try await core.bucket(named: name) else { throw S3Failure.noSuchBucket(name) }
        trace.bucket = bucket
        guard let website = try bucket.loaded().website else {
            throw S3Failure.named("NoSuchWebsiteConfiguration", 404, "The specified bucket does not have a website configuration")
        }
        let path = try S3Target.decode(http.rawPath.dropFirst())
        guard let key = String(validating: path, as: UTF8.self) else { throw S3Failure.invalidURI() }
        switch website.answer {
        case .redirectAll(let host, let scheme):
            let query = http.rawQuery.map { "?" + $0 } ?? ""
            return redirect(301, "\(scheme ?? (http.isTLS ? "https" : "http"))://\(host)\(http.rawPath)\(query)")
        case .pages(let index, let errorKey, let rules):
            if let rule = WebsiteConfiguration.match(rules, key: key, error: nil) { return follow(rule, key, http) }
            return try await page(http, name, key, index: index, errorKey: errorKey, rules, trace)
        }
    }

    private func page(
        _ http: HTTPRequest, _ bucket: String, _ key: String, index: String, errorKey: String?,
        _ rules: [WebsiteConfiguration.RoutingRule], _ trace: RequestTrace
    ) async throws(CloudError) -> HTTPReply {
        let wanted = key.isEmpty || key.hasSuffix("/") ? key + index : key
        do throws(CloudError) {
            var reply = try await read(http, bucket, wanted, trace)
            // The object itself may say that it lives elsewhere.
            if let moved = reply.headers.first(where: { $0.0.lowercased() == "x-amz-website-redirect-location" })?.1 {
                return redirect(301, moved)
            }
            reply.headers.removeAll { $0.0.lowercased().hasPrefix("x-amz-meta-") }
            return reply
        } catch {
            let status = S3ErrorCode.of(error).status
            if status == 404, !key.isEmpty, !key.hasSuffix("/"), await exists(http, bucket, key + "/" + index, trace) {
                return redirect(302, "/" + S3Encoding.url(Array(key.utf8)) + "/")
            }
            if let rule = WebsiteConfiguration.match(rules, key: key, error: status) { return follow(rule, key, http) }
            guard let errorKey, (400..<500).contains(status) else { throw error }
            do throws(CloudError) {
                var reply = try await read(plain(http), bucket, errorKey, trace)
                reply.status = status
                return reply
            } catch { throw error }
        }
    }

    /// Without conditions and ranges, which are about another document.
    private func plain(_ http: HTTPRequest) -> HTTPRequest {
        HTTPRequest(
            id: http.id, method: http.method, target: http.rawPath, headers: HTTPHeaderList(), remoteAddress: http.remoteAddress,
            isTLS: http.isTLS)
    }

    private func read(_ http: HTTPRequest, _ bucket: String, _ key: String, _ trace: RequestTrace) async throws(CloudError) -> HTTPReply {
        let target = try S3Target(rawPath: "/\(bucket)/\(S3Encoding.url(Array(key.utf8)))", host: nil, domain: "")
        let (query, now) = (try S3Query(raw: nil), core.clock.now())
        let nobody = Requester(known: nil, signature: nil, facts: RequestFacts(http: http, query: query, now: now))
        let reply = try await ReadActions(core: core).read(
            S3Request(http: http, target: target, query: query, requester: nobody, now: now, trace: trace))
        // What says more than an error can (of delete markers) comes as a reply.
        if reply.status == 404 { throw S3Failure.noSuchKey(key) }
        return reply
    }

    private func exists(_ http: HTTPRequest, _ bucket: String, _ key: String, _ trace: RequestTrace) async -> Bool {
        let head = HTTPRequest(
            id: http.id, method: "HEAD", target: http.target, headers: HTTPHeaderList(), remoteAddress: http.remoteAddress,
            isTLS: http.isTLS)
        do throws(CloudError) {
            _ = try await read(head, bucket, key, trace)
            return true
        } catch { return false }
    }

    private func follow(_ rule: WebsiteConfiguration.RoutingRule, _ key: String, _ http: HTTPRequest) -> HTTPReply {
        let scheme = rule.redirect.scheme ?? (http.isTLS ? "https" : "http")
        let host = rule.redirect.host ?? http.headers.first("host") ?? ""
        let path = S3Encoding.url(Array(WebsiteConfiguration.target(rule, key: key).utf8))
        return redirect(rule.redirect.status, "\(scheme)://\(host)/\(path)")
    }

    private func redirect(_ status: Int, _ to: String) -> HTTPReply { HTTPReply(status: status, headers: [("Location", to)]) }

    /// Errors of web sites are pages for people.
    private static func page(_ error: CloudError) -> HTTPReply {
        let (code, status) = S3ErrorCode.of(error)
        var xml = XMLWriter(capacity: 512)
        xml.open("html")
        xml.open("head")
        xml.element("title", "\(status) \(code)")
        xml.close()
        xml.open("body")
        xml.element("h1", "\(status) \(code)")
        xml.open("ul")
        xml.element("li", "Code: \(code)")
        xml.element("li", "Message: \(S3ErrorMessage.of(error))")
        xml.close()
        xml.close()
        xml.close()
        return HTTPReply(
            status: status, headers: [("Content-Type", "text/html; charset=utf-8"), ("x-amz-error-code", code)], body: .bytes(xml.bytes))
    }
}
