import COpenSSL
public import Domain

/// A private key: RSA for everything that is signed or wrapped here (XML signatures and AMI bundles know nothing else).
public final class PrivateKey: Sendable {
    // SAFETY: owned by this object and freed once; OpenSSL reads an EVP_PKEY from many threads at a time, and nothing here writes it.
    nonisolated(unsafe) let handle: OpaquePointer

    init(owning handle: OpaquePointer) { self.handle = handle }
    deinit { EVP_PKEY_free(handle) }

    /// - Parameter pem: PKCS#8 or traditional, not encrypted.
    /// - Throws: `.invalidParameter("PrivateKey")`; the text of the key is in no message.
    public convenience init(pem: String) throws(CloudError) {
        let key = OpenSSL.reading(pem) { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in 0 }, nil) }
        guard let key else { throw CloudError(.invalidParameter("PrivateKey"), "The text is not a PEM private key") }
        self.init(owning: key)
    }

    /// A new RSA key with exponent 65537; takes about 0.1 s of CPU for 2048 bits.
    /// - Parameter bits: 2048...8192.
    public static func generateRSA(bits: Int = 2048) throws(CloudError) -> PrivateKey {
        guard (2048...8192).contains(bits), let key = karri_rsa_keygen(Int32(bits)) else {
            throw .bug("RSA key of \(bits) bits: \(OpenSSL.lastError())")
        }
        return PrivateKey(owning: key)
    }

    /// A new Ed25519 key (`CreateKeyPair` with KeyType ed25519).
    public static func generateEd25519() throws(CloudError) -> PrivateKey {
        let context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_generate(context, &key) == 1, let key else {
            throw .bug("Ed25519 key: \(OpenSSL.lastError())")
        }
        return PrivateKey(owning: key)
    }

    public var isRSA: Bool { EVP_PKEY_get_base_id(handle) == EVP_PKEY_RSA }

    /// PKCS#8, `-----BEGIN PRIVATE KEY-----`.
    public var pem: String {
        OpenSSL.text { PEM_write_bio_PKCS8PrivateKey($0, handle, nil, nil, 0, nil, nil) }
    }

    /// The form that EC2's `CreateKeyPair` gives and every ssh reads: `-----BEGIN RSA PRIVATE KEY-----`; for Ed25519 OpenSSH's own.
    public var keyPairPEM: String {
        isRSA ? OpenSSL.text { PEM_write_bio_PrivateKey_traditional($0, handle, nil, nil, 0, nil, nil) } : openSSHPEM
    }

    /// PKCS#8 as DER. EC2's fingerprint of a key pair that it made is the SHA-1 of this.
    public var pkcs8DER: [UInt8] {
        let info = EVP_PKEY2PKCS8(handle)
        defer { PKCS8_PRIV_KEY_INFO_free(info) }
        return OpenSSL.der { i2d_PKCS8_PRIV_KEY_INFO(info, $0) }
    }

    public var publicKey: PublicKey {
        EVP_PKEY_up_ref(handle)
        return PublicKey(owning: handle)
    }

    /// RSA PKCS#1 v1.5 decryption, as AMI manifests use it.
    /// - Throws: `.invalidParameter("key")`, the same for every cause: why it failed would be a padding oracle.
    public func unwrap(_ wrapped: some Collection<UInt8>) throws(CloudError) -> [UInt8] {
        let refusal = CloudError(.invalidParameter("key"), "The key cannot be unwrapped: it was not wrapped for this certificate")
        let wrapped = Array(wrapped)
        let context = EVP_PKEY_CTX_new(handle, nil)
        defer {
            EVP_PKEY_CTX_free(context)
            ERR_clear_error()
        }
        guard isRSA, wrapped.count == Int(EVP_PKEY_get_size(handle)), EVP_PKEY_decrypt_init(context) == 1,
            karri_rsa_padding_pkcs1(context) == 1
        else { throw refusal }
        var length = Int(EVP_PKEY_get_size(handle))
        var out = [UInt8](repeating: 0, count: length)
        guard EVP_PKEY_decrypt(context, &out, &length, wrapped, wrapped.count) == 1 else { throw refusal }
        return Array(out.prefix(length))
    }

    /// RSA PKCS#1 v1.5 signature.
    public func sign(_ bytes: some Collection<UInt8>, _ digest: Digest.Algorithm) throws(CloudError) -> [UInt8] {
        let bytes = Array(bytes)
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var length = 0
        guard EVP_DigestSignInit(context, nil, DigestTable.shared.method(digest), nil, handle) == 1,
            EVP_DigestSign(context, nil, &length, bytes, bytes.count) == 1
        else { throw .bug("sign: \(OpenSSL.lastError())") }
        var out = [UInt8](repeating: 0, count: length)
        guard EVP_DigestSign(context, &out, &length, bytes, bytes.count) == 1 else { throw .bug("sign: \(OpenSSL.lastError())") }
        return Array(out.prefix(length))
    }

    /// OpenSSH's container of an Ed25519 key (openssh-portable's PROTOCOL.key), without a passphrase.
    private var openSSHPEM: String {
        var seed = [UInt8](repeating: 0, count: 32)
        var length = seed.count
        EVP_PKEY_get_raw_private_key(handle, &seed, &length)
        let blob = publicKey.openSSHBlob
        let point = Array(blob.suffix(32))
        let check = secureRandom(4)
        var secret = check + check
        secret += SSHWire.string(Array("ssh-ed25519".utf8)) + SSHWire.string(point) + SSHWire.string(seed + point) + SSHWire.string([])
        var pad: UInt8 = 1
        while secret.count % 8 != 0 {
            secret.append(pad)
            pad += 1
        }
        let none = SSHWire.string(Array("none".utf8))
        let whole =
            Array("openssh-key-v1\0".utf8) + none + none + SSHWire.string([]) + [0, 0, 0, 1] + SSHWire.string(blob) + SSHWire.string(secret)
        return PEM.wrap("OPENSSH PRIVATE KEY", whole, columns: 70)
    }
}

