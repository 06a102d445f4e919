public import Daemon
public import Domain
import Glibc

/// The files of instances on this node: root disk and console.
public protocol InstanceDisks: Sendable {
    /// Makes the root disk over the image, at least `diskGiB` large, or finds the one that was made before (it is never made anew:
    /// the guest's data is in it).
    func root(_ instanceID: String, over image: CachedImage, diskGiB: Int) async throws(CloudError) -> DomainSpecification.FileDisk
    /// The root disk as it is; `nil` when there is none.
    func existingRoot(_ instanceID: String) async -> DomainSpecification.FileDisk?
    func consolePath(_ instanceID: String) -> String
    /// The last `limit` bytes of the console; empty when nothing was written.
    func console(_ instanceID: String, last limit: Int) async throws(CloudError) -> [UInt8]
    /// Removes all files of the instance. Nothing there: fine.
    func remove(_ instanceID: String) async throws(CloudError)
    /// Bytes free for disks to grow.
    func freeBytes() async -> Int
}

/// qcow2 overlays on cached images: made in milliseconds, and a base is read by all its instances and written by none.
public actor FileInstanceDisks: InstanceDisks {
    private let root: String
    private let runner: any CommandRunning
    private nonisolated let executor = ThreadExecutor()
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    /// Whether the file system has O_DIRECT; asked once.
    private var direct: Bool?

    /// Bytes of a console file above which its older half is cut off. Too high: a guest that writes without end fills the node's
    /// disk; too low: the boot messages are lost early.
    public static let consoleLimit = 4 << 20

    /// - Parameter root: an absolute path; made when it is not there.
    public init(root: String, runner: any CommandRunning) {
        self.root = root
        self.runner = runner
    }

    private nonisolated func folder(_ id: String) -> String { root + "/" + id }
    private nonisolated func rootPath(_ id: String) -> String { folder(id) + "/root.qcow2" }
    public nonisolated func consolePath(_ instanceID: String) -> String { folder(instanceID) + "/console.log" }

    public func root(_ instanceID: String, over image: CachedImage, diskGiB: Int) async throws(CloudError) -> DomainSpecification.FileDisk {
        if let disk = existingRoot(instanceID) { return disk }
        // Others may pass through, not look: the hypervisor may run as a user of its own.
        try FileSystem.makeFolder(folder(instanceID), mode: 0o711)
        let size = max(image.virtualSize, diskGiB << 30)
        let scratch = rootPath(instanceID) + ".new"
        unlink(scratch)
        let made = try await runner.run(
            Command("qemu-img", ["create", "-q", "-f", "qcow2", "-b", image.path, "-F", image.format, scratch, "\(size)"]))
        guard made.status == 0 else {
            let said = String(made.errors.suffix(300))
            if said.contains("No space left") {
                unlink(scratch)
                throw Folder.full(scratch, asked: diskGiB, context: said)
            }
            throw CloudError(.unavailable("The node's disk"), "The root disk of \(instanceID) could not be made", context: said)
        }
        // A name that is there is a disk that is whole.
        let descriptor = open(scratch, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Folder.failure("open", scratch) }
        let synced = fsync(descriptor)
        close(descriptor)
        guard synced == 0, rename(scratch, rootPath(instanceID)) == 0 else { throw Folder.failure("keep", scratch) }
        Folder.sync(folder(instanceID))
        return DomainSpecification.FileDisk(path: rootPath(instanceID), format: "qcow2", direct: hasDirectIO())
    }

    public func existingRoot(_ instanceID: String) -> DomainSpecification.FileDisk? {
        guard FileSystem.exists(rootPath(instanceID)) else { return nil }
        return DomainSpecification.FileDisk(path: rootPath(instanceID), format: "qcow2", direct: hasDirectIO())
    }

    private func hasDirectIO() -> Bool {
        if let direct { return direct }
        let probe = root + "/.direct"
        let descriptor = open(probe, O_RDWR | O_CREAT | O_CLOEXEC | Self.oDirect, 0o600)
        if descriptor >= 0 { close(descriptor) }
        unlink(probe)
        direct = descriptor >= 0
        return descriptor >= 0
    }
    /// `O_DIRECT` on x86-64 Linux; Glibc's module does not show it without _GNU_SOURCE.
    private static let oDirect: Int32 = 0o40000

    public func console(_ instanceID: String, last limit: Int) async throws(CloudError) -> [UInt8] {
        let newest = try Self.end(of: consolePath(instanceID), limit)
        if newest.count >= limit { return newest }
        // libvirt's log daemon begins a new file when one is large: the end of the one before belongs to it.
        return try Self.end(of: consolePath(instanceID) + ".0", limit - newest.count) + newest
    }

    private static func end(of path: String, _ limit: Int) throws(CloudError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return [] }
            throw Folder.failure("open", path)
        }
        defer { close(descriptor) }
        let size = Int(lseek(descriptor, 0, SEEK_END))
        let start = max(0, size - limit)
        var bytes = [UInt8](repeating: 0, count: size - start)
        var filled = 0
        while filled < bytes.count {
            let got = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress! + filled, $0.count - filled, off_t(start + filled)) }
            if got < 0 && errno == EINTR { continue }
            if got <= 0 { break }
            filled += got
        }
        return Array(bytes.prefix(filled))
    }

    public func remove(_ instanceID: String) async throws(CloudError) { try Folder.removeTree(folder(instanceID)) }

    public func freeBytes() async -> Int {
        if let space = Folder.space(root) { return space.free }
        // Before the first instance.
        try? FileSystem.makeFolder(root, mode: 0o711)
        return Folder.space(root)?.free ?? 0
    }

    /// Cuts off the older half of consoles that have grown too large: QEMU appends, so what is punched out of the front costs
    /// nothing more. The file keeps its length; `console` reads only its end.
    public func trimConsoles() async {
        for id in (try? Folder.names(root)) ?? [] {
            let path = consolePath(id)
            guard let size = Folder.size(path), size.allocated > Self.consoleLimit else { continue }
            let descriptor = open(path, O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            _ = Self.fallocate?(descriptor, Self.punchHole, 0, off_t(size.length - Self.consoleLimit / 2))
            close(descriptor)
        }
    }
    private typealias Fallocate = @convention(c) (Int32, Int32, off_t, off_t) -> Int32
    // SAFETY: the signature is that of fcntl.h; glibc shows it with _GNU_SOURCE only, which the Glibc module does not set.
    private static let fallocate = dlsym(nil, "fallocate").map { unsafeBitCast($0, to: Fallocate.self) }
    /// FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h).
    private static let punchHole: Int32 = 0x01 | 0x02
}
