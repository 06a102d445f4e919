import Daemon
import Database
import Domain
import Logging
import Synchronization
import Workflow

/// One line of an access log. Source: S3 User Guide, "Amazon S3 server access log format".
enum AccessLogLine {
    static func make(
        _ http: HTTPRequest, bucket: BucketRecord, bucketOwner: String, requester: String?, operation: String, key: [UInt8]?,
        reply: HTTPReply,
        errorCode: String?, milliseconds: Int, at now: Timestamp
    ) -> String {
        let length = Self.length(reply)
        let authorization = http.headers.first("authorization")
        let isQuery = http.rawQuery?.contains("ignature=") == true
        let version =
            if let authorization { authorization.hasPrefix("AWS4") ? "SigV4" : "SigV2" } else if isQuery {
                http.rawQuery?.contains("X-Amz-Signature=") == true ? "SigV4" : "SigV2"
            } else { "-" }
        let fields: [String] = [
            bucketOwner, bucket.name, "[\(time(now))]", http.remoteAddress, requester ?? "-", http.id, operation,
            key.map { S3Encoding.url($0) } ?? "-", quoted("\(http.method) \(http.target) HTTP/1.1"), String(reply.status), errorCode ?? "-",
            length.map(String.init) ?? "-", "-", String(milliseconds), String(milliseconds), quoted(http.headers.first("referer")),
            quoted(http.headers.first("user-agent")), "-", "walrus", version, "-",
            authorization != nil ? "AuthHeader" : isQuery ? "QueryString" : "-", http.headers.first("host") ?? "-",
            http.isTLS ? "TLSv1.2" : "-", "-", "-",
        ]
        return fields.joined(separator: " ")
    }

    private static func length(_ reply: HTTPReply) -> Int? {
        switch reply.body {
        case .empty: nil
        case .bytes(let bytes): bytes.isEmpty ? nil : bytes.count
        case .file(_, _, let length): length
        case .stream(let length, _): length
        }
    }

    private static func quoted(_ text: String?) -> String {
        guard let text else { return "\"-\"" }
        // A quote or a line break in what the client sent must not make a field or a line of its own.
        return "\"" + S3Text.escapingQuotes(text) + "\""
    }

    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// `22/Nov/2026:18:20:01 +0000`
    private static func time(_ now: Timestamp) -> String {
        let text = Array(now.iso8601)
        let month = Int(String(text[5..<7])) ?? 1
        return "\(String(text[8..<10]))/\(months[month - 1])/\(String(text[0..<4])):\(String(text[11..<19])) +0000"
    }

    /// `REST.GET.OBJECT`, from the request.
    static func operation(_ method: String, _ target: S3Target, _ query: S3Query?, _ name: String) -> String {
        let sub = [
            "acl", "tagging", "versioning", "policy", "cors", "lifecycle", "logging", "notification", "website", "encryption",
            "uploads", "versions", "location", "object-lock", "retention", "legal-hold", "delete",
        ]
        .first { query?.has($0) == true }
        let resource =
            if let sub {
                ["delete": "MULTI_OBJECT_DELETE", "lifecycle": "LIFECYCLE", "uploads": "UPLOADS"][sub]
                    ?? sub.uppercased().replacing("-", with: "_")
            } else if query?.has("uploadId") == true {
                query?.has("partNumber") == true ? "PART" : "UPLOAD"
            } else if name == "CopyObject" {
                "COPY"
            } else {
                target.key == nil ? "BUCKET" : "OBJECT"
            }
        return name == "CopyObject" ? "REST.COPY.OBJECT" : "REST.\(method).\(resource)"
    }
}

