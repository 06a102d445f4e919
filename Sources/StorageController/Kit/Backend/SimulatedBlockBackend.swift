public import Domain
import Signing

/// A backend in memory with the same contract: for simulations and for tests that need no QEMU. Volumes are sparse maps of blocks; a
/// capture copies them at its start and "runs" for a number of questions.
public actor SimulatedBlockBackend: BlockBackend {
    public nonisolated let capabilities = BlockCapabilities(name: "simulated", transport: "nbd-tls", isSparse: true)
    static let blockBytes = 4096

    struct Volume {
        var bytes: Int
        var blocks: [Int: [UInt8]] = [:]
    }
    private struct Capture {
        var volume: String
        var content: [UInt8]
        /// Questions until it is done.
        var remaining: Int
        var failure: String?
    }
    private var volumes: [String: Volume] = [:]
    private var restoring: [String: [UInt8]] = [:]
    private var grants: [String: [ExportGrant]] = [:]
    private var captures: [String: Capture] = [:]
    private var ports: [String: Int] = [:]
    private let totalBytes: Int
    private let host: String
    private let portRange: ClosedRange<Int>
    private let captureSteps: Int

    public init(totalBytes: Int, host: String = "127.0.0.1", ports: ClosedRange<Int> = 10_000...10_999, captureSteps: Int = 2) {
        self.totalBytes = totalBytes
        self.host = host
        portRange = ports
        self.captureSteps = captureSteps
    }

    public func space() -> BlockSpace {
        let used =
            volumes.values.reduce(0) { $0 + $1.blocks.count * Self.blockBytes } + captures.values.reduce(0) { $0 + $1.content.count }
        return BlockSpace(total: totalBytes, free: max(0, totalBytes - used), used: used)
    }

    public func volumeCreate(_ id: String, bytes: Int) {
        if volumes[id] == nil { volumes[id] = Volume(bytes: bytes) }
    }
    public func volumeBytes(_ id: String) -> Int? { volumes[id]?.bytes }

    public func volumeDelete(_ id: String) throws(CloudError) {
        guard grants[id] == nil, !captures.values.contains(where: { $0.volume == id && $0.remaining > 0 }) else {
            throw CloudError(.inUse(.volume, id: id, by: "an export or a snapshot"))
        }
        volumes[id] = nil
        restoring[id] = nil
    }

    public func restoreOffset(_ id: String) -> Int { restoring[id]?.count ?? 0 }

    public func restoreWrite(_ id: String, at offset: Int, _ bytes: [UInt8]) {
        var content = restoring[id] ?? []
        if content.count < offset { content += [UInt8](repeating: 0, count: offset - content.count) }
        content.replaceSubrange(offset..<min(content.count, offset + bytes.count), with: bytes)
        restoring[id] = content
    }

    public func restoreFinish(_ id: String, bytes: Int, sha256: String) throws(CloudError) {
        if volumes[id] != nil { return }
        let content = restoring.removeValue(forKey: id) ?? []
        let digest = Hex.encode(Digest.sha256(content))
        guard digest == sha256 else { throw .snapshotDamaged("its SHA-256 is \(digest), not \(sha256)") }
        guard var volume = Self.decode(content), volume.bytes <= bytes else {
            throw .snapshotDamaged("it is not an image of at most \(bytes) bytes")
        }
        volume.bytes = bytes
        volumes[id] = volume
    }

    public func restoreAbandon(_ id: String) { restoring[id] = nil }

    public func exportsApply(_ id: String, _ wanted: [ExportGrant]) throws(CloudError) -> ExportAddress? {
        guard !wanted.isEmpty else {
            grants[id] = nil
            ports[id] = nil
            return nil
        }
        guard volumes[id] != nil else { throw CloudError(.notFound(.volume, id: id)) }
        let used = Set(ports.values)
        guard let port = ports[id] ?? portRange.first(where: { !used.contains($0) }) else {
            let place = Shortage.Place(
                "ports \(portRange.lowerBound)-\(portRange.upperBound)", .connections, asked: 1, free: 0, limit: portRange.count)
            throw CloudError(.capacity(Shortage(.connections, [place])))
        }
        ports[id] = port
        grants[id] = wanted
        return ExportAddress(host: host, port: port)
    }

    public func runningVolumes() -> [String] { Set(grants.keys).union(captures.values.map(\.volume)).sorted() }

    public func captureStart(_ capture: String, of volume: String) throws(CloudError) {
        guard captures[capture] == nil else { return }
        guard let source = volumes[volume] else { throw CloudError(.notFound(.volume, id: volume)) }
        captures[capture] = Capture(volume: volume, content: Self.encode(source), remaining: captureSteps)
    }

    public func captureState(_ capture: String, of volume: String) -> CaptureState {
        guard let state = captures[capture] else { return .absent }
        if let failure = state.failure { return .failed(failure) }
        if state.remaining == 0 { return .done(bytes: state.content.count) }
        captures[capture]?.remaining -= 1
        return .running(percent: 100 - state.remaining * 100 / max(1, captureSteps))
    }

    public func captureDigest(_ capture: String) -> String { Hex.encode(Digest.sha256(captures[capture]?.content ?? [])) }

    public func captureRead(_ capture: String, at offset: Int, count: Int) -> [UInt8] {
        let content = captures[capture]?.content ?? []
        guard offset < content.count else { return [] }
        return Array(content[offset..<min(content.count, offset + count)])
    }

    public func captureDelete(_ capture: String, of volume: String) { captures[capture] = nil }

    // MARK: as a guest and as fate

    /// What a guest writes through an export. `offset` and the length are multiples of 4,096.
    /// - Throws: `.forbidden` without an export of that name for that node.
    public func guestWrite(_ id: String, secretName: String, node: String, at offset: Int, _ bytes: [UInt8]) throws(CloudError) {
        try checkGuest(id, secretName, node)
        for block in 0..<(bytes.count / Self.blockBytes) {
            let start = block * Self.blockBytes
            volumes[id]?.blocks[offset / Self.blockBytes + block] = Array(bytes[start..<start + Self.blockBytes])
        }
    }

    public func guestRead(_ id: String, secretName: String, node: String, at offset: Int, count: Int) throws(CloudError) -> [UInt8] {
        try checkGuest(id, secretName, node)
        let first = offset / Self.blockBytes
        return (0..<(count / Self.blockBytes)).flatMap {
            volumes[id]?.blocks[first + $0] ?? [UInt8](repeating: 0, count: Self.blockBytes)
        }
    }

    private func checkGuest(_ id: String, _ secretName: String, _ node: String) throws(CloudError) {
        guard grants[id]?.contains(where: { $0.secretName == secretName && ($0.node == node || $0.node.isEmpty) }) == true else {
            throw CloudError(.forbidden(action: "nbd"))
        }
    }

    /// The volume's daemon dies: its exports and running captures with it.
    public func killDaemon(_ id: String) {
        grants[id] = nil
        for (name, capture) in captures where capture.volume == id && capture.remaining > 0 {
            captures[name]?.failure = "the volume's daemon ended before the copy was complete"
        }
    }

    // MARK: the form of a capture: size, then number and content of each block

    private static func encode(_ volume: Volume) -> [UInt8] {
        var out = Array("SIM1".utf8) + word(volume.bytes)
        for (number, block) in volume.blocks.sorted(by: { $0.key < $1.key }) { out += word(number) + block }
        return out
    }

    private static func decode(_ bytes: [UInt8]) -> Volume? {
        guard bytes.count >= 12, bytes.starts(with: Array("SIM1".utf8)), (bytes.count - 12) % (8 + blockBytes) == 0 else { return nil }
        var volume = Volume(bytes: number(bytes[4..<12]))
        var offset = 12
        while offset < bytes.count {
            volume.blocks[number(bytes[offset..<offset + 8])] = Array(bytes[offset + 8..<offset + 8 + blockBytes])
            offset += 8 + blockBytes
        }
        return volume
    }

    private static func word(_ value: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - $0 * 8)) } }
    private static func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }
}
