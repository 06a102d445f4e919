public import Daemon
public import Domain
public import NIOCore

/// The name of a run of bytes on disk: 32 lower-case hexadecimal digits, random, never used twice. Objects and parts refer to blobs;
/// a blob's bytes never change once they are durable.
public struct BlobID: Hashable, Sendable, CustomStringConvertible {
    public let text: String

    /// - Parameter random: 16 bytes of the caller's `Random`.
    public init(random: [UInt8]) {
        precondition(random.count == 16, "a blob id is 128 bits")
        text = Hex.encode(random)
    }

    /// `nil` for anything but 32 lower-case hexadecimal digits, so that no file name from elsewhere becomes a path.
    public init?(parsing text: String) {
        guard text.utf8.count == 32, text.utf8.allSatisfy({ ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }) else { return nil }
        self.text = text
    }

    public var description: String { text }
}

/// Where the bytes of objects live. The local file system is one; an S3 or RADOS engine may stand behind it.
///
/// The life of a blob: `create` → writes → `BlobWriter.makeDurable` → the database commit that refers to it → `settle`.
/// A blob that never got a row is in the *incoming* area, and only there, so that a restart finds leftovers without walking the store.
public protocol ObjectBytes: Sendable {
    /// Free and total bytes of the place.
    func capacity() async throws(CloudError) -> BytesCapacity
    func create(_ id: BlobID) async throws(CloudError) -> any BlobWriter
    /// Takes a blob out of the incoming area, after the commit. Idempotent; a failure loses nothing, the next start does it again.
    func settle(_ id: BlobID) async throws(CloudError)
    /// `nil` when there is no such blob (any more). An open blob can be read to its end even when it is removed meanwhile.
    func open(_ id: BlobID) async throws(CloudError) -> (any OpenBlob)?
    /// Removes blobs for good: when it returns, a power cut does not bring them back. Those that are not there count as removed.
    func remove(_ ids: [BlobID]) async throws(CloudError)
    /// The blobs of the incoming area that nobody in this process is writing, with the milliseconds since their last change.
    func incoming() async throws(CloudError) -> [(id: BlobID, ageMilliseconds: Int)]
    /// The settled blobs whose id starts with these two digits, with their sizes. For `fsck`.
    func settled(prefix: String) async throws(CloudError) -> [(id: BlobID, size: Int)]
}

public struct BytesCapacity: Sendable, Equatable {
    public let free: Int
    public let total: Int
    public init(free: Int, total: Int) {
        self.free = free
        self.total = total
    }
}

/// A blob that is being written, by one task.
public protocol BlobWriter: Sendable {
    /// Appends, and shows the same bytes to `observer` on the same thread: hashing needs no thread change of its own.
    func append(_ bytes: ByteBuffer, observer: @escaping @Sendable (UnsafeRawBufferPointer) -> Void) async throws(CloudError)
    /// When it returns, bytes and name are on stable storage.
    func makeDurable() async throws(CloudError)
    /// Throws the blob away. Harmless after an error, or twice.
    func abandon() async
}

/// A blob that is open for reading.
public protocol OpenBlob: Sendable {
    var size: Int { get }
    /// The local file, where there is one: sent by sendfile(2).
    var file: FileSource? { get }
    /// - Returns: exactly `length` bytes. - Throws: `.bug` when the blob is shorter.
    func read(offset: Int, length: Int) async throws(CloudError) -> ByteBuffer
}
