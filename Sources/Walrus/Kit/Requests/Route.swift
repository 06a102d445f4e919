import Domain

/// The operations that Walrus knows, and how a request names one: method, level (service, bucket, object) and sub-resource.
/// Source: Amazon S3 API reference, "Actions".
enum Route: Sendable, Equatable {
    case listBuckets
    case createBucket, deleteBucket, headBucket, listObjects, listObjectsV2, listObjectVersions, deleteObjects
    case getBucketLocation, getBucketACL, putBucketACL, getBucketVersioning, putBucketVersioning, listMultipartUploads
    case getObjectLockConfiguration, putObjectLockConfiguration
    case restoreObject, getObjectTorrent
    case getObjectRetention, putObjectRetention, getObjectLegalHold, putObjectLegalHold
    case getBucketTagging, putBucketTagging, deleteBucketTagging, getBucketPolicyStatus
    case getConfiguration(ConfigurationKind), putConfiguration(ConfigurationKind), deleteConfiguration(ConfigurationKind)
    /// Configurations that no bucket of ours has.
    case getForeign(ForeignConfiguration), putForeign(ForeignConfiguration), deleteForeign(ForeignConfiguration)
    case getObject, headObject, putObject, copyObject, deleteObject
    case getObjectACL, putObjectACL, getObjectTagging, putObjectTagging, deleteObjectTagging, getObjectAttributes
    case createMultipartUpload, uploadPart, uploadPartCopy, completeMultipartUpload, abortMultipartUpload, listParts

    /// As S3 calls it, for metrics and logs.
    var name: String {
        switch self {
        case .getObject: "GetObject"
        case .headObject: "HeadObject"
        case .putObject: "PutObject"
        case .getConfiguration(let kind): "Get" + kind.shape.name
        case .putConfiguration(let kind): "Put" + kind.shape.name
        case .deleteConfiguration(let kind): "Delete" + kind.shape.name
        case .getForeign: "GetForeignConfiguration"
        case .putForeign: "PutForeignConfiguration"
        case .deleteForeign: "DeleteForeignConfiguration"
        case .getBucketACL: "GetBucketAcl"
        case .putBucketACL: "PutBucketAcl"
        case .getObjectACL: "GetObjectAcl"
        case .putObjectACL: "PutObjectAcl"
        default:
            // Case names are S3's with a small first letter.
            String(describing: self).prefix(1).uppercased() + String(describing: self).dropFirst()
        }
    }

    /// Sub-resources that name an operation. Others in the query (`prefix`, `response-…`, signatures) are parameters.
    private static let bucketSubresources: [String] = [
        "accelerate", "acl", "analytics", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "lifecycle", "location",
        "logging",
        "metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
        "replication", "requestPayment", "session", "tagging", "uploads", "versioning", "versions", "website",
    ]
    private static let objectSubresources: [String] = [
        "acl", "attributes", "legal-hold", "renameObject", "restore", "retention", "select", "tagging", "torrent", "uploads",
    ]

    init(_ r: S3Request) throws(CloudError) {
        if r.target.key != nil {
            self = try Self.object(r)
        } else if r.target.bucket != nil {
            self = try Self.bucket(r)
        } else {
            guard r.method == "GET" else { throw S3Failure.methodNotAllowed() }
            self = .listBuckets
        }
    }

    private static func notImplemented(_ r: S3Request, _ what: String) -> CloudError {
        S3Failure.notImplemented("A header or query you provided implies functionality that is not implemented: \(r.method) \(what)")
    }

