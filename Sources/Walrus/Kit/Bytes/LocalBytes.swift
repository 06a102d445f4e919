import Daemon
public import Domain
import Glibc
import NIOCore
public import NIOPosix
import Synchronization

/// Blobs as files: `incoming/<id>` until the commit, then `objects/ab/cd/<id>`.
///
/// Durable before the commit: fdatasync of the file, fsync of `incoming`. The rename to the fan-out comes after the commit and needs no
/// sync: after a power cut the file has the one name or the other, and readers look for both. Because of this order a crash can leave
/// bytes without a row in `incoming` only. All calls that may touch the disk run on the thread pool.
public final class LocalBytes: ObjectBytes {
    let root: String
    private let pool: NIOThreadPool
    private let incomingDescriptor: Int32
    private let lockDescriptor: Int32
    private let disk: any DiskCalls
    private let live = Mutex<Set<String>>([])

    /// Makes the folders, and takes the store's lock.
    /// - Parameters:
    ///   - exclusive: false: beside the process that holds the store, for reading only (`fsck`).
    ///   - disk: the calls that change the disk; tests record them.
    /// - Throws: `.unavailable` when another process holds the store, or the folder cannot be used.
    public convenience init(root: String, pool: NIOThreadPool, exclusive: Bool = true) throws(CloudError) {
        try self.init(root: root, pool: pool, exclusive: exclusive, disk: SystemDisk())
    }

