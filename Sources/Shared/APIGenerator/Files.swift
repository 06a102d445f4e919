import Glibc

/// Reading and writing files by name.
enum Files {
    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ what: String, _ path: String) { description = "\(what) \(path): \(String(cString: strerror(errno)))" }
    }

    static func read(_ path: String) throws -> [UInt8] {
        guard let file = fopen(path, "rb") else { throw Failure("cannot read", path) }
        defer { fclose(file) }
        var out: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let n = fread(&buffer, 1, buffer.count, file)
            if n == 0 { break }
            out.append(contentsOf: buffer[..<n])
        }
        guard ferror(file) == 0 else { throw Failure("cannot read", path) }
        return out
    }

    static func readIfPresent(_ path: String) throws -> [UInt8]? {
        access(path, F_OK) == 0 ? try read(path) : nil
    }

    static func write(_ bytes: [UInt8], _ path: String) throws {
        try makeFolder(path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/"))
        guard let file = fopen(path, "wb") else { throw Failure("cannot write", path) }
        let n = fwrite(bytes, 1, bytes.count, file)
        guard fclose(file) == 0, n == bytes.count else { throw Failure("cannot write", path) }
    }

    static func remove(_ path: String) throws {
        guard unlink(path) == 0 else { throw Failure("cannot remove", path) }
    }

    private static func makeFolder(_ path: String) throws {
        guard !path.isEmpty, access(path, F_OK) != 0 else { return }
        try makeFolder(path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/"))
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else { throw Failure("cannot make", path) }
    }

    /// The files below a folder whose names end so, as sorted relative paths.
    static func list(_ folder: String, suffix: String) throws -> [String] {
        guard let directory = opendir(folder) else { throw Failure("cannot list", folder) }
        defer { closedir(directory) }
        var out: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(".") { continue }
            if entry.pointee.d_type == UInt8(DT_DIR) {
                out += try list(folder + "/" + name, suffix: suffix).map { name + "/" + $0 }
            } else if name.hasSuffix(suffix) {
                out.append(name)
            }
        }
        return out.sorted()
    }
}