    private static func bucket(_ r: S3Request) throws(CloudError) -> Route {
        guard let sub = bucketSubresources.first(where: { r.query.has($0) }) else {
            switch r.method {
            case "GET": return r.query["list-type"] == "2" ? .listObjectsV2 : .listObjects
            case "HEAD": return .headBucket
            case "PUT": return .createBucket
            case "DELETE": return .deleteBucket
            case "POST": throw notImplemented(r, "form upload")
            case "OPTIONS": throw S3Failure.named("AccessForbidden", 403, "CORSResponse: CORS is not enabled for this bucket.")
            default: throw S3Failure.methodNotAllowed()
            }
        }
        switch (r.method, sub) {
        case ("GET", "location"): return .getBucketLocation
        case ("GET", "acl"): return .getBucketACL
        case ("PUT", "acl"): return .putBucketACL
        case ("GET", "versioning"): return .getBucketVersioning
        case ("PUT", "versioning"): return .putBucketVersioning
        case ("GET", "object-lock"): return .getObjectLockConfiguration
        case ("PUT", "object-lock"): return .putObjectLockConfiguration
        case ("GET", "versions"): return .listObjectVersions
        case ("GET", "uploads"): return .listMultipartUploads
        case ("GET", "tagging"): return .getBucketTagging
        case ("PUT", "tagging"): return .putBucketTagging
        case ("DELETE", "tagging"): return .deleteBucketTagging
        case ("POST", "delete"): return .deleteObjects
        case ("GET", "policyStatus"): return .getBucketPolicyStatus
        default: return try configuration(r, sub)
        }
    }

    private static func configuration(_ r: S3Request, _ sub: String) throws(CloudError) -> Route {
        if let kind = ConfigurationKind.bySubresource[sub] {
            switch r.method {
            case "GET": return .getConfiguration(kind)
            case "PUT": return .putConfiguration(kind)
            case "DELETE": return .deleteConfiguration(kind)
            default: throw S3Failure.methodNotAllowed()
            }
        }
        guard let kind = ForeignConfiguration(rawValue: sub) else { throw notImplemented(r, sub) }
        switch r.method {
        case "GET": return .getForeign(kind)
        case "PUT": return .putForeign(kind)
        case "DELETE": return .deleteForeign(kind)
        default: throw S3Failure.methodNotAllowed()
        }
    }

    private static func object(_ r: S3Request) throws(CloudError) -> Route {
        if r.query.has("uploadId") {
            switch r.method {
            case "GET": return .listParts
            case "PUT":
                guard r.query.has("partNumber") else { throw S3Failure.invalidArgument("Missing partNumber") }
                return r.header("x-amz-copy-source") == nil ? .uploadPart : .uploadPartCopy
            case "POST": return .completeMultipartUpload
            case "DELETE": return .abortMultipartUpload
            default: throw S3Failure.methodNotAllowed()
            }
        }
        guard let sub = objectSubresources.first(where: { r.query.has($0) }) else {
            switch r.method {
            case "GET": return .getObject
            case "HEAD": return .headObject
            case "PUT": return r.header("x-amz-copy-source") == nil ? .putObject : .copyObject
            case "DELETE": return .deleteObject
            case "OPTIONS": throw S3Failure.named("AccessForbidden", 403, "CORSResponse: CORS is not enabled for this bucket.")
            default: throw S3Failure.methodNotAllowed()
            }
        }
        switch (r.method, sub) {
        case ("GET", "acl"): return .getObjectACL
        case ("PUT", "acl"): return .putObjectACL
        case ("GET", "tagging"): return .getObjectTagging
        case ("PUT", "tagging"): return .putObjectTagging
        case ("DELETE", "tagging"): return .deleteObjectTagging
        case ("GET", "attributes"): return .getObjectAttributes
        case ("POST", "restore"): return .restoreObject
        case ("GET", "torrent"): return .getObjectTorrent
        case ("GET", "retention"): return .getObjectRetention
        case ("PUT", "retention"): return .putObjectRetention
        case ("GET", "legal-hold"): return .getObjectLegalHold
        case ("PUT", "legal-hold"): return .putObjectLegalHold
        case ("POST", "uploads"): return .createMultipartUpload
        default: throw notImplemented(r, sub)
        }
    }
}
