/// The tables that the interpreters walk: three names for each member (Query, SOAP request, XML reply), its limits and its API dates.
///
/// They are data, so that the three wires and the WSDL cannot disagree. Source of the design: `ARCHITECTURE.md` §3.

public indirect enum MemberType: Sendable {
    case string, integer, double, boolean, timestamp, blob
    /// `item` is the element of each item in a reply (and in a request, when the member's SOAP path names none).
    case list(MemberType, item: String)
    /// A closure, because shapes may name each other.
    case record(@Sendable () -> Shape)
}

public struct Member: Sendable {
    /// The Swift property and the key in the record.
    public let name: String
    /// Name in a Query request; lists append `.1`, records `.Member`.
    public let query: String
    /// Element path in a SOAP request: `imageId`, `userData/data`, for a list `instancesSet/item/instanceId`.
    public let soap: [String]
    /// Element path in a reply; the first is the element itself, for a list the container, then item and leaf.
    public let xml: [String]
    public let type: MemberType
    public var required: Bool
    /// API dates: `since` is the first that has the member, `until` the first that has it no more.
    public var since, until: String?
    /// Value of a number, characters of a string, bytes of a blob, items of a list.
    public var min, max: Int?
    /// The values that a string (or each item of a list) may have; empty when any.
    public var allowed: [String]
    /// An empty list is not written.
    public var omitEmpty: Bool

    public init(
        _ name: String, _ type: MemberType, query: String? = nil, soap: String? = nil, xml: String? = nil, required: Bool = false,
        since: String? = nil, until: String? = nil, min: Int? = nil, max: Int? = nil, allowed: [String] = [], omitEmpty: Bool = false
    ) {
        self.name = name
        self.type = type
        self.query = query ?? name.prefix(1).uppercased() + name.dropFirst()
        self.soap = Self.path(soap ?? name, type)
        self.xml = Self.path(xml ?? name, type)
        self.required = required
        self.since = since
        self.until = until
        self.min = min
        self.max = max
        self.allowed = allowed
        self.omitEmpty = omitEmpty
    }

    /// A list's path always has container and item, so that readers and writers need no defaults of their own.
    private static func path(_ text: String, _ type: MemberType) -> [String] {
        var parts = text.split(separator: "/").map { String($0) }
        if case .list(_, let item) = type, parts.count == 1 { parts.append(item) }
        return parts
    }

    /// Whether this API date has the member; `nil` is the newest date.
    public func exists(in version: String?) -> Bool { APIDate.contains(version, since: since, until: until) }
}

public struct Shape: Sendable {
    public let name: String
    public private(set) var members: [Member]
    public init(_ name: String, _ members: [Member]) {
        self.name = name
        self.members = members
    }

    /// Appends a member: generated tables are built one statement a member, which the type checker reads fast.
    public mutating func add(
        _ name: String, _ type: MemberType, query: String? = nil, soap: String? = nil, xml: String? = nil, required: Bool = false,
        since: String? = nil, until: String? = nil, min: Int? = nil, max: Int? = nil, omitEmpty: Bool = false, allowed: [String] = []
    ) {
        members.append(
            Member(
                name, type, query: query, soap: soap, xml: xml, required: required, since: since, until: until, min: min, max: max,
                allowed: allowed, omitEmpty: omitEmpty))
    }

    /// Names of the members, for the test that a value fits.
    public func member(_ name: String) -> Member? { members.first { $0.name == name } }
}

public struct Operation: Sendable {
    public let name: String
    /// What the policy evaluator is asked for: `ec2:RunInstances`.
    public let iamAction: String
    /// The resource file that it is of: `Volumes`.
    public let resource: String
    public let input, output: Shape
    public let since, until: String?
    /// Codes that the reference documents for it.
    public let errors: [String]

    public init(
        _ name: String, iamAction: String, resource: String, input: Shape, output: Shape, since: String? = nil, until: String? = nil,
        errors: [String] = []
    ) {
        self.name = name
        self.iamAction = iamAction
        self.resource = resource
        self.input = input
        self.output = output
        self.since = since
        self.until = until
        self.errors = errors
    }