enum S3Text {
    static func escapingQuotes(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "%22"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f: out += "?"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}

/// Lines that wait for their delivery, in memory: S3 promises its logs by best effort, and a durable write for each request would cost more
/// than the request. What waits is delivered at a graceful stop; a kill loses at most one period's lines.
final class AccessLogBuffer: Sendable {
    struct Batch: Sendable {
        var bucket: BucketRecord
        var logging: LoggingConfiguration
        var lines: [String]
    }
    /// Lines of one bucket. Too high: memory; too low: lines are lost between two deliveries (and counted).
    static let limit = 100_000
    private let waiting = Mutex<[Int64: Batch]>([:])
    private let lost = Atomic<Int>(0)
    var lostCount: Int { lost.load(ordering: .relaxed) }

    func add(_ bucket: BucketRecord, _ logging: LoggingConfiguration, _ line: String) {
        waiting.withLock { w in
            var batch = w.removeValue(forKey: bucket.id) ?? Batch(bucket: bucket, logging: logging, lines: [])
            batch.bucket = bucket
            batch.logging = logging
            if batch.lines.count < Self.limit { batch.lines.append(line) } else { lost.add(1, ordering: .relaxed) }
            w[bucket.id] = batch
        }
    }

    func take() -> [Batch] {
        waiting.withLock { w in
            let all = Array(w.values)
            w = [:]
            return all
        }
    }
}

/// Writes what waits as objects of the target buckets.
struct AccessLogDelivery: Sendable {
    let core: WalrusCore

    func pass() async -> ReconcileReport {
        var report = ReconcileReport()
        for batch in core.accessLog.take() {
            report.examined += 1
            do throws(CloudError) {
                try await deliver(batch)
                report.changed += 1
            } catch {
                // The next period's lines are tried anew; these are lost, as the log promises no more.
                core.logger.warning(
                    "an access log was not delivered", metadata: ["bucket": "\(batch.bucket.name)", "error": "\(error.message)"])
            }
        }
        return report
    }

    /// `prefix2026-11-22-18-20-01-<16 hexadecimal digits>`, or with the partitions before it.
    private func name(_ batch: AccessLogBuffer.Batch, _ now: Timestamp) -> String {
        let text = Array(now.iso8601)
        func piece(_ range: Range<Int>) -> String { String(text[range]) }
        let day = "\(piece(0..<4))-\(piece(5..<7))-\(piece(8..<10))"
        // By event time the clock in the name is midnight: the object holds what happened on that day.
        let clock =
            batch.logging.partitioned && batch.logging.byEventTime
            ? "00-00-00" : "\(piece(11..<13))-\(piece(14..<16))-\(piece(17..<19))"
        let unique = Hex.encode(core.random.bytes(8)).uppercased()
        var folder = batch.logging.targetPrefix
        if batch.logging.partitioned {
            folder +=
                "\(batch.bucket.account)/\(batch.bucket.region)/\(batch.bucket.name)/\(piece(0..<4))/\(piece(5..<7))/\(piece(8..<10))/"
        }
        return "\(folder)\(day)-\(clock)-\(unique)"
    }

    private func deliver(_ batch: AccessLogBuffer.Batch) async throws(CloudError) {
        guard let target = try await core.bucket(named: batch.logging.targetBucket), target.account == batch.bucket.account else {
            throw S3Failure.noSuchBucket(batch.logging.targetBucket)
        }
        let now = core.clock.now()
        let key = try ObjectKey(Array(name(batch, now).utf8))
        let bytes = Array((batch.lines.joined(separator: "\n") + "\n").utf8)
        let owner = try await core.owner(target.account).id
        let taken = try await core.intake.store(bytes, checksum: nil)
        var object = ObjectRecord(
            key: key, size: taken.size, etag: taken.md5, modified: now, account: target.account,
            acl: AccessControlList([.init(.canonicalUser(owner), .fullControl)]),
            attributes: ObjectAttributes(headers: [("content-type", "text/plain")]), checksum: nil, content: taken.content)
        object.storedMD5 = taken.storedMD5
        let (stored, plan) = (object, core.plan(target))
        try await core.commit(taken.content) { t in
            _ = try ObjectStore.objectPut(t, bucket: target.id, stored, plan) { _ in }
        }
    }
}
