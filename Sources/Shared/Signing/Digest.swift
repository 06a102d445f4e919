import COpenSSL
import Synchronization

/// Message digests, by OpenSSL's EVP. MD5 and SHA-1 are here because S3's ETag and Content-MD5, bundle manifests, SigV2 and old
/// WS-Security clients are made of them; nothing new is to use them.
public enum Digest {
    public enum Algorithm: Sendable, Hashable, CaseIterable {
        case md5, sha1, sha256, sha512
        /// Bytes of the digest.
        public var length: Int {
            switch self {
            case .md5: 16
            case .sha1: 20
            case .sha256: 32
            case .sha512: 64
            }
        }
    }

    /// 16 bytes.
    public static func md5(_ bytes: some Collection<UInt8>) -> [UInt8] { digest(bytes, .md5) }
    /// 20 bytes.
    public static func sha1(_ bytes: some Collection<UInt8>) -> [UInt8] { digest(bytes, .sha1) }
    /// 32 bytes.
    public static func sha256(_ bytes: some Collection<UInt8>) -> [UInt8] { digest(bytes, .sha256) }
    /// 64 bytes.
    public static func sha512(_ bytes: some Collection<UInt8>) -> [UInt8] { digest(bytes, .sha512) }

    public static func digest(_ bytes: some Collection<UInt8>, _ algorithm: Algorithm) -> [UInt8] {
        let whole: [UInt8]?? = bytes.withContiguousStorageIfAvailable { digest(UnsafeRawBufferPointer($0), algorithm) }
        if let whole, let digest = whole { return digest }
        return Array(bytes).withUnsafeBytes { digest($0, algorithm) } ?? []
    }

    private static func digest(_ bytes: UnsafeRawBufferPointer, _ algorithm: Algorithm) -> [UInt8]? {
        [UInt8](unsafeUninitializedCapacity: algorithm.length) { out, count in
            var length: UInt32 = 0
            let done = EVP_Digest(bytes.baseAddress, bytes.count, out.baseAddress, &length, DigestTable.shared.method(algorithm), nil)
            // EVP_Digest of a fetched digest fails only when memory has run out; going on with a wrong digest would be worse.
            precondition(done == 1 && Int(length) == algorithm.length, "OpenSSL digest failed")
            count = Int(length)
        }
    }

    /// A digest fed piece by piece. It may be handed from task to task, but its pieces are digested in the order of the calls.
    public final class Hasher: Sendable {
        private let state: Mutex<State>
        public let algorithm: Algorithm

        // SAFETY: the context is owned by this struct alone, is reached only under the mutex, and never leaves this file.
        private struct State: @unchecked Sendable {
            var context: OpaquePointer?
        }

        public init(_ algorithm: Algorithm) {
            self.algorithm = algorithm
            let context = EVP_MD_CTX_new()
            precondition(EVP_DigestInit_ex(context, DigestTable.shared.method(algorithm), nil) == 1, "OpenSSL digest failed")
            state = Mutex(State(context: context))
        }

        deinit { state.withLock { EVP_MD_CTX_free($0.context) } }

        public func update(_ bytes: UnsafeRawBufferPointer) {
            guard bytes.count > 0 else { return }
            state.withLock { _ = EVP_DigestUpdate($0.context, bytes.baseAddress, bytes.count) }
        }

        public func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }
        public func update(_ bytes: ArraySlice<UInt8>) { bytes.withUnsafeBytes { update($0) } }

        /// The digest of all pieces; the hasher is then as new.
        public func finish() -> [UInt8] {
            let length = algorithm.length
            let method = DigestTable.shared.method(algorithm)
            return state.withLock { state in
                [UInt8](unsafeUninitializedCapacity: length) { out, count in
                    var written: UInt32 = 0
                    precondition(EVP_DigestFinal_ex(state.context, out.baseAddress, &written) == 1, "OpenSSL digest failed")
                    count = Int(written)
                    EVP_DigestInit_ex(state.context, method, nil)
                }
            }
        }
    }
}

/// HMAC (RFC 2104).
public enum HMAC {
    public static func sha1(key: some Collection<UInt8>, _ data: some Collection<UInt8>) -> [UInt8] { code(key, data, .sha1) }
    public static func sha256(key: some Collection<UInt8>, _ data: some Collection<UInt8>) -> [UInt8] { code(key, data, .sha256) }

    private static func code(_ key: some Collection<UInt8>, _ data: some Collection<UInt8>, _ algorithm: Digest.Algorithm) -> [UInt8] {
        let key = Array(key)
        let data = Array(data)
        return [UInt8](unsafeUninitializedCapacity: algorithm.length) { out, count in
            var length: UInt32 = 0
            let made = COpenSSL.HMAC(
                DigestTable.shared.method(algorithm), key, Int32(key.count), data, data.count, out.baseAddress, &length)
            precondition(made != nil && Int(length) == algorithm.length, "OpenSSL HMAC failed")
            count = Int(length)
        }
    }
}

/// Compares secrets: takes the same time wherever they differ. Lengths are not secret.
public func constantTimeEqual(_ a: some Collection<UInt8>, _ b: some Collection<UInt8>) -> Bool {
    let a = Array(a)
    let b = Array(b)
    return a.count == b.count && (a.isEmpty || CRYPTO_memcmp(a, b, a.count) == 0)
}

/// The digest implementations, fetched once: `EVP_sha256()` and its like make OpenSSL 3 search its providers at every use.
struct DigestTable: @unchecked Sendable {
    // SAFETY: EVP_MD objects are immutable and reference-counted by OpenSSL with atomic operations; these live for ever.
    static let shared = DigestTable()
    private let md5: OpaquePointer?
    private let sha1: OpaquePointer?
    private let sha256: OpaquePointer?
    private let sha512: OpaquePointer?

    private init() {
        md5 = EVP_MD_fetch(nil, "MD5", nil)
        sha1 = EVP_MD_fetch(nil, "SHA1", nil)
        sha256 = EVP_MD_fetch(nil, "SHA256", nil)
        sha512 = EVP_MD_fetch(nil, "SHA512", nil)
    }

    func method(_ algorithm: Digest.Algorithm) -> OpaquePointer? {
        switch algorithm {
        case .md5: md5
        case .sha1: sha1
        case .sha256: sha256
        case .sha512: sha512
        }
    }
}

/// OpenSSL's random generator, for keys, serial numbers and nonces (never for anything that a simulation has to replay).
func secureRandom(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { out, filled in
        precondition(count == 0 || RAND_bytes(out.baseAddress, Int32(count)) == 1, "OpenSSL has no randomness")
        filled = count
    }
}
