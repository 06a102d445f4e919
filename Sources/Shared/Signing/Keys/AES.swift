import COpenSSL
public import Domain
import Synchronization

/// AES: CBC with 128 bits for image bundles (their format says so), GCM with 256 bits for secrets at rest.
public enum AES {
    static let block = 16
    private static let nonceLength = 12
    private static let tagLength = 16

    /// AES-128-CBC with PKCS#7 padding. `key` and `iv` have 16 bytes.
    public static func cbc128Encrypt(_ bytes: [UInt8], key: [UInt8], iv: [UInt8]) throws(CloudError) -> [UInt8] {
        let cipher = try CBCEncryptor(key: key, iv: iv)
        return try cipher.update(bytes[...]) + cipher.finish()
    }

    /// - Throws: `.invalidParameter("ciphertext")` for a length that is no multiple of 16, or wrong padding.
    public static func cbc128Decrypt(_ bytes: [UInt8], key: [UInt8], iv: [UInt8]) throws(CloudError) -> [UInt8] {
        let cipher = try CBCDecryptor(key: key, iv: iv)
        return try cipher.update(bytes[...]) + cipher.finish()
    }

    /// A secret at rest: nonce, ciphertext, tag. `context` is authenticated with it and must be given again to open it
    /// (say the id of the row, so that rows cannot be swapped).
    public static func seal(_ secret: [UInt8], key: [UInt8], context: [UInt8] = []) throws(CloudError) -> [UInt8] {
        let nonce = secureRandom(nonceLength)
        let cipher = try Cipher("AES-256-GCM", key: key, iv: nonce, keyLength: 32, encrypting: true)
        try cipher.authenticate(context)
        var out = nonce + (try cipher.update(secret[...]))
        out += try cipher.finish()
        return out + (try cipher.tag(length: tagLength))
    }

    /// - Throws: `.bug` when the bytes were not made by `seal` with this key and context: what is at rest was damaged, or the
    ///   key is another one.
    public static func open(_ sealed: [UInt8], key: [UInt8], context: [UInt8] = []) throws(CloudError) -> [UInt8] {
        guard sealed.count >= nonceLength + tagLength else { throw .bug("a sealed secret is too short") }
        let cipher = try Cipher("AES-256-GCM", key: key, iv: Array(sealed.prefix(nonceLength)), keyLength: 32, encrypting: false)
        try cipher.authenticate(context)
        let plain = try cipher.update(sealed[nonceLength..<(sealed.count - tagLength)])
        try cipher.expect(tag: Array(sealed.suffix(tagLength)))
        do throws(CloudError) { return plain + (try cipher.finish()) } catch {
            throw .bug("a sealed secret cannot be opened: another key, or damaged")
        }
    }

    /// Streaming AES-128-CBC encryption with PKCS#7 padding.
    public final class CBCEncryptor: Sendable {
        private let cipher: Cipher
        public init(key: [UInt8], iv: [UInt8]) throws(CloudError) {
            cipher = try Cipher("AES-128-CBC", key: key, iv: iv, keyLength: 16, encrypting: true)
        }
        public func update(_ bytes: ArraySlice<UInt8>) throws(CloudError) -> [UInt8] { try cipher.update(bytes) }
        public func update(_ bytes: [UInt8]) throws(CloudError) -> [UInt8] { try cipher.update(bytes[...]) }
        public func finish() throws(CloudError) -> [UInt8] { try cipher.finish() }
    }

    /// Streaming AES-128-CBC decryption with PKCS#7 padding.
    public final class CBCDecryptor: Sendable {
        private let cipher: Cipher
        public init(key: [UInt8], iv: [UInt8]) throws(CloudError) {
            cipher = try Cipher("AES-128-CBC", key: key, iv: iv, keyLength: 16, encrypting: false)
        }
        public func update(_ bytes: ArraySlice<UInt8>) throws(CloudError) -> [UInt8] { try cipher.update(bytes) }
        public func update(_ bytes: [UInt8]) throws(CloudError) -> [UInt8] { try cipher.update(bytes[...]) }
        /// - Throws: `.invalidParameter("ciphertext")`: the padding is wrong, so the key is another one or bytes are missing.
        public func finish() throws(CloudError) -> [UInt8] { try cipher.finish() }
    }
}

