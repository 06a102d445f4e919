public import Domain
public import Signing
public import Wire

/// Who this daemon is to the other daemons: its certificate of the cloud's CA, its key, and the name in the certificate.
public struct HostIdentity: Sendable {
    public let certificatePath, keyPath, caPath: String
    public let certificate: Certificate
    public let key: PrivateKey
    public let ca: Certificate
    /// From the certificate's only `karri://` URI.
    public let identity: PeerIdentity

    /// Reads the PEM files and checks that they belong together.
    /// - Throws: `.invalidParameter` naming the file that is wrong; `.unavailable` for one that cannot be read.
    public init(certificate certificatePath: String, key keyPath: String, ca caPath: String) throws(CloudError) {
        func text(_ path: String) throws(CloudError) -> String {
            String(decoding: try FileSystem.read(path, limit: 1 << 20), as: UTF8.self)
        }
        func wrong(_ path: String, _ why: String) -> CloudError { CloudError(.invalidParameter(path), "\(path): \(why)", context: why) }
        self.certificatePath = certificatePath
        self.keyPath = keyPath
        self.caPath = caPath
        certificate = try Certificate(pem: try text(certificatePath))
        key = try PrivateKey(pem: try text(keyPath))
        ca = try Certificate(pem: try text(caPath))
        guard let identity = Self.identity(of: certificate) else {
            throw wrong(certificatePath, "has not exactly one subjectAltName of the form karri://cloud/role/name")
        }
        self.identity = identity
        guard certificate.isIssued(by: ca) else { throw wrong(certificatePath, "was not issued by the CA in \(caPath)") }
        guard try certificate.publicKey.der == key.publicKey.der else { throw wrong(keyPath, "is not the key of \(certificatePath)") }
    }

    /// - Returns: nil unless the certificate names exactly one daemon.
    static func identity(of certificate: Certificate) -> PeerIdentity? {
        let found = certificate.subjectAltURIs.compactMap { PeerIdentity(uri: $0) }
        return found.count == 1 ? found[0] : nil
    }

    /// Whether this host may be called by that name: one of the certificate's addresses or DNS names.
    func answers(to host: String) -> Bool {
        if certificate.subjectAltDNSNames.contains(where: { $0.lowercased() == host.lowercased() }) { return true }
        return certificate.subjectAltAddresses.contains { $0.count == 4 && $0.map { "\($0)" }.joined(separator: ".") == host }
    }

    /// TLS of calls that this daemon makes.
    public var clientTLS: ClientTLS { ClientTLS(ca: caPath, certificate: certificatePath, key: keyPath, onlyTLS13: true) }
    /// TLS of its internal listener: nobody without a certificate of the CA.
    public var serverTLS: ServerTLS {
        ServerTLS(certificate: certificatePath, key: keyPath, clients: .required(ca: caPath), onlyTLS13: true)
    }
}

/// How internal messages are named on the wire; both ends use this.
enum InternalNames {
    /// `https://host:port/`, what the caller thinks it calls.
    static func to(_ endpoint: String) -> String { "https://\(endpoint)/" }

    static func action(_ service: ServiceDefinition, _ operation: String) -> String {
        service.namespace(version: nil) + "#" + operation
    }

    static func replyAction(_ service: ServiceDefinition, _ operation: String) -> String { action(service, operation) + "Response" }

    /// The role in whose certificate a service's replies must come: the service's name in lower case.
    static func role(of service: ServiceDefinition) -> String { service.name.lowercased() }

    static func messageID(_ bytes: [UInt8]) -> String { "urn:uuid:" + Hex.encode(bytes) }

    /// What the caller's message is called, for a reply to a message that could not be verified and so says nothing that may be used.
    /// It comes from the TLS peer, and stands in the RelatesTo of a refusal only.
    static let messageHeader = "X-Message-Id"
    static func isMessageID(_ text: String) -> Bool {
        text.hasPrefix("urn:uuid:") && text.utf8.count == 41 && Hex.decode(text.dropFirst(9)) != nil
    }

    /// The action of a refusal of a message whose operation is not known.
    static func refusalAction(_ service: ServiceDefinition) -> String { replyAction(service, "Refused") }

    /// Seconds that a message is valid: long enough for a slow host, short for a thief.
    static let lifetime = 60
    static let contentType = "text/xml; charset=utf-8"
}
