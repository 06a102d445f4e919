import Glibc

/// The calls that change the disk, so that a test can write down in which order they came and what a power cut would have left of them.
/// All return what the system call returns, with `errno` set.
protocol DiskCalls: Sendable {
    /// Makes a new file for writing.
    func create(_ path: String) -> Int32
    func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int
    /// The file's bytes are on stable storage.
    func sync(_ descriptor: Int32) -> Int32
    /// The names in a folder are on stable storage.
    func syncFolder(_ descriptor: Int32, _ path: String) -> Int32
    func rename(_ from: String, _ to: String) -> Int32
    func unlink(_ path: String) -> Int32
    func makeFolder(_ path: String) -> Int32
}

/// The system's own.
struct SystemDisk: DiskCalls {
    func create(_ path: String) -> Int32 { Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600) }
    func write(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int { Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
    func sync(_ descriptor: Int32) -> Int32 { fdatasync(descriptor) }
    func syncFolder(_ descriptor: Int32, _ path: String) -> Int32 { fsync(descriptor) }
    func rename(_ from: String, _ to: String) -> Int32 { Glibc.rename(from, to) }
    func unlink(_ path: String) -> Int32 { Glibc.unlink(path) }
    func makeFolder(_ path: String) -> Int32 { mkdir(path, 0o700) }
}

extension String {
    /// The path of the folder that a file's path lies in.
    var folder: String { String(self[..<(lastIndex(of: "/") ?? startIndex)]) }
}
