public import Daemon
import Domain

/// `sc.conf`.
public struct StorageConfiguration: DaemonConfiguration {
    public let listenAddress: String
    public let port: Int
    public let databaseURL: String
    public let certificate, key, ca: String
    public let zone: String
    public let dataFolder: String
    public let capacityGiB: Int
    public let walrusEndpoint: String
    public let systemCredentials: String
    public let exportAddress: String
    public let exportPorts: ClosedRange<Int>

    public static let keys: [ConfigurationKey] = [
        .standard("listen_address", .address, "0.0.0.0", "Address of the internal listener"),
        .standard("port", .integer(1...65535), "8776", "Port of the internal listener"),
        .required("database_url", .text, "libpq connection string of the cloud's database"),
        .required("cert", .file, "PEM certificate of this daemon, of the cloud's CA"),
        .required("key", .file, "PEM key of this daemon"),
        .required("ca", .file, "PEM certificate of the cloud's CA"),
        .required("zone", .text, "The availability zone that this controller serves"),
        .required("data_dir", .path, "Where the volumes are; made if it is not there; at most 70 bytes long"),
        .required("capacity_gib", .integer(1...1_000_000_000), "What all volumes may take together, in GiB"),
        .required("walrus_endpoint", .url, "Address of Walrus, for snapshots"),
        .required("system_credentials", .file, "File with AWS_ACCESS_KEY_ID= and AWS_SECRET_ACCESS_KEY= of the system account"),
        .required("export_address", .address, "Address that nodes reach volumes at; it must be in the certificate"),
        .standard("export_ports", .text, "10900-11899", "Ports for exported volumes, one each: first-last"),
    ]

    public init(_ values: ConfigurationValues) throws(ConfigurationError) {
        listenAddress = values.text("listen_address")
        port = values.integer("port")
        databaseURL = values.text("database_url")
        certificate = values.text("cert")
        key = values.text("key")
        ca = values.text("ca")
        zone = values.text("zone")
        dataFolder = values.text("data_dir")
        capacityGiB = values.integer("capacity_gib")
        walrusEndpoint = values.text("walrus_endpoint")
        systemCredentials = values.text("system_credentials")
        exportAddress = values.text("export_address")
        let ends = values.text("export_ports").split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard ends.count == 2, let first = ends[0], let last = ends[1], first >= 1024, first <= last, last <= 65535 else {
            throw ConfigurationError(key: "export_ports", "must be first-last, within 1024-65535")
        }
        exportPorts = first...last
        guard dataFolder.utf8.count <= 70 else { throw ConfigurationError(key: "data_dir", "must be at most 70 bytes long") }
    }

    /// The access key of the system account.
    static func credentials(_ path: String) throws(CloudError) -> (id: String, secret: String) {
        let text = String(decoding: try FileSystem.read(path, limit: 4096), as: UTF8.self)
        var found: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: "=", maxSplits: 1).map { word in String(word.filter { $0 != " " && $0 != "\r" }) }
            if words.count == 2 { found[words[0]] = words[1] }
        }
        guard let id = found["AWS_ACCESS_KEY_ID"], let secret = found["AWS_SECRET_ACCESS_KEY"] else {
            throw CloudError(
                .invalidParameter("system_credentials"), "\(path) does not have AWS_ACCESS_KEY_ID= and AWS_SECRET_ACCESS_KEY=")
        }
        return (id, secret)
    }
}
