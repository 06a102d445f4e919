public import Daemon

/// `cc.conf`.
public struct ClusterConfiguration: DaemonConfiguration {
    public static var keys: [ConfigurationKey] {
        [
            .standard("listen_address", .address, "0.0.0.0", "Where the cloud controller and the nodes reach this daemon"),
            .standard("port", .integer(0...65535), "8774", "Port of the internal listener"),
            .optional("keys_dir", .path, "Folder with cc.pem, cc.key and ca.pem; instead of the three keys below"),
            .optional("certificate", .file, "This daemon's certificate, PEM"),
            .optional("key", .file, "This daemon's private key, PEM"),
            .optional("ca", .file, "The cloud's CA certificate, PEM"),
            .required("zone", .text, "The availability zone, such as karri-1a"),
            .required("clc_endpoint", .endpoint, "host:port of the cloud controller's internal listener"),
            .standard(
                "placement", .choice(["spread", "pack"]), "spread",
                "spread: instances go to the node with the most room; pack: to the fullest that still has room"),
        ]
    }

    public let listenAddress: String
    public let port: Int
    public let certificate, key, ca: String
    public let zone: String
    public let cloudEndpoint: String
    public let placement: String

    public init(_ values: ConfigurationValues) throws(ConfigurationError) {
        listenAddress = values.text("listen_address")
        port = values.integer("port")
        zone = values.text("zone")
        cloudEndpoint = values.text("clc_endpoint")
        placement = values.text("placement")
        let folder = values.optionalText("keys_dir")
        func path(_ name: String, _ file: String) throws(ConfigurationError) -> String {
            if let given = values.optionalText(name) { return given }
            guard let folder else { throw ConfigurationError(key: name, "is missing (and so is keys_dir)") }
            guard FileSystem.canRead("\(folder)/\(file)") else {
                throw ConfigurationError(key: "keys_dir", "\(folder)/\(file) cannot be read")
            }
            return "\(folder)/\(file)"
        }
        certificate = try path("certificate", "cc.pem")
        key = try path("key", "cc.key")
        ca = try path("ca", "ca.pem")
    }
}
