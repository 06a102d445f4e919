import Domain
import Synchronization
import Wire

/// One service: all its files.
struct ServiceCatalogue {
    let name: String
    let namespace: String
    let audience: String
    let resources: [ResourceDefinition]
    var isInternal: Bool { audience == "internal" }
}

/// All definitions, resolved: embedded shapes are expanded, every name is known, nothing contains itself.
struct Catalogue {
    let services: [ServiceCatalogue]
    private let shapes: [String: ShapeDefinition]

    /// - Throws: `Mistakes`, all that were found.
    init(folder: String) throws {
        var mistakes: [Mistake] = []
        var files: [ResourceDefinition] = []
        for path in try Files.list(folder, suffix: ".json") {
            do {
                let json = try JSON(parsing: try Files.read(folder + "/" + path))
                var reader = DefinitionReader(file: path)
                if let resource = reader.read(json) { files.append(resource) }
                mistakes += reader.mistakes
            } catch let failure as JSON.Failure {
                mistakes.append(Mistake(file: path, place: "", message: failure.description))
            }
        }
        guard mistakes.isEmpty else { throw Mistakes(list: mistakes) }
        var shapes: [String: ShapeDefinition] = [:]
        for file in files {
            for shape in file.shapes where shapes.updateValue(shape, forKey: "\(file.service).\(shape.name)") != nil {
                mistakes.append(Mistake(file: file.file, place: shape.name, message: "the service has this shape twice"))
            }
        }
        self.shapes = shapes
        let resolver = Resolver(shapes: shapes)
        let resolved = files.map { resolver.resolve($0, &mistakes) }
        services = Catalogue.order.compactMap { name in
            let own = resolved.filter { $0.service == name }.sorted { $0.resource < $1.resource }
            guard let first = own.first else { return nil }
            for file in own where file.namespace != first.namespace || file.audience != first.audience {
                mistakes.append(Mistake(file: file.file, place: "top", message: "namespace or audience differs from \(first.file)"))
            }
            return ServiceCatalogue(name: name, namespace: first.namespace, audience: first.audience, resources: own)
        }
        for service in services { resolver.checkNames(service, &mistakes) }
        // SwiftPM names object files by the last part of the path only.
        var fileNames: Set<String> = []
        for file in resolved where !fileNames.insert(file.resource).inserted {
            mistakes.append(Mistake(file: file.file, place: "top", message: "another service has a resource \(file.resource)"))
        }
        guard mistakes.isEmpty else { throw Mistakes(list: mistakes) }
        try checkExamples()
    }

    static let order = ["EC2", "IAM", "STS", "NC", "CC", "SC", "CLC"]

    /// The tables that the generated code would hold, for WSDL, documents and the examples.
    func definition(_ service: ServiceCatalogue) -> ServiceDefinition {
        let registry = ShapeRegistry()
        for (name, shape) in shapes { registry.set(name, Shape(shape.name, shape.members.map { registry.member($0) })) }
        let operations = service.resources.flatMap { resource in
            resource.actions.map { action in
                Operation(
                    action.name, iamAction: action.iam, resource: resource.resource,
                    input: Shape(action.input.name, action.input.members.map { registry.member($0) }),
                    output: Shape(action.output.name, action.output.members.map { registry.member($0) }), since: action.since,
                    until: action.until, errors: action.errors.map(\.code))
            }
        }
        return ServiceDefinition(
            name: service.name, namespace: service.namespace, audience: service.isInternal ? .internal : .external, operations: operations)
    }

    /// Every example's query must decode, and its output must fit the output's shape.
    private func checkExamples() throws {
        var mistakes: [Mistake] = []
        for service in services {
            let table = definition(service)
            for resource in service.resources {
                for action in resource.actions {
                    guard let operation = table.operations[action.name] else { continue }
                    if let query = action.exampleQuery {
                        do {
                            _ = try decodeQuery(operation.input, try QueryParameters(parsing: query), version: nil)
                        } catch {
                            mistakes.append(
                                Mistake(file: resource.file, place: "\(action.name) example", message: "query: \(error.message)"))
                        }
                    }
                    if let output = action.exampleOutput {
                        for problem in ExampleValue.problems(output, operation.output, "output") {
                            mistakes.append(Mistake(file: resource.file, place: "\(action.name) example", message: problem))
                        }
                    }
                }
            }
        }
        if !mistakes.isEmpty { throw Mistakes(list: mistakes) }
    }
}

struct Mistakes: Error, CustomStringConvertible {
    let list: [Mistake]
    var description: String { list.map(\.description).joined(separator: "\n") }
}

/// Shapes by name, for closures that look them up when a table is walked.
private final class ShapeRegistry: Sendable {
    private let table = Mutex<[String: Shape]>([:])
    func set(_ name: String, _ shape: Shape) { table.withLock { $0[name] = shape } }
    func get(_ name: String) -> Shape { table.withLock { $0[name] } ?? Shape(name, []) }

    func member(_ m: MemberDefinition) -> Member {
        Member(
            m.name, type(m.type, m.item), query: m.query, soap: m.soap, xml: m.xml, required: m.required, since: m.since, until: m.until,
            min: m.min, max: m.max, allowed: m.allowed, omitEmpty: m.omitEmpty)
    }

    private func type(_ t: TypeDefinition, _ item: String) -> MemberType {
        switch t {
        case .scalar(.string): .string
        case .scalar(.integer): .integer
        case .scalar(.double): .double
        case .scalar(.boolean): .boolean
        case .scalar(.timestamp): .timestamp
        case .scalar(.blob): .blob
        case .list(let element): .list(type(element, "item"), item: item)
        case .shape(let service, let name): .record { self.get("\(service).\(name)") }
        }
    }
}

