import Daemon
import Database
import Domain
import Wire

/// Object Lock: a bucket's default, and the retention and legal hold of versions.
/// Source: S3 API reference, PutObjectLockConfiguration, PutObjectRetention, PutObjectLegalHold; S3 User Guide, "Locking objects".
struct LockActions: Sendable {
    let core: WalrusCore

    func getObjectLockConfiguration(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketObjectLockConfiguration", nil)
        guard let lock = bucket.lock else {
            throw S3Failure.named(
                "ObjectLockConfigurationNotFoundError", 404, "Object Lock configuration does not exist for this bucket")
        }
        return S3Document.reply("ObjectLockConfiguration") { xml in
            xml.element("ObjectLockEnabled", "Enabled")
            guard let mode = lock.mode else { return }
            xml.open("Rule")
            xml.open("DefaultRetention")
            xml.element("Mode", mode.rawValue)
            if let days = lock.days { xml.element("Days", String(days)) }
            if let years = lock.years { xml.element("Years", String(years)) }
            xml.close()
            xml.close()
        }
    }

    /// Switches Object Lock on (for good) and sets the default. - Throws: 409 `InvalidBucketState` unless versioning is enabled.
    func putObjectLockConfiguration(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:PutBucketObjectLockConfiguration", nil)
        let lock = try Self.configuration(try await r.document(limit: 64 * 1024))
        try await core.pool.transaction(isolation: .readCommitted) { t in
            guard try VersionStore.bucketSetLock(t, bucket.id, lock) else {
                throw S3Failure.named(
                    "InvalidBucketState", 409, "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
            }
        }
        return HTTPReply(status: 200)
    }

    /// - Throws: `MalformedXML`, `InvalidRetentionPeriod`.
    static func configuration(_ bytes: [UInt8]) throws(CloudError) -> BucketLock {
        let root = try S3Document.parse(bytes, root: "ObjectLockConfiguration")
        guard root.first("ObjectLockEnabled")?.text.trimmed == "Enabled" else { throw S3Failure.malformedXML("ObjectLockEnabled") }
        guard let rule = root.first("Rule") else { return BucketLock() }
        guard let retention = rule.first("DefaultRetention"),
            let mode = ObjectLock.Mode(rawValue: retention.first("Mode")?.text.trimmed ?? "")
        else { throw S3Failure.malformedXML("a Rule without DefaultRetention or Mode") }
        func number(_ name: String, limit: Int) throws(CloudError) -> Int? {
            guard let text = retention.first(name)?.text.trimmed else { return nil }
            guard let n = Int(text) else { throw S3Failure.malformedXML(name) }
            guard n > 0, n <= limit else {
                throw S3Failure.named(
                    "InvalidRetentionPeriod", 400, "Default retention period must be a positive integer value of at most \(limit)")
            }
            return n
        }
        // Source: S3 User Guide, "Object Lock": at most 36,500 days or 100 years.
        let (days, years) = (try number("Days", limit: 36_500), try number("Years", limit: 100))
        guard (days == nil) != (years == nil) else { throw S3Failure.malformedXML("one of Days and Years") }
        return BucketLock(mode: mode, days: days, years: years)
    }

    // MARK: retention and legal hold of a version

    private func found(
        _ r: S3Request, _ action: String
    ) async throws(CloudError) -> (bucket: BucketRecord, object: ObjectRecord, headers: [(String, String)]) {
        let (bucket, object) = try await DescribeActions(core: core).found(r, action, .fullControl)
        guard bucket.lock != nil else { throw S3Failure.invalidRequest("Bucket is missing Object Lock Configuration") }
        return (bucket, object, bucket.shown(object.version).map { [("x-amz-version-id", $0)] } ?? [])
    }

    private static var noLock: CloudError {
        S3Failure.named(
            "NoSuchObjectLockConfiguration", 404, "The specified object does not have a ObjectLock configuration")
    }

    func getObjectRetention(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (_, object, headers) = try await found(r, "s3:GetObjectRetention")
        guard let mode = object.lock.mode, let until = object.lock.until else { throw Self.noLock }
        var reply = S3Document.reply("Retention") { xml in
            xml.element("Mode", mode.rawValue)
            xml.element("RetainUntilDate", until.iso8601)
        }
        reply.headers += headers
        return reply
    }

    func getObjectLegalHold(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (_, object, headers) = try await found(r, "s3:GetObjectLegalHold")
        guard let hold = object.lock.legalHold else { throw Self.noLock }
        var reply = S3Document.reply("LegalHold") { $0.element("Status", hold ? "ON" : "OFF") }
        reply.headers += headers
        return reply
    }

    func putObjectRetention(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object, headers) = try await found(r, "s3:PutObjectRetention")
        let root = try S3Document.parse(try await r.document(limit: 64 * 1024), root: "Retention")
        let wanted = try Self.retention(root, now: r.now)
        let bypass = ObjectLockHeaders.mayBypass(r, bucket, object.key)
        let now = r.now
        try await change(bucket, object) { lock throws(CloudError) in
            try lock.checkChange(to: wanted, now: now, bypass: bypass)
            return ObjectLock(mode: wanted.mode, until: wanted.until, legalHold: lock.legalHold)
        }
        return HTTPReply(status: 200, headers: headers)
    }

    /// An empty `Retention` takes it away.
    private static func retention(_ root: XMLElement, now: Timestamp) throws(CloudError) -> ObjectLock {
        switch (root.first("Mode")?.text.trimmed, root.first("RetainUntilDate")?.text.trimmed) {
        case (nil, nil): return ObjectLock()
        case (let mode?, let until?):
            guard let known = ObjectLock.Mode(rawValue: mode), Timestamp(iso8601: until) != nil else {
                throw S3Failure.malformedXML("Mode or RetainUntilDate")
            }
            return ObjectLock(mode: known, until: try ObjectLockHeaders.future(until, now: now))
        default: throw S3Failure.malformedXML("Mode and RetainUntilDate belong together")
        }
    }

    func putObjectLegalHold(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object, headers) = try await found(r, "s3:PutObjectLegalHold")
        let root = try S3Document.parse(try await r.document(limit: 64 * 1024), root: "LegalHold")
        let status = root.first("Status")?.text.trimmed
        guard status == "ON" || status == "OFF" else { throw S3Failure.malformedXML("Status") }
        try await change(bucket, object) { lock throws(CloudError) in
            ObjectLock(mode: lock.mode, until: lock.until, legalHold: status == "ON")
        }
        return HTTPReply(status: 200, headers: headers)
    }

    /// Decided on the lock that the version has in the transaction.
    private func change(
        _ bucket: BucketRecord, _ object: ObjectRecord, _ body: @escaping @Sendable (ObjectLock) throws(CloudError) -> ObjectLock
    ) async throws(CloudError) {
        try await core.pool.transaction(isolation: .readCommitted) { t in
            try VersionStore.keyLock(t, bucket: bucket.id, key: object.key)
            guard let now = try VersionStore.versionLock(t, bucket: bucket.id, object) else { throw S3Failure.noSuchVersion() }
            guard try ObjectStore.objectSetLock(t, bucket: bucket.id, object, try body(now)) else { throw S3Failure.noSuchVersion() }
        }
    }
}
