import Daemon
import Database
import Domain
import Logging
import Workflow

/// Posts what stands in the outbox to the addresses that the daemon's configuration gives for the ARNs. Takes no input.
///
/// At least once: a destination whose answer was lost hears of an event again, with the same `sequencer`. A destination that refuses is
/// asked again after 1, 2, 4, … seconds, five minutes at most, for a day; then the event is dropped, and counted.
struct NotificationDelivery: Sendable {
    let core: WalrusCore
    let client: any HTTPRequesting
    let dropped: Counter

    static let batch = 100
    /// How long a destination may be away. Too high: the outbox grows; too low: a weekend's repair loses events.
    static let patienceMilliseconds: Int64 = 86_400_000
    /// A destination that does not answer holds all others up for so long.
    static let timeoutMilliseconds = 5000

    func pass() async -> ReconcileReport {
        var report = ReconcileReport()
        do throws(CloudError) {
            let now = core.clock.now()
            let due = try await core.pool.read { try NotificationStore.due($0, now: now, limit: Self.batch) }
            report.examined = due.count
            // One that does not answer is not asked again in this pass.
            var silent: Set<String> = []
            for item in due {
                let isTaken = silent.contains(item.arn) ? false : await post(item)
                if isTaken { report.changed += 1 } else { silent.insert(item.arn) }
                try await settle(item, isTaken: isTaken)
            }
            report.again = due.count == Self.batch
        } catch {
            report.failures.append("notifications: \(error.message) \(error.context)")
        }
        return report
    }

    private func settle(_ item: NotificationStore.Pending, isTaken: Bool) async throws(CloudError) {
        let now = core.clock.now()
        let isOld = now.milliseconds - item.happened.milliseconds > Self.patienceMilliseconds
        let pause = min(Int64(1) << min(item.attempts, 9), 300)
        try await core.pool.transaction(isolation: .readCommitted) { t in
            if isTaken || isOld {
                try NotificationStore.delivered(t, item.id)
            } else {
                try NotificationStore.postpone(t, item.id, until: now.adding(seconds: pause))
            }
        }
        if isOld, !isTaken {
            dropped.increment()
            core.logger.warning("a notification was dropped", metadata: ["arn": "\(item.arn)", "bucket": "\(item.bucket)"])
        }
    }

    private func post(_ item: NotificationStore.Pending) async -> Bool {
        guard let url = core.webhooks[item.arn] else { return false }
        let request = HTTPClientRequest(
            "POST", url: url, headers: [("Content-Type", "application/json"), ("x-karri-arn", item.arn)],
            body: .bytes(Array(Self.body(item).encoded.utf8)), sink: .memory(limit: 64 << 10),
            timeoutMilliseconds: Self.timeoutMilliseconds)
        do throws(CloudError) {
            let response = try await client.execute(request)
            if !response.isSuccess { core.logger.info("a webhook refused", metadata: ["url": "\(url)", "status": "\(response.status)"]) }
            return response.isSuccess
        } catch {
            core.logger.info("a webhook does not answer", metadata: ["url": "\(url)", "error": "\(error.context)"])
            return false
        }
    }

    /// Source: S3 User Guide, "Event message structure".
    static func body(_ item: NotificationStore.Pending) -> JSONValue {
        func object(_ members: (String, JSONValue)...) -> JSONValue { .object(members.map { JSONValue.Member($0.0, $0.1) }) }
        var about: [JSONValue.Member] = [
            .init("key", .string(S3Encoding.url(item.event.key.bytes).replacing("%20", with: "+"))),
            .init("sequencer", .string(sequencer(item.id))),
        ]
        if !item.event.etag.isEmpty {
            about.append(.init("size", .integer(item.event.size)))
            about.append(.init("eTag", .string(item.event.etag)))
        }
        if let version = item.event.version { about.append(.init("versionId", .string(version))) }
        let record = object(
            ("eventVersion", .string("2.1")), ("eventSource", .string("aws:s3")), ("awsRegion", .string(item.region)),
            ("eventTime", .string(item.happened.iso8601)), ("eventName", .string(item.event.name)),
            ("userIdentity", object(("principalId", .string(item.principal)))),
            ("requestParameters", object(("sourceIPAddress", .string(item.address)))),
            ("responseElements", object(("x-amz-request-id", .string(item.request)), ("x-amz-id-2", .string("walrus")))),
            (
                "s3",
                object(
                    ("s3SchemaVersion", .string("1.0")), ("configurationId", .string(item.rule)),
                    (
                        "bucket",
                        object(
                            ("name", .string(item.bucket)), ("ownerIdentity", object(("principalId", .string(item.owner)))),
                            ("arn", .string("arn:aws:s3:::\(item.bucket)")))
                    ), ("object", .object(about)))
            ))
        return object(("Records", .array([record])))
    }

    /// Sixteen hexadecimal digits that grow with time.
    private static func sequencer(_ id: Int64) -> String {
        let digits = String(id, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 16 - digits.count)) + digits
    }
}