/// A public key.
public final class PublicKey: Sendable {
    // SAFETY: as in PrivateKey. The handle may be that of a private key; only its public half is used.
    nonisolated(unsafe) let handle: OpaquePointer

    init(owning handle: OpaquePointer) { self.handle = handle }
    deinit { EVP_PKEY_free(handle) }

    /// From SubjectPublicKeyInfo.
    public convenience init(der: [UInt8]) throws(CloudError) {
        let key = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var cursor = buffer.baseAddress
            guard let key = d2i_PUBKEY(nil, &cursor, buffer.count) else { return nil }
            // Nothing may follow the key.
            guard cursor == buffer.baseAddress?.advanced(by: buffer.count) else {
                EVP_PKEY_free(key)
                return nil
            }
            return key
        }
        ERR_clear_error()
        guard let key else { throw CloudError(.invalidParameter("PublicKey"), "The bytes are not a public key") }
        self.init(owning: key)
    }

    public var isRSA: Bool { EVP_PKEY_get_base_id(handle) == EVP_PKEY_RSA }
    public var bits: Int { Int(EVP_PKEY_get_bits(handle)) }

    /// SubjectPublicKeyInfo. EC2's fingerprint of an imported RSA key is the MD5 of this.
    public var der: [UInt8] { OpenSSL.der { i2d_PUBKEY(handle, $0) } }
    public var pem: String { PEM.wrap("PUBLIC KEY", der, columns: 64) }

    /// RSA PKCS#1 v1.5 encryption, as AMI manifests wrap their AES key and IV.
    public func wrap(_ bytes: some Collection<UInt8>) throws(CloudError) -> [UInt8] {
        let bytes = Array(bytes)
        let context = EVP_PKEY_CTX_new(handle, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var length = Int(EVP_PKEY_get_size(handle))
        var out = [UInt8](repeating: 0, count: length)
        guard isRSA, EVP_PKEY_encrypt_init(context) == 1, karri_rsa_padding_pkcs1(context) == 1,
            EVP_PKEY_encrypt(context, &out, &length, bytes, bytes.count) == 1
        else { throw .bug("wrap: \(OpenSSL.lastError())") }
        return Array(out.prefix(length))
    }

    /// Whether an RSA PKCS#1 v1.5 signature is right. The signature has exactly the key's length.
    public func verify(signature: [UInt8], of bytes: some Collection<UInt8>, digest: Digest.Algorithm) -> Bool {
        guard isRSA, signature.count == Int(EVP_PKEY_get_size(handle)) else { return false }
        let bytes = Array(bytes)
        let context = EVP_MD_CTX_new()
        defer {
            EVP_MD_CTX_free(context)
            ERR_clear_error()
        }
        return EVP_DigestVerifyInit(context, nil, DigestTable.shared.method(digest), nil, handle) == 1
            && EVP_DigestVerify(context, signature, signature.count, bytes, bytes.count) == 1
    }

    /// Fit for a registered certificate: RSA of 2048...8192 bits and an odd exponent of at least 65537.
    public var isStrongRSA: Bool {
        guard isRSA, (2048...8192).contains(bits) else { return false }
        var e: OpaquePointer?
        guard EVP_PKEY_get_bn_param(handle, "e", &e) == 1 else { return false }
        defer { BN_free(e) }
        return BN_is_odd(e) == 1 && BN_num_bits(e) >= 17 && BN_num_bits(e) <= 64
    }

    /// The public key as ssh sends it (RFC 4253 §6.6, RFC 8709 §4).
    public var openSSHBlob: [UInt8] {
        guard isRSA else {
            var point = [UInt8](repeating: 0, count: 32)
            var length = point.count
            EVP_PKEY_get_raw_public_key(handle, &point, &length)
            return SSHWire.string(Array("ssh-ed25519".utf8)) + SSHWire.string(point)
        }
        return SSHWire.string(Array("ssh-rsa".utf8)) + SSHWire.number(number("e")) + SSHWire.number(number("n"))
    }

    /// One line of `authorized_keys`, without a line break.
    public func openSSHPublicKey(comment: String) -> String {
        let line = (isRSA ? "ssh-rsa " : "ssh-ed25519 ") + Base64.encode(openSSHBlob)
        return comment.isEmpty ? line : line + " " + comment
    }

    private func number(_ name: String) -> [UInt8] {
        var n: OpaquePointer?
        guard EVP_PKEY_get_bn_param(handle, name, &n) == 1 else { return [] }
        defer { BN_free(n) }
        var out = [UInt8](repeating: 0, count: Int(BN_num_bits(n) + 7) / 8)
        BN_bn2bin(n, &out)
        return out
    }
}
