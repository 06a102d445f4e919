public import API
public import Domain

/// A verified image on this node, immutable: whatever its name says is in it, for ever.
public struct CachedImage: Sendable, Equatable {
    public var key: String
    public var path: String
    /// `raw` or `qcow2`.
    public var format: String
    /// Bytes of the disk that a guest sees.
    public var virtualSize: Int

    public init(key: String, path: String, format: String, virtualSize: Int) {
        self.key = key
        self.path = path
        self.format = format
        self.virtualSize = virtualSize
    }
}

/// The node's images: fetched once however many ask, kept while something is made of them.
public protocol ImageStore: Sendable {
    /// The image, fetched and verified if it is not there yet. A hit makes no network call.
    /// - Throws: `.named("InvalidImage…")` for bytes that are not what the order says, `.capacity` when the cache is full of images
    /// in use,
    ///   `.unavailable` when it could not be fetched now.
    func image(_ source: NC.ImageSource) async throws(CloudError) -> CachedImage
    /// (free, all) in MiB. What could be evicted counts as free.
    func space() async -> (freeMiB: Int, totalMiB: Int)
}
