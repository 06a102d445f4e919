public import Daemon
public import Domain
import Signing

/// Volumes as qcow2 files in a folder, each served by a qemu-storage-daemon of its own over NBD with TLS.
///
/// One process per volume: what goes wrong with one touches no other. A capture is QEMU's `blockdev-backup`: it copies before it lets a
/// write through, so the point in time is that of the command, and the guest writes on. The copy is compressed, and can be a volume again
/// as it is.
public struct FileBlockBackend: BlockBackend {
    public let capabilities = BlockCapabilities(name: "qcow2", transport: "nbd-tls", isSparse: true)
    private let layout: FileLayout
    private let host: String
    private let ports: ClosedRange<Int>
    private let runner: any CommandRunning

    /// - Parameters:
    ///   - folder: `data_dir`.
    ///   - host: the address that nodes connect to, one of those in the certificate.
    ///   - ports: one for each exported volume.
    ///   - certificate, key, ca: PEM files of this host.
    public init(
        folder: String, host: String, ports: ClosedRange<Int>, certificate: String, key: String, ca: String,
        runner: any CommandRunning = CommandRunner()
    ) throws(CloudError) {
        layout = try FileLayout(folder)
        self.host = host
        self.ports = ports
        self.runner = runner
        try layout.makeFolders()
        // QEMU wants a folder with fixed names. Copies, so that a daemon started later does not depend on where the originals are.
        for (path, name) in [(ca, "ca-cert.pem"), (certificate, "server-cert.pem"), (key, "server-key.pem")] {
            try FileSystem.writeAtomically(try FileSystem.read(path, limit: 1 << 20), to: "\(layout.tls)/\(name)", mode: 0o600)
        }
    }

    private func daemon(_ id: String) -> VolumeDaemon { VolumeDaemon(id: id, layout: layout, runner: runner) }

    public func space() async throws(CloudError) -> BlockSpace {
        try await BlockingPool.run { [layout] () throws(CloudError) in
            let (total, free) = try layout.space()
            var used = 0
            for id in try layout.names(in: "volumes", ending: ".qcow2") { used += layout.size(layout.volume(id))?.allocated ?? 0 }
            for id in try layout.names(in: "volumes", ending: ".restoring") { used += layout.size(layout.restoring(id))?.allocated ?? 0 }
            for id in try layout.names(in: "captures", ending: ".partial") { used += layout.size(layout.partial(id))?.allocated ?? 0 }
            for id in try layout.names(in: "captures", ending: ".qcow2") { used += layout.size(layout.capture(id))?.allocated ?? 0 }
            return BlockSpace(total: total, free: free, used: used)
        }
    }

    // MARK: volumes

    public func volumeCreate(_ id: String, bytes: Int) async throws(CloudError) {
        guard !FileSystem.exists(layout.volume(id)) else { return }
        try await qemuImage("create", ["-q", "-f", "qcow2", layout.creating(id), "\(bytes)"])
        try await BlockingPool.run { [layout] () throws(CloudError) in try layout.publish(layout.creating(id), as: layout.volume(id)) }
    }

    public func volumeBytes(_ id: String) async throws(CloudError) -> Int? {
        guard FileSystem.exists(layout.volume(id)) else { return nil }
        return try await virtualSize(layout.volume(id))
    }

    public func volumeDelete(_ id: String) async throws(CloudError) {
        let busy = try await daemon(id).session { session throws(CloudError) -> Bool in
            if let exports = try session.command("query-block-exports").items, !exports.isEmpty { return true }
            if let jobs = try session.command("query-jobs").items, !jobs.isEmpty { return true }
            return false
        }
        if busy == true { throw CloudError(.inUse(.volume, id: id, by: "an export or a snapshot")) }
        if busy != nil { try await daemon(id).release() }
        try await BlockingPool.run { [layout] () throws(CloudError) in
            for path in [layout.volume(id), layout.restoring(id), layout.creating(id), layout.port(id), layout.socket(id), layout.pid(id)] {
                try layout.remove(path)
            }
        }
    }

    // MARK: a volume from a copy

    public func restoreOffset(_ id: String) async throws(CloudError) -> Int { layout.size(layout.restoring(id))?.length ?? 0 }

    public func restoreWrite(_ id: String, at offset: Int, _ bytes: [UInt8]) async throws(CloudError) {
        try await BlockingPool.run { [layout] () throws(CloudError) in try layout.write(bytes, to: layout.restoring(id), at: offset) }
    }

