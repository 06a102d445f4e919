public import API
public import Domain

/// The filters of a Describe action: a thing passes when each filter has a value that matches (and between filters, or between values).
///
/// Values may hold `*` (any characters) and `?` (one); a backslash takes the meaning of the next. Case counts, as in EC2.
/// Source: EC2 User Guide, "List and filter using the CLI and API".
public struct Filters: Sendable {
    /// Too low: tools that list by many ids fail; too high: one request costs seconds.
    static let maxValues = 200
    static let maxFilters = 50

    struct Filter: Sendable {
        let name: String
        let patterns: [FilterPattern]
    }
    let filters: [Filter]

    /// - Parameters:
    ///   - known: the names that this action documents. `tag` stands for `tag:<key>`, `tag-key` and `tag-value`.
    /// - Throws: `.invalidParameter` for an unknown name, a filter without values, or too many.
    public init(_ request: [EC2.Filter], known: Set<String>) throws(CloudError) {
        guard request.count <= Self.maxFilters else {
            throw CloudError(.invalidParameter("Filter"), "More than \(Self.maxFilters) filters")
        }
        var filters: [Filter] = []
        var count = 0
        for filter in request {
            guard let name = filter.name, !name.isEmpty else { throw CloudError(.missingParameter("Filter.Name")) }
            guard Self.isKnown(name, known) else {
                throw CloudError(.invalidParameter("Filter.Name"), "The filter '\(name.prefix(100))' is invalid")
            }
            count += filter.values.count
            guard !filter.values.isEmpty else {
                throw CloudError(.invalidParameter("Filter.Value"), "The filter '\(name.prefix(100))' has no values")
            }
            guard count <= Self.maxValues else {
                throw CloudError(.named(code: "FilterLimitExceeded", status: 400), "More than \(Self.maxValues) filter values")
            }
            filters.append(Filter(name: name, patterns: filter.values.map { FilterPattern($0) }))
        }
        self.filters = filters
    }

    private static func isKnown(_ name: String, _ known: Set<String>) -> Bool {
        if known.contains(name) { return true }
        guard known.contains("tag") else { return false }
        return name == "tag-key" || name == "tag-value" || (name.hasPrefix("tag:") && name.utf8.count > 4)
    }

    public var isEmpty: Bool { filters.isEmpty }

    /// - Parameters:
    ///   - tags: of the thing, by key.
    ///   - values: what the thing has for a filter's name; none when it has nothing of that kind.
    public func match(tags: [String: String] = [:], _ values: (String) -> [String]) -> Bool {
        filters.allSatisfy { filter in
            let candidates: [String] =
                if filter.name.hasPrefix("tag:") {
                    tags[String(filter.name.dropFirst(4))].map { [$0] } ?? []
                } else if filter.name == "tag-key" {
                    Array(tags.keys)
                } else if filter.name == "tag-value" {
                    Array(tags.values)
                } else {
                    values(filter.name)
                }
            return candidates.contains { value in filter.patterns.contains { $0.matches(value) } }
        }
    }
}

/// One value of a filter, parsed once.
struct FilterPattern: Sendable {
    private enum Token: Sendable, Equatable {
        case exactly(Unicode.Scalar)
        case one, any
    }
    private let tokens: [Token]

    init(_ text: String) {
        var tokens: [Token] = []
        var escaped = false
        for c in text.unicodeScalars {
            switch c {
            case _ where escaped:
                tokens.append(.exactly(c))
                escaped = false
            case "\\": escaped = true
            case "*":
                if tokens.last != .any { tokens.append(.any) }
            case "?": tokens.append(.one)
            default: tokens.append(.exactly(c))
            }
        }
        if escaped { tokens.append(.exactly("\\")) }
        self.tokens = tokens
    }

    /// Two cursors and one place to come back to: at most length times length steps, never exponential.
    func matches(_ text: String) -> Bool {
        let scalars = Array(text.unicodeScalars)
        var t = 0, s = 0
        var back: (token: Int, scalar: Int)?
        while s < scalars.count {
            if t < tokens.count, tokens[t] == .any {
                back = (t, s)
                t += 1
            } else if t < tokens.count, tokens[t] == .one || tokens[t] == .exactly(scalars[s]) {
                t += 1
                s += 1
            } else if let place = back {
                back = (place.token, place.scalar + 1)
                t = place.token + 1
                s = place.scalar + 1
            } else {
                return false
            }
        }
        while t < tokens.count, tokens[t] == .any { t += 1 }
        return t == tokens.count
    }
}
