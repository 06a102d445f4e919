import Daemon
import Domain
import Wire

/// RestoreObject. A storage class is a label here: archived objects are on the same disks and are read like all others, so that a restored
/// copy is there before it is asked for.
struct RestoreActions: Sendable {
    let core: WalrusCore

    private static let archived = ["GLACIER", "DEEP_ARCHIVE"]

    /// Source: S3 API reference, RestoreObject: 200 when the object is restored already, 403 when its class knows no restore.
    func restoreObject(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (bucket, object) = try await DescribeActions(core: core).found(r, "s3:RestoreObject", .fullControl)
        let root = try S3Document.parse(try await r.document(limit: 64 * 1024), root: "RestoreRequest")
        if root.first("Type")?.text.trimmed == "SELECT" || root.first("SelectParameters") != nil {
            throw S3Failure.notImplemented("A header you provided implies functionality that is not implemented: restore with a selection")
        }
        guard let days = root.first("Days").map({ Int($0.text.trimmed) ?? 0 }), days > 0 else { throw S3Failure.malformedXML("Days") }
        guard Self.archived.contains(object.attributes.storageClass) else {
            throw S3Failure.named("InvalidObjectState", 403, "Restore is not allowed for the object's current storage class")
        }
        return HTTPReply(status: 200, headers: bucket.shown(object.version).map { [("x-amz-version-id", $0)] } ?? [])
    }

    /// Source: S3 API reference, GetObjectTorrent: an object that has no torrent.
    func getObjectTorrent(_ r: S3Request) async throws(CloudError) -> HTTPReply {
        let (_, object) = try await DescribeActions(core: core).found(r, "s3:GetObjectTorrent", .read)
        throw S3Failure.noSuchKey(object.key.text)
    }
}
