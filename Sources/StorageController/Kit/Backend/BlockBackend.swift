public import Domain

/// What a backend can do, as data: nobody asks for its type.
public struct BlockCapabilities: Sendable, Equatable {
    /// For people: `qcow2`, `simulated`.
    public let name: String
    /// How guests reach a volume: `nbd-tls`.
    public let transport: String
    /// The bytes a volume really takes on the medium are told apart from its size (sparse volumes).
    public let isSparse: Bool

    public init(name: String, transport: String, isSparse: Bool) {
        self.name = name
        self.transport = transport
        self.isSparse = isSparse
    }
}

/// The medium's space in bytes.
public struct BlockSpace: Sendable, Equatable {
    public let total: Int
    public let free: Int
    /// What all volumes take of it now.
    public let used: Int

    public init(total: Int, free: Int, used: Int) {
        self.total = total
        self.free = free
        self.used = used
    }
}

/// One attachment's right to a volume.
public struct ExportGrant: Sendable, Equatable, Hashable {
    /// Names the export inside the daemon.
    public let attachment: String
    /// What the node must know to reach it: 128 random bits.
    public let secretName: String
    /// The common name in the node's certificate: no other certificate of the cloud may connect. Empty: any.
    public let node: String

    public init(attachment: String, secretName: String, node: String) {
        self.attachment = attachment
        self.secretName = secretName
        self.node = node
    }
}

/// Where a volume's exports are reached.
public struct ExportAddress: Sendable, Equatable {
    public let host: String
    public let port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}

/// How far the copy of a volume's point in time is.
public enum CaptureState: Sendable, Equatable {
    /// Percent of the volume that was looked at.
    case running(percent: Int)
    /// The copy is complete; `bytes` to read.
    case done(bytes: Int)
    /// It was lost or went wrong, and will not come back.
    case failed(String)
    case absent
}

/// Where the bytes of volumes are. Ids are well formed (callers parse them).
///
/// All operations are idempotent: the caller may have died after the work was done, and asks again. Operations on one volume are never
/// called at the same time (the Kit holds a lock per volume); on different volumes they are.
///
/// A capture is a copy of a volume as it was when `captureStart` returned, whatever is written to it afterwards.
public protocol BlockBackend: Sendable {
    var capabilities: BlockCapabilities { get }

    func space() async throws(CloudError) -> BlockSpace

    // Volumes

    /// Makes an empty volume; one that exists is left as it is.
    func volumeCreate(_ id: String, bytes: Int) async throws(CloudError)
    /// `nil` when there is none.
    func volumeBytes(_ id: String) async throws(CloudError) -> Int?
    /// - Throws: `.inUse(volume)` while it is exported or captured.
    func volumeDelete(_ id: String) async throws(CloudError)

    // A volume from a copy: written from the start, then finished. Survives restarts.

    /// How many bytes of the copy are there.
    func restoreOffset(_ id: String) async throws(CloudError) -> Int
    func restoreWrite(_ id: String, at offset: Int, _ bytes: [UInt8]) async throws(CloudError)
    /// Makes the volume of the copy, at least `bytes` large, when its digest is right.
    /// - Throws: `.named("SnapshotDamaged")`, and forgets what was written.
    func restoreFinish(_ id: String, bytes: Int, sha256: String) async throws(CloudError)
    func restoreAbandon(_ id: String) async throws(CloudError)

    // Exports

    /// Makes the volume's exports what they should be: adds those that are missing, ends those that are not listed together with
    /// their connections, ends the daemon when nothing needs it.
    /// - Returns: where it is reached; `nil` without grants.
    /// - Throws: `.capacity(connections)` when no port is free; `.notFound(volume)`.
    func exportsApply(_ id: String, _ grants: [ExportGrant]) async throws(CloudError) -> ExportAddress?
    /// Volumes for which something runs (exports, captures).
    func runningVolumes() async throws(CloudError) -> [String]

    // Captures

    /// When it returns, the point in time is fixed. A capture that was started goes on.
    func captureStart(_ capture: String, of volume: String) async throws(CloudError)
    func captureState(_ capture: String, of volume: String) async throws(CloudError) -> CaptureState
    /// SHA-256 of a capture that is done, hexadecimal.
    func captureDigest(_ capture: String) async throws(CloudError) -> String
    func captureRead(_ capture: String, at offset: Int, count: Int) async throws(CloudError) -> [UInt8]
    /// Ends it if it runs, and forgets it.
    func captureDelete(_ capture: String, of volume: String) async throws(CloudError)
}

extension CloudError {
    /// What came from the object store is not what was put there.
    static func snapshotDamaged(_ why: String) -> CloudError {
        CloudError(.named(code: "SnapshotDamaged", status: 500), "The snapshot's data is damaged: \(why)")
    }
}
