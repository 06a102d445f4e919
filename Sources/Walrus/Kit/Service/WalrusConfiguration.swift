public import Daemon

/// `walrus.conf`.
public struct WalrusConfiguration: DaemonConfiguration {
    public let listenAddress: String
    public let port: Int
    public let tls: ServerTLS?
    public let databaseURL: String
    public let databaseConnections: Int
    public let dataDirectory: String
    public let secretKeyFile: String
    public let domain: String
    public let region: String
    public let minimumFreeMiB: Int
    public let scrubMiB: Int
    public let scrubDays: Int
    public let connections: Int
    public let metricsForAnyone: Bool
    public let unsignedPayloadOnHTTP: Bool
    public let kmsKeys: [String]
    public let customerKeysOnHTTP: Bool

    public var buckets = BucketOptions()

    public static let keys: [ConfigurationKey] =
        BucketOptions.keys + [
            .standard("listen_address", .address, "0.0.0.0", "where S3 is served"),
            .standard("port", .integer(0...65_535), "8778", "the port; 0 takes a free one"),
            .optional("tls_certificate", .file, "PEM certificate chain: serve https instead of http"),
            .optional("tls_key", .file, "PEM key of tls_certificate"),
            .required("database_url", .text, "libpq connection string"),
            .standard("database_connections", .integer(1...256), "8", "connections to the database"),
            .required("data_dir", .path, "where the bytes of objects live"),
            .required("secret_key_file", .file, "the cloud's key for secrets at rest: 32 bytes in hexadecimal"),
            .optional("domain", .text, "domain of virtual-host style: <bucket>.<domain>; absent: path style only"),
            .standard("region", .text, "karri-1", "the region that buckets are in"),
            .standard("min_free_mib", .integer(0...1 << 30), "1024", "space on data_dir's file system that uploads leave free"),
            .standard("scrub_mib_per_second", .integer(0...1 << 20), "16", "how fast stored bytes are read and checked; 0: not at all"),
            .standard("scrub_days", .integer(1...3650), "7", "from the begin of one check of the whole store to that of the next"),
            .standard("connections", .integer(1...65_536), "1024", "client connections at once"),
            .standard(
                "unsigned_payload_on_http", .boolean, "yes",
                "take bodies that no signature covers over plain http too, as rclone sends them; with no: over https only"),
            .optional(
                "kms_keys", .text,
                "ids of the keys that aws:kms may name, separated by spaces; each is made from the cloud's key and its id"),
            .standard(
                "sse_customer_keys_on_http", .boolean, "no",
                "take customer keys (SSE-C) over plain http too; the network then sees them"),
            .standard("metrics", .boolean, "no", "let other hosts than this one read /metrics"),
        ]

    public init(_ values: ConfigurationValues) throws(ConfigurationError) {
        listenAddress = values.text("listen_address")
        port = values.integer("port")
        switch (values.optionalText("tls_certificate"), values.optionalText("tls_key")) {
        case (nil, nil): tls = nil
        case (let certificate?, let key?): tls = ServerTLS(certificate: certificate, key: key)
        case (nil, _?): throw ConfigurationError(key: "tls_key", "needs tls_certificate as well")
        case (_?, nil): throw ConfigurationError(key: "tls_certificate", "needs tls_key as well")
        }
        databaseURL = values.text("database_url")
        databaseConnections = values.integer("database_connections")
        dataDirectory = values.text("data_dir")
        secretKeyFile = values.text("secret_key_file")
        domain = values.text("domain")
        region = values.text("region")
        minimumFreeMiB = values.integer("min_free_mib")
        scrubMiB = values.integer("scrub_mib_per_second")
        scrubDays = values.integer("scrub_days")
        connections = values.integer("connections")
        metricsForAnyone = values.boolean("metrics")
        unsignedPayloadOnHTTP = values.boolean("unsigned_payload_on_http")
        kmsKeys = values.text("kms_keys").split(separator: " ").map(String.init)
        customerKeysOnHTTP = values.boolean("sse_customer_keys_on_http")
        buckets = try BucketOptions(values)
    }

    /// For tests and embedding: everything given.
    public init(
        port: Int, databaseURL: String, dataDirectory: String, secretKeyFile: String, domain: String = "", region: String = "karri-1",
        minimumFreeMiB: Int = 64, databaseConnections: Int = 4
    ) {
        listenAddress = "127.0.0.1"
        self.port = port
        tls = nil
        self.databaseURL = databaseURL
        self.databaseConnections = databaseConnections
        self.dataDirectory = dataDirectory
        self.secretKeyFile = secretKeyFile
        self.domain = domain
        self.region = region
        self.minimumFreeMiB = minimumFreeMiB
        scrubMiB = 0
        scrubDays = 7
        connections = 1024
        metricsForAnyone = false
        unsignedPayloadOnHTTP = true
        kmsKeys = ["key-1"]
        customerKeysOnHTTP = true
    }
}
