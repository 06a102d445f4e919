/// Turns actions of a model into a definition. What a definition cannot say (a shape that contains itself, a list of lists) is left out and
/// told, so that whoever imports decides.
struct Importer {
    let model: ServiceModel
    /// Names that the service has in other files: these shapes are referred to, not written again.
    let known: Set<String>
    /// For each action that is imported; `nil`: all dates.
    let since: String?
    private(set) var notes: [String] = []
    private var shapes: [(name: String, json: JSON)] = []
    private var actionNames: Set<String> = []

    /// More values than this are a catalogue (instance types), not a choice.
    private static let allowedLimit = 40
    private static let reserved: Set<String> = [
        "Value", "Shape", "Member", "MemberType", "Operation", "Response", "Request", "ServiceDefinition", "CloudError", "Timestamp",
        "String", "Int", "Bool", "Double", "UInt8", "Array", "Optional", "Type", "Protocol", "Self", "Any", "CallContext", "Error",
    ]

    init(_ model: ServiceModel, known: Set<String> = [], since: String? = nil) {
        self.model = model
        self.known = known
        self.since = since
    }

    /// The file with the actions added; what it has already stays as it is.
    /// - Parameter file: `nil`: a new one.
    mutating func extend(_ file: JSON?, resource: String, actions: [String]) throws(ServiceModel.Failure) -> JSON {
        let present = file?["actions"]?.array ?? []
        actionNames = Set(actions + present.compactMap { $0["name"]?.string })
        shapes = (file?["shapes"]?.fields ?? []).map { ($0.key, $0.value) }
        var list = present
        for name in actions {
            if present.contains(where: { $0["name"]?.string == name }) {
                notes.append("\(name) is defined already and stays as it is")
            } else {
                list.append(try action(name))
            }
        }
        var top: [JSON.Field] = file?.fields?.filter { $0.key != "actions" && $0.key != "shapes" } ?? []
        if top.isEmpty {
            top = [field("service", model.service), field("resource", resource), field("audience", "external")]
            if model.dialect == .query { top.append(field("style", "iam")) }
            top.append(field("namespace", model.namespace))
        }
        top.append(JSON.Field(key: "actions", value: .array(list)))
        top.append(JSON.Field(key: "shapes", value: .object(shapes.map { JSON.Field(key: $0.name, value: $0.json) })))
        return .object(top)
    }

    private func field(_ key: String, _ text: String) -> JSON.Field { JSON.Field(key: key, value: .string(text)) }

    private mutating func action(_ name: String) throws(ServiceModel.Failure) -> JSON {
        let operation = try model.operation(name)
        var fields = [field("name", name)]
        if let since { fields.append(field("since", since)) }
        var input: JSON = .array([])
        if let shape = operation["input"]?["shape"]?.string { input = .array(try members(shape, forInput: true, path: [name])) }
        var output: JSON = .array([])
        if let shape = operation["output"]?["shape"]?.string {
            let own = ["Result", "Response", "Output"].contains { shape == name + $0 }
            if own {
                output = .array(try members(shape, forInput: false, path: [name]))
            } else if let type = try structure(shape, forInput: false, path: [name]) {
                output = .string(type)
            }
        } else if model.dialect == .ec2 {
            output = .array([.object([field("name", "result"), field("type", "boolean"), field("xml", "return")])])
        }
        fields.append(JSON.Field(key: "input", value: input))
        fields.append(JSON.Field(key: "output", value: output))
        let errors = try model.errors(operation)
        if !errors.isEmpty { fields.append(JSON.Field(key: "errors", value: .array(errors.map { .string($0) }))) }
        return .object(fields)
    }

    private mutating func members(_ shapeName: String, forInput: Bool, path: [String]) throws(ServiceModel.Failure) -> [JSON] {
        let shape = try model.shape(shapeName)
        let required = Set((shape["required"]?.array ?? []).compactMap(\.string))
        var out: [JSON] = []
        for member in shape["members"]?.fields ?? [] {
            if let json = try self.member(
                member.key, member.value, isRequired: forInput && required.contains(member.key), forInput: forInput, path: path)
            {
                out.append(json)
            }
        }
        return out
    }

    private mutating func member(
        _ modelName: String, _ reference: JSON, isRequired: Bool, forInput: Bool, path: [String]
    ) throws(ServiceModel.Failure) -> JSON? {
        let place = (path + [modelName]).joined(separator: ".")
        guard let target = reference["shape"]?.string else { return nil }
        let shape = try model.shape(target)
        guard let (type, item) = try type(target, shape, forInput: forInput, path: path + [modelName], place: place) else { return nil }
        var name = ServiceModel.lowerFirst(modelName)
        if name == "return" { name = "result" }
        let query = model.queryName(modelName, reference)
        let element = model.elementName(modelName, reference)
        var fields = [field("name", name), field("type", type)]
        if forInput, query != ServiceModel.upperFirst(name) { fields.append(field("query", query)) }
        // An action's own input is in no reply; a shape's may be.
        let isReplied = !forInput || path.count > 1
        if isReplied, element != name { fields.append(field("xml", element)) }
        if model.dialect == .ec2, forInput, let path = Self.soapPath(query, type) { fields.append(field("soap", path)) }
        if let item { fields.append(field("item", item)) }
        if isRequired { fields.append(JSON.Field(key: "required", value: .boolean(true))) }
        if forInput { fields += try limits(shape) }
        return .object(fields)
    }

