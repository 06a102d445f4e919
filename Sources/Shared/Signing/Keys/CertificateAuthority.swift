import COpenSSL
public import Domain

/// Makes certificates: the cloud's own root, one for each daemon, self-signed ones for users.
public enum CertificateAuthority {
    /// X.509's UTF-8 string type; the macro that names it is not imported.
    private static let utf8String: Int32 = 0x1000

    /// - Parameter days: validity from five minutes ago (clocks differ).
    public static func makeRoot(name: String, days: Int, key: PrivateKey) throws(CloudError) -> Certificate {
        try make(
            name: name, key: key.publicKey, issuer: nil, issuerKey: key, days: days,
            extensions: [
                (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
                (NID_subject_key_identifier, "hash"),
            ])
    }

    /// A root with a new RSA-2048 key.
    public static func makeRoot(name: String, days: Int) throws(CloudError) -> (certificate: Certificate, key: PrivateKey) {
        let key = try PrivateKey.generateRSA()
        return (try makeRoot(name: name, days: days, key: key), key)
    }

    /// A certificate for a daemon or server: TLS in both directions and signatures.
    /// - Parameters:
    ///   - uris: `karri://<cloud-id>/<role>/<name>`.
    ///   - dns, ips: names and addresses under which it is reached; addresses as text, IPv4 or IPv6.
    /// - Throws: `.invalidParameter` for a name with characters that do not belong in a URI, host name or address.
    public static func issue(
        name: String, uris: [String] = [], dns: [String] = [], ips: [String] = [], ca: Certificate, caKey: PrivateKey,
        publicKey: PublicKey, days: Int
    ) throws(CloudError) -> Certificate {
        var names: [String] = []
        for (kind, values) in [("URI", uris), ("DNS", dns), ("IP", ips)] {
            for value in values {
                // OpenSSL's text form of extensions has a syntax of its own (commas, `critical`, sections): none of it gets in.
                let plain = value.utf8.allSatisfy {
                    URIEncoding.isUnreserved($0) || $0 == 0x3a || ($0 == 0x2f && kind == "URI") || ($0 == 0x2a && kind == "DNS")
                }
                guard plain, !value.utf8.isEmpty, value.utf8.count <= 255 else {
                    throw CloudError(.invalidParameter("subjectAltName"), "'\(value)' is not a name for a certificate")
                }
                names.append("\(kind):\(value)")
            }
        }
        var extensions: [(Int32, String)] = [
            (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature,keyEncipherment"),
            (NID_ext_key_usage, "serverAuth,clientAuth"), (NID_subject_key_identifier, "hash"), (NID_authority_key_identifier, "keyid"),
        ]
        if !names.isEmpty { extensions.append((NID_subject_alt_name, names.joined(separator: ","))) }
        return try make(name: name, key: publicKey, issuer: ca, issuerKey: caKey, days: days, extensions: extensions)
    }

    /// A user's signing certificate: EC2's SOAP interface and image bundles take any self-signed one; it is just a registered key.
    public static func selfSigned(name: String, key: PrivateKey, days: Int) throws(CloudError) -> Certificate {
        try make(
            name: name, key: key.publicKey, issuer: nil, issuerKey: key, days: days,
            extensions: [
                (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature,keyEncipherment"),
                (NID_subject_key_identifier, "hash"),
            ])
    }

    private static func make(
        name: String, key: PublicKey, issuer: Certificate?, issuerKey: PrivateKey, days: Int, extensions: [(Int32, String)]
    ) throws(CloudError) -> Certificate {
        guard days > 0, days <= 36_500, !name.utf8.isEmpty, name.utf8.count <= 64 else {
            throw CloudError(.invalidParameter("Certificate"), "A certificate has a name of 1 to 64 bytes and is valid for 1 to 36500 days")
        }
        guard let x = X509_new() else { throw .bug("X509_new: \(OpenSSL.lastError())") }
        var finished = false
        defer { if !finished { X509_free(x) } }
        X509_set_version(x, 2)
        // 127 random bits: positive, and never one that was used before.
        var serial = secureRandom(16)
        serial[0] = serial[0] & 0x7f | 0x40
        let number = BN_bin2bn(serial, Int32(serial.count), nil)
        BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x))
        BN_free(number)
        X509_gmtime_adj(X509_getm_notBefore(x), -300)
        X509_time_adj_ex(X509_getm_notAfter(x), Int32(days), 0, nil)
        let subject = X509_NAME_new()
        defer { X509_NAME_free(subject) }
        let bytes = Array(name.utf8)
        guard X509_NAME_add_entry_by_NID(subject, NID_commonName, utf8String, bytes, Int32(bytes.count), -1, 0) == 1,
            X509_set_subject_name(x, subject) == 1,
            X509_set_issuer_name(x, issuer.map { X509_get_subject_name($0.handle) } ?? subject) == 1,
            X509_set_pubkey(x, key.handle) == 1
        else { throw .bug("certificate of \(name): \(OpenSSL.lastError())") }
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, issuer?.handle ?? x, x, nil, nil, 0)
        for (kind, value) in extensions {
            guard let made = X509V3_EXT_conf_nid(nil, &context, kind, value) else {
                throw CloudError(
                    .invalidParameter("subjectAltName"), "A certificate cannot hold '\(value)'", context: OpenSSL.lastError())
            }
            X509_add_ext(x, made, -1)
            X509_EXTENSION_free(made)
        }
        guard X509_sign(x, issuerKey.handle, EVP_sha256()) > 0 else { throw .bug("X509_sign: \(OpenSSL.lastError())") }
        finished = true
        return Certificate(owning: x)
    }
}
