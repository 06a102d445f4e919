import Daemon
public import Domain
import Glibc
import Synchronization

/// Where the journal's records are: small named texts, each replaced as a whole and durable when the call returns.
public protocol JournalStorage: Sendable {
    /// Every record of the folder (`instances`, `bundles`, `node`, …), by name.
    func load(_ folder: String) async throws(CloudError) -> [String: [UInt8]]
    /// Durable when it returns; after a crash there is the old text or the new one.
    func save(_ folder: String, _ name: String, _ bytes: [UInt8]) async throws(CloudError)
    /// Removing what is not there is fine.
    func remove(_ folder: String, _ name: String) async throws(CloudError)
}

/// Files: write, fsync, rename, fsync of the folder. Mode 0600: records hold the secret names of volume exports.
///
/// Guests may fill the disk that the journal is on. An order to end one of them must be written all the same, so a little of the disk is
/// held in reserve: given up when a write finds no room, taken again when there is some.
public actor FileJournalStorage: JournalStorage {
    private let root: String
    private nonisolated let executor = ThreadExecutor()
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// - Parameter root: an absolute path; made when it is not there.
    public init(root: String) { self.root = root }

    private static let suffix = ".json"
    /// Too low: a node with many instances cannot write all their ends; too high: disk that nobody uses.
    private static let reserveBytes = 1 << 20
    private var reserve: String { root + "/.reserve" }
    private var hasReserve = false

    /// Best effort: without room there is no reserve, and without a reserve writes fail as they would.
    private func keepReserve() {
        guard !hasReserve, (Folder.space(root)?.free ?? 0) > 16 * Self.reserveBytes || FileSystem.exists(reserve) else { return }
        let descriptor = open(reserve, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        hasReserve = posix_fallocate(descriptor, 0, off_t(Self.reserveBytes)) == 0
        close(descriptor)
    }

    private func giveUpReserve() -> Bool {
        guard hasReserve, (Folder.space(root)?.free ?? 0) < Self.reserveBytes else { return false }
        unlink(reserve)
        hasReserve = false
        return true
    }

    public func load(_ folder: String) async throws(CloudError) -> [String: [UInt8]] {
        let path = root + "/" + folder
        try FileSystem.makeFolder(path, mode: 0o700)
        keepReserve()
        var out: [String: [UInt8]] = [:]
        for file in try Folder.names(path) {
            if file.hasSuffix(".new") {
                // A write that a crash cut off: the record as it was before is whole.
                unlink(path + "/" + file)
            } else if file.hasSuffix(Self.suffix) {
                out[String(file.dropLast(Self.suffix.count))] = try FileSystem.read(path + "/" + file)
            }
        }
        return out
    }

    public func save(_ folder: String, _ name: String, _ bytes: [UInt8]) async throws(CloudError) {
        let path = root + "/" + folder
        let file = path + "/" + name + Self.suffix
        do throws(CloudError) {
            try FileSystem.makeFolder(path, mode: 0o700)
            try FileSystem.writeAtomically(bytes, to: file, mode: 0o600)
            keepReserve()
        } catch {
            guard giveUpReserve() else { throw error }
            try FileSystem.makeFolder(path, mode: 0o700)
            try FileSystem.writeAtomically(bytes, to: file, mode: 0o600)
        }
    }

    public func remove(_ folder: String, _ name: String) async throws(CloudError) {
        let path = root + "/" + folder
        guard unlink(path + "/" + name + Self.suffix) == 0 else {
            if errno == ENOENT { return }
            throw CloudError(.unavailable("The node's journal"), context: "cannot remove \(name): errno \(errno)")
        }
        Folder.sync(path)
    }
}

/// Records in memory that outlive the node object, as a disk outlives a process. Writes can be made to fail.
public final class MemoryJournalStorage: JournalStorage {
    private let state = Mutex<[String: [String: [UInt8]]]>([:])
    private let failure = Mutex<CloudError?>(nil)

    public init() {}

    /// Until called with `nil`, every write fails with this and changes nothing.
    public func fail(with error: CloudError?) { failure.withLock { $0 = error } }

    public func load(_ folder: String) async throws(CloudError) -> [String: [UInt8]] { state.withLock { $0[folder] ?? [:] } }

    public func save(_ folder: String, _ name: String, _ bytes: [UInt8]) async throws(CloudError) {
        if let error = failure.withLock({ $0 }) { throw error }
        state.withLock { $0[folder, default: [:]][name] = bytes }
    }

    public func remove(_ folder: String, _ name: String) async throws(CloudError) {
        if let error = failure.withLock({ $0 }) { throw error }
        state.withLock { _ = $0[folder]?.removeValue(forKey: name) }
    }
}

/// What the system knows about folders. Blocking: for threads of one's own.
enum Folder {
    /// Names in the folder, without `.` and `..`, sorted.
    static func names(_ path: String) throws(CloudError) -> [String] {
        guard let folder = opendir(path) else {
            throw CloudError(.unavailable(path), context: "cannot list \(path): errno \(errno)")
        }
        defer { closedir(folder) }
        var out: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { out.append(name) }
        }
        return out.sorted()
    }

    static func sync(_ path: String) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    /// Removes the folder with all that is in it. Nothing there: fine. Links are removed, not followed.
    static func removeTree(_ path: String) throws(CloudError) {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        if info.st_mode & S_IFMT == S_IFDIR {
            for name in try names(path) { try removeTree(path + "/" + name) }
            guard rmdir(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
        } else {
            guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
        }
    }

    /// - Parameter asked: GiB, when it is known.
    static func full(_ path: String, asked: Int, context: String) -> CloudError {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? path
        let (free, total) = space(path) ?? space(folder) ?? (0, 0)
        return CloudError(
            .capacity(Shortage(.diskGiB, [.init("the node's disk", .diskGiB, asked: asked, free: free >> 30, limit: total >> 30)])),
            "The node's disk is full: \(free >> 20) MiB are free of \(total >> 20)", context: context)
    }

    static func failure(_ doing: String, _ path: String) -> CloudError {
        let code = errno
        // SAFETY: strerror's buffer is per thread in glibc (since 2.32) and copied at once.
        let reason = strerror(code).map { String(cString: $0) } ?? "errno \(code)"
        if code == ENOSPC || code == EDQUOT {
            return full(path, asked: 0, context: "cannot \(doing) \(path): \(reason)")
        }
        return CloudError(.unavailable("The node's disk"), context: "cannot \(doing) \(path): \(reason)")
    }

    /// Bytes that a file takes on disk, its length, or `nil` when it is not there.
    static func size(_ path: String) -> (allocated: Int, length: Int)? {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        return (Int(info.st_blocks) * 512, Int(info.st_size))
    }

    /// Bytes free for us and bytes in all of the file system that `path` is on.
    static func space(_ path: String) -> (free: Int, total: Int)? {
        var info = statvfs()
        guard statvfs(path, &info) == 0 else { return nil }
        return (Int(info.f_bavail) * Int(info.f_frsize), Int(info.f_blocks) * Int(info.f_frsize))
    }
}