    public func restoreFinish(_ id: String, bytes: Int, sha256: String) async throws(CloudError) {
        if FileSystem.exists(layout.volume(id)) { return }
        let path = layout.restoring(id)
        // Resizing changes the file: a second try after that would find another digest. So it has a name of its own.
        if !FileSystem.exists(layout.creating(id)) {
            let digest = try await Self.digest(path, layout)
            guard digest == sha256 else {
                try await restoreAbandon(id)
                throw .snapshotDamaged("its SHA-256 is \(digest), not \(sha256)")
            }
            try await BlockingPool.run { [layout] () throws(CloudError) in try layout.publish(path, as: layout.creating(id)) }
        }
        let info = try await information(layout.creating(id))
        // The image comes from the object store: it must be what we put there, and not point at other files of this host.
        guard info["format"]?.text == "qcow2", info["backing-filename"] == nil, info["format-specific"]?["data"]?["data-file"] == nil,
            let size = info["virtual-size"]?.integer, size <= bytes
        else {
            try await restoreAbandon(id)
            throw .snapshotDamaged("it is not a plain qcow2 image of at most \(bytes) bytes")
        }
        if size < bytes { try await qemuImage("resize", ["-q", "-f", "qcow2", layout.creating(id), "\(bytes)"]) }
        try await BlockingPool.run { [layout] () throws(CloudError) in try layout.publish(layout.creating(id), as: layout.volume(id)) }
    }

    public func restoreAbandon(_ id: String) async throws(CloudError) {
        try await BlockingPool.run { [layout] () throws(CloudError) in
            try layout.remove(layout.restoring(id))
            try layout.remove(layout.creating(id))
        }
    }

    // MARK: exports

    public func exportsApply(_ id: String, _ grants: [ExportGrant]) async throws(CloudError) -> ExportAddress? {
        guard !grants.isEmpty else {
            try await daemon(id).release()
            return nil
        }
        try await daemon(id).ensure()
        return try await daemon(id).apply(grants, host: host, ports: ports)
    }

    public func runningVolumes() async throws(CloudError) -> [String] {
        try await BlockingPool.run { [layout] () throws(CloudError) in try layout.names(in: "run", ending: ".qmp") }
    }

    // MARK: captures

    public func captureStart(_ capture: String, of volume: String) async throws(CloudError) {
        if FileSystem.exists(layout.capture(capture)) { return }
        let daemon = daemon(volume)
        try await daemon.ensure()
        if try await daemon.session({ session throws(CloudError) in try Self.job(session, capture) != nil }) == true { return }
        // Left by a try that never started: the copy's content says nothing.
        try await daemon.session { session throws(CloudError) in try Self.dropNode(session, capture) }
        try await BlockingPool.run { [layout] () throws(CloudError) in try layout.remove(layout.partial(capture)) }
        let size = try await virtualSize(layout.volume(volume), isOpen: true)
        try await qemuImage("create", ["-q", "-f", "qcow2", layout.partial(capture), "\(size)"])
        let path = layout.partial(capture)
        let started = try await daemon.session { session throws(CloudError) -> Bool in
            try session.command(
                "blockdev-add",
                [
                    "driver": "qcow2", "node-name": .string(capture), "discard": "unmap",
                    "file": ["driver": "file", "filename": .string(path), "discard": "unmap"],
                ])
            try session.command(
                "blockdev-backup",
                [
                    "job-id": .string(capture), "device": .string(VolumeDaemon.node), "target": .string(capture), "sync": "full",
                    "compress": true, "auto-dismiss": false, "on-target-error": "report", "on-source-error": "report",
                ])
            return true
        }
        guard started == true else { throw CloudError(.unavailable("The volume"), context: "the daemon of \(volume) has ended") }
    }

