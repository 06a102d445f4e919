import COpenSSL
public import Domain

/// An X.509 certificate.
public final class Certificate: Sendable {
    // SAFETY: owned by this object and freed once; it is only read after `init`, which OpenSSL allows from many threads at a time
    // (cached extensions are filled under OpenSSL's own lock).
    nonisolated(unsafe) let handle: OpaquePointer
    public let der: [UInt8]
    /// Lower-case hexadecimal SHA-256 of the DER: how a certificate is known everywhere in Karri.
    public let fingerprintSHA256: String

    init(owning handle: OpaquePointer) {
        self.handle = handle
        der = OpenSSL.der { i2d_X509(handle, $0) }
        fingerprintSHA256 = Hex.encode(Digest.sha256(der))
    }
    deinit { X509_free(handle) }

    /// The first certificate of the text.
    public convenience init(pem: String) throws(CloudError) {
        let x = OpenSSL.reading(pem) { PEM_read_bio_X509($0, nil, { _, _, _, _ in 0 }, nil) }
        guard let x else { throw CloudError(.invalidParameter("Certificate"), "The text is not a PEM certificate") }
        self.init(owning: x)
    }

    /// - Throws: when the bytes are not exactly one certificate in DER: with a byte more, or in another encoding of the same,
    ///   it would be another certificate to whoever compares bytes.
    public convenience init(der: [UInt8]) throws(CloudError) {
        let x = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var cursor = buffer.baseAddress
            return d2i_X509(nil, &cursor, buffer.count)
        }
        ERR_clear_error()
        guard let x else { throw CloudError(.invalidParameter("Certificate"), "The bytes are not a certificate") }
        self.init(owning: x)
        guard self.der == der else {
            throw CloudError(.invalidParameter("Certificate"), "The bytes are not exactly one certificate in DER")
        }
    }

    public var pem: String { PEM.wrap("CERTIFICATE", der, columns: 64) }

    /// The public key. Certificates that reach a Certificate object have one; a broken key gives an error at its use.
    public var publicKey: PublicKey {
        get throws(CloudError) {
            guard let key = X509_get_pubkey(handle) else {
                ERR_clear_error()
                throw CloudError(.invalidParameter("Certificate"), "The certificate's public key is of no known kind")
            }
            return PublicKey(owning: key)
        }
    }

    /// `CN` of the subject, if any.
    public var commonName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        let length = X509_NAME_get_text_by_NID(X509_get_subject_name(handle), NID_commonName, &buffer, Int32(buffer.count))
        return length > 0 ? String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
    }

    /// The URIs of subjectAltName, such as `karri://<cloud>/<role>/<name>`.
    public var subjectAltURIs: [String] { alternativeNames(GEN_URI).map { String(decoding: $0, as: UTF8.self) } }
    public var subjectAltDNSNames: [String] { alternativeNames(GEN_DNS).map { String(decoding: $0, as: UTF8.self) } }
    /// Each 4 or 16 bytes.
    public var subjectAltAddresses: [[UInt8]] { alternativeNames(GEN_IPADD) }

    private func alternativeNames(_ kind: Int32) -> [[UInt8]] {
        guard let raw = X509_get_ext_d2i(handle, NID_subject_alt_name, nil, nil) else { return [] }
        let names = OpaquePointer(raw)
        defer { GENERAL_NAMES_free(names) }
        var out: [[UInt8]] = []
        var length: Int32 = 0
        while let bytes = karri_san_at(names, kind, Int32(out.count), &length) {
            out.append(Array(UnsafeBufferPointer(start: bytes, count: Int(length))))
        }
        return out
    }

    public var notBefore: Timestamp? { Self.moment(X509_get0_notBefore(handle)) }
    public var notAfter: Timestamp? { Self.moment(X509_get0_notAfter(handle)) }

    private static func moment(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp? {
        var parts = tm()
        guard ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
        return Timestamp(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday), hour: Int(parts.tm_hour),
            minute: Int(parts.tm_min), second: Int(parts.tm_sec), millisecond: 0)
    }

    /// Whether `authority` issued and signed this certificate (names and signature; validity is the caller's to check).
    public func isIssued(by authority: Certificate) -> Bool {
        defer { ERR_clear_error() }
        guard X509_check_issued(authority.handle, handle) == X509_V_OK, let key = X509_get0_pubkey(authority.handle) else { return false }
        return X509_verify(handle, key) == 1
    }

    /// Whether an RSA PKCS#1 v1.5 signature is right.
    public func verify(signature: [UInt8], of bytes: some Collection<UInt8>, digest: Digest.Algorithm) -> Bool {
        (try? publicKey)?.verify(signature: signature, of: bytes, digest: digest) ?? false
    }

    /// RSA PKCS#1 v1.5 encryption for the certificate's key.
    public func wrap(_ bytes: some Collection<UInt8>) throws(CloudError) -> [UInt8] { try publicKey.wrap(bytes) }
}
