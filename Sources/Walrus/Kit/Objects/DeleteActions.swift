import Daemon
import Database
import Domain
import Wire
import Workflow

/// DeleteObject and DeleteObjects.
extension WriteActions {
    func deleteObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        let key = try r.key()
        let version = try r.versionID()
        try Authorization.write(r.requester, bucket, key, version == nil ? "s3:DeleteObject" : "s3:DeleteObjectVersion")
        let condition = try DeleteCondition(
            etag: r.header("if-match"), size: r.header("x-amz-if-match-size"), lastModified: r.header("x-amz-if-match-last-modified-time"))
        let bypass = ObjectLockHeaders.mayBypass(r, bucket, key)
        let (now, plan, account) = (core.clock.now(), core.plan(bucket), try Self.ownerAccount(r, bucket))
        let origin = EventOrigin(r)
        let outcome = try await core.pool.transaction(isolation: .readCommitted) { t in
            let outcome = try ObjectStore.objectDelete(
                t, bucket: bucket.id, key: key, version: version, plan, account: account, now: now, bypass: bypass
            ) { try condition.check($0) }
            try NotificationStore.recordDelete(t, bucket, key, outcome, asked: version, origin)
            return outcome
        }
        var headers: [(String, String)] = []
        if outcome.isMarker { headers.append(("x-amz-delete-marker", "true")) }
        if let id = outcome.version { headers.append(("x-amz-version-id", id)) }
        return HTTPReply(status: 204, headers: headers)
    }

    /// What a delete asks of the object that is there.
    private struct DeleteCondition: Sendable {
        let etag: String?
        let size: Int?
        let lastModified: Timestamp?

        /// - Throws: `InvalidArgument` for what cannot be read: a condition is never left out.
        init(etag: String?, size: String?, lastModified: String?) throws(CloudError) {
            self.etag = etag
            self.size = try size.map { text throws(CloudError) in
                guard let n = Int(text.trimmed) else { throw S3Failure.invalidArgument("The size of the condition is not a number") }
                return n
            }
            self.lastModified = try lastModified.map { text throws(CloudError) in
                guard let time = Timestamp(httpDate: text.trimmed) ?? Timestamp(iso8601: text.trimmed) else {
                    throw S3Failure.invalidArgument("The time of the condition is not a date")
                }
                return time
            }
        }

        func check(_ present: PresentObject) throws(CloudError) {
            switch present {
            case .nothing: return
            case .object(let current):
                try Preconditions(ifMatch: etag).delete(
                    current: (current.etag, current.size, current.modified), size: size, lastModified: lastModified)
            case .marker(let marker):
                // A marker has a time, and neither an ETag nor a size.
                if let etag, etag.trimmed != "*" { throw S3Failure.preconditionFailed("If-Match") }
                if size != nil { throw S3Failure.preconditionFailed("x-amz-if-match-size") }
                if let lastModified, lastModified.seconds != marker.modified.seconds {
                    throw S3Failure.preconditionFailed("x-amz-if-match-last-modified-time")
                }
            }
        }
    }

    private struct Order: Sendable {
        let key: String
        let versionID, etag, size, lastModified: String?

        init(_ element: XMLElement) {
            key = element.first("Key")?.text ?? ""
            versionID = element.first("VersionId").flatMap { $0.text.isEmpty ? nil : $0.text }
            etag = element.first("ETag")?.text
            size = element.first("Size")?.text
            lastModified = element.first("LastModifiedTime")?.text
        }
    }

    private struct Admitted: Sendable {
        let index: Int
        let key: ObjectKey
        let version: String?
        let condition: DeleteCondition
        let bypass: Bool
        let plan: VersionPlan
    }

    private enum Answer: Sendable {
        case deleted(DeleteOutcome)
        case refused(CloudError)
    }

    /// Source: S3 API reference, DeleteObjects: at most 1,000 keys, an answer for each.
    func deleteObjects(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        if r.requester.known == nil { try Authorization.bucket(r.requester, bucket, "s3:DeleteObject", .write) }
        let body = try await r.document(limit: 2 << 20, needsDigest: true)
        let root = try S3Document.parse(body, root: "Delete", limits: XMLLimits(maxBytes: 2 << 20, maxElements: 8000))
        let orders = root.all("Object").map(Order.init)
        guard !orders.isEmpty, orders.count <= 1000, orders.allSatisfy({ !$0.key.isEmpty }) else {
            throw S3Failure.malformedXML("\(orders.count) objects")
        }
        let isQuiet = root.first("Quiet")?.text.trimmed == "true"

        var answers = [Answer](repeating: .refused(.bug("no answer")), count: orders.count)
        var admitted: [Admitted] = []
        for (index, order) in orders.enumerated() {
            do throws(CloudError) { admitted.append(try admit(order, index, r, bucket)) } catch { answers[index] = .refused(error) }
        }
        // Always in the same order, so that two of these do not wait for each other in a circle.
        let sorted = admitted.sorted { ($0.key, $0.index) < ($1.key, $1.index) }
        let (now, account) = (core.clock.now(), try Self.ownerAccount(r, bucket))
        let origin = EventOrigin(r)
        let done = try await core.pool.transaction(isolation: .readCommitted) { t in
            try sorted.map { item -> (Int, Answer) in
                do {
                    let outcome = try ObjectStore.objectDelete(
                        t, bucket: bucket.id, key: item.key, version: item.version, item.plan, account: account, now: now,
                        bypass: item.bypass
                    ) { try item.condition.check($0) }
                    try NotificationStore.recordDelete(t, bucket, item.key, outcome, asked: item.version, origin)
                    return (item.index, .deleted(outcome))
                } catch let error as CloudError {
                    // Refusals come before the first change of a key.
                    guard case .named(let code, _) = error.reason, ["PreconditionFailed", "AccessDenied"].contains(code) else {
                        throw error
                    }
                    return (item.index, .refused(error))
                }
            }
        }
        for (index, answer) in done { answers[index] = answer }
        let all = answers
        return S3Document.reply("DeleteResult", capacity: 256 + orders.count * 80) { xml in
            for (order, answer) in zip(orders, all) {
                switch answer {
                case .deleted(let outcome):
                    if !isQuiet { Self.write(&xml, order, outcome) }
                case .refused(let error):
                    xml.open("Error")
                    xml.element("Key", order.key)
                    if let version = order.versionID { xml.element("VersionId", version) }
                    xml.element("Code", S3ErrorCode.of(error).code)
                    xml.element("Message", error.message)
                    xml.close()
                }
            }
        }
    }

    private func admit(_ order: Order, _ index: Int, _ r: S3Request, _ bucket: BucketRecord) throws(CloudError) -> Admitted {
        let key = try ObjectKey(Array(order.key.utf8))
        var version: String?
        if let text = order.versionID {
            // Source: S3 API reference, DeleteObjects: an id that cannot be one is "no such version" here.
            do throws(CloudError) { version = try VersionID.parse(text) } catch { throw S3Failure.noSuchVersion() }
        }
        try Authorization.write(r.requester, bucket, key, version == nil ? "s3:DeleteObject" : "s3:DeleteObjectVersion")
        return Admitted(
            index: index, key: key, version: version,
            condition: try DeleteCondition(etag: order.etag, size: order.size, lastModified: order.lastModified),
            bypass: ObjectLockHeaders.mayBypass(r, bucket, key), plan: core.plan(bucket))
    }

    private static func write(_ xml: inout XMLWriter, _ order: Order, _ outcome: DeleteOutcome) {
        xml.open("Deleted")
        xml.element("Key", order.key)
        if let version = order.versionID { xml.element("VersionId", version) }
        if outcome.isMarker {
            xml.element("DeleteMarker", "true")
            if let version = outcome.version { xml.element("DeleteMarkerVersionId", version) }
        }
        xml.close()
    }
}
