public import API
public import Domain
import Synchronization
public import Workflow

/// Images without bytes: every image is there after one fetch. Fetches can be made to fail; what was fetched outlives the node object.
public final class SimulatedImages: ImageStore {
    private struct State {
        var fetched: [String: CachedImage] = [:]
        var downloads = 0
        var failure: (@Sendable (NC.ImageSource) -> CloudError?)?
        var delay: (milliseconds: Int, clock: any Clock)?
    }
    private let state = Mutex(State())

    public init() {}

    public func setFailure(_ failure: (@Sendable (NC.ImageSource) -> CloudError?)?) { state.withLock { $0.failure = failure } }
    /// How long each fetch takes.
    public func setDelay(milliseconds: Int, clock: any Clock) { state.withLock { $0.delay = (milliseconds, clock) } }
    public var downloads: Int { state.withLock { $0.downloads } }

    public func image(_ source: NC.ImageSource) async throws(CloudError) -> CachedImage {
        let key = source.cacheKey ?? ""
        if let image = state.withLock({ $0.fetched[key] }) { return image }
        if let error = state.withLock({ $0.failure?(source) }) { throw error }
        if let delay = state.withLock({ $0.delay }) {
            do { try await delay.clock.sleep(milliseconds: delay.milliseconds) } catch {
                throw CloudError(.unavailable("The image"), context: "cancelled")
            }
        }
        return state.withLock { s in
            s.downloads += 1
            let image = CachedImage(
                key: key, path: "/simulated/\(key).raw", format: "raw", virtualSize: source.virtualSize ?? source.size ?? 0)
            s.fetched[key] = image
            return image
        }
    }

    public func space() async -> (freeMiB: Int, totalMiB: Int) { (10_240, 10_240) }
}
