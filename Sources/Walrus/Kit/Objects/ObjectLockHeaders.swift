import Domain

/// `x-amz-object-lock-…` of requests that make objects. Source: S3 API reference, PutObject; S3 User Guide, "Object Lock considerations".
enum ObjectLockHeaders {
    private static let names = ["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold"]

    static func isGiven(_ r: S3Request) -> Bool { names.contains { r.header($0) != nil } }

    /// What protects the new version: what the headers say, else the bucket's default.
    /// - Throws: `InvalidRequest` for a bucket without Object Lock, `InvalidArgument`, `AccessDenied`.
    static func lock(_ r: S3Request, _ bucket: BucketRecord, _ key: ObjectKey) throws(CloudError) -> ObjectLock {
        guard isGiven(r) else { return bucket.lock?.retention(from: r.now) ?? ObjectLock() }
        guard let setting = bucket.lock else { throw S3Failure.invalidRequest("Bucket is missing Object Lock Configuration") }
        var lock = ObjectLock()
        switch (r.header(names[0]), r.header(names[1])) {
        case (nil, nil): lock = setting.retention(from: r.now) ?? lock
        case (let mode?, let until?):
            try Authorization.write(r.requester, bucket, key, "s3:PutObjectRetention")
            guard let known = ObjectLock.Mode(rawValue: mode) else { throw S3Failure.invalidArgument("Unknown wormMode directive.") }
            lock.mode = known
            lock.until = try future(until, now: r.now)
        default:
            throw S3Failure.invalidArgument("x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
        }
        if let hold = r.header(names[2]) {
            try Authorization.write(r.requester, bucket, key, "s3:PutObjectLegalHold")
            guard hold == "ON" || hold == "OFF" else { throw S3Failure.invalidArgument("Legal Hold must be either of 'ON' or 'OFF'") }
            lock.legalHold = hold == "ON"
        }
        return lock
    }

    /// - Throws: `InvalidArgument` for what is no date, or lies behind us.
    static func future(_ text: String, now: Timestamp) throws(CloudError) -> Timestamp {
        guard let time = Timestamp(iso8601: text.trimmed) else {
            throw S3Failure.invalidArgument("The retain until date must be provided in ISO 8601 format")
        }
        guard time > now else { throw S3Failure.invalidArgument("The retain until date must be in the future!") }
        return time
    }

    /// Whether the request asks to lift governance retention, and its sender may.
    static func mayBypass(_ r: S3Request, _ bucket: BucketRecord, _ key: ObjectKey) -> Bool {
        guard bucket.lock != nil, r.header("x-amz-bypass-governance-retention")?.lowercased() == "true" else { return false }
        do throws(CloudError) {
            try Authorization.write(r.requester, bucket, key, "s3:BypassGovernanceRetention")
            return true
        } catch { return false }
    }
}
