import COpenSSL
public import Domain

/// A public key of an OpenID Connect provider, and the two signatures that such providers make: RS256 and ES256.
/// Sources: RFC 7517 (keys), RFC 7518 §3.3, §3.4, §6 (algorithms and parameters).
public final class WebKey: Sendable {
    public enum Algorithm: String, Sendable { case rs256 = "RS256", es256 = "ES256" }

    public let algorithm: Algorithm
    // SAFETY: owned by this object and freed once; OpenSSL reads an EVP_PKEY from many threads at a time, and nothing here writes it.
    private nonisolated(unsafe) let handle: OpaquePointer

    /// - Parameters: `n` and `e` of the key, big-endian.
    /// - Throws: `.invalidParameter("jwk")` for a key that is none, or shorter than 2048 bits.
    public init(rsaModulus modulus: [UInt8], exponent: [UInt8]) throws(CloudError) {
        let modulus = Array(modulus.drop { $0 == 0 })
        guard (256...1024).contains(modulus.count), (1...8).contains(exponent.count) else { throw Self.refused }
        let key = Self.sequence(Self.integer(modulus) + Self.integer(exponent))
        // rsaEncryption, NULL
        let algorithm = Self.sequence([0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00])
        handle = try Self.read(Self.sequence(algorithm + Self.element(0x03, [0] + key)))
        self.algorithm = .rs256
    }

    /// A point of the curve P-256, 32 bytes each.
    public init(p256X x: [UInt8], y: [UInt8]) throws(CloudError) {
        guard x.count == 32, y.count == 32 else { throw Self.refused }
        // id-ecPublicKey, prime256v1
        let algorithm = Self.sequence([
            0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
        ])
        handle = try Self.read(Self.sequence(algorithm + Self.element(0x03, [0, 4] + x + y)))
        self.algorithm = .es256
    }

    deinit { EVP_PKEY_free(handle) }

    /// - Parameter signature: as in a JWS: for ES256 the two numbers side by side.
    public func verify(_ signature: [UInt8], of bytes: [UInt8]) -> Bool {
        var signature = signature
        if algorithm == .es256 {
            guard signature.count == 64 else { return false }
            signature = Self.sequence(
                Self.integer(Array(signature[..<32].drop { $0 == 0 })) + Self.integer(Array(signature[32...].drop { $0 == 0 })))
        }
        let context = EVP_MD_CTX_new()
        defer {
            EVP_MD_CTX_free(context)
            ERR_clear_error()
        }
        return EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, handle) == 1
            && EVP_DigestVerify(context, signature, signature.count, bytes, bytes.count) == 1
    }

    private static let refused = CloudError(.invalidParameter("jwk"), "The key is not an RSA key of at least 2048 bits or a point of P-256")

    private static func read(_ der: [UInt8]) throws(CloudError) -> OpaquePointer {
        let key = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var at = buffer.baseAddress
            return d2i_PUBKEY(nil, &at, buffer.count)
        }
        guard let key else {
            ERR_clear_error()
            throw refused
        }
        return key
    }

    // MARK: DER

    private static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        var length: [UInt8] = []
        var rest = content.count
        if rest < 0x80 { return [tag, UInt8(rest)] + content }
        while rest > 0 {
            length.insert(UInt8(rest & 255), at: 0)
            rest >>= 8
        }
        return [tag, 0x80 | UInt8(length.count)] + length + content
    }
    private static func sequence(_ content: [UInt8]) -> [UInt8] { element(0x30, content) }
    /// Of a positive number.
    private static func integer(_ bytes: [UInt8]) -> [UInt8] {
        let bytes = bytes.isEmpty ? [0] : bytes
        return element(0x02, (bytes[0] & 0x80 != 0 ? [0] : []) + bytes)
    }
}

/// Passwords at rest: PBKDF2 with HMAC-SHA-256. Source: RFC 8018 §5.2; the count is OWASP's of 2023.
public enum PasswordHash {
    /// Too low: a stolen database is guessed through; too high: each log-in costs that much CPU (0.2 s here).
    static let rounds = 600_000

    /// `pbkdf2-sha256$rounds$salt$hash`. Blocks for the time that it takes: not for the cooperative pool.
    public static func make(_ password: String) throws(CloudError) -> String {
        let salt = secureRandom(16)
        return "pbkdf2-sha256$\(rounds)$\(Base64.encode(salt))$\(Base64.encode(try derive(password, salt, rounds)))"
    }

    public static func verify(_ password: String, _ stored: String) throws(CloudError) -> Bool {
        let parts = stored.split(separator: "$")
        guard parts.count == 4, parts[0] == "pbkdf2-sha256", let rounds = Int(parts[1]), let salt = Base64.decode(parts[2]),
            let hash = Base64.decode(parts[3])
        else { throw .bug("a stored password that cannot be read") }
        return constantTimeEqual(try derive(password, salt, rounds), hash)
    }

    private static func derive(_ password: String, _ salt: [UInt8], _ rounds: Int) throws(CloudError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        let length = Int32(password.utf8.count)
        guard PKCS5_PBKDF2_HMAC(password, length, salt, Int32(salt.count), Int32(rounds), EVP_sha256(), 32, &out) == 1 else {
            throw .bug("PBKDF2: \(OpenSSL.lastError())")
        }
        return out
    }
}
