import Daemon
import Domain
import Glibc
import Signing
public import Workflow

/// What came out of bundling one file.
public struct BundledImage: Sendable, Equatable {
    /// SHA-1 of the archive before compression, hexadecimal: the manifest's digest.
    public var digest: String
    public var parts: [BundleRecord.Part]
    /// RSA-encrypted for each recipient, hexadecimal.
    public var encryptedKeys: [String]
    public var encryptedIVs: [String]
}

/// Makes the AMI form of an image: tar (sparse) → gzip → AES-128-CBC → parts of 10 MiB. The same as `ec2-bundle-image` writes: manifest
/// version 2007-10-10. tar and gzip are the system's programs; what is between them never touches the disk.
public struct BundleWriter: Sendable {
    /// Bytes of a part; the last one may be shorter. What all bundlers use.
    public static let partBytes = 10 * 1024 * 1024

    private let random: any Random

    public init(random: any Random) { self.random = random }

    /// - Parameters:
    ///   - name: the image's name: of the file in the archive, and of the parts (`<name>.part.0`).
    ///   - folder: holds the file `name`; the parts are written beside it.
    ///   - recipients: PEM certificates that the key is wrapped for.
    ///   - isCancelled: asked after each piece.
    func bundle(
        _ name: String, in folder: String, for recipients: [String], isCancelled: @escaping @Sendable () -> Bool
    ) async throws(CloudError) -> BundledImage {
        let key = random.bytes(16)
        let iv = random.bytes(16)
        var keys: [String] = []
        var ivs: [String] = []
        for pem in recipients {
            let certificate = try Certificate(pem: pem)
            keys.append(Hex.encode(try certificate.wrap(Array(Hex.encode(key).utf8))))
            ivs.append(Hex.encode(try certificate.wrap(Array(Hex.encode(iv).utf8))))
        }
        let tar = try FilterProcess(
            "tar", ["--create", "--sparse", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644", "-C", folder, "--", name],
            takesInput: false)
        let gzip = try FilterProcess("gzip", ["-3", "-c"])
        let archiver = Archiver(tar, gzip)
        let cutter = PartCutter(gzip, folder: folder, name: name)
        let encryptor = try AES.CBCEncryptor(key: key, iv: iv)
        async let archived = archiver.run(isCancelled: isCancelled)
        let cut = await cutter.run(encryptor)
        if case .failure = cut {
            tar.interrupt()
            gzip.interrupt()
        }
        let archive = await archived
        // A cancellation, or a full disk, comes before what the programs then say of their broken input.
        if case .failure(let error) = archive, error.context != Archiver.brokenPipe { throw error }
        let parts = try cut.get()
        let digest = try archive.get()
        return BundledImage(digest: digest, parts: parts, encryptedKeys: keys, encryptedIVs: ivs)
    }
}

/// tar's output: digested, and on to gzip. On a thread of its own.
private actor Archiver {
    private nonisolated let executor = ThreadExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let tar: FilterProcess
    private let gzip: FilterProcess
    static let brokenPipe = "gzip does not read any more"

    init(_ tar: FilterProcess, _ gzip: FilterProcess) {
        self.tar = tar
        self.gzip = gzip
    }

    /// - Returns: the archive's SHA-1, hexadecimal.
    func run(isCancelled: @Sendable () -> Bool) -> Result<String, CloudError> {
        do throws(CloudError) { return .success(try archive(isCancelled)) } catch {
            tar.end()
            gzip.interrupt()
            return .failure(error)
        }
    }

    private func archive(_ isCancelled: @Sendable () -> Bool) throws(CloudError) -> String {
        let hasher = Digest.Hasher(.sha1)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            if isCancelled() { throw CloudError(.unavailable("The bundle task"), "The task was cancelled") }
            let got = tar.read(into: buffer)
            if got < 0 { throw CloudError(.unavailable("tar"), context: "reading from tar: errno \(errno)") }
            if got == 0 { break }
            let piece = UnsafeRawBufferPointer(rebasing: buffer[..<got])
            hasher.update(piece)
            guard gzip.write(piece) else { throw CloudError(.unavailable("gzip"), context: Self.brokenPipe) }
        }
        let status = tar.wait()
        tar.end()
        guard status == 0 else { throw CloudError(.unavailable("tar"), context: "tar ended with \(status)") }
        gzip.closeInput()
        return Hex.encode(hasher.finish())
    }
}

/// gzip's output: encrypted, and cut into parts. On a thread of its own.
private actor PartCutter {
    private nonisolated let executor = ThreadExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let gzip: FilterProcess
    private let folder: String
    private let name: String
    private var parts: [BundleRecord.Part] = []
    private var current: [UInt8] = []

    init(_ gzip: FilterProcess, folder: String, name: String) {
        self.gzip = gzip
        self.folder = folder
        self.name = name
    }

    func run(_ encryptor: AES.CBCEncryptor) -> Result<[BundleRecord.Part], CloudError> {
        do throws(CloudError) {
            let result = try cut(encryptor)
            gzip.end()
            return .success(result)
        } catch {
            gzip.interrupt()
            return .failure(error)
        }
    }

    private func cut(_ encryptor: AES.CBCEncryptor) throws(CloudError) -> [BundleRecord.Part] {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let got = buffer.withUnsafeMutableBytes { gzip.read(into: $0) }
            if got < 0 { throw CloudError(.unavailable("gzip"), context: "reading from gzip: errno \(errno)") }
            if got == 0 { break }
            try add(try encryptor.update(buffer[..<got]))
        }
        let status = gzip.wait()
        guard status == 0 else { throw CloudError(.unavailable("gzip"), context: "gzip ended with \(status)") }
        try add(try encryptor.finish())
        if !current.isEmpty { try writePart(current[...]) }
        Folder.sync(folder)
        return parts
    }

    private func add(_ bytes: [UInt8]) throws(CloudError) {
        current += bytes
        while current.count >= BundleWriter.partBytes {
            try writePart(current.prefix(BundleWriter.partBytes))
            current.removeFirst(BundleWriter.partBytes)
        }
    }

    private func writePart(_ bytes: ArraySlice<UInt8>) throws(CloudError) {
        let filename = "\(name).part.\(parts.count)"
        let path = folder + "/" + filename
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Folder.failure("create", path) }
        defer { close(descriptor) }
        var offset = 0
        while offset < bytes.count {
            let written = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + offset, $0.count - offset) }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { throw Folder.failure("write", path) }
            offset += written
        }
        guard fsync(descriptor) == 0 else { throw Folder.failure("sync", path) }
        parts.append(BundleRecord.Part(filename: filename, digest: Hex.encode(Digest.sha1(bytes)), size: bytes.count))
    }
}
