public import Domain
import Glibc

/// Small files, read and written whole. These calls block: use them at start-up, on a thread of your own or through `BlockingPool`.
public enum FileSystem {
    /// - Throws: `.unavailable` with the system's reason in `context`; `.requestTooLarge` when the file is larger than `limit` bytes.
    public static func read(_ path: String, limit: Int = 64 << 20) throws(CloudError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CloudError(.unavailable(path), context: "cannot open \(path): \(lastError)") }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = Glibc.read(descriptor, &chunk, chunk.count)
            if got < 0 {
                if errno == EINTR { continue }
                throw CloudError(.unavailable(path), context: "cannot read \(path): \(lastError)")
            }
            if got == 0 { return bytes }
            bytes += chunk[..<got]
            if bytes.count > limit { throw CloudError(.requestTooLarge(limit: limit), context: "\(path) is larger than \(limit) bytes") }
        }
    }

    /// Writes, fsyncs and renames, so that after a crash there is the old file or the new one, never half of one.
    /// - Throws: `.unavailable` with the system's reason in `context`.
    public static func writeAtomically(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644) throws(CloudError) {
        let scratch = path + ".new"
        func failure(_ what: String) -> CloudError { CloudError(.unavailable(path), context: "cannot \(what) \(scratch): \(lastError)") }
        let descriptor = open(scratch, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure("create") }
        var offset = 0
        while offset < bytes.count {
            let written = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + offset, $0.count - offset) }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else {
                let error = failure("write")
                close(descriptor)
                unlink(scratch)
                throw error
            }
            offset += written
        }
        guard fsync(descriptor) == 0 else {
            let error = failure("sync")
            close(descriptor)
            unlink(scratch)
            throw error
        }
        close(descriptor)
        guard rename(scratch, path) == 0 else {
            let error = failure("rename")
            unlink(scratch)
            throw error
        }
        let slash = path.lastIndex(of: "/") ?? path.startIndex
        let folder = open(slash == path.startIndex ? "/" : String(path[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
    public static func canRead(_ path: String) -> Bool { access(path, R_OK) == 0 }

    /// Makes the folder and those above it.
    /// - Throws: `.unavailable` with the system's reason in `context`.
    public static func makeFolder(_ path: String, mode: UInt32 = 0o755) throws(CloudError) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += "/" + part
            if mkdir(prefix, mode) != 0 && errno != EEXIST {
                throw CloudError(.unavailable(prefix), context: "cannot make \(prefix): \(lastError)")
            }
        }
    }

    /// The text of `errno`.
    static var lastError: String { describe(errno) }

    static func describe(_ code: Int32) -> String {
        // SAFETY: strerror's static buffer is copied at once; glibc's is per thread (since 2.32).
        strerror(code).map { String(cString: $0) } ?? "error \(code)"
    }
}
