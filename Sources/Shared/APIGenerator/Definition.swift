/// What the JSON files say, read and checked: `Definitions/README.md` is the rule.

/// A mistake in a definition, with the file and the member.
struct Mistake: Error, CustomStringConvertible {
    let file: String
    let place: String
    let message: String
    var description: String { "\(file): \(place.isEmpty ? "" : place + ": ")\(message)" }
}

indirect enum TypeDefinition: Equatable {
    case scalar(Scalar)
    case list(TypeDefinition)
    /// Service and name of a shape.
    case shape(service: String, name: String)

    enum Scalar: String { case string, integer, double, boolean, timestamp, blob }
}

struct MemberDefinition {
    let name, query, soap, xml, item, doc: String
    let type: TypeDefinition
    let required, omitEmpty: Bool
    let min, max: Int?
    let allowed: [String]
    let since, until: String?

    var isList: Bool { if case .list = type { true } else { false } }
}

struct ShapeDefinition {
    let name: String
    let members: [MemberDefinition]
}

struct ActionDefinition {
    let name, doc, iam: String
    let since, until: String?
    let input, output: ShapeDefinition
    /// The shape whose members the output takes.
    let outputShape: String?
    let errors: [(code: String, doc: String)]
    let exampleQuery: String?
    let exampleOutput: JSON?
}

/// One file.
struct ResourceDefinition {
    let file: String
    let service, resource, audience, namespace: String
    let uses: [String]
    let actions: [ActionDefinition]
    let shapes: [ShapeDefinition]
}

/// Reads one file. Everything that is wrong is collected, so that one run tells it all.
struct DefinitionReader {
    let file: String
    var mistakes: [Mistake] = []

    init(file: String) { self.file = file }

    mutating func read(_ json: JSON) -> ResourceDefinition? {
        known(json, ["service", "resource", "audience", "style", "namespace", "versions", "uses", "actions", "shapes"], "top")
        let service = text(json, "service", "top")
        let resource = text(json, "resource", "top")
        let audience = text(json, "audience", "top")
        let namespace = text(json, "namespace", "top")
        if !["EC2", "IAM", "STS", "NC", "CC", "SC", "CLC"].contains(service) { mistake("top", "unknown service \"\(service)\"") }
        if !["external", "internal"].contains(audience) { mistake("top", "audience is external or internal") }
        if let style = json["style"]?.string, style != "iam" || !["IAM", "STS"].contains(service) {
            mistake("top", "style is iam, of IAM and STS")
        }
        let shapeLists = json["shapes"]?.fields ?? []
        let shapes = shapeLists.map { field in
            ShapeDefinition(name: checkedName(field.key, "shapes"), members: members(field.value, service, "shape \(field.key)"))
        }
        let actions = (json["actions"]?.array ?? []).map { action($0, service) }
        guard mistakes.isEmpty else { return nil }
        return ResourceDefinition(
            file: file, service: service, resource: resource, audience: audience, namespace: namespace,
            uses: (json["uses"]?.array ?? []).compactMap(\.string), actions: actions, shapes: shapes)
    }

    private mutating func action(_ json: JSON, _ service: String) -> ActionDefinition {
        let name = checkedName(text(json, "name", "an action"), "actions")
        known(json, ["name", "doc", "iam", "since", "until", "input", "output", "errors", "example"], name)
        if json["input"] == nil || json["output"] == nil { mistake(name, "an action has input and output") }
        let errors: [(code: String, doc: String)] = (json["errors"]?.array ?? []).map { e in
            if let code = e.string { return (code, "") }
            return (e["code"]?.string ?? "?", e["doc"]?.string ?? "")
        }
        if let example = json["example"] { known(example, ["query", "output", "doc"], "\(name) example") }
        return ActionDefinition(
            name: name, doc: json["doc"]?.string ?? "", iam: json["iam"]?.string ?? "\(service.lowercased()):\(name)",
            since: date(json, "since", name), until: date(json, "until", name),
            input: ShapeDefinition(name: name, members: memberList(json["input"], service, "\(name) input")),
            output: ShapeDefinition(name: name + "Response", members: memberList(json["output"], service, "\(name) output")),
            outputShape: json["output"]?.string, errors: errors, exampleQuery: json["example"]?["query"]?.string,
            exampleOutput: json["example"]?["output"])
    }

    /// A shape's name is kept as one nameless member and resolved by the catalogue, which knows the other files.
    private mutating func memberList(_ json: JSON?, _ service: String, _ place: String) -> [MemberDefinition] {
        guard let json else { return [] }
        if let shape = json.string { return [.embedding(type(shape, service, place))] }
        return members(json, service, place)
    }

