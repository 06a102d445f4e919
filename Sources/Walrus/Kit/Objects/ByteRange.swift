/// The `Range` header of a GET, as S3 understands it: one range of bytes.
///
/// Source: RFC 9110 §14.2 (a header that is not understood is ignored) and the S3 API reference, GetObject (more than one range is
/// not supported: the whole object is sent).
public enum ByteRange {
    public enum Outcome: Equatable, Sendable {
        /// No range, one that is malformed, or several: the whole object.
        case whole
        case part(offset: Int, length: Int)
        /// 416
        case unsatisfiable
    }

    public static func parse(_ header: String?, size: Int) -> Outcome {
        guard let header else { return .whole }
        let text = header.filter { $0 != " " }
        guard text.lowercased().hasPrefix("bytes=") else { return .whole }
        let spec = text.dropFirst(6)
        guard !spec.contains(","), let dash = spec.firstIndex(of: "-") else { return .whole }
        let first = spec[..<dash]
        let last = spec[spec.index(after: dash)...]
        guard first.allSatisfy(\.isDigit), last.allSatisfy(\.isDigit) else { return .whole }
        if first.isEmpty {
            guard !last.isEmpty else { return .whole }
            let count = min(Int(last) ?? Int.max, size)
            return count == 0 ? .unsatisfiable : .part(offset: size - count, length: count)
        }
        let from = Int(first) ?? Int.max
        if last.isEmpty {
            return from >= size ? .unsatisfiable : .part(offset: from, length: size - from)
        }
        let to = Int(last) ?? Int.max
        if to < from { return .whole }
        return from >= size ? .unsatisfiable : .part(offset: from, length: min(to, size - 1) - from + 1)
    }

    /// `x-amz-copy-source-range: bytes=first-last`, both ends needed (UploadPartCopy); `nil` for anything else.
    public static func parseStrict(_ header: String) -> (first: Int, last: Int)? {
        guard header.hasPrefix("bytes=") else { return nil }
        let ends = header.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, ends.allSatisfy({ !$0.isEmpty && $0.allSatisfy(\.isDigit) }), let first = Int(ends[0]),
            let last = Int(ends[1]), first <= last
        else { return nil }
        return (first, last)
    }
}

extension Character {
    /// ASCII digits only: `isNumber` would let other scripts' digits through.
    fileprivate var isDigit: Bool { self >= "0" && self <= "9" && utf8.count == 1 }
}
