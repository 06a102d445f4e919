public import Domain

/// The `If-…` headers of a request, and what they say about an object's present state.
///
/// Reads: RFC 9110 §13.2.2 with S3's documented combinations (GetObject: a true `If-Match` outweighs `If-Unmodified-Since`, a false
/// `If-None-Match` outweighs `If-Modified-Since`). Writes: S3 User Guide, "Conditional requests": `If-None-Match: *` and `If-Match`.
/// The functions are pure; a write calls them inside its transaction, with the row locked.
public struct Preconditions: Sendable, Equatable {
    public var ifMatch: String?
    public var ifNoneMatch: String?
    public var ifModifiedSince: Timestamp?
    public var ifUnmodifiedSince: Timestamp?

    public init(
        ifMatch: String? = nil, ifNoneMatch: String? = nil, ifModifiedSince: Timestamp? = nil, ifUnmodifiedSince: Timestamp? = nil
    ) {
        self.ifMatch = ifMatch
        self.ifNoneMatch = ifNoneMatch
        self.ifModifiedSince = ifModifiedSince
        self.ifUnmodifiedSince = ifUnmodifiedSince
    }

    public var isEmpty: Bool { ifMatch == nil && ifNoneMatch == nil && ifModifiedSince == nil && ifUnmodifiedSince == nil }

    public enum ReadOutcome: Equatable, Sendable { case proceed, notModified, failed(header: String) }

    /// - Parameter etag: without quotes.
    public func read(etag: String, modified: Timestamp) -> ReadOutcome {
        // HTTP dates have whole seconds.
        let second = modified.seconds
        if let ifMatch {
            if !Self.names(ifMatch, etag) { return .failed(header: "If-Match") }
        } else if let since = ifUnmodifiedSince, second > since.seconds {
            return .failed(header: "If-Unmodified-Since")
        }
        if let ifNoneMatch {
            if Self.names(ifNoneMatch, etag) { return .notModified }
        } else if let since = ifModifiedSince, second <= since.seconds {
            return .notModified
        }
        return .proceed
    }

    /// What a write may do.
    /// - Parameter current: the ETag (no quotes) of the object that is there now, or `nil`.
    /// - Throws: 412 `PreconditionFailed`, 404 `NoSuchKey` (an `If-Match` on nothing), 501 for a header that a write does not know.
    public func write(current: String?, key: String) throws(CloudError) {
        if ifModifiedSince != nil || ifUnmodifiedSince != nil {
            throw S3Failure.notImplemented("A header you provided implies functionality that is not implemented.")
        }
        if let ifNoneMatch {
            // AWS knows only the star here; ETags mean what HTTP says (RFC 9110 §13.1.2).
            if let current, Self.names(ifNoneMatch, current) { throw S3Failure.preconditionFailed("If-None-Match") }
        }
        if let ifMatch {
            guard let current else { throw S3Failure.noSuchKey(key) }
            if !Self.names(ifMatch, current) { throw S3Failure.preconditionFailed("If-Match") }
        }
    }

    /// A conditional delete: an object that is not there is deleted already (204, S3 API reference, DeleteObject).
    /// - Parameters:
    ///   - current: the object that is there now.
    ///   - size, lastModified: further conditions of DeleteObject and DeleteObjects.
    public func delete(
        current: (etag: String, size: Int, modified: Timestamp)?, size: Int? = nil, lastModified: Timestamp? = nil
    ) throws(CloudError) {
        guard let current else { return }
        if let ifMatch, !Self.names(ifMatch, current.etag) { throw S3Failure.preconditionFailed("If-Match") }
        if let size, size != current.size { throw S3Failure.preconditionFailed("x-amz-if-match-size") }
        if let lastModified, lastModified.seconds != current.modified.seconds {
            throw S3Failure.preconditionFailed("x-amz-if-match-last-modified-time")
        }
    }

    /// Whether a list such as `"a", W/"b", *` holds the ETag. Quotes are optional, as S3 takes both.
    static func names(_ list: String, _ etag: String) -> Bool {
        for part in list.split(separator: ",") {
            var text = String(part).trimmed
            if text == "*" { return true }
            if text.hasPrefix("W/") { text.removeFirst(2) }
            if text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") { text = String(text.dropFirst().dropLast()) }
            if text == etag { return true }
        }
        return false
    }
}

extension StringProtocol {
    /// Without spaces and tabs at both ends.
    var trimmed: String {
        var s = Substring(self)
        while let c = s.first, c == " " || c == "\t" { s.removeFirst() }
        while let c = s.last, c == " " || c == "\t" { s.removeLast() }
        return String(s)
    }
}