/// One EVP cipher in use.
final class Cipher: Sendable {
    // SAFETY: owned by this object, freed once, used only under the mutex.
    private struct Context: @unchecked Sendable {
        let handle: OpaquePointer?
    }
    private let state: Mutex<Context>
    private let encrypting: Bool

    init(_ name: String, key: [UInt8], iv: [UInt8], keyLength: Int, encrypting: Bool) throws(CloudError) {
        self.encrypting = encrypting
        guard key.count == keyLength else { throw CloudError(.invalidParameter("key"), "The key must have \(keyLength) bytes") }
        let method = EVP_CIPHER_fetch(nil, name, nil)
        let context = EVP_CIPHER_CTX_new()
        state = Mutex(Context(handle: context))
        defer { EVP_CIPHER_free(method) }
        guard let method, iv.count == Int(EVP_CIPHER_get_iv_length(method)) else {
            throw CloudError(.invalidParameter("iv"), "The initialisation vector has a wrong length")
        }
        guard EVP_CipherInit_ex2(context, method, key, iv, encrypting ? 1 : 0, nil) == 1 else {
            throw .bug("\(name): \(OpenSSL.lastError())")
        }
    }

    deinit { state.withLock { EVP_CIPHER_CTX_free($0.handle) } }

    func update(_ bytes: ArraySlice<UInt8>) throws(CloudError) -> [UInt8] {
        guard !bytes.isEmpty else { return [] }
        // OpenSSL counts in Int32: feed it at most 1 GiB at a time.
        var out: [UInt8] = []
        var rest = bytes
        while !rest.isEmpty {
            let piece = rest.prefix(1 << 30)
            rest = rest.dropFirst(piece.count)
            let done = state.withLock { context in
                [UInt8](unsafeUninitializedCapacity: piece.count + AES.block) { buffer, count in
                    var length: Int32 = 0
                    let ok = piece.withUnsafeBufferPointer {
                        EVP_CipherUpdate(context.handle, buffer.baseAddress, &length, $0.baseAddress, Int32($0.count))
                    }
                    count = ok == 1 ? Int(length) : 0
                }
            }
            if out.isEmpty { out = done } else { out += done }
        }
        return out
    }

    func finish() throws(CloudError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: AES.block)
        var length: Int32 = 0
        let ok = state.withLock { EVP_CipherFinal_ex($0.handle, &out, &length) }
        guard ok == 1 else {
            ERR_clear_error()
            throw CloudError(.invalidParameter("ciphertext"), "The bytes cannot be decrypted: another key, or bytes are missing")
        }
        return Array(out.prefix(Int(length)))
    }

    func authenticate(_ bytes: [UInt8]) throws(CloudError) {
        guard !bytes.isEmpty else { return }
        var length: Int32 = 0
        let ok = state.withLock { EVP_CipherUpdate($0.handle, nil, &length, bytes, Int32(bytes.count)) }
        guard ok == 1 else { throw .bug("GCM: \(OpenSSL.lastError())") }
    }

    func tag(length: Int) throws(CloudError) -> [UInt8] {
        var tag = [UInt8](repeating: 0, count: length)
        let ok = state.withLock { EVP_CIPHER_CTX_ctrl($0.handle, EVP_CTRL_AEAD_GET_TAG, Int32(length), &tag) }
        guard ok == 1 else { throw .bug("GCM: \(OpenSSL.lastError())") }
        return tag
    }

    func expect(tag: [UInt8]) throws(CloudError) {
        var tag = tag
        let ok = state.withLock { EVP_CIPHER_CTX_ctrl($0.handle, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), &tag) }
        guard ok == 1 else { throw .bug("GCM: \(OpenSSL.lastError())") }
    }
}