    /// The containers of EC2's SOAP requests, which the model does not know: `vpcSet/item/vpcId`. Source: EC2's WSDL.
    private static func soapPath(_ query: String, _ type: String) -> String? {
        guard type.hasPrefix("list<") else { return nil }
        if type == "list<string>", query.hasSuffix("Id"), query.utf8.count > 2 {
            let name = ServiceModel.lowerFirst(query)
            return "\(name.dropLast(2))Set/item/\(name)"
        }
        let name = ServiceModel.lowerFirst(query)
        return name.hasSuffix("Set") ? "\(name)/item" : "\(name)Set/item"
    }

    private func limits(_ shape: JSON) throws(ServiceModel.Failure) -> [JSON.Field] {
        var out: [JSON.Field] = []
        switch shape["type"]?.string {
        case "string", "integer", "long", "float", "double", "list", "blob":
            for key in ["min", "max"] {
                guard let bound = shape[key]?.integer else { continue }
                // Query cannot write an empty list, and a bound of 0 bounds nothing.
                if key == "min", bound == 0 { continue }
                out.append(JSON.Field(key: key, value: .number(String(bound))))
            }
        default: break
        }
        var values = shape["enum"]?.array ?? []
        if shape["type"]?.string == "list", let item = shape["member"]?["shape"]?.string {
            values = try model.shape(item)["enum"]?.array ?? []
        }
        if !values.isEmpty, values.count <= Self.allowedLimit { out.append(JSON.Field(key: "allowed", value: .array(values))) }
        return out
    }

    /// A definition's type, and the item element of a list in a reply.
    private mutating func type(
        _ target: String, _ shape: JSON, forInput: Bool, path: [String], place: String
    ) throws(ServiceModel.Failure) -> (type: String, item: String?)? {
        switch shape["type"]?.string {
        case "string", "character": return ("string", nil)
        case "integer", "long": return ("integer", nil)
        case "float", "double": return ("double", nil)
        case "boolean": return ("boolean", nil)
        case "timestamp": return ("timestamp", nil)
        case "blob": return ("blob", nil)
        case "structure": return try structure(target, forInput: forInput, path: path).map { ($0, nil) }
        case "list":
            guard let reference = shape["member"], let inner = reference["shape"]?.string else { return nil }
            let innerShape = try model.shape(inner)
            guard innerShape["type"]?.string != "list" else {
                notes.append("\(place) is a list of lists and is left out")
                return nil
            }
            guard let (type, _) = try type(inner, innerShape, forInput: forInput, path: path, place: place) else { return nil }
            // EC2's requests name their containers by the SOAP path.
            let item = model.dialect == .ec2 && forInput ? "item" : reference["locationName"]?.string ?? "member"
            return ("list<\(type)>", item == "item" ? nil : item)
        case "map":
            // A map is a list of entries on the wire of the query protocol.
            let name = ServiceModel.upperFirst(target.hasSuffix("Type") ? String(target.dropLast(4)) : target) + "Entry"
            guard let key = shape["key"]?["shape"]?.string, let value = shape["value"]?["shape"]?.string,
                let keyType = try type(key, try model.shape(key), forInput: forInput, path: path, place: place),
                let valueType = try type(value, try model.shape(value), forInput: forInput, path: path, place: place)
            else { return nil }
            add(
                name,
                .array([
                    .object([field("name", "key"), field("type", keyType.type)]),
                    .object([field("name", "value"), field("type", valueType.type)]),
                ]))
            return ("list<\(name)>", "entry")
        default:
            notes.append("\(place) has a type that is not known and is left out")
            return nil
        }
    }

    /// The name of a shape, which is written if the service has not got it yet.
    private mutating func structure(_ name: String, forInput: Bool, path: [String]) throws(ServiceModel.Failure) -> String? {
        let own = Self.reserved.contains(name) || actionNames.contains(name) ? name + "Data" : name
        if known.contains(own) || shapes.contains(where: { $0.name == own }) { return own }
        guard !path.contains("<\(name)>") else {
            notes.append("\(path.filter { !$0.hasPrefix("<") }.joined(separator: ".")) contains itself and is left out")
            return nil
        }
        let list = try members(name, forInput: forInput, path: path + ["<\(name)>"])
        add(own, .array(list))
        return own
    }

    private mutating func add(_ name: String, _ json: JSON) {
        if !known.contains(name), !shapes.contains(where: { $0.name == name }) { shapes.append((name, json)) }
    }
}
