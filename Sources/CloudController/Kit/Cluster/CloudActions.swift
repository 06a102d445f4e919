public import API
public import Domain
public import Wire
public import Workflow

/// The controller's internal interface: cluster controllers say "look at me", never more. What is true is asked from them.
public struct CloudActions: CLCCloudActions {
    private let nudges: ReconcilerNudges
    public init(_ nudges: ReconcilerNudges) { self.nudges = nudges }

    public func nudge(_ request: CLC.Nudge, _ context: CallContext) async throws(CloudError) -> CLC.NudgeResponse {
        nudges.cluster.signal()
        nudges.bundles.signal()
        return CLC.NudgeResponse()
    }
}

/// What wakes the reconcilers before their time.
public struct ReconcilerNudges: Sendable {
    public let cluster = Nudge()
    public let bundles = Nudge()
    public let storage = Nudge()
    public let network = Nudge()
    public init() {}

    func signalAll() {
        for nudge in [cluster, bundles, storage, network] { nudge.signal() }
    }

    /// What changed in the tables, by the payload of the notification.
    func signal(changed what: String) {
        switch what {
        case "instance", "tags": cluster.signal()
        case "volume":
            storage.signal()
            cluster.signal()
        case "bundle": bundles.signal()
        case "network": network.signal()
        default: signalAll()
        }
    }
}
