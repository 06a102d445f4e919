import Daemon

/// The part of `walrus.conf` about what buckets may be configured with.
public struct BucketOptions: Sendable {
    public var lifecycleDaySeconds = 86_400
    public var lifecyclePeriodSeconds = 3600
    public var accessLogSeconds = 300
    public var websiteDomain = ""
    /// Addresses by ARN.
    public var webhooks: [String: String] = [:]
    var newBuckets = NewBucketDefaults()

    static let keys: [ConfigurationKey] = [
        .standard("lifecycle_period_seconds", .integer(1...86_400), "3600", "how often lifecycle rules are applied"),
        .standard(
            "lifecycle_day_seconds", .integer(1...86_400), "86400",
            "for tests: what lifecycle rules take for a day. Anything else than 86400 deletes early"),
        .standard("access_log_seconds", .integer(1...86_400), "300", "how often access logs are delivered to their buckets"),
        .optional("website_domain", .text, "domain of web sites: <bucket>.<website_domain> serves a bucket with a website configuration"),
        .standard(
            "notification_webhooks", .list(.text), "",
            "destinations of bucket notifications, ARN=URL each: arn:aws:sqs:karri-1:123456789012:builds=https://ci.example/hook"),
        .standard(
            "new_bucket_ownership", .choice(ObjectOwnership.allCases.map(\.rawValue)), ObjectOwnership.objectWriter.rawValue,
            "object ownership of new buckets; BucketOwnerEnforced, as in AWS since 2023, makes ACLs fail that older tools send"),
        .standard("new_bucket_block_public_access", .boolean, "no", "new buckets block public ACLs and policies, as in AWS since 2023"),
    ]

    public init() {}

    init(_ values: ConfigurationValues) throws(ConfigurationError) {
        lifecycleDaySeconds = values.integer("lifecycle_day_seconds")
        lifecyclePeriodSeconds = values.integer("lifecycle_period_seconds")
        accessLogSeconds = values.integer("access_log_seconds")
        websiteDomain = values.text("website_domain")
        for item in values.list("notification_webhooks") {
            guard item.hasPrefix("arn:"), let equals = item.firstIndex(of: "=") else {
                throw ConfigurationError(key: "notification_webhooks", "\(item) is not of the form ARN=URL")
            }
            let url = String(item[item.index(after: equals)...])
            guard url.hasPrefix("http://") || url.hasPrefix("https://") else {
                throw ConfigurationError(key: "notification_webhooks", "\(url) is not an http or https address")
            }
            webhooks[String(item[..<equals])] = url
        }
        newBuckets = NewBucketDefaults(
            ownership: ObjectOwnership(rawValue: values.text("new_bucket_ownership")) ?? .objectWriter,
            blocksPublicAccess: values.boolean("new_bucket_block_public_access"))
    }
}
