import Domain

/// The operations that Walrus knows, and how a request names one: method, level (service, bucket, object) and sub-resource.
/// Source: Amazon S3 API reference, "Actions".
enum Route: Sendable, Equatable {
    case listBuckets
    case createBucket, deleteBucket, headBucket, listObjects, listObjectsV2, listObjectVersions, deleteObjects
    case getBucketLocation, getBucketACL, putBucketACL, getBucketVersioning, listMultipartUploads
    case getBucketTagging, putBucketTagging, deleteBucketTagging
    /// A configuration that no bucket of ours has: what S3 answers then, by the name of the sub-resource.
    case getAbsentConfiguration(String)
    case getObject, headObject, putObject, copyObject, deleteObject
    case getObjectACL, putObjectACL, getObjectTagging, putObjectTagging, deleteObjectTagging, getObjectAttributes
    case createMultipartUpload, uploadPart, uploadPartCopy, completeMultipartUpload, abortMultipartUpload, listParts

    /// As S3 calls it, for metrics and logs.
    var name: String {
        switch self {
        case .getAbsentConfiguration: "GetBucketConfiguration"
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
        case ("GET", "versions"): return .listObjectVersions
        case ("GET", "uploads"): return .listMultipartUploads
        case ("GET", "tagging"): return .getBucketTagging
        case ("PUT", "tagging"): return .putBucketTagging
        case ("DELETE", "tagging"): return .deleteBucketTagging
        case ("POST", "delete"): return .deleteObjects
        case ("GET", _) where AbsentConfiguration.answers[sub] != nil: return .getAbsentConfiguration(sub)
        default: throw notImplemented(r, sub)
        }
    }

    private static func object(_ r: S3Request) throws(CloudError) -> Route {
        if let id = r.query["versionId"], id != "null" {
            throw S3Failure.named("NoSuchVersion", 404, "The specified version does not exist.")
        }
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
        case ("POST", "uploads"): return .createMultipartUpload
        default: throw notImplemented(r, sub)
        }
    }
}

/// Answers for configurations that our buckets never have: the truth about them, as S3 tells it.
enum AbsentConfiguration {
    enum Answer: Sendable {
        case error(String, String)
        /// A root element that says "nothing", and what stands in it.
        case document(String, element: (String, String)?)
    }

    static let answers: [String: Answer] = [
        "accelerate": .document("AccelerateConfiguration", element: nil),
        "cors": .error("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
        "encryption": .error(
            "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found"),
        "lifecycle": .error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
        "logging": .document("BucketLoggingStatus", element: nil),
        "notification": .document("NotificationConfiguration", element: nil),
        "object-lock": .error(
            "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket"),
        "ownershipControls": .error("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
        "policy": .error("NoSuchBucketPolicy", "The bucket policy does not exist"),
        "policyStatus": .error("NoSuchBucketPolicy", "The bucket policy does not exist"),
        "publicAccessBlock": .error("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
        "replication": .error("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
        "requestPayment": .document("RequestPaymentConfiguration", element: ("Payer", "BucketOwner")),
        "website": .error("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    ]
}
