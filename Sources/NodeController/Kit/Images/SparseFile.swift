import Domain
import Glibc

/// A new file that is written from front to back. Blocks of zeros become holes.
///
/// Not Sendable: it belongs to the thread that writes it.
final class SparseFile {
    private let descriptor: Int32
    private let path: String
    private(set) var length = 0
    /// Nothing may be written behind this: what an order says is what it gets.
    private let limit: Int
    private static let block = 4096

    init(creating path: String, limit: Int) throws(CloudError) {
        self.path = path
        self.limit = limit
        unlink(path)
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Folder.failure("create", path) }
    }
    deinit { close(descriptor) }

    func append(_ bytes: UnsafeRawBufferPointer) throws(CloudError) {
        guard length + bytes.count <= limit else {
            throw CloudError(
                .named(code: "InvalidImage.Size", status: 400), "The image is larger than the \(limit) bytes that were declared")
        }
        var start = 0
        while start < bytes.count {
            // Whole blocks of the file: the first piece may be what is missing to the next block.
            var end = min(bytes.count, start + Self.block - (length % Self.block))
            let isHole = Self.isZero(bytes[start..<end])
            // Neighbours of the same kind go together.
            while end < bytes.count {
                let next = min(bytes.count, end + Self.block)
                guard Self.isZero(bytes[end..<next]) == isHole else { break }
                end = next
            }
            if !isHole { try write(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) }
            length += end - start
            start = end
        }
    }

    func append(_ bytes: [UInt8]) throws(CloudError) {
        var failure: CloudError?
        bytes.withUnsafeBytes { raw in
            do throws(CloudError) { try append(raw) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Zeros without bytes.
    func skip(_ count: Int) throws(CloudError) {
        guard length + count <= limit else {
            throw CloudError(
                .named(code: "InvalidImage.Size", status: 400), "The image is larger than the \(limit) bytes that were declared")
        }
        length += count
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(CloudError) {
        var offset = 0
        while offset < bytes.count {
            let written = pwrite(descriptor, bytes.baseAddress! + offset, bytes.count - offset, off_t(length + offset))
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { throw Folder.failure("write", path) }
            offset += written
        }
    }

    /// Its full length, on disk, and read only.
    func finish() throws(CloudError) {
        guard ftruncate(descriptor, off_t(length)) == 0, fsync(descriptor) == 0, fchmod(descriptor, 0o444) == 0 else {
            throw Folder.failure("finish", path)
        }
    }

    private static func isZero(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        let whole = UnsafeRawBufferPointer(rebasing: bytes)
        guard let base = whole.baseAddress else { return true }
        if whole.count == 0 || whole.load(as: UInt8.self) != 0 { return whole.count == 0 }
        // Equal to itself shifted by one byte, and starting with zero: all zero.
        return memcmp(base, base + 1, whole.count - 1) == 0
    }
}
