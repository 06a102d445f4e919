import Daemon
import Database
import Domain
import Wire

/// A bucket's versioning.
struct VersioningActions: Sendable {
    let core: WalrusCore

    /// A bucket that was never versioned has no status.
    func getBucketVersioning(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:GetBucketVersioning", nil)
        return S3Document.reply("VersioningConfiguration") { xml in
            if let status = bucket.versioning.status { xml.element("Status", status) }
        }
    }

    /// - Throws: `MalformedXML`, `IllegalVersioningConfigurationException`; 409 `InvalidBucketState` when Object Lock needs the versions.
    func putBucketVersioning(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let bucket = try await core.bucket(r)
        try Authorization.bucket(r.requester, bucket, "s3:PutBucketVersioning", nil)
        let root = try S3Document.parse(try await r.document(limit: 64 * 1024), root: "VersioningConfiguration")
        if root.first("MfaDelete")?.text.trimmed == "Enabled" {
            throw S3Failure.notImplemented("A header you provided implies functionality that is not implemented: MFA delete")
        }
        let wanted: Versioning
        switch root.first("Status")?.text.trimmed {
        case "Enabled": wanted = .enabled
        case "Suspended": wanted = .suspended
        case nil:
            throw S3Failure.named(
                "IllegalVersioningConfigurationException", 400,
                "The Versioning element must be specified and its Status must be Enabled or Suspended")
        default: throw S3Failure.malformedXML("Status")
        }
        try await core.pool.transaction(isolation: .readCommitted) { t in
            guard try VersionStore.bucketSetVersioning(t, bucket.id, wanted) else {
                throw S3Failure.named(
                    "InvalidBucketState", 409,
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
            }
        }
        return HTTPReply(status: 200)
    }
}
