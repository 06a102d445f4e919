import API
import Domain

/// A snapshot as its row has it.
///
///     accepted ─▶ capturing ─▶ uploading ─▶ completed
///         └───────────┴────────────┴─▶ failed          (any) ─▶ deleted, when it should go
struct SnapshotRecord: Sendable, Equatable {
    enum State: String, Sendable { case accepted, capturing, uploading, completed, failed, deleted }
    let id: SnapshotID
    let volume: VolumeID
    let sizeGiB: Int
    let isDeleted: Bool
    let generation: Int64
    let state: State
    let progress: Int
    let error: String
    let sha256: String?
    let bytes: Int?
    let partsSent: Int

    /// As the other daemons see it.
    var publicState: String {
        switch state {
        case .accepted, .capturing, .uploading: "pending"
        case .completed: "completed"
        case .failed: "error"
        case .deleted: "deleted"
        }
    }

    var wire: SC.SnapshotState {
        SC.SnapshotState(
            snapshotId: id.text, volumeId: volume.text, state: publicState, progress: progress, sizeGiB: sizeGiB,
            generation: Int(generation), error: error.isEmpty ? nil : error)
    }
}
