public import Domain
import Synchronization

/// Disks without bytes. They outlive the node object; the free space is what a test says.
public final class SimulatedDisks: InstanceDisks {
    private struct State {
        var roots: [String: Int] = [:]
        var consoles: [String: [UInt8]] = [:]
        var freeBytes = 100 << 30
        var failure: (@Sendable (_ call: String, _ instanceID: String) -> CloudError?)?
    }
    private let state = Mutex(State())

    public init() {}

    public func setFailure(_ failure: (@Sendable (String, String) -> CloudError?)?) { state.withLock { $0.failure = failure } }
    public func setFreeBytes(_ bytes: Int) { state.withLock { $0.freeBytes = bytes } }
    public func writeConsole(_ instanceID: String, _ text: String) {
        state.withLock { $0.consoles[instanceID, default: []] += Array(text.utf8) }
    }
    /// Instances that have files.
    public var instances: [String] { state.withLock { $0.roots.keys.sorted() } }

    public func root(_ instanceID: String, over image: CachedImage, diskGiB: Int) async throws(CloudError) -> DomainSpecification.FileDisk {
        if let error = state.withLock({ $0.failure?("root", instanceID) }) { throw error }
        state.withLock { s in
            if s.roots[instanceID] == nil { s.roots[instanceID] = max(image.virtualSize, diskGiB << 30) }
        }
        return DomainSpecification.FileDisk(path: "/simulated/\(instanceID)/root.qcow2", format: "qcow2")
    }

    public func existingRoot(_ instanceID: String) async -> DomainSpecification.FileDisk? {
        state.withLock { $0.roots[instanceID] } == nil
            ? nil : DomainSpecification.FileDisk(path: "/simulated/\(instanceID)/root.qcow2", format: "qcow2")
    }

    public func consolePath(_ instanceID: String) -> String { "/simulated/\(instanceID)/console.log" }

    public func console(_ instanceID: String, last limit: Int) async throws(CloudError) -> [UInt8] {
        Array((state.withLock { $0.consoles[instanceID] } ?? []).suffix(limit))
    }

    public func remove(_ instanceID: String) async throws(CloudError) {
        if let error = state.withLock({ $0.failure?("remove", instanceID) }) { throw error }
        state.withLock { s in
            s.roots[instanceID] = nil
            s.consoles[instanceID] = nil
        }
    }

    public func freeBytes() async -> Int { state.withLock { $0.freeBytes } }
}
