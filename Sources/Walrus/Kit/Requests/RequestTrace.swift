import Synchronization

/// What a request turned out to be about, for what is done after its answer (access log, cross-origin headers).
final class RequestTrace: Sendable {
    private let seen = Mutex<(bucket: BucketRecord?, requester: KnownRequester?)>((nil, nil))

    /// The bucket that the request names, with its configurations, once it was looked at.
    var bucket: BucketRecord? {
        get { seen.withLock { $0.bucket } }
        set { seen.withLock { $0.bucket = newValue } }
    }
    var requester: KnownRequester? {
        get { seen.withLock { $0.requester } }
        set { seen.withLock { $0.requester = newValue } }
    }
}
