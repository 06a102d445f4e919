import Daemon
import Database
import Domain
import Signing
import Wire
import Workflow

/// Put, copy and delete. An object is visible from the commit on, whole; before, nobody sees any of it.
struct WriteActions: Sendable {
    let core: WalrusCore

    /// Source: S3 User Guide, "Uploading objects": one PUT, and one copy, is at most 5 GiB.
    static let putLimit = 5 << 30

    /// The account that owns what this request writes.
    static func ownerAccount(_ r: S3Request, _ bucket: BucketRecord) throws(CloudError) -> String {
        try NewObjectRights.owner(r, bucket)
    }

    static func acl(_ core: WalrusCore, _ r: S3Request, _ bucket: BucketRecord, _ key: ObjectKey) async throws(CloudError)
        -> AccessControlList
    {
        try await NewObjectRights.acl(core, r, bucket, key)
    }

    func putObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        if r.query.has("versionId") { throw S3Failure.invalidArgument("This operation does not accept a version-id.") }
        let (bucket, current, marker) = try await core.object(r, withBytes: false)
        let key = try r.key()
        try Authorization.write(r.requester, bucket, key, "s3:PutObject", current: current)
        let conditions = r.preconditions
        // Once before the body, so that a refused PUT does not send it; the decision falls in the transaction.
        try conditions.write(current: current?.etag, key: key.text)
        let attributes = try ObjectHeaders.attributes(r)
        let acl = try await Self.acl(core, r, bucket, key)
        let lock = try ObjectLockHeaders.lock(r, bucket, key)
        let encryption = try EncryptionHeaders.new(r, bucket, core)
        let intake = try IntakePlan(r, limit: Self.putLimit, needsDigest: ObjectLockHeaders.isGiven(r))
        let room = try await core.quotas?.reserve(bucket.account, bytes: intake.length, objects: current == nil ? 1 : 0)
        let taken = try await core.intake.take(r, intake, encryption: encryption)
        room?.keep()

        let checksum = taken.checksum.map { StoredChecksum($0.algorithm, .fullObject, Base64.encode($0.value)) }
        var object = ObjectRecord(
            key: key, size: taken.size, etag: taken.md5, modified: core.clock.now(), account: try Self.ownerAccount(r, bucket), acl: acl,
            attributes: attributes, checksum: checksum, content: taken.content)
        object.lock = lock
        object.encryption = taken.encryption
        object.storedMD5 = taken.storedMD5
        let (stored, plan) = (object, core.plan(bucket))
        let (how, origin) = (r.form == nil ? "Put" : "Post", EventOrigin(r))
        var version: String?
        // What is to be new is mostly new: then the statement that makes it is the decision as well.
        let isNew = plan.seen == .off && current == nil && marker == nil && bucket.settings?.notification == nil
        var isMade = false
        if isNew { isMade = try await core.commitNew(stored, bucket: bucket.id) }
        if !isMade {
            version = try await core.commit(taken.content) { t in
                let version = try ObjectStore.objectPut(t, bucket: bucket.id, stored, plan) {
                    try conditions.write(current: $0?.etag, key: key.text)
                }
                try NotificationStore.recordCreated(t, bucket, how, stored, version, origin)
                return version
            }
        }
        var headers: [(String, String)] = [("ETag", "\"\(object.etag)\"")]
        if let version { headers.append(("x-amz-version-id", version)) }
        headers += encryption?.headers ?? []
        headers += bucket.expiration(object)
        if let checksum {
            headers.append((checksum.algorithm.header, checksum.value))
            headers.append(("x-amz-checksum-type", checksum.type.rawValue))
        }
        return HTTPReply(status: 200, headers: headers)
    }
}