    private mutating func members(_ json: JSON, _ service: String, _ place: String) -> [MemberDefinition] {
        guard let list = json.array else {
            mistake(place, "a list of members is expected")
            return []
        }
        return list.map { member($0, service, place) }
    }

    private mutating func member(_ json: JSON, _ service: String, _ place: String) -> MemberDefinition {
        let name = text(json, "name", place)
        let here = "\(place).\(name)"
        known(
            json,
            [
                "name", "type", "query", "soap", "xml", "item", "required", "min", "max", "allowed", "since", "until", "omitEmpty", "doc",
            ], here)
        let type = type(text(json, "type", here), service, here)
        var isList = false
        if case .list = type { isList = true }
        for key in ["item", "omitEmpty"] where json[key] != nil && !isList { mistake(here, "\(key) is for lists") }
        for key in ["required", "omitEmpty"] where json[key] != nil && json[key]?.boolean == nil {
            mistake(here, "\(key) is true or false")
        }
        for key in ["min", "max"] where json[key] != nil && json[key]?.integer == nil { mistake(here, "\(key) is an integer") }
        let pattern = name.utf8.first.map { ($0 >= 0x61 && $0 <= 0x7a) } ?? false
        if !pattern || !name.utf8.allSatisfy({ ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39) }) {
            mistake(here, "a name is letters and digits and starts with a lower-case letter")
        }
        return MemberDefinition(
            name: name, query: json["query"]?.string ?? name.prefix(1).uppercased() + name.dropFirst(), soap: json["soap"]?.string ?? name,
            xml: json["xml"]?.string ?? name, item: json["item"]?.string ?? "item", doc: json["doc"]?.string ?? "", type: type,
            required: json["required"]?.boolean ?? false, omitEmpty: json["omitEmpty"]?.boolean ?? false, min: json["min"]?.integer,
            max: json["max"]?.integer, allowed: (json["allowed"]?.array ?? []).compactMap(\.string), since: date(json, "since", here),
            until: date(json, "until", here))
    }

    private mutating func type(_ name: String, _ service: String, _ place: String) -> TypeDefinition {
        if let scalar = TypeDefinition.Scalar(rawValue: name) { return .scalar(scalar) }
        if name.hasPrefix("list<"), name.hasSuffix(">") {
            let inner = type(String(name.dropFirst(5).dropLast()), service, place)
            if case .list = inner { mistake(place, "a list of lists has no form in Query") }
            return .list(inner)
        }
        let parts = name.split(separator: ".").map { String($0) }
        if parts.count == 2 { return .shape(service: parts[0], name: parts[1]) }
        if name.utf8.first.map({ $0 < 0x41 || $0 > 0x5a }) ?? true { mistake(place, "unknown type \"\(name)\"") }
        return .shape(service: service, name: name)
    }

    /// Names that would hide what the generated code uses.
    private mutating func checkedName(_ name: String, _ place: String) -> String {
        let taken = [
            "Value", "Shape", "Member", "MemberType", "Operation", "Response", "Request", "ServiceDefinition", "CloudError", "Timestamp",
            "String", "Int", "Bool", "Double", "UInt8", "Array", "Optional", "Type", "Protocol", "Self", "Any", "CallContext", "Error",
        ]
        if taken.contains(name) || (name.utf8.first.map { $0 < 0x41 || $0 > 0x5a } ?? true) {
            mistake(place, "\"\(name)\" cannot be the name of a type in Swift here")
        }
        return name
    }

    private mutating func date(_ json: JSON, _ key: String, _ place: String) -> String? {
        guard let value = json[key] else { return nil }
        guard let text = value.string, text.utf8.count == 10, text.split(separator: "-").map(\.count) == [4, 2, 2] else {
            mistake(place, "\(key) is a date, YYYY-MM-DD")
            return nil
        }
        return text
    }

    private mutating func text(_ json: JSON, _ key: String, _ place: String) -> String {
        guard let text = json[key]?.string, !text.isEmpty else {
            mistake(place, "\(key) is missing")
            return "?"
        }
        return text
    }

    private mutating func known(_ json: JSON, _ keys: Set<String>, _ place: String) {
        guard let fields = json.fields else { return mistake(place, "an object is expected") }
        for field in fields where !keys.contains(field.key) { mistake(place, "unknown key \"\(field.key)\"") }
    }

    private mutating func mistake(_ place: String, _ message: String) {
        mistakes.append(Mistake(file: file, place: place, message: message))
    }
}

extension MemberDefinition {
    static let embeddingName = "*"
    static func embedding(_ type: TypeDefinition) -> MemberDefinition {
        MemberDefinition(
            name: embeddingName, query: "", soap: "", xml: "", item: "", doc: "", type: type, required: false, omitEmpty: false, min: nil,
            max: nil, allowed: [], since: nil, until: nil)
    }
}
