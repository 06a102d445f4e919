public import API
public import Daemon
public import Domain
import Glibc
import Wire
public import Logging
import Synchronization
public import Workflow

/// The node's image cache: immutable files named by digest. One download for each image however many ask; a hit touches no network;
/// the least recently used goes when space is needed, and what an instance is made of never does.
///
/// A file that has its name is whole and verified: it was written under another name, synced and renamed. After a restart the names are
/// read again; everything else in the folder is swept.
public actor ImageCache: ImageStore {
    private struct Entry {
        var image: CachedImage
        /// Bytes that it takes on the disk.
        var bytes: Int
        /// Order of use; the smallest goes first.
        var used: Int64
    }

    /// Somebody who waits for another's download; a cancelled one goes without it.
    private final class Waiter: Sendable {
        /// `nil`: whoever was fetching gave up.
        typealias Outcome = Result<CachedImage, CloudError>?
        private let nudge = Nudge()
        private let outcome = Mutex<Outcome?>(nil)
        func finish(_ result: Outcome) {
            outcome.withLock { $0 = .some(result) }
            nudge.signal()
        }
        /// - Throws: when the waiting task is cancelled.
        func wait() async throws(CloudError) -> Outcome {
            await nudge.wait()
            guard let outcome = outcome.withLock({ $0 }) else { throw CloudError(.unavailable("The image"), context: "cancelled") }
            return outcome
        }
    }

    private let folder: String
    private let limitBytes: Int
    private let fetcher: ImageFetcher
    private let runner: any CommandRunning
    private let clock: any Clock
    private let logger: Logger
    private let place: String
    /// Keys of the images that instances are made of.
    private let inUse: @Sendable () async -> Set<String>
    private nonisolated let executor = ThreadExecutor()
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private var entries: [String: Entry] = [:]
    /// Bytes promised to downloads under way.
    private var reserved: [String: Int] = [:]
    private var flights: [String: [Waiter]] = [:]
    private var uses: Int64 = 0
    public private(set) var downloads = 0
    public private(set) var hits = 0

    /// - Parameters:
    ///   - folder: an absolute path; made when it is not there.
    ///   - place: the node's name, for messages.
    public init(
        folder: String, limitMiB: Int, fetcher: ImageFetcher, runner: any CommandRunning, clock: any Clock, logger: Logger, place: String,
        inUse: @escaping @Sendable () async -> Set<String>
    ) {
        self.folder = folder
        limitBytes = limitMiB << 20
        self.fetcher = fetcher
        self.runner = runner
        self.clock = clock
        self.logger = logger
        self.place = place
        self.inUse = inUse
    }

    /// Reads what is there. Call it once, before anything else.
    public func open() throws(CloudError) {
        // Others may pass through, not look: the hypervisor may run as a user of its own.
        try FileSystem.makeFolder(folder, mode: 0o711)
        for name in try Folder.names(folder) {
            let path = folder + "/" + name
            guard let image = Self.parse(name, folder), let size = Folder.size(path) else {
                // A download that a kill cut off.
                unlink(path)
                continue
            }
            var info = stat()
            let used = lstat(path, &info) == 0 ? Int64(info.st_mtim.tv_sec) * 1000 + Int64(info.st_mtim.tv_nsec) / 1_000_000 : 0
            entries[image.key] = Entry(image: image, bytes: size.allocated, used: used)
            uses = max(uses, used)
        }
    }

    /// `<key>.<bytes of the disk>.<format>`: all that there is to know of a file is in its name.
    private static func name(_ key: String, _ virtualSize: Int, _ format: String) -> String { "\(key).\(virtualSize).\(format)" }
    private static func parse(_ name: String, _ folder: String) -> CachedImage? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, Hex.decode(parts[0]) != nil, let size = Int(parts[1]), parts[2] == "raw" || parts[2] == "qcow2" else {
            return nil
        }
        return CachedImage(key: String(parts[0]), path: folder + "/" + name, format: String(parts[2]), virtualSize: size)
    }

    // MARK: ImageStore

    public func image(_ source: NC.ImageSource) async throws(CloudError) -> CachedImage {
        guard let key = source.cacheKey?.lowercased(), Hex.decode(key) != nil else { throw CloudError(.invalidParameter("cacheKey")) }
        while true {
            if let entry = entries[key] {
                hits += 1
                touch(key)
                return entry.image
            }
            if flights[key] != nil {
                let waiter = Waiter()
                flights[key]?.append(waiter)
                if let outcome = try await waiter.wait() { return try outcome.get() }
                // Whoever was fetching it gave up, or had addresses that are not valid any more: ours may be.
                continue
            }
            flights[key] = []
            let outcome: Result<CachedImage, CloudError>
            do throws(CloudError) { outcome = .success(try await download(key, source)) } catch { outcome = .failure(error) }
            let waiting = flights.removeValue(forKey: key) ?? []
            let shared: Result<CachedImage, CloudError>? = Task.isCancelled || Self.isOnlyOurs(outcome) ? nil : outcome
            for waiter in waiting { waiter.finish(shared) }
            return try outcome.get()
        }
    }

    private static func isOnlyOurs(_ outcome: Result<CachedImage, CloudError>) -> Bool {
        if case .failure(let error) = outcome, case .named(code: "ImageUnavailable", status: _) = error.reason { return true }
        return false
    }

    public func space() async -> (freeMiB: Int, totalMiB: Int) {
        let needed = await inUse()
        var held = reserved.values.reduce(0, +)
        for entry in entries.values where needed.contains(entry.image.key) { held += entry.bytes }
        return (max(0, limitBytes - held) >> 20, limitBytes >> 20)
    }

    // MARK: Download

    private func download(_ key: String, _ source: NC.ImageSource) async throws(CloudError) -> CachedImage {
        let size = max(source.size ?? 0, source.format == "bundle" ? source.virtualSize ?? 0 : 0)
        guard size > 0 else { throw CloudError(.missingParameter("size")) }
        try await makeRoom(key, size, source.imageId)
        defer { reserved[key] = nil }
        downloads += 1
        let started = clock.monotonic()
        let partial = folder + "/" + key + ".partial"
        try await fetcher.fetch(source, to: partial, limit: size)
        do throws(CloudError) {
            let format = source.format == "qcow2" ? "qcow2" : "raw"
            let virtualSize = try await inspect(partial, format, source.imageId)
            let path = folder + "/" + Self.name(key, virtualSize, format)
            guard rename(partial, path) == 0 else { throw Folder.failure("keep", path) }
            Folder.sync(folder)
            let image = CachedImage(key: key, path: path, format: format, virtualSize: virtualSize)
            entries[key] = Entry(image: image, bytes: Folder.size(path)?.allocated ?? size, used: 0)
            touch(key)
            logger.info(
                "image fetched",
                metadata: [
                    "image": "\(source.imageId)", "bytes": "\(size)", "milliseconds": "\((clock.monotonic() - started) / 1_000_000)",
                ])
            return image
        } catch {
            unlink(partial)
            throw error
        }
    }

    /// Reserves `size` bytes: of the cache's limit, and of what the disk really has.
    private func makeRoom(_ key: String, _ size: Int, _ image: String) async throws(CloudError) {
        func shortage(_ free: Int) -> CloudError {
            CloudError(
                .capacity(
                    Shortage(
                        .cacheMiB,
                        [
                            .init(
                                "node \(place)", .cacheMiB, asked: (size + (1 << 20) - 1) >> 20, free: max(0, free) >> 20,
                                limit: limitBytes >> 20)
                        ])),
                context: "image \(image)")
        }
        guard size <= limitBytes else { throw shortage(limitBytes) }
        let needed = await inUse()
        while true {
            let held = entries.values.reduce(0) { $0 + $1.bytes } + reserved.values.reduce(0, +)
            let onDisk = Folder.space(folder)?.free ?? 0
            if held + size <= limitBytes, onDisk >= size { break }
            let candidates = entries.values.filter { !needed.contains($0.image.key) && flights[$0.image.key] == nil }
            guard let victim = candidates.min(by: { ($0.used, $0.image.key) < ($1.used, $1.image.key) }) else {
                throw shortage(min(limitBytes - held, onDisk))
            }
            logger.info("image evicted", metadata: ["key": "\(victim.image.key)", "bytes": "\(victim.bytes)"])
            unlink(victim.image.path)
            entries[victim.image.key] = nil
        }
        reserved[key] = size
    }

    private func touch(_ key: String) {
        uses = max(uses + 1, clock.now().milliseconds)
        entries[key]?.used = uses
        guard let path = entries[key]?.image.path else { return }
        // The order of use survives a restart in the files' times.
        var times = [timespec(tv_sec: 0, tv_nsec: 0), timespec(tv_sec: 0, tv_nsec: 0)]
        for i in 0..<2 { times[i] = timespec(tv_sec: Int(uses / 1000), tv_nsec: Int(uses % 1000) * 1_000_000) }
        utimensat(AT_FDCWD, path, times, 0)
    }

    /// The disk's size, and that the file refers to nothing but itself: a qcow2 file with a backing file or an external data file
    /// would give a guest any file of the node.
    private func inspect(_ path: String, _ format: String, _ image: String) async throws(CloudError) -> Int {
        if format == "raw" { return Folder.size(path)?.length ?? 0 }
        // A hostile file can make the inspection eat memory and time: it gets limits.
        let result = try await runner.run(
            Command(
                "prlimit", ["--as=1073741824", "--cpu=20", "qemu-img", "info", "--output=json", "-f", format, path],
                timeoutMilliseconds: 30_000))
        func refused(_ why: String) -> CloudError {
            CloudError(
                .named(code: "InvalidImage.Format", status: 400), "Image \(image): \(why)", context: String(result.errors.suffix(300)))
        }
        guard result.status == 0, let info = try? RecordText.decode(result.output).fields() else {
            throw refused("it is not a sound \(format) file")
        }
        guard info["backing-filename"] == nil, info["full-backing-filename"] == nil else { throw refused("it refers to a backing file") }
        if let data = try? info["format-specific"]?.fields()["data"]?.fields() {
            guard data["data-file"] == nil, data["data-file-raw"] != .text("true") else {
                throw refused("it refers to an external data file")
            }
        }
        guard info["encrypted"] == nil || info["encrypted"] == .text("false") else { throw refused("it is encrypted") }
        guard let text = try? info.text("virtual-size"), let size = Int(text), size > 0 else { throw refused("it has no size") }
        return size
    }
}
