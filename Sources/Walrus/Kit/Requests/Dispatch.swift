import Daemon
import Domain

/// Which action answers which route.
struct Dispatch: Sendable {
    let core: WalrusCore

    func perform(_ route: Route, _ r: S3Request) async throws(CloudError) -> HTTPReply {
        let buckets = BucketActions(core: core)
        let listing = ListActions(core: core)
        let reading = ReadActions(core: core)
        let writing = WriteActions(core: core)
        let describing = DescribeActions(core: core)
        let uploads = UploadActions(core: core)
        return switch route {
        case .listBuckets: try await buckets.listBuckets(r)
        case .createBucket: try await buckets.createBucket(r)
        case .deleteBucket: try await buckets.deleteBucket(r)
        case .headBucket: try await buckets.headBucket(r)
        case .getBucketLocation: try await buckets.getBucketLocation(r)
        case .getBucketACL: try await buckets.getBucketACL(r)
        case .putBucketACL: try await buckets.putBucketACL(r)
        case .getBucketVersioning: try await buckets.getBucketVersioning(r)
        case .getBucketTagging: try await buckets.getBucketTagging(r)
        case .putBucketTagging: try await buckets.putBucketTagging(r)
        case .deleteBucketTagging: try await buckets.deleteBucketTagging(r)
        case .getAbsentConfiguration(let name): try await buckets.getAbsentConfiguration(r, name)
        case .listObjects: try await listing.listObjects(r)
        case .listObjectsV2: try await listing.listObjectsV2(r)
        case .listObjectVersions: try await listing.listObjectVersions(r)
        case .listMultipartUploads: try await listing.listMultipartUploads(r)
        case .getObject, .headObject: try await reading.read(r)
        case .putObject: try await writing.putObject(r)
        case .copyObject: try await writing.copyObject(r)
        case .deleteObject: try await writing.deleteObject(r)
        case .deleteObjects: try await writing.deleteObjects(r)
        case .getObjectACL: try await describing.getObjectACL(r)
        case .putObjectACL: try await describing.putObjectACL(r)
        case .getObjectTagging: try await describing.getObjectTagging(r)
        case .putObjectTagging: try await describing.putObjectTagging(r)
        case .deleteObjectTagging: try await describing.deleteObjectTagging(r)
        case .getObjectAttributes: try await describing.getObjectAttributes(r)
        case .createMultipartUpload: try await uploads.createMultipartUpload(r)
        case .uploadPart: try await uploads.uploadPart(r)
        case .uploadPartCopy: try await uploads.uploadPartCopy(r)
        case .completeMultipartUpload: try await uploads.completeMultipartUpload(r)
        case .abortMultipartUpload: try await uploads.abortMultipartUpload(r)
        case .listParts: try await uploads.listParts(r)
        }
    }
}