    init(root: String, pool: NIOThreadPool, exclusive: Bool = true, disk: any DiskCalls) throws(CloudError) {
        self.root = root
        self.pool = pool
        self.disk = disk
        for folder in [root, root + "/incoming", root + "/objects"] where mkdir(folder, 0o700) != 0 && errno != EEXIST {
            throw CloudError(.unavailable("data_dir \(folder)"), "cannot make the folder \(folder): \(Self.errorText(errno))")
        }
        // A first start that loses its folders to a power cut would lose with them what was stored in them.
        for folder in [root.folder, root] {
            let descriptor = Glibc.open(folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            let isDone = descriptor >= 0 && fsync(descriptor) == 0
            let reason = Self.errorText(errno)
            if descriptor >= 0 { close(descriptor) }
            guard isDone else { throw CloudError(.unavailable("data_dir \(root)"), context: "cannot sync \(folder): \(reason)") }
        }
        lockDescriptor = Glibc.open(root + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lockDescriptor >= 0 else {
            throw CloudError(.unavailable("data_dir \(root)"), "cannot open \(root)/lock: \(Self.errorText(errno))")
        }
        guard !exclusive || flock(lockDescriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(lockDescriptor)
            throw CloudError(.unavailable("data_dir \(root)"), "another karri-walrus uses \(root)")
        }
        incomingDescriptor = Glibc.open(root + "/incoming", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard incomingDescriptor >= 0 else {
            let reason = Self.errorText(errno)
            close(lockDescriptor)
            throw CloudError(.unavailable("data_dir \(root)"), "cannot open \(root)/incoming: \(reason)")
        }
    }

    deinit {
        close(incomingDescriptor)
        close(lockDescriptor)
    }

    public func capacity() async throws(CloudError) -> BytesCapacity {
        try await run { [root] in
            var s = statvfs()
            guard statvfs(root, &s) == 0 else { throw Self.failure("statvfs", root) }
            return BytesCapacity(free: Int(s.f_bavail) * Int(s.f_frsize), total: Int(s.f_blocks) * Int(s.f_frsize))
        }
    }

    public func create(_ id: BlobID) async throws(CloudError) -> any BlobWriter {
        let path = incomingPath(id)
        live.withLock { _ = $0.insert(id.text) }
        do {
            return try await run { [pool, disk, incomingDescriptor] in
                let descriptor = disk.create(path)
                guard descriptor >= 0 else { throw Self.failure("create", path) }
                return LocalBlobWriter(path: path, descriptor: descriptor, folder: incomingDescriptor, pool: pool, disk: disk) { [self] in
                    live.withLock { _ = $0.remove(id.text) }
                }
            }
        } catch {
            live.withLock { _ = $0.remove(id.text) }
            throw error
        }
    }

    public func settle(_ id: BlobID) async throws(CloudError) {
        let from = incomingPath(id)
        let to = settledPath(id)
        try await run { [root, disk] in
            if disk.rename(from, to) == 0 { return }
            guard errno == ENOENT else { throw Self.failure("rename", from) }
            // Either the fan-out folder is not there yet, or the blob is settled already.
            let first = root + "/objects/" + id.text.prefix(2)
            let second = first + "/" + id.text.dropFirst(2).prefix(2)
            for folder in [first, second] where disk.makeFolder(folder) != 0 && errno != EEXIST { throw Self.failure("mkdir", folder) }
            if disk.rename(from, to) == 0 || (errno == ENOENT && access(to, F_OK) == 0) { return }
            throw Self.failure("rename", from)
        }
    }

    public func open(_ id: BlobID) async throws(CloudError) -> (any OpenBlob)? {
        // Twice: between the two looks the blob may have been settled.
        let paths = [settledPath(id), incomingPath(id), settledPath(id)]
        return try await run { [pool] in
            for path in paths {
                let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
                if descriptor >= 0 {
                    var s = stat()
                    guard fstat(descriptor, &s) == 0 else {
                        close(descriptor)
                        throw Self.failure("fstat", path)
                    }
                    return LocalBlob(source: FileSource(descriptor: descriptor), size: Int(s.st_size), pool: pool)
                }
                guard errno == ENOENT else { throw Self.failure("open", path) }
            }
            return nil
        }
    }

    public func remove(_ ids: [BlobID]) async throws(CloudError) {
        let paths = ids.map { (incomingPath($0), settledPath($0)) }
        try await run { [disk] in
            var folders: Set<String> = []
            for (incoming, settled) in paths {
                for path in [incoming, settled] {
                    if disk.unlink(path) == 0 {
                        folders.insert(path.folder)
                    } else if errno != ENOENT {
                        throw Self.failure("unlink", path)
                    }
                }
            }
            for folder in folders {
                let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                guard descriptor >= 0 else { throw Self.failure("open", folder) }
                defer { close(descriptor) }
                guard disk.syncFolder(descriptor, folder) == 0 else { throw Self.failure("fsync", folder) }
            }
        }
    }

    public func incoming() async throws(CloudError) -> [(id: BlobID, ageMilliseconds: Int)] {
        let found = try await run { [root] in
            var now = timespec()
            clock_gettime(CLOCK_REALTIME, &now)
            var out: [Found] = []
            try Self.list(root + "/incoming") { name, s in
                guard let id = BlobID(parsing: name) else { return }
                out.append(Found(id: id, number: max(0, (now.tv_sec - s.st_mtim.tv_sec) * 1000)))
            }
            return out
        }
        let busy = live.withLock { $0 }
        return found.filter { !busy.contains($0.id.text) }.map { ($0.id, $0.number) }
    }

    public func settled(prefix: String) async throws(CloudError) -> [(id: BlobID, size: Int)] {
        let found = try await run { [root] in
            var out: [Found] = []
            for second in 0..<256 {
                let digits = Hex.encode([UInt8(second)])
                try Self.list(root + "/objects/\(prefix)/\(digits)") { name, s in
                    guard let id = BlobID(parsing: name) else { return }
                    out.append(Found(id: id, number: Int(s.st_size)))
                }
            }
            return out
        }
        return found.map { ($0.id, $0.number) }
    }

    private struct Found: Sendable {
        let id: BlobID
        let number: Int
    }

    func incomingPath(_ id: BlobID) -> String { "\(root)/incoming/\(id.text)" }
    func settledPath(_ id: BlobID) -> String { "\(root)/objects/\(id.text.prefix(2))/\(id.text.dropFirst(2).prefix(2))/\(id.text)" }

    private func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws(CloudError) -> R {
        do { return try await pool.runIfActive(body) } catch let error as CloudError { throw error } catch {
            throw CloudError(.unavailable("object storage"), context: "\(error)")
        }
    }

    /// Calls `visit` for each regular file; a folder that is not there is empty.
    private static func list(_ folder: String, visit: (String, stat) -> Void) throws(CloudError) {
        guard let stream = opendir(folder) else {
            if errno == ENOENT { return }
            throw failure("opendir", folder)
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            var s = stat()
            if lstat("\(folder)/\(name)", &s) == 0, s.st_mode & S_IFMT == S_IFREG { visit(name, s) }
        }
    }

    static func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

    /// A failed call as an error: a full disk by its name, the rest as our own fault with the path in the log only.
    static func failure(_ call: String, _ path: String) -> CloudError {
        let code = errno
        let context = "\(call) \(path): \(errorText(code))"
        switch code {
        case ENOSPC, EDQUOT:
            return CloudError(
                .named(code: "InsufficientStorage", status: 507), "The object store has no space left for this object.", context: context)
        case EMFILE, ENFILE: return CloudError(.unavailable("object storage"), context: context)
        default: return .bug(context)
        }
    }
}

/// A file in `incoming`.
final class LocalBlobWriter: BlobWriter {
    private let path: String
    private let folder: Int32
    private let pool: NIOThreadPool
    private let disk: any DiskCalls
    private let release: @Sendable () -> Void
    /// The open file, -1 after the end. One task uses the writer, but its closures run on pool threads.
    private let descriptor: Mutex<Int32>

    init(
        path: String, descriptor: Int32, folder: Int32, pool: NIOThreadPool, disk: any DiskCalls,
        release: @escaping @Sendable () -> Void
    ) {
        self.disk = disk
        self.path = path
        self.descriptor = Mutex(descriptor)
        self.folder = folder
        self.pool = pool
        self.release = release
    }

    deinit {
        let open = descriptor.withLock { $0 }
        // Dropped without an end (the task was cancelled): the name must not stay.
        if open >= 0 {
            close(open)
            _ = disk.unlink(path)
            release()
        }
    }

    func append(_ bytes: ByteBuffer, observer: @escaping @Sendable (UnsafeRawBufferPointer) -> Void) async throws(CloudError) {
        try await run { descriptor in
            try bytes.withUnsafeReadableBytes { raw in
                observer(raw)
                var at = 0
                while at < raw.count {
                    let n = self.disk.write(descriptor, UnsafeRawBufferPointer(rebasing: raw[at...]))
                    if n < 0 {
                        if errno == EINTR { continue }
                        throw LocalBytes.failure("write", self.path)
                    }
                    at += n
                }
            }
        }
    }

    func makeDurable() async throws(CloudError) {
        try await run { descriptor in
            guard self.disk.sync(descriptor) == 0 else { throw LocalBytes.failure("fdatasync", self.path) }
            guard self.disk.syncFolder(self.folder, self.path.folder) == 0 else { throw LocalBytes.failure("fsync", "incoming") }
        }
        let open = descriptor.withLock { d in
            defer { d = -1 }
            return d
        }
        if open >= 0 { close(open) }
        release()
    }

    func abandon() async {
        let open = descriptor.withLock { d in
            defer { d = -1 }
            return d
        }
        if open >= 0 {
            close(open)
            release()
        }
        _ = try? await pool.runIfActive { [path, disk] in disk.unlink(path) }
    }

    private func run(_ body: @escaping @Sendable (Int32) throws -> Void) async throws(CloudError) {
        let open = descriptor.withLock { $0 }
        guard open >= 0 else { throw .bug("write to a finished blob \(path)") }
        do { try await pool.runIfActive { try body(open) } } catch let error as CloudError { throw error } catch {
            throw CloudError(.unavailable("object storage"), context: "\(error)")
        }
    }
}

/// An open file; closed when nobody holds it any more.
final class LocalBlob: OpenBlob {
    private let source: FileSource
    let size: Int
    private let pool: NIOThreadPool

    init(source: FileSource, size: Int, pool: NIOThreadPool) {
        self.source = source
        self.size = size
        self.pool = pool
    }

    var file: FileSource? { source }

    func read(offset: Int, length: Int) async throws(CloudError) -> ByteBuffer {
        do {
            return try await pool.runIfActive { [self] in
                var buffer = ByteBufferAllocator().buffer(capacity: length)
                while buffer.readableBytes < length {
                    let from = offset + buffer.readableBytes
                    let wanted = length - buffer.readableBytes
                    let n = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { raw in
                        max(0, pread(source.descriptor, raw.baseAddress, wanted, off_t(from)))
                    }
                    if n == 0 { throw CloudError.bug("a blob of \(size) bytes ends at \(from), before \(offset + length)") }
                }
                return buffer
            }
        } catch let error as CloudError { throw error } catch {
            throw CloudError(.unavailable("object storage"), context: "\(error)")
        }
    }
}
