import Domain

/// What a bucket can be configured with. The raw values stand in the database.
enum ConfigurationKind: String, Sendable, CaseIterable {
    case ownership, publicAccessBlock, policy, cors, lifecycle, logging, website, notification, requestPayment, encryption

    /// What the operations of one kind have of their own. Source: Amazon S3 API reference; for the names of actions the Service
    /// Authorization Reference, "Actions, resources, and condition keys for Amazon S3".
    struct Shape: Sendable {
        /// In the query.
        let subresource: String
        /// In the names of operations: `GetBucketCors`.
        let name: String
        let readAction: String
        let writeAction: String
        let deleteAction: String?
        let absent: Absent
        /// Status of a successful put.
        var putStatus = 200
        var limit = 64 * 1024
    }

    /// The answer when a bucket has none.
    enum Absent: Sendable {
        case error(String, String)
        /// A root element, and what stands in it.
        case document(String, element: (String, String)?)
    }

    var shape: Shape {
        switch self {
        case .ownership:
            Shape(
                subresource: "ownershipControls", name: "BucketOwnershipControls", readAction: "s3:GetBucketOwnershipControls",
                writeAction: "s3:PutBucketOwnershipControls", deleteAction: "s3:PutBucketOwnershipControls",
                absent: .error("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"))
        case .publicAccessBlock:
            Shape(
                subresource: "publicAccessBlock", name: "PublicAccessBlock", readAction: "s3:GetBucketPublicAccessBlock",
                writeAction: "s3:PutBucketPublicAccessBlock", deleteAction: "s3:PutBucketPublicAccessBlock",
                absent: .error("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"))
        case .policy:
            Shape(
                subresource: "policy", name: "BucketPolicy", readAction: "s3:GetBucketPolicy", writeAction: "s3:PutBucketPolicy",
                deleteAction: "s3:DeleteBucketPolicy", absent: .error("NoSuchBucketPolicy", "The bucket policy does not exist"),
                putStatus: 204, limit: BucketPolicy.limit)
        case .cors:
            Shape(
                subresource: "cors", name: "BucketCors", readAction: "s3:GetBucketCORS", writeAction: "s3:PutBucketCORS",
                deleteAction: "s3:PutBucketCORS",
                absent: .error("NoSuchCORSConfiguration", "The CORS configuration does not exist"))
        case .lifecycle:
            Shape(
                subresource: "lifecycle", name: "BucketLifecycleConfiguration", readAction: "s3:GetLifecycleConfiguration",
                writeAction: "s3:PutLifecycleConfiguration", deleteAction: "s3:PutLifecycleConfiguration",
                absent: .error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"), limit: 1 << 20)
        case .logging:
            Shape(
                subresource: "logging", name: "BucketLogging", readAction: "s3:GetBucketLogging", writeAction: "s3:PutBucketLogging",
                deleteAction: nil, absent: .document("BucketLoggingStatus", element: nil))
        case .website:
            Shape(
                subresource: "website", name: "BucketWebsite", readAction: "s3:GetBucketWebsite", writeAction: "s3:PutBucketWebsite",
                deleteAction: "s3:DeleteBucketWebsite",
                absent: .error("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"))
        case .notification:
            Shape(
                subresource: "notification", name: "BucketNotificationConfiguration", readAction: "s3:GetBucketNotification",
                writeAction: "s3:PutBucketNotification", deleteAction: nil, absent: .document("NotificationConfiguration", element: nil))
        case .requestPayment:
            Shape(
                subresource: "requestPayment", name: "BucketRequestPayment", readAction: "s3:GetBucketRequestPayment",
                writeAction: "s3:PutBucketRequestPayment", deleteAction: nil,
                absent: .document("RequestPaymentConfiguration", element: ("Payer", "BucketOwner")))
        case .encryption:
            Shape(
                subresource: "encryption", name: "BucketEncryption", readAction: "s3:GetEncryptionConfiguration",
                writeAction: "s3:PutEncryptionConfiguration", deleteAction: "s3:PutEncryptionConfiguration",
                absent: .error(
                    "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found"))
        }
    }

    static let bySubresource = Dictionary(uniqueKeysWithValues: allCases.map { ($0.shape.subresource, $0) })
}

/// Configurations of S3 that this store does not have: what is true of a bucket without them is told, and setting one is refused by name.
enum ForeignConfiguration: String, Sendable, CaseIterable {
    case accelerate, analytics, inventory, metrics, replication
    case intelligentTiering = "intelligent-tiering"

    var readAction: String {
        switch self {
        case .accelerate: "s3:GetAccelerateConfiguration"
        case .analytics: "s3:GetAnalyticsConfiguration"
        case .inventory: "s3:GetInventoryConfiguration"
        case .metrics: "s3:GetMetricsConfiguration"
        case .replication: "s3:GetReplicationConfiguration"
        case .intelligentTiering: "s3:GetIntelligentTieringConfiguration"
        }
    }
    var writeAction: String { "s3:Put" + readAction.dropFirst("s3:Get".count) }

    /// The root element of the list of all of a bucket's; `nil` where there is no such list.
    var listElement: String? {
        switch self {
        case .accelerate, .replication: nil
        case .analytics: "ListBucketAnalyticsConfigurationResult"
        case .inventory: "ListInventoryConfigurationsResult"
        case .metrics: "ListMetricsConfigurationsResult"
        case .intelligentTiering: "ListBucketIntelligentTieringConfigurationsResult"
        }
    }
}
