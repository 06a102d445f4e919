import API
import Domain

/// A volume as its row has it.
struct VolumeRecord: Sendable, Equatable {
    enum State: String, Sendable { case creating, available, failed, deleted }
    let id: VolumeID
    let sizeGiB: Int
    let snapshot: SnapshotID?
    /// It should go. `state` says how far that has come.
    let isDeleted: Bool
    let generation: Int64
    let state: State
    let error: String
    /// Attachments with an export.
    var attachments: [String] = []

    var bytes: Int { sizeGiB * StorageStore.gibibyte }

    var wire: SC.VolumeState {
        SC.VolumeState(
            volumeId: id.text, state: state.rawValue, sizeGiB: sizeGiB, generation: Int(generation),
            error: error.isEmpty ? nil : error, attachments: attachments)
    }
}

/// A request for a volume that cannot be wrong.
struct VolumeOrder: Sendable {
    /// EBS has 16 TiB volumes at most. Source: EC2 User Guide, "EBS volume types".
    static let sizes = 1...16_384

    let id: VolumeID
    let sizeGiB: Int
    let snapshot: SnapshotID?
    let generation: Int64

    init(_ request: SC.CreateVolume) throws(CloudError) {
        id = try VolumeID(parsing: request.volumeId)
        sizeGiB = request.sizeGiB
        snapshot = if let text = request.snapshotId { try SnapshotID(parsing: text) } else { nil }
        generation = Int64(request.generation)
        guard Self.sizes.contains(sizeGiB) else {
            throw CloudError(
                .invalidParameter("sizeGiB"), "A volume has \(Self.sizes.lowerBound) to \(Self.sizes.upperBound) GiB, not \(sizeGiB)")
        }
    }
}
