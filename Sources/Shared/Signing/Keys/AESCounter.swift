import COpenSSL
public import Domain
import Synchronization

/// AES-256 in counter mode from any byte on: what stands at a place does not depend on what stands before it, so a range costs only
/// itself. Encrypting and decrypting are the same. It hides, it does not authenticate: the caller keeps digests.
///
/// One task uses it at a time, in order of the bytes.
public final class AESCounter: Sendable {
    // SAFETY: the context is owned by this object, freed once, and used only under the mutex.
    private struct Context: @unchecked Sendable {
        let handle: OpaquePointer?
    }
    private let state: Mutex<Context>

    /// - Parameters:
    ///   - key: 32 bytes, never used with the same nonce for other bytes.
    ///   - nonce: 16 bytes: the counter at byte 0.
    ///   - offset: of the first byte that will come.
    public init(key: [UInt8], nonce: [UInt8], offset: Int) throws(CloudError) {
        guard key.count == 32, nonce.count == 16, offset >= 0 else { throw .bug("AES-CTR with a key of \(key.count) bytes") }
        let context = EVP_CIPHER_CTX_new()
        state = Mutex(Context(handle: context))
        let counter = Self.advance(nonce, by: UInt64(offset / 16))
        guard EVP_CipherInit_ex2(context, CounterMode.shared.method, key, counter, 1, nil) == 1 else {
            throw .bug("AES-256-CTR: \(OpenSSL.lastError())")
        }
        if offset % 16 > 0 {
            var skipped = [UInt8](repeating: 0, count: offset % 16)
            skipped.withUnsafeMutableBytes { apply($0) }
        }
    }

    deinit { state.withLock { EVP_CIPHER_CTX_free($0.handle) } }

    /// The counter is a big-endian number of 128 bits.
    private static func advance(_ nonce: [UInt8], by blocks: UInt64) -> [UInt8] {
        var counter = nonce
        var carry = blocks
        for at in stride(from: 15, through: 0, by: -1) where carry > 0 {
            let sum = UInt64(counter[at]) + (carry & 0xFF)
            counter[at] = UInt8(truncatingIfNeeded: sum)
            carry = carry >> 8 + sum >> 8
        }
        return counter
    }

    /// Encrypts or decrypts the next bytes in their place.
    public func apply(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        state.withLock { context in
            var at = 0
            while at < bytes.count {
                let count = min(1 << 30, bytes.count - at)
                let place = (base + at).assumingMemoryBound(to: UInt8.self)
                var length: Int32 = 0
                // Counter mode of a set-up context fails only when memory has run out; going on would write plain text.
                precondition(
                    EVP_CipherUpdate(context.handle, place, &length, place, Int32(count)) == 1 && Int(length) == count, "AES-256-CTR failed"
                )
                at += count
            }
        }
    }

    /// A copy of `bytes`, encrypted or decrypted.
    public func applied(to bytes: [UInt8]) -> [UInt8] {
        var out = bytes
        out.withUnsafeMutableBytes { apply($0) }
        return out
    }
}

/// Fetched once: OpenSSL 3 searches its providers at every fetch.
private struct CounterMode: @unchecked Sendable {
    // SAFETY: EVP_CIPHER objects are immutable and reference-counted with atomic operations; this one lives for ever.
    static let shared = CounterMode()
    let method: OpaquePointer?
    private init() { method = EVP_CIPHER_fetch(nil, "AES-256-CTR", nil) }
}
