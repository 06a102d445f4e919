import Domain
import Signing

/// The parameters of a list of keys, whichever version of the operation names them.
///
/// A page holds the entries (keys, and common prefixes) that lie behind `after`. A common prefix is an entry at its own place in the order,
/// so a marker inside a common prefix is behind that prefix.
struct ListQuery: Sendable, Equatable {
    var prefix: [UInt8]
    var delimiter: [UInt8]
    /// The last entry of the page before; empty: from the beginning.
    var after: [UInt8]
    /// 0...1000
    var maxKeys: Int

    static let pageLimit = 1000

    /// The smallest key that can be on the page.
    var reach: [UInt8] {
        if after.isEmpty { return [] }
        if !delimiter.isEmpty, after.starts(with: prefix), let found = Self.find(delimiter, in: after, from: prefix.count) {
            return ListRange.end(ofPrefix: Array(after[..<(found + delimiter.count)]))
        }
        return ListRange.after(after)
    }

    private static func find(_ needle: [UInt8], in hay: [UInt8], from: Int) -> Int? {
        guard hay.count >= from + needle.count else { return nil }
        return (from...hay.count - needle.count).first { hay[$0..<$0 + needle.count].elementsEqual(needle) }
    }

    /// - Throws: `InvalidArgument`.
    static func maxKeys(_ query: S3Query, _ name: String = "max-keys") throws(CloudError) -> Int {
        guard let text = query.nonEmpty(name) else { return pageLimit }
        guard let n = Int(text) else { throw S3Failure.invalidArgument("Provided \(name) not an integer or within integer range") }
        guard n >= 0, n <= Int(Int32.max) else {
            throw S3Failure.invalidArgument("Argument \(name) must be an integer between 0 and 2147483647")
        }
        return min(n, pageLimit)
    }

    /// `encoding-type`: only `url` exists.
    static func encoding(_ query: S3Query) throws(CloudError) -> Bool {
        guard let text = query["encoding-type"], !text.isEmpty else { return false }
        guard text == "url" else { throw S3Failure.invalidArgument("Invalid Encoding Method specified in Request") }
        return true
    }

    /// A parameter as bytes; U+0000 and all.
    static func bytes(_ query: S3Query, _ name: String) -> [UInt8] { Array((query[name] ?? "").utf8) }
}

/// What ListObjectsV2 and ListBuckets give out to go on: the last entry, in a form that nobody takes for a key.
enum ContinuationToken {
    static func encode(_ entry: [UInt8]) -> String { Base64.encode([1] + entry) }

    static func decode(_ token: String) throws(CloudError) -> [UInt8] {
        guard let bytes = Base64.decode(token, strict: true), bytes.first == 1, bytes.count > 1 else {
            throw S3Failure.invalidArgument("The continuation token provided is incorrect")
        }
        return Array(bytes.dropFirst())
    }
}
