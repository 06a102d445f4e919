public import Domain

/// One volume: intent and the storage controller's last report.
public struct VolumeRow: Sendable, Equatable {
    public let id: String
    public let accountID: String
    public let zone: String
    public let sizeGiB: Int
    public let snapshotID: String?
    public let volumeType: String
    public let iops: Int?
    public let createdAt: Timestamp
    public var desired: DesiredVolume = .available
    public var generation: Int64 = 1
    public var stored: Stamped<StoredVolumeState>?
    public var finishedAt: Timestamp?

    public init(
        id: String, accountID: String, zone: String, sizeGiB: Int, snapshotID: String?, volumeType: String, iops: Int?, createdAt: Timestamp
    ) {
        self.id = id
        self.accountID = accountID
        self.zone = zone
        self.sizeGiB = sizeGiB
        self.snapshotID = snapshotID
        self.volumeType = volumeType
        self.iops = iops
        self.createdAt = createdAt
    }

    public func state(attached: Bool) -> EC2VolumeState {
        VolumePlanner.state(desired, stored?.state, attached: attached, finished: finishedAt != nil)
    }
}

/// One attachment of a volume to an instance. Its id is internal: EC2 clients name it by volume and instance.
public struct AttachmentRow: Sendable, Equatable {
    public let id: String
    public let volumeID: String
    public let instanceID: String
    public let accountID: String
    public let device: DeviceName
    public let deleteOnTermination: Bool
    public let attachedAt: Timestamp
    public var desired: DesiredAttachment = .attached
    public var generation: Int64 = 1
    public var force = false
    public var seen: Stamped<NodeVolumeState>?
    public var finishedAt: Timestamp?

    public init(
        id: String, volumeID: String, instanceID: String, accountID: String, device: DeviceName, deleteOnTermination: Bool = false,
        attachedAt: Timestamp
    ) {
        self.id = id
        self.volumeID = volumeID
        self.instanceID = instanceID
        self.accountID = accountID
        self.device = device
        self.deleteOnTermination = deleteOnTermination
        self.attachedAt = attachedAt
    }

    public var state: EC2AttachmentState { AttachmentPlanner.state(desired, seen?.state, finished: finishedAt != nil) }
}

/// One snapshot.
public struct SnapshotRow: Sendable, Equatable {
    public let id: String
    public let accountID: String
    public let zone: String
    public let volumeID: String
    public let sizeGiB: Int
    public let description: String
    public let createdAt: Timestamp
    public var desired: DesiredVolume = .available
    public var generation: Int64 = 1
    public var stored: Stamped<StoredSnapshotState>?
    /// Percent that is in Walrus.
    public var progress = 0
    public var finishedAt: Timestamp?

    public init(id: String, accountID: String, zone: String, volumeID: String, sizeGiB: Int, description: String, createdAt: Timestamp) {
        self.id = id
        self.accountID = accountID
        self.zone = zone
        self.volumeID = volumeID
        self.sizeGiB = sizeGiB
        self.description = description
        self.createdAt = createdAt
    }

    public var state: EC2SnapshotState { SnapshotPlanner.state(stored?.state) }
}