/// An example's JSON as a value tree.
enum ExampleValue {
    static func value(_ json: JSON) -> Value {
        switch json {
        case .object(let fields): .record(Dictionary(fields.map { ($0.key, value($0.value)) }, uniquingKeysWith: { a, _ in a }))
        case .array(let items): .list(items.map { value($0) })
        case .string(let text): .text(text)
        case .number(let text): .text(text)
        case .boolean(let b): .boolean(b)
        case .null: .text("")
        }
    }

    static func problems(_ json: JSON, _ shape: Shape, _ place: String) -> [String] {
        guard let fields = json.fields else { return ["\(place) is no object"] }
        return fields.flatMap { field -> [String] in
            guard let member = shape.member(field.key) else { return ["\(place) has no member \(field.key)"] }
            return problems(field.value, member.type, "\(place).\(field.key)")
        }
    }

    private static func problems(_ json: JSON, _ type: MemberType, _ place: String) -> [String] {
        switch type {
        case .record(let shape): problems(json, shape(), place)
        case .list(let element, _):
            json.array.map { $0.flatMap { problems($0, element, place) } } ?? ["\(place) is no list"]
        case .string, .integer, .double, .boolean, .timestamp, .blob:
            json.fields == nil && json.array == nil ? [] : ["\(place) is no scalar"]
        }
    }
}

/// Checks that need more than one file.
private struct Resolver {
    let shapes: [String: ShapeDefinition]

    func resolve(_ file: ResourceDefinition, _ mistakes: inout [Mistake]) -> ResourceDefinition {
        var actions: [ActionDefinition] = []
        for a in file.actions {
            let input = expand(a.input, file, a.name + " input", &mistakes)
            let output = expand(a.output, file, a.name + " output", &mistakes)
            actions.append(
                ActionDefinition(
                    name: a.name, doc: a.doc, iam: a.iam, since: a.since, until: a.until, input: input, output: output,
                    outputShape: a.outputShape, errors: a.errors, exampleQuery: a.exampleQuery, exampleOutput: a.exampleOutput))
        }
        for shape in file.shapes {
            check(shape, file, "shape \(shape.name)", &mistakes)
            if contains(shape, "\(file.service).\(shape.name)", file.service, []) {
                mistakes.append(Mistake(file: file.file, place: shape.name, message: "the shape contains itself: use a list"))
            }
        }
        return ResourceDefinition(
            file: file.file, service: file.service, resource: file.resource, audience: file.audience, namespace: file.namespace,
            uses: file.uses, actions: actions, shapes: file.shapes)
    }

    private func expand(
        _ shape: ShapeDefinition, _ file: ResourceDefinition, _ place: String, _ mistakes: inout [Mistake]
    ) -> ShapeDefinition {
        guard let only = shape.members.first, only.name == MemberDefinition.embeddingName else {
            check(shape, file, place, &mistakes)
            return shape
        }
        guard case .shape(let service, let name) = only.type, let source = shapes["\(service).\(name)"] else {
            mistakes.append(Mistake(file: file.file, place: place, message: "no such shape"))
            return shape
        }
        return ShapeDefinition(name: shape.name, members: source.members)
    }

    private func check(_ shape: ShapeDefinition, _ file: ResourceDefinition, _ place: String, _ mistakes: inout [Mistake]) {
        func mistake(_ m: MemberDefinition, _ message: String) {
            mistakes.append(Mistake(file: file.file, place: "\(place).\(m.name)", message: message))
        }
        for (i, m) in shape.members.enumerated() {
            checkType(m.type, file) { mistake(m, $0) }
            if m.isList, m.soap.split(separator: "/").count > 3 || m.xml.split(separator: "/").count > 3 {
                mistake(m, "a list's path is container/item/leaf")
            }
            for other in shape.members[..<i] {
                if other.name == m.name { mistake(m, "the name comes twice") }
                guard overlap(m, other) else { continue }
                if other.query == m.query { mistake(m, "the Query name of \(other.name)") }
                if other.soap == m.soap { mistake(m, "the SOAP path of \(other.name)") }
                if other.xml == m.xml { mistake(m, "the reply's element of \(other.name)") }
            }
        }
    }

    private func overlap(_ a: MemberDefinition, _ b: MemberDefinition) -> Bool {
        if let end = a.until, end <= (b.since ?? "") { return false }
        if let end = b.until, end <= (a.since ?? "") { return false }
        return true
    }

    private func checkType(_ type: TypeDefinition, _ file: ResourceDefinition, _ mistake: (String) -> Void) {
        switch type {
        case .scalar: break
        case .list(let element): checkType(element, file, mistake)
        case .shape(let service, let name):
            if shapes["\(service).\(name)"] == nil { mistake("there is no shape \(service).\(name)") }
            if service != file.service, !file.uses.contains(service) { mistake("\"uses\" does not name \(service)") }
        }
    }

    /// A struct that contains itself has no size.
    private func contains(_ shape: ShapeDefinition, _ name: String, _ service: String, _ seen: Set<String>) -> Bool {
        for m in shape.members {
            guard case .shape(let s, let n) = m.type else { continue }
            let full = "\(s).\(n)"
            if full == name { return true }
            if !seen.contains(full), let inner = shapes[full], contains(inner, name, s, seen.union([full])) { return true }
        }
        return false
    }

    func checkNames(_ service: ServiceCatalogue, _ mistakes: inout [Mistake]) {
        var seen: Set<String> = []
        for file in service.resources {
            for name in file.shapes.map(\.name) + file.actions.flatMap({ [$0.name, $0.name + "Response"] })
            where !seen.insert(name).inserted {
                mistakes.append(Mistake(file: file.file, place: name, message: "the service has this name twice"))
            }
        }
    }
}
