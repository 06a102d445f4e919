public import Domain

/// A message between the wire and the generated structs: what a Query string, a SOAP body and an XML reply have in common.
///
/// A record's keys are the member names of the definition. Scalars stay text here in one canonical form each (decimal integers,
/// `true`/`false`, ISO 8601 in UTC, base64), so that equal requests are equal values whatever wire they came by.
public enum Value: Sendable, Equatable {
    case text(String)
    case list([Value])
    case record([String: Value])

    public static func integer(_ n: Int) -> Value { .text(String(n)) }
    public static func double(_ n: Double) -> Value { .text(String(n)) }
    public static func boolean(_ b: Bool) -> Value { .text(b ? "true" : "false") }
    public static func timestamp(_ t: Timestamp) -> Value { .text(t.iso8601) }
    public static func blob(_ bytes: [UInt8]) -> Value { .text(BlobCoding.encode(bytes)) }

    /// The members of a record.
    /// - Throws: `.malformedRequest` when this is text or a list.
    public func fields() throws(CloudError) -> [String: Value] {
        guard case .record(let fields) = self else { throw CloudError(.malformedRequest, context: "a record was expected") }
        return fields
    }

    /// The items of a list.
    /// - Throws: `.malformedRequest` when this is text or a record.
    public func items(_ name: String) throws(CloudError) -> [Value] {
        guard case .list(let items) = self else { throw CloudError(.malformedRequest, context: "\(name): a list was expected") }
        return items
    }

    public func asText(_ name: String) throws(CloudError) -> String {
        guard case .text(let text) = self else { throw CloudError(.malformedRequest, context: "\(name): text was expected") }
        return text
    }
    public func asInteger(_ name: String) throws(CloudError) -> Int {
        guard let n = Int(try asText(name)) else { throw CloudError(.invalidParameter(name)) }
        return n
    }
    public func asDouble(_ name: String) throws(CloudError) -> Double {
        guard let n = Double(try asText(name)), n.isFinite else { throw CloudError(.invalidParameter(name)) }
        return n
    }
    public func asBoolean(_ name: String) throws(CloudError) -> Bool {
        switch try asText(name) {
        case "true": true
        case "false": false
        default: throw CloudError(.invalidParameter(name))
        }
    }
    public func asTimestamp(_ name: String) throws(CloudError) -> Timestamp {
        guard let t = Timestamp(iso8601: try asText(name)) else { throw CloudError(.invalidParameter(name)) }
        return t
    }
    public func asBlob(_ name: String) throws(CloudError) -> [UInt8] {
        guard let bytes = BlobCoding.decode(try asText(name)) else { throw CloudError(.invalidParameter(name)) }
        return bytes
    }
}

/// What the generated readers call, one for each kind of member: not generic, so that hundreds of structs compile fast.
extension [String: Value] {
    /// - Throws: `.missingParameter` when there is no such member.
    public func need(_ name: String) throws(CloudError) -> Value {
        guard let value = self[name] else { throw CloudError(.missingParameter(name)) }
        return value
    }
    public func text(_ name: String) throws(CloudError) -> String { try need(name).asText(name) }
    public func integer(_ name: String) throws(CloudError) -> Int { try need(name).asInteger(name) }
    public func double(_ name: String) throws(CloudError) -> Double { try need(name).asDouble(name) }
    public func boolean(_ name: String) throws(CloudError) -> Bool { try need(name).asBoolean(name) }
    public func timestamp(_ name: String) throws(CloudError) -> Timestamp { try need(name).asTimestamp(name) }
    public func blob(_ name: String) throws(CloudError) -> [UInt8] { try need(name).asBlob(name) }

    public func textIfPresent(_ name: String) throws(CloudError) -> String? {
        guard let value = self[name] else { return nil }
        return try value.asText(name)
    }
    public func integerIfPresent(_ name: String) throws(CloudError) -> Int? {
        guard let value = self[name] else { return nil }
        return try value.asInteger(name)
    }
    public func doubleIfPresent(_ name: String) throws(CloudError) -> Double? {
        guard let value = self[name] else { return nil }
        return try value.asDouble(name)
    }
    public func booleanIfPresent(_ name: String) throws(CloudError) -> Bool? {
        guard let value = self[name] else { return nil }
        return try value.asBoolean(name)
    }
    public func timestampIfPresent(_ name: String) throws(CloudError) -> Timestamp? {
        guard let value = self[name] else { return nil }
        return try value.asTimestamp(name)
    }
    public func blobIfPresent(_ name: String) throws(CloudError) -> [UInt8]? {
        guard let value = self[name] else { return nil }
        return try value.asBlob(name)
    }

    /// The items of a list; none when the list is absent.
    public func list(_ name: String) throws(CloudError) -> [Value] {
        guard let value = self[name] else { return [] }
        return try value.items(name)
    }
    public func texts(_ name: String) throws(CloudError) -> [String] {
        var out: [String] = []
        for item in try list(name) { out.append(try item.asText(name)) }
        return out
    }
    public func integers(_ name: String) throws(CloudError) -> [Int] {
        var out: [Int] = []
        for item in try list(name) { out.append(try item.asInteger(name)) }
        return out
    }
}

extension Value {
    public static func texts(_ items: [String]) -> Value { .list(items.map { .text($0) }) }
    public static func integers(_ items: [Int]) -> Value { .list(items.map { .integer($0) }) }
}

/// A struct that is generated from a shape of the definitions.
public protocol WireRecord: Sendable, Equatable {
    static var shape: Shape { get }
    init(_ value: Value) throws(CloudError)
    /// As a value tree; absent optionals have no key, empty lists have one.
    var wireValue: Value { get }
}

extension WireRecord {
    /// The same as `wireValue`. A record with a member of its own called `value` (a tag) has only `wireValue`.
    public var value: Value { wireValue }
}

/// A struct that is generated from an action's input.
public protocol WireRequest: WireRecord {
    associatedtype Response: WireRecord
    static var operation: Operation { get }
}
