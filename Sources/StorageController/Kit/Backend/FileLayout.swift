import Daemon
import Domain
import Glibc

/// Where the file backend keeps what, below `data_dir`. The file system is its memory: it survives any kill.
///
///     volumes/<vol>.qcow2      a volume; appears by rename, so it is always whole
///     volumes/<vol>.restoring  the copy of a snapshot on its way in
///     captures/<snap>.partial  a copy that a daemon is writing
///     captures/<snap>.qcow2    a copy that is complete
///     run/<vol>.qmp            the socket of a volume's daemon
///     run/<vol>.pid            written by the daemon
///     run/<vol>.port           the port last given to its NBD server
///     tls/                     the certificate of this host under the names that QEMU wants
struct FileLayout: Sendable {
    let root: String

    init(_ root: String) throws(CloudError) {
        self.root = root.hasSuffix("/") ? String(root.dropLast()) : root
        // sun_path has 108 bytes; 17 digits of id and the suffix need 30 of them.
        guard self.root.utf8.count <= 70 else {
            throw CloudError(.invalidParameter("data_dir"), "data_dir is longer than 70 bytes, which leaves no room for the sockets in it")
        }
    }

    func makeFolders() throws(CloudError) {
        for name in ["volumes", "captures", "run", "tls"] { try FileSystem.makeFolder("\(root)/\(name)", mode: 0o700) }
    }

    func volume(_ id: String) -> String { "\(root)/volumes/\(id).qcow2" }
    func restoring(_ id: String) -> String { "\(root)/volumes/\(id).restoring" }
    func creating(_ id: String) -> String { "\(root)/volumes/\(id).creating" }
    func partial(_ capture: String) -> String { "\(root)/captures/\(capture).partial" }
    func capture(_ capture: String) -> String { "\(root)/captures/\(capture).qcow2" }
    func socket(_ id: String) -> String { "\(root)/run/\(id).qmp" }
    func pid(_ id: String) -> String { "\(root)/run/\(id).pid" }
    func port(_ id: String) -> String { "\(root)/run/\(id).port" }
    var tls: String { "\(root)/tls" }

    /// The names in a folder that end so, without the ending.
    func names(in folder: String, ending: String) throws(CloudError) -> [String] {
        guard let handle = opendir("\(root)/\(folder)") else {
            throw CloudError(.unavailable("The storage"), context: "cannot read \(root)/\(folder): errno \(errno)")
        }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            // SAFETY: d_name ends with a NUL within the entry, which stays until the next readdir.
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(ending), name.count > ending.count { names.append(String(name.dropLast(ending.count))) }
        }
        return names.sorted()
    }

    /// The file's length and the bytes it takes on the disk; `nil` when there is none.
    func size(_ path: String) -> (length: Int, allocated: Int)? {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        return (Int(info.st_size), Int(info.st_blocks) * 512)
    }

    /// Gone afterwards, also when it was not there.
    func remove(_ path: String) throws(CloudError) {
        guard unlink(path) == 0 || errno == ENOENT else {
            throw CloudError(.unavailable("The storage"), context: "cannot remove \(path): errno \(errno)")
        }
    }

    /// On the disk before it is visible under its name, so that a power cut leaves all or nothing.
    func publish(_ scratch: String, as path: String) throws(CloudError) {
        let descriptor = open(scratch, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0, fsync(descriptor) == 0 else {
            if descriptor >= 0 { close(descriptor) }
            throw CloudError(.unavailable("The storage"), context: "cannot sync \(scratch): errno \(errno)")
        }
        close(descriptor)
        guard rename(scratch, path) == 0 else {
            throw CloudError(.unavailable("The storage"), context: "cannot rename \(scratch): errno \(errno)")
        }
        let slash = path.lastIndex(of: "/") ?? path.startIndex
        let folder = open(String(path[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
    }

    func read(_ path: String, at offset: Int, count: Int) throws(CloudError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CloudError(.unavailable("The storage"), context: "cannot open \(path): errno \(errno)") }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let got = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress! + filled, count - filled, off_t(offset + filled)) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw CloudError(.unavailable("The storage"), context: "cannot read \(path): errno \(errno)") }
            if got == 0 { break }
            filled += got
        }
        bytes.removeLast(count - filled)
        return bytes
    }

    func write(_ bytes: [UInt8], to path: String, at offset: Int) throws(CloudError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw CloudError(.unavailable("The storage"), context: "cannot open \(path): errno \(errno)") }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let done = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + written, bytes.count - written, off_t(offset + written))
            }
            if done < 0, errno == EINTR { continue }
            guard done > 0 else {
                let reason = errno == ENOSPC ? "no space left" : "errno \(errno)"
                throw CloudError(.unavailable("The storage"), context: "cannot write \(path): \(reason)")
            }
            written += done
        }
    }

    func space() throws(CloudError) -> (total: Int, free: Int) {
        var info = statvfs()
        guard statvfs(root, &info) == 0 else {
            throw CloudError(.unavailable("The storage"), context: "statvfs \(root): errno \(errno)")
        }
        return (Int(info.f_blocks) * Int(info.f_frsize), Int(info.f_bavail) * Int(info.f_frsize))
    }
}
