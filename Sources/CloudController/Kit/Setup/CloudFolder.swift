public import Daemon
public import Domain
import Signing
import Wire
public import Workflow

/// The folder of keys (`keys_dir`): what is there, what is missing, and how it is made. Making is idempotent: what exists is never
/// touched, so that a second `init` changes nothing, and one that was killed is simply run again.
public struct CloudFolder: Sendable {
    /// Internal certificates. Ten years for the root and the image key; daemons' are issued again by `certificate issue`.
    static let rootDays = 3650
    static let hostDays = 825

    public let keys: String
    private let random: any Workflow.Random

    public init(keys: String, random: any Workflow.Random) {
        self.keys = keys
        self.random = random
    }

    func path(_ name: String) -> String { keys + "/" + name }

    static func text(_ path: String) throws(CloudError) -> String {
        String(decoding: try FileSystem.read(path, limit: 1 << 20), as: UTF8.self)
    }

    /// Writes when it is not already so.
    static func write(_ text: String, to path: String, mode: UInt32) throws(CloudError) {
        if FileSystem.exists(path), let now = try? Self.text(path), now == text { return }
        try FileSystem.writeAtomically(Array(text.utf8), to: path, mode: mode)
    }

    // MARK: making

    /// Everything that is in the folder and needs no database.
    /// - Parameter hosts: names and addresses of this machine, for the daemons' certificates.
    public func make(hosts: Hosts) throws(CloudError) {
        try FileSystem.makeFolder(keys, mode: 0o700)
        if !FileSystem.exists(path("cloud.id")) { try Self.write(Hex.encode(random.bytes(6)) + "\n", to: path("cloud.id"), mode: 0o644) }
        let id = try cloudID()
        if !(FileSystem.exists(path("ca.key")) && FileSystem.exists(path("ca.pem"))) {
            let root = try CertificateAuthority.makeRoot(name: "Karri cloud \(id)", days: Self.rootDays)
            try Self.write(root.key.pem, to: path("ca.key"), mode: 0o600)
            try Self.write(root.certificate.pem, to: path("ca.pem"), mode: 0o644)
        }
        if !(FileSystem.exists(path("cloud.key")) && FileSystem.exists(path("cloud.pem"))) {
            let key = try PrivateKey.generateRSA(bits: 2048)
            let certificate = try CertificateAuthority.selfSigned(name: "Karri image key \(id)", key: key, days: Self.rootDays)
            try Self.write(key.pem, to: path("cloud.key"), mode: 0o600)
            try Self.write(certificate.pem, to: path("cloud.pem"), mode: 0o644)
        }
        if !FileSystem.exists(path("secret.key")) {
            try Self.write(Hex.encode(random.bytes(32)) + "\n", to: path("secret.key"), mode: 0o600)
        }
        for role in ["clc", "walrus", "cc", "sc", "nc"]
        where !(FileSystem.exists(path("\(role).key")) && FileSystem.exists(path("\(role).pem"))) {
            try issue(role: role, name: role, hosts: hosts, prefix: path(role))
        }
    }

    /// A daemon's key and certificate, at `prefix.key` and `prefix.pem`.
    /// - Throws: `.invalidParameter` for a role or name that cannot stand in `karri://cloud/role/name`.
    public func issue(role: String, name: String, hosts: Hosts, prefix: String) throws(CloudError) {
        let identity = PeerIdentity(cloud: try cloudID(), role: role, name: name)
        guard PeerIdentity(uri: identity.uri) != nil, ["clc", "walrus", "cc", "sc", "nc"].contains(role) else {
            throw CloudError(.invalidParameter("name"), "'\(role)/\(name)' is not the name of a daemon (roles: clc, walrus, cc, sc, nc)")
        }
        let ca = try Certificate(pem: try Self.text(path("ca.pem")))
        let caKey = try PrivateKey(pem: try Self.text(path("ca.key")))
        let key = try PrivateKey.generateRSA(bits: 2048)
        let certificate = try CertificateAuthority.issue(
            name: "\(role) \(name)", uris: [identity.uri], dns: hosts.names, ips: hosts.addresses, ca: ca, caKey: caKey,
            publicKey: key.publicKey,
            days: Self.hostDays)
        try Self.write(key.pem, to: prefix + ".key", mode: 0o600)
        try Self.write(certificate.pem, to: prefix + ".pem", mode: 0o644)
    }

    // MARK: reading

    public func cloudID() throws(CloudError) -> String { try Self.text(path("cloud.id")).trimmed }

    /// 32 bytes that secrets at rest are encrypted with.
    public func secret() throws(CloudError) -> [UInt8] {
        guard let bytes = Hex.decode(try Self.text(path("secret.key")).trimmed), bytes.count == 32 else {
            throw CloudError(.invalidParameter("secret.key"), "\(path("secret.key")) does not hold 64 hexadecimal digits")
        }
        return bytes
    }

    public func hostIdentity(_ role: String) throws(CloudError) -> HostIdentity {
        try HostIdentity(certificate: path("\(role).pem"), key: path("\(role).key"), ca: path("ca.pem"))
    }

    /// - Parameter credentials: the file with the system account's key.
    public func cloudKeys(credentials: String) throws(CloudError) -> CloudKeys {
        let system = EnvironmentFile(try Self.text(credentials))
        guard let id = system["AWS_ACCESS_KEY_ID"], let secret = system["AWS_SECRET_ACCESS_KEY"] else {
            throw CloudError(.invalidParameter("system_credentials"), "\(credentials) does not hold an access key; run karri-clc init")
        }
        return CloudKeys(
            imageKey: try PrivateKey(pem: try Self.text(path("cloud.key"))),
            imageCertificate: try Certificate(pem: try Self.text(path("cloud.pem"))),
            systemAccessKeyID: id, systemSecret: secret, secret: try self.secret())
    }
}

/// Names and addresses that a certificate is for.
public struct Hosts: Sendable {
    public var names: [String]
    public var addresses: [String]
    public init(names: [String], addresses: [String]) {
        self.names = names
        self.addresses = addresses
    }

    /// This machine, and what it is called in the configuration.
    public static func here(and other: [String]) -> Hosts {
        var hosts = Hosts(names: ["localhost"], addresses: ["127.0.0.1"])
        for name in [SystemNames.host] + other where !name.isEmpty {
            if IPv4Address(parsing: name) != nil {
                if !hosts.addresses.contains(name) { hosts.addresses.append(name) }
            } else if !hosts.names.contains(name),
                name.utf8.allSatisfy({ $0 == 0x2d || $0 == 0x2e || ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a) })
            {
                hosts.names.append(name)
            }
        }
        return hosts
    }
}

/// `KEY=VALUE` lines, as `env` and `source` read them.
struct EnvironmentFile {
    private let values: [String: String]

    init(_ text: String) {
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            values[String(line[..<equals]).trimmed] = String(line[line.index(after: equals)...]).trimmed
        }
        self.values = values
    }
    subscript(_ key: String) -> String? { values[key].flatMap { $0.isEmpty ? nil : $0 } }

    static func text(_ pairs: [(String, String)]) -> String { pairs.map { "\($0.0)=\($0.1)\n" }.joined() }
}
