public import Daemon
import Domain

/// `clc.conf`, parsed.
public struct CloudConfiguration: DaemonConfiguration {
    public static let keys: [ConfigurationKey] = [
        .standard("listen_address", .address, "0.0.0.0", "Where clients are listened for, and other daemons"),
        .standard("port", .integer(1...65535), "8773", "EC2, IAM and STS, Query and SOAP"),
        .standard("internal_port", .integer(1...65535), "8779", "For the cluster controllers"),
        .required("database_url", .text, "A libpq connection string"),
        .standard("database_connections", .integer(1...64), "4", "Connections to the database; each is a thread here and a process there"),
        .required("keys_dir", .path, "Certificates and keys, made by karri-clc init"),
        .optional("system_credentials", .path, "The system account's key; default: system.env in keys_dir"),
        .standard("region", .text, "karri-1", "The region's name"),
        .standard("zone", .text, "karri-1a", "The zone that is taken when a request names none"),
        .standard("service_host", .text, "127.0.0.1", "The host name of this service in answers"),
        .standard("walrus_endpoint", .url, "http://127.0.0.1:8778", "The object store, as this controller and the nodes reach it"),
        .standard("public_pool", .cidr, "198.18.0.0/24", "Public addresses"),
        .standard("private_network", .cidr, "10.1.0.0/16", "Private addresses of instances"),
        .standard("gateway", .address, "10.1.0.1", "The gateway's address in the private network, the same on every node"),
        .standard("dns", .list(.address), "", "Name servers that instances are told"),
        .standard("allow_sha1", .boolean, "yes", "Accept SOAP requests signed with SHA-1, as the classic EC2 tools sign"),
        .standard("max_instances", .integer(1...1_000_000), "500", "Instances of an account"),
        .standard("max_cores", .integer(1...1_000_000), "1000", "Cores of an account's instances together"),
        .standard("max_volume_gib", .integer(1...100_000_000), "20000", "GiB of an account's volumes together"),
        .standard("max_addresses", .integer(0...1_000_000), "100", "Elastic addresses of an account"),
    ]

    public let listenAddress: String
    public let port: Int
    public let internalPort: Int
    public let databaseURL: String
    public let databaseConnections: Int
    public let keysFolder: String
    public let systemCredentials: String
    public let settings: CloudSettings

    public init(_ v: ConfigurationValues) throws(ConfigurationError) {
        listenAddress = v.text("listen_address")
        port = v.integer("port")
        internalPort = v.integer("internal_port")
        databaseURL = v.text("database_url")
        databaseConnections = v.integer("database_connections")
        keysFolder = v.text("keys_dir")
        systemCredentials = v.optionalText("system_credentials") ?? keysFolder + "/system.env"
        guard let pool = CIDR(parsing: v.text("public_pool")) else { throw ConfigurationError(key: "public_pool", "is not a.b.c.d/n") }
        guard let network = CIDR(parsing: v.text("private_network")), network.prefixLength <= 30 else {
            throw ConfigurationError(key: "private_network", "must be a.b.c.d/n with n up to 30")
        }
        guard let gateway = IPv4Address(parsing: v.text("gateway")), network.hosts.contains(gateway.value) else {
            throw ConfigurationError(key: "gateway", "must be an address of the private network \(network)")
        }
        guard !pool.overlaps(network) else { throw ConfigurationError(key: "public_pool", "overlaps the private network \(network)") }
        var quotas = CloudSettings.Quotas()
        quotas.instances = v.integer("max_instances")
        quotas.cores = v.integer("max_cores")
        quotas.volumeGiB = v.integer("max_volume_gib")
        quotas.addresses = v.integer("max_addresses")
        settings = CloudSettings(
            region: v.text("region"), zone: v.text("zone"), serviceHost: v.text("service_host"), servicePort: port,
            walrusEndpoint: v.text("walrus_endpoint"), publicPool: pool, privateNetwork: network, gateway: gateway, dns: v.list("dns"),
            allowSHA1: v.boolean("allow_sha1"), quotas: quotas)
    }
}
