import Daemon
public import Domain
import Signing

/// A CA and certificates of it, as `karri-clc` issues them, as PEM files in a folder.
public struct TestCertificates: Sendable {
    public let folder: String
    private let ca: Certificate
    private let caKey: PrivateKey

    /// - Parameter folder: made if it is not there.
    public init(folder: String) throws(CloudError) {
        self.folder = folder
        try FileSystem.makeFolder(folder, mode: 0o700)
        (ca, caKey) = try CertificateAuthority.makeRoot(name: "Karri test", days: 2)
        try FileSystem.writeAtomically(Array(ca.pem.utf8), to: caPath)
    }

    public var caPath: String { "\(folder)/ca.pem" }
    public func certificatePath(_ name: String) -> String { "\(folder)/\(name).pem" }
    public func keyPath(_ name: String) -> String { "\(folder)/\(name).key" }

    /// `name.pem` and `name.key`, with the common name "role name", `karri://test/role/name`, 127.0.0.1 and localhost.
    public func issue(role: String, name: String) throws(CloudError) {
        let key = try PrivateKey.generateRSA()
        let certificate = try CertificateAuthority.issue(
            name: "\(role) \(name)", uris: ["karri://test/\(role)/\(name)"], dns: ["localhost"], ips: ["127.0.0.1"], ca: ca, caKey: caKey,
            publicKey: key.publicKey, days: 2)
        try FileSystem.writeAtomically(Array(certificate.pem.utf8), to: certificatePath(name))
        try FileSystem.writeAtomically(Array(key.pem.utf8), to: keyPath(name), mode: 0o600)
    }
}

/// A client of NBD exports with TLS, as a guest's QEMU is one: qemu-io with a node's certificate.
public struct NBDGuest: Sendable {
    private let tls: String
    private let runner = CommandRunner()

    /// - Parameter name: of a certificate that was issued.
    public init(_ certificates: TestCertificates, name: String) throws(CloudError) {
        tls = "\(certificates.folder)/tls-\(name)"
        try FileSystem.makeFolder(tls, mode: 0o700)
        let files = [
            (certificates.caPath, "ca-cert.pem"), (certificates.certificatePath(name), "client-cert.pem"),
            (certificates.keyPath(name), "client-key.pem"),
        ]
        for (path, file) in files { try FileSystem.writeAtomically(try FileSystem.read(path), to: "\(tls)/\(file)", mode: 0o600) }
    }

    /// Runs qemu-io commands on an export. - Returns: whether they all worked, and what was said.
    public func io(_ host: String, _ port: Int, _ export: String, _ commands: [String]) async throws(CloudError) -> (ok: Bool, text: String)
    {
        let options =
            "driver=nbd,server.type=inet,server.host=\(host),server.port=\(port),export=\(export),tls-creds=t,tls-hostname=\(host)"
        let result = try await runner.run(
            Command(
                "qemu-io",
                ["--object", "tls-creds-x509,id=t,endpoint=client,dir=\(tls),verify-peer=yes", "--image-opts", options]
                    + commands.flatMap { ["-c", $0] }, timeoutMilliseconds: 30_000))
        let text = result.text + result.errors
        // qemu-io ends with 0 also when a pattern did not match.
        return (result.status == 0 && !text.contains("verification failed") && !text.contains("failed:"), text)
    }

    /// The names that an NBD server tells this client.
    public func list(_ host: String, _ port: Int) async throws(CloudError) -> (ok: Bool, text: String) {
        let result = try await runner.run(
            Command(
                "qemu-nbd",
                [
                    "--object", "tls-creds-x509,id=t,endpoint=client,dir=\(tls),verify-peer=yes", "--tls-creds", "t", "-L", "-b", host,
                    "-p", "\(port)",
                ],
                timeoutMilliseconds: 30_000))
        return (result.status == 0, result.text + result.errors)
    }
}
