import Daemon
import Domain
import Workflow

/// What happens to an answer before it goes out: headers for pages of other origins, and a line in the bucket's access log. Costs a look at
/// what the request has already fetched.
struct Aftermath: Sendable {
    let core: WalrusCore

    func finish(
        _ reply: inout HTTPReply, _ http: HTTPRequest, _ trace: RequestTrace, operation: String, refused: CloudError?, seconds: Double
    ) async {
        if http.method != "OPTIONS", http.headers.contains("origin"), let bucket = await bucket(http, trace) {
            reply.headers += CORS.headers(http, bucket)
        }
        guard let bucket = trace.bucket, let logging = bucket.settings?.logging else { return }
        let (target, query) = (try? target(http), try? S3Query(raw: http.rawQuery))
        let name = target.map { AccessLogLine.operation(http.method, $0, query, operation) } ?? operation
        let owner = try? await core.owner(bucket.account).id
        let known = trace.requester
        let line = AccessLogLine.make(
            http, bucket: bucket, bucketOwner: owner ?? "-", requester: known.map { $0.isRoot ? $0.canonicalID : $0.arn }, operation: name,
            key: target?.key, reply: reply, errorCode: refused.map { S3ErrorCode.of($0).code }, milliseconds: Int(seconds * 1000),
            at: core.clock.now())
        core.accessLog.add(bucket, logging, line)
    }

    private func target(_ http: HTTPRequest) throws(CloudError) -> S3Target {
        try S3Target(rawPath: http.rawPath, host: http.headers.first("host"), domain: core.domain)
    }

    /// A refusal may come before anything was looked at: the page shall be able to read it all the same.
    private func bucket(_ http: HTTPRequest, _ trace: RequestTrace) async -> BucketRecord? {
        if let bucket = trace.bucket { return bucket }
        do throws(CloudError) {
            guard let name = try target(http).bucket else { return nil }
            return try await core.bucket(named: name)
        } catch { return nil }
    }
}
