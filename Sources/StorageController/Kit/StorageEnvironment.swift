import Domain
public import Workflow

/// Everything that the parts of the Storage Controller share. Made once, by hand, in the composition root.
public struct StorageEnvironment: Sendable {
    public let zone: String
    /// What all volumes and snapshots on their way may take together, in GiB.
    public let capacityGiB: Int
    /// The name under which nodes verify the TLS certificate.
    public let tlsHostname: String
    let store: StorageStore
    let backend: any BlockBackend
    let objects: any SnapshotObjects
    let clock: any Clock
    let random: any Random
    let faults: any Faults
    let locks = KeyedLock()
    /// Wake the loops: new work was accepted.
    let volumesNudge = Nudge()
    let snapshotsNudge = Nudge()
    let transfersNudge = Nudge()

    public init(
        zone: String, capacityGiB: Int, tlsHostname: String, store: StorageStore, backend: any BlockBackend, objects: any SnapshotObjects,
        clock: any Clock, random: any Random, faults: any Faults = NoFaults()
    ) {
        self.zone = zone
        self.capacityGiB = capacityGiB
        self.tlsHostname = tlsHostname
        self.store = store
        self.backend = backend
        self.objects = objects
        self.clock = clock
        self.random = random
        self.faults = faults
    }
}

/// An older command than one that was seen is refused; the same one again gets the stored answer (`ARCHITECTURE.md` §4).
enum GenerationFence {
    static func check(newest: Int64, asked: Int64) throws(CloudError) {
        guard asked >= newest else { throw CloudError(.stale(newest: newest)) }
    }
}
