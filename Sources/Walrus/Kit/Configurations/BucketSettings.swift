import Domain
import Wire

/// The configurations of a bucket that requests to it must know, parsed once and kept (see `ConfigurationCache`).
///
/// A class, so that a bucket's record carries a reference and not a copy.
final class BucketSettings: Sendable {
    let ownership: ObjectOwnership
    let publicAccessBlock: PublicAccessBlock?
    let policy: BucketPolicy?
    /// What is stored, by kind.
    let documents: [ConfigurationKind: [UInt8]]
    let cors: CORSConfiguration?
    let lifecycle: LifecycleConfiguration?
    let logging: LoggingConfiguration?
    let website: WebsiteConfiguration?
    let notification: NotificationConfiguration?
    let encryption: BucketEncryption?
    let requesterPays: Bool

    static let none = BucketSettings()

    private init() {
        ownership = .objectWriter
        publicAccessBlock = nil
        policy = nil
        documents = [:]
        cors = nil
        lifecycle = nil
        logging = nil
        website = nil
        notification = nil
        encryption = nil
        requesterPays = false
    }

    /// - Throws: what was admitted once and cannot be read any more is a bug, and the bucket stays closed.
    init(_ documents: [ConfigurationKind: [UInt8]]) throws(CloudError) {
        self.documents = documents
        func parsed<T>(_ kind: ConfigurationKind, _ parse: ([UInt8]) throws(CloudError) -> T) throws(CloudError) -> T? {
            guard let bytes = documents[kind] else { return nil }
            do throws(CloudError) { return try parse(bytes) } catch {
                throw CloudError.bug("a stored \(kind) cannot be read: \(error.message) \(error.context)")
            }
        }
        ownership = try parsed(.ownership, ObjectOwnership.init(document:)) ?? .objectWriter
        publicAccessBlock = try parsed(.publicAccessBlock, PublicAccessBlock.init(document:))
        policy = try parsed(.policy, BucketPolicy.init(stored:))
        cors = try parsed(.cors, CORSConfiguration.init(document:))
        lifecycle = try parsed(.lifecycle, LifecycleConfiguration.init(document:))
        logging = try parsed(.logging, LoggingConfiguration.parse) ?? nil
        website = try parsed(.website, WebsiteConfiguration.init(document:))
        notification = try parsed(.notification, NotificationConfiguration.init(document:))
        encryption = try parsed(.encryption, BucketEncryption.init(document:))
        requesterPays = try parsed(.requestPayment, RequestPayment.isRequester) ?? false
    }

    /// The grants that count.
    func effective(_ acl: AccessControlList) -> AccessControlList {
        if ownership == .bucketOwnerEnforced { return AccessControlList([]) }
        guard publicAccessBlock?.ignorePublicAcls == true else { return acl }
        return AccessControlList(acl.grants.filter { $0.grantee != .allUsers && $0.grantee != .authenticatedUsers })
    }
}

/// Who owns what others write. Source: S3 User Guide, "Controlling ownership of objects and disabling ACLs for your bucket".
enum ObjectOwnership: String, Sendable, CaseIterable {
    case bucketOwnerEnforced = "BucketOwnerEnforced"
    case bucketOwnerPreferred = "BucketOwnerPreferred"
    case objectWriter = "ObjectWriter"

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "OwnershipControls")
        let rules = root.all("Rule")
        guard rules.count == 1, let value = ObjectOwnership(rawValue: rules[0].first("ObjectOwnership")?.text.trimmed ?? "") else {
            throw S3Failure.malformedXML("one Rule with an ObjectOwnership is needed")
        }
        self = value
    }

    var document: [UInt8] {
        S3Document.make("OwnershipControls") { xml in
            xml.open("Rule")
            xml.element("ObjectOwnership", rawValue)
            xml.close()
        }
    }
}

/// Source: S3 User Guide, "Blocking public access to your Amazon S3 storage".
struct PublicAccessBlock: Sendable, Equatable {
    /// Refuse requests that would make something public by ACL.
    var blockPublicAcls = false
    /// Grants to everybody do not count.
    var ignorePublicAcls = false
    /// Refuse public policies.
    var blockPublicPolicy = false
    /// A public policy counts within the account only.
    var restrictPublicBuckets = false

    init() {}

    init(all: Bool) {
        blockPublicAcls = all
        ignorePublicAcls = all
        blockPublicPolicy = all
        restrictPublicBuckets = all
    }

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "PublicAccessBlockConfiguration")
        func flag(_ name: String) throws(CloudError) -> Bool {
            switch root.first(name)?.text.trimmed.lowercased() {
            case nil, "false": return false
            case "true": return true
            default: throw S3Failure.malformedXML("\(name) must be true or false")
            }
        }
        blockPublicAcls = try flag("BlockPublicAcls")
        ignorePublicAcls = try flag("IgnorePublicAcls")
        blockPublicPolicy = try flag("BlockPublicPolicy")
        restrictPublicBuckets = try flag("RestrictPublicBuckets")
    }

    var document: [UInt8] {
        S3Document.make("PublicAccessBlockConfiguration") { xml in
            xml.element("BlockPublicAcls", blockPublicAcls ? "true" : "false")
            xml.element("IgnorePublicAcls", ignorePublicAcls ? "true" : "false")
            xml.element("BlockPublicPolicy", blockPublicPolicy ? "true" : "false")
            xml.element("RestrictPublicBuckets", restrictPublicBuckets ? "true" : "false")
        }
    }
}

enum RequestPayment {
    static func isRequester(_ document: [UInt8]) throws(CloudError) -> Bool {
        switch try S3Document.parse(document, root: "RequestPaymentConfiguration").first("Payer")?.text.trimmed {
        case "BucketOwner": return false
        case "Requester": return true
        default: throw S3Failure.malformedXML("Payer must be BucketOwner or Requester")
        }
    }
}

/// What a new bucket has, by the daemon's configuration.
struct NewBucketDefaults: Sendable {
    /// AWS makes buckets with BucketOwnerEnforced since 2023. Ours keep ACLs working by default: the tools of Eucalyptus' time, s3cmd and
    /// others send them with every upload (`aws-exec-read` of bundles), and would fail.
    var ownership = ObjectOwnership.objectWriter
    /// Whether all four settings of the public access block are on.
    var blocksPublicAccess = false
}
