import Domain

/// Who may do what. An identity's own policies must allow the action (account roots may do all), and the bucket or object must be the
/// account's own or open to it by ACL. Nothing else opens anything: other accounts and the anonymous are refused.
/// Source: S3 User Guide, "How Amazon S3 authorizes a request".
enum Authorization {
    typealias Permission = AccessControlList.Permission

    private static func arn(_ bucket: String, _ key: String? = nil) -> String {
        key.map { "arn:aws:s3:::\(bucket)/\($0)" } ?? "arn:aws:s3:::\(bucket)"
    }

    private static func identity(_ r: Requester, _ action: String, _ resource: String) throws(CloudError) {
        guard let known = r.known else { return }
        do throws(CloudError) { try known.allow(action, resource) } catch {
            throw S3Failure.accessDenied("\(known.arn) may not do \(action) on \(resource): \(error.context)")
        }
    }

    /// Actions of an account on itself (ListBuckets, CreateBucket).
    static func account(_ r: Requester, _ action: String, _ resource: String) throws(CloudError) -> KnownRequester {
        guard let known = r.known else { throw S3Failure.accessDenied("anonymous \(action)") }
        if !known.isSystem { try identity(r, action, resource) }
        return known
    }

    /// - Parameter permission: what another account needs by ACL; `nil`: the owner's account only.
    static func bucket(_ r: Requester, _ bucket: BucketRecord, _ action: String, _ permission: Permission?) throws(CloudError) {
        if r.isSystem { return }
        try identity(r, action, arn(bucket.name))
        if r.accountID == bucket.account { return }
        guard let permission, bucket.acl.allows(permission, caller: r.canonicalID) else {
            throw S3Failure.accessDenied("\(action) on \(bucket.name) of \(bucket.account)")
        }
    }

    /// Writing a key: the bucket's owner and those whom its ACL lets write.
    static func write(_ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, _ action: String) throws(CloudError) {
        if r.isSystem { return }
        try identity(r, action, arn(bucket.name, key.text))
        if r.accountID == bucket.account { return }
        guard bucket.acl.allows(.write, caller: r.canonicalID) else {
            throw S3Failure.accessDenied("\(action) on \(bucket.name)/\(key) of \(bucket.account)")
        }
    }

    /// Reading or administering an object: its owner and those whom its ACL allows. The bucket's owner has no right to the bytes of others'
    /// objects but by ACL, as in S3.
    static func object(
        _ r: Requester, _ bucket: BucketRecord, _ object: ObjectRecord, _ action: String, _ permission: Permission
    ) throws(CloudError) {
        if r.isSystem { return }
        try identity(r, action, arn(bucket.name, object.key.text))
        if r.accountID == object.account { return }
        guard object.acl.allows(permission, caller: r.canonicalID) else {
            throw S3Failure.accessDenied("\(action) on \(bucket.name)/\(object.key) of \(object.account)")
        }
    }

    /// What to say of an object that is not there: those who may not list the bucket must not learn that.
    static func missing(_ r: Requester, _ bucket: BucketRecord, _ key: ObjectKey, _ action: String) throws(CloudError) -> CloudError {
        try identity(r, action, arn(bucket.name, key.text))
        do throws(CloudError) { try Self.bucket(r, bucket, "s3:ListBucket", .read) } catch {
            return S3Failure.accessDenied("no list right")
        }
        return S3Failure.noSuchKey(key.text)
    }
}
