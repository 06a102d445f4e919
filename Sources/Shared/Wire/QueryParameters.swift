public import Domain

/// The parameters of a Query request, from the query string and the form body, decoded, in order.
public struct QueryParameters: Sendable {
    /// Bounds on what is read before anybody is authenticated.
    public struct Limits: Sendable {
        /// RunInstances with 16 KiB of user data in base64 and percent-encoded needs 70 KB.
        public var maxBytes = 1_048_576
        /// 1,000 ids with tags and filters fit; each costs a dictionary entry.
        public var maxParameters = 10_000
        public var maxNameBytes = 256
        public init() {}
    }

    public let pairs: [(name: String, value: String)]
    private let index: [String: Int]

    /// - Parameters:
    ///   - rawQuery: as on the wire, without `?`; `nil` when there is none.
    ///   - body: of a POST with `application/x-www-form-urlencoded`.
    /// - Throws: `.requestTooLarge`; `.malformedRequest` for bad percent-encoding, what is not UTF-8, a name that is not printable
    ///   ASCII; `.named("MalformedQueryString", 400)`-class errors are all `.malformedRequest` here; `.invalidParameter` for a
    ///   name that comes twice (two readers could pick different ones: `reference/soap.md` §2).
    public init(parsing rawQuery: String?, body: [UInt8] = [], limits: Limits = .init()) throws(CloudError) {
        let query = Array((rawQuery ?? "").utf8)
        guard query.count <= limits.maxBytes, body.count <= limits.maxBytes else {
            throw CloudError(.requestTooLarge(limit: limits.maxBytes))
        }
        var pairs: [(name: String, value: String)] = []
        try Self.split(query[...], limits, into: &pairs)
        try Self.split(body[...], limits, into: &pairs)
        try self.init(pairs)
    }

    /// Already decoded pairs, as a test or an internal caller has them.
    public init(_ pairs: [(name: String, value: String)]) throws(CloudError) {
        var index: [String: Int] = [:]
        index.reserveCapacity(pairs.count)
        for (i, pair) in pairs.enumerated() {
            guard index.updateValue(i, forKey: pair.name) == nil else {
                throw CloudError(.invalidParameter(pair.name), "The parameter \(pair.name) was given more than once.")
            }
        }
        self.pairs = pairs
        self.index = index
    }

    public subscript(_ name: String) -> String? { index[name].map { pairs[$0].value } }
    public var names: [String] { pairs.map(\.name) }

    private static func split(
        _ bytes: ArraySlice<UInt8>, _ limits: Limits, into pairs: inout [(name: String, value: String)]
    ) throws(CloudError) {
        var start = bytes.startIndex
        while start < bytes.endIndex {
            let end = bytes[start...].firstIndex(of: 0x26) ?? bytes.endIndex
            let part = bytes[start..<end]
            start = end + 1
            if part.isEmpty { continue }
            guard pairs.count < limits.maxParameters else {
                throw CloudError(.malformedRequest, "The request has more than \(limits.maxParameters) parameters")
            }
            let equals = part.firstIndex(of: 0x3d)
            let name = try decode(part[..<(equals ?? part.endIndex)])
            let value = try decode(equals.map { part[($0 + 1)...] } ?? [])
            guard !name.isEmpty, name.utf8.count <= limits.maxNameBytes, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
                throw CloudError(.malformedRequest, "The request has a parameter with a malformed name")
            }
            pairs.append((name, value))
        }
    }

    private static func decode(_ raw: ArraySlice<UInt8>) throws(CloudError) -> String {
        var out: [UInt8] = []
        out.reserveCapacity(raw.count)
        var i = raw.startIndex
        while i < raw.endIndex {
            switch raw[i] {
            case 0x2b: out.append(0x20)
            case 0x25:
                guard i + 2 < raw.endIndex, let high = digit(raw[i + 1]), let low = digit(raw[i + 2]) else {
                    throw CloudError(.malformedRequest, "The request has malformed percent-encoding")
                }
                out.append(high << 4 | low)
                i += 2
            default: out.append(raw[i])
            }
            i += 1
        }
        guard let text = String(validating: out, as: UTF8.self) else {
            throw CloudError(.malformedRequest, "The request has a parameter that is not UTF-8")
        }
        return text
    }

    private static func digit(_ c: UInt8) -> UInt8? {
        switch c {
        case 0x30...0x39: c - 0x30
        case 0x41...0x46: c - 0x37
        case 0x61...0x66: c - 0x57
        default: nil
        }
    }

    /// The parameters of the protocol itself, which no shape has.
    static func isCommon(_ name: String) -> Bool {
        switch name {
        case "Action", "Version", "AWSAccessKeyId", "Timestamp", "Expires", "SignatureVersion", "SignatureMethod", "Signature",
            "SecurityToken",
            "AUTHPARAMS":
            true
        default: name.hasPrefix("X-Amz-") || name.hasPrefix("x-amz-")
        }
    }
}
