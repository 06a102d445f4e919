import NIOCore
import Signing

/// Encryption and decryption of large pieces, away from the event loop that a request's task runs on.
extension AESCounter {
    /// - Parameter before: shown the bytes as they come.
    func staged(
        _ bytes: ByteBuffer, before: @escaping @Sendable (UnsafeRawBufferPointer) -> Void = { _ in }
    ) async -> ByteBuffer {
        await withTaskExecutorPreference(globalConcurrentExecutor) {
            var buffer = bytes
            buffer.withUnsafeReadableBytes { before($0) }
            buffer.withUnsafeMutableReadableBytes { self.apply($0) }
            return buffer
        }
    }
}
