import Synchronization

/// Bytes that arrive piece by piece on the HTTP client's thread.
final class ByteCollector: Sendable {
    private let state = Mutex<(bytes: [UInt8], total: Int)>(([], 0))
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// - Returns: false once more than the limit has come: the other side does not keep to the range that was asked for.
    func append(_ piece: UnsafeRawBufferPointer) -> Bool {
        state.withLock { s in
            s.total += piece.count
            guard s.total <= limit else { return false }
            s.bytes.append(contentsOf: piece)
            return true
        }
    }

    func count(_ piece: UnsafeRawBufferPointer) { state.withLock { $0.total += piece.count } }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var total: Int { state.withLock { $0.total } }
}
