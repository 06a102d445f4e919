public import Daemon
public import Domain
import Glibc
import Wire
public import Workflow

/// Where bundles are made: the flattened disk and the parts of each task.
public protocol BundleStaging: Sendable {
    /// Writes the disk as one sparse raw file called `name`.
    /// - Returns: its length.
    func flatten(_ task: String, _ disk: String, _ name: String) async throws(CloudError) -> Int
    /// Makes the parts, and removes the raw file.
    func bundle(
        _ task: String, _ name: String, for recipients: [String], isCancelled: @escaping @Sendable () -> Bool
    ) async throws(CloudError) -> BundledImage
    func path(_ task: String, _ filename: String) async -> String
    /// Removes all files of the task. Nothing there: fine.
    func remove(_ task: String) async throws(CloudError)
}

/// Folders on the node's disk, one for each task; `qemu-img` flattens.
public struct FileBundleStaging: BundleStaging {
    private let root: String
    private let place: String
    private let runner: any CommandRunning
    private let writer: BundleWriter

    /// - Parameter root: an absolute path; made when it is not there.
    public init(root: String, place: String, runner: any CommandRunning, random: any Random) {
        self.root = root
        self.place = place
        self.runner = runner
        writer = BundleWriter(random: random)
    }

    private func folder(_ task: String) -> String { root + "/" + task }

    /// Free space that is left alone: running machines need it more. Too low: a bundle stops them.
    private static let spareBytes = 256 << 20

    public func flatten(_ task: String, _ disk: String, _ name: String) async throws(CloudError) -> Int {
        let folder = folder(task)
        try await BlockingPool.run { () throws(CloudError) in try FileSystem.makeFolder(folder, mode: 0o700) }
        // The raw file takes what has data; the parts, compressed, at most about as much again.
        let need = try await dataBytes(disk) * 2 + Self.spareBytes
        let space = try await BlockingPool.run { () throws(CloudError) in Folder.space(folder) ?? (free: 0, total: 0) }
        guard space.free >= need else {
            throw CloudError(
                .capacity(
                    Shortage(
                        .diskGiB,
                        [
                            .init(
                                "bundle staging of node \(place)", .diskGiB, asked: (need >> 30) + 1, free: space.free >> 30,
                                limit: space.total >> 30)
                        ])))
        }
        let raw = folder + "/" + name
        // -U: the hypervisor has the disk open; the machine stands still or is off.
        try await runner.check(
            Command("qemu-img", ["convert", "-U", "-f", "qcow2", "-O", "raw", "-S", "4k", disk, raw], timeoutMilliseconds: 4 * 3_600_000))
        return try await BlockingPool.run { () throws(CloudError) in
            guard let size = Folder.size(raw) else { throw Folder.failure("look at", raw) }
            return size.length
        }
    }

    /// Bytes of the disk (and what it lies over) that are not zero.
    private func dataBytes(_ disk: String) async throws(CloudError) -> Int {
        let result = try await runner.check(
            Command("qemu-img", ["map", "-U", "-f", "qcow2", "--output=json", disk], timeoutMilliseconds: 120_000, outputLimit: 256 << 20))
        var sum = 0
        for item in try RecordText.decode(result.output).items("map") {
            let extent = try item.fields()
            if try extent.text("data") == "true", try extent.text("zero") == "false" { sum += try extent.integer("length") }
        }
        return sum
    }

    public func bundle(
        _ task: String, _ name: String, for recipients: [String], isCancelled: @escaping @Sendable () -> Bool
    ) async throws(CloudError) -> BundledImage {
        let folder = folder(task)
        let image = try await writer.bundle(name, in: folder, for: recipients, isCancelled: isCancelled)
        try await BlockingPool.run { () throws(CloudError) in
            guard unlink(folder + "/" + name) == 0 else { throw Folder.failure("remove", folder + "/" + name) }
        }
        return image
    }

    public func path(_ task: String, _ filename: String) async -> String { folder(task) + "/" + filename }

    public func remove(_ task: String) async throws(CloudError) {
        let folder = folder(task)
        try await BlockingPool.run { () throws(CloudError) in try Folder.removeTree(folder) }
    }
}

/// Bundles without bytes, for simulations: one part each.
public struct SimulatedBundleStaging: BundleStaging {
    public init() {}
    public func flatten(_ task: String, _ disk: String, _ name: String) async throws(CloudError) -> Int { 1 << 20 }
    public func bundle(
        _ task: String, _ name: String, for recipients: [String], isCancelled: @escaping @Sendable () -> Bool
    ) async throws(CloudError) -> BundledImage {
        if isCancelled() { throw CloudError(.unavailable("The bundle task"), "The task was cancelled") }
        let digest = String(repeating: "0", count: 40)
        return BundledImage(
            digest: digest, parts: [BundleRecord.Part(filename: "\(name).part.0", digest: digest, size: 1024)],
            encryptedKeys: recipients.map { _ in "00" }, encryptedIVs: recipients.map { _ in "00" })
    }
    public func path(_ task: String, _ filename: String) async -> String { "/simulated/\(task)/\(filename)" }
    public func remove(_ task: String) async throws(CloudError) {}
}
