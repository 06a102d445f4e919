public import Domain

/// One instance: the order that made it, the owner's intent, and the last report of its node.
public struct InstanceRow: Sendable, Equatable {
    public let id: String
    public let reservationID: String
    public let accountID: String
    public let launchIndex: Int
    public let clientToken: String
    /// The access key that launched it; empty for SOAP. What its disk is saved with.
    public let accessKeyID: String
    public let userARN: String
    public let imageID: String
    public let kernelID: String?
    public let ramdiskID: String?
    public let architecture: String
    public let instanceType: String
    public let cores: Int
    public let memoryMiB: Int
    public let diskGiB: Int
    public let keyName: String?
    public let publicKey: String
    public let userData: [UInt8]
    public let zone: String
    public let node: String
    public let privateAddress: String
    public let macAddress: String
    public let createdAt: Timestamp
    public var launchedAt: Timestamp

    public var desired: DesiredInstance
    public var generation: Int64
    public var rebootCount: Int
    public var attempts: Int
    public var force: Bool
    public var shutdownBehaviour: ShutdownBehaviour
    public var terminationProtected: Bool
    public var stopProtected = false
    public var tokensRequired: Bool
    public var hopLimit: Int
    public var metadataEnabled: Bool
    public var save: SaveProgress
    public var saveLocation: String

    public var facts: InstanceFacts?
    /// It has run at least once: its disk holds what somebody may want.
    public var hasRun = false
    public var runningSince: Timestamp?
    public var nodeSilentSince: Timestamp?
    public var retryAt: Timestamp?
    public var reasonCode: String
    public var reasonMessage: String
    public var transitionReason: String
    public var finishedAt: Timestamp?

    public init(
        id: String, reservationID: String, accountID: String, launchIndex: Int, clientToken: String, accessKeyID: String, userARN: String,
        imageID: String, kernelID: String?, ramdiskID: String?, architecture: String, instanceType: String, cores: Int, memoryMiB: Int,
        diskGiB: Int, keyName: String?, publicKey: String, userData: [UInt8], zone: String, node: String, privateAddress: String,
        macAddress: String, createdAt: Timestamp, shutdownBehaviour: ShutdownBehaviour, terminationProtected: Bool, tokensRequired: Bool,
        hopLimit: Int, metadataEnabled: Bool
    ) {
        self.id = id
        self.reservationID = reservationID
        self.accountID = accountID
        self.launchIndex = launchIndex
        self.clientToken = clientToken
        self.accessKeyID = accessKeyID
        self.userARN = userARN
        self.imageID = imageID
        self.kernelID = kernelID
        self.ramdiskID = ramdiskID
        self.architecture = architecture
        self.instanceType = instanceType
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.diskGiB = diskGiB
        self.keyName = keyName
        self.publicKey = publicKey
        self.userData = userData
        self.zone = zone
        self.node = node
        self.privateAddress = privateAddress
        self.macAddress = macAddress
        self.createdAt = createdAt
        launchedAt = createdAt
        desired = .running
        generation = 1
        rebootCount = 0
        attempts = 0
        force = false
        self.shutdownBehaviour = shutdownBehaviour
        self.terminationProtected = terminationProtected
        self.tokensRequired = tokensRequired
        self.hopLimit = hopLimit
        self.metadataEnabled = metadataEnabled
        save = .none
        saveLocation = ""
        reasonCode = ""
        reasonMessage = ""
        transitionReason = ""
    }

    /// After this long in a row an instance that ran has proved itself, and earlier failures to start count no more.
    static let provenSeconds = 600.0

    /// The intent as the planner needs it.
    public func intent(now: Timestamp) -> InstanceIntent {
        let proven = runningSince.map { now.seconds(since: $0) > Self.provenSeconds } ?? false
        return InstanceIntent(
            desired, generation: generation, rebootCount: rebootCount, attempts: proven ? 0 : attempts, onGuestShutdown: shutdownBehaviour,
            save: save, force: force)
    }

    /// What a client is shown.
    public var state: EC2InstanceState {
        InstancePlanner.state(
            InstanceIntent(desired, generation: generation, onGuestShutdown: shutdownBehaviour, save: save), facts,
            finished: finishedAt != nil)
    }
}