    public func captureState(_ capture: String, of volume: String) async throws(CloudError) -> CaptureState {
        if let size = layout.size(layout.capture(capture)) { return .done(bytes: size.length) }
        guard FileSystem.exists(layout.partial(capture)) else { return .absent }
        let state = try await daemon(volume).session { session throws(CloudError) -> CaptureState? in
            guard let job = try Self.job(session, capture) else { return nil }
            guard job["status"]?.text == "concluded" else {
                let total = max(1, job["total-progress"]?.integer ?? 1)
                return .running(percent: min(99, (job["current-progress"]?.integer ?? 0) * 100 / total))
            }
            let failure = job["error"]?.text
            if failure == nil { try Self.dropNode(session, capture) }
            return failure.map { .failed($0) } ?? .done(bytes: 0)
        }
        switch state {
        case .some(.some(.done)):
            // Its file is closed now. Only when it has its name may the job be forgotten: the job is the proof that it is whole.
            try await BlockingPool.run { [layout] () throws(CloudError) in
                try layout.publish(layout.partial(capture), as: layout.capture(capture))
            }
            try await daemon(volume).session { session throws(CloudError) in try Self.dismiss(session, capture) }
            return .done(bytes: layout.size(layout.capture(capture))?.length ?? 0)
        case .some(.some(let other)): return other
        default: return .failed("the volume's daemon ended before the copy was complete")
        }
    }

    public func captureDigest(_ capture: String) async throws(CloudError) -> String {
        try await Self.digest(layout.capture(capture), layout)
    }

    public func captureRead(_ capture: String, at offset: Int, count: Int) async throws(CloudError) -> [UInt8] {
        try await BlockingPool.run { [layout] () throws(CloudError) in
            try layout.read(layout.capture(capture), at: offset, count: count)
        }
    }

    public func captureDelete(_ capture: String, of volume: String) async throws(CloudError) {
        try await daemon(volume).session { session throws(CloudError) in
            if let job = try Self.job(session, capture) {
                if job["status"]?.text != "concluded" { try session.command("job-cancel", ["id": .string(capture)]) }
                try Self.dismiss(session, capture)
            }
            try Self.dropNode(session, capture)
        }
        try await BlockingPool.run { [layout] () throws(CloudError) in
            try layout.remove(layout.partial(capture))
            try layout.remove(layout.capture(capture))
        }
    }

    private static func job(_ session: QMPSession, _ id: String) throws(CloudError) -> JSONValue? {
        try session.command("query-jobs").items?.first { $0["id"]?.text == id }
    }

    /// Waits until the job has ended and forgets it.
    private static func dismiss(_ session: QMPSession, _ id: String) throws(CloudError) {
        for _ in 0..<500 {
            guard let job = try job(session, id) else { return }
            if job["status"]?.text == "concluded" {
                try session.command("job-dismiss", ["id": .string(id)])
                return
            }
            SystemPause.milliseconds(20)
        }
        throw CloudError(.unavailable("The volume"), context: "the job \(id) does not end")
    }

    private static func dropNode(_ session: QMPSession, _ name: String) throws(CloudError) {
        let nodes = try session.command("query-named-block-nodes", ["flat": true]).items ?? []
        guard nodes.contains(where: { $0["node-name"]?.text == name }) else { return }
        try session.command("blockdev-del", ["node-name": .string(name)])
    }

    // MARK: qemu-img

    private func qemuImage(_ command: String, _ arguments: [String]) async throws(CloudError) {
        try await runner.check(Command("qemu-img", [command] + arguments, timeoutMilliseconds: 120_000))
    }

    private func information(_ path: String, isOpen: Bool = false) async throws(CloudError) -> JSONValue {
        // -f: an image's own idea of its format is not asked, a raw one could claim to be anything. -U: a daemon has it open.
        let result = try await runner.check(
            Command("qemu-img", ["info", "--output=json", "-f", "qcow2"] + (isOpen ? ["-U"] : []) + [path], timeoutMilliseconds: 60_000))
        do throws(JSONValue.ParseError) { return try JSONValue(parsing: result.output) } catch {
            throw CloudError(.unavailable("The storage"), context: "qemu-img info \(path): \(error)")
        }
    }

    private func virtualSize(_ path: String, isOpen: Bool = true) async throws(CloudError) -> Int {
        guard let size = try await information(path, isOpen: isOpen)["virtual-size"]?.integer else {
            throw CloudError(.unavailable("The storage"), context: "qemu-img info \(path) says no size")
        }
        return size
    }

    private static func digest(_ path: String, _ layout: FileLayout) async throws(CloudError) -> String {
        try await BlockingPool.run { () throws(CloudError) in
            let hasher = Digest.Hasher(.sha256)
            var offset = 0
            while true {
                let bytes = try layout.read(path, at: offset, count: 1 << 20)
                if bytes.isEmpty { return Hex.encode(hasher.finish()) }
                hasher.update(bytes)
                offset += bytes.count
            }
        }
    }
}