    public func exists(in version: String?) -> Bool { APIDate.contains(version, since: since, until: until) }
}

public struct ServiceDefinition: Sendable {
    public enum Audience: String, Sendable { case external, `internal` }
    public let name: String
    /// `{version}` stands for the API date.
    public let namespace: String
    public let audience: Audience
    public let operations: [String: Operation]

    public init(name: String, namespace: String, audience: Audience, operations: [Operation]) {
        self.name = name
        self.namespace = namespace
        self.audience = audience
        var table: [String: Operation] = [:]
        table.reserveCapacity(operations.count)
        for operation in operations { table[operation.name] = operation }
        self.operations = table
    }

    /// The namespace of messages of this API date (`nil`: the newest).
    public func namespace(version: String?) -> String {
        guard let range = namespace.firstRange(of: "{version}") else { return namespace }
        return namespace.replacingCharacters(in: range, with: version ?? APIDate.newest)
    }

    /// The API date that a namespace of this service names; `nil` when it is not one of this service's. A missing last slash is
    /// accepted, as the documents of 2006 have it.
    public func version(inNamespace uri: String) -> String? {
        guard let mark = namespace.firstRange(of: "{version}") else {
            let same = uri.utf8.elementsEqual(namespace.utf8) || (uri + "/").utf8.elementsEqual(namespace.utf8)
            return same ? APIDate.newest : nil
        }
        let head = namespace[..<mark.lowerBound]
        guard uri.utf8.starts(with: head.utf8) else { return nil }
        var rest = uri.utf8.dropFirst(head.utf8.count)
        if rest.last == UInt8(ascii: "/") { rest = rest.dropLast() }
        let text = String(Substring(rest))
        return APIDate.isDate(text) ? text : nil
    }
}

/// API dates are compared as text: `2009-08-15` < `2010-08-31`.
public enum APIDate {
    /// The oldest EC2 date that Karri speaks; older ones had another RunInstances.
    public static let oldest = "2008-05-05"
    public static let newest = "2016-11-15"

    /// The dates that EC2 published and Eucalyptus spoke, from the oldest; any other date between them is accepted too, as both did.
    /// Source: `reference/soap.md` §1.2.
    public static let published = [
        "2008-05-05", "2008-08-08", "2008-12-01", "2009-03-01", "2009-04-04", "2009-07-15", "2009-08-15", "2009-10-31", "2009-11-30",
        "2010-06-15", "2010-08-31", "2010-11-15", "2011-01-01", "2011-02-28", "2011-05-15", "2011-07-15", "2011-11-01", "2011-12-01",
        "2011-12-15", "2012-03-01", "2012-04-01", "2012-05-01", "2012-06-01", "2012-06-15", "2012-07-20", "2012-08-15", "2012-10-01",
        "2012-11-15", "2012-12-01", "2013-02-01", "2013-06-15", "2013-07-15", "2013-08-15", "2013-10-01", "2013-10-15", "2014-02-01",
        "2014-05-01", "2014-06-15", "2014-09-01", "2014-10-01", "2015-04-15", "2015-10-01", "2016-04-01", "2016-09-15", "2016-11-15",
    ]

    /// `YYYY-MM-DD` of ASCII digits.
    public static func isDate(_ text: String) -> Bool {
        let b = Array(text.utf8)
        guard b.count == 10, b[4] == 0x2d, b[7] == 0x2d else { return false }
        for (i, c) in b.enumerated() where i != 4 && i != 7 {
            guard c >= 0x30, c <= 0x39 else { return false }
        }
        return true
    }

    static func contains(_ version: String?, since: String?, until: String?) -> Bool {
        let version = version ?? newest
        if let since, version < since { return false }
        if let until, version >= until { return false }
        return true
    }
}

extension String {
    /// The first place where `needle` stands, without Foundation.
    func firstRange(of needle: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(needle) { return start..<index(start, offsetBy: needle.count) }
            start = index(after: start)
        }
        return nil
    }
    func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
        String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
    }
}
