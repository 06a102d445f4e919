import Wire

/// The reference pages: one a resource, and the matrix of all actions in `README.md`.
struct DocsWriter {
    let catalogue: Catalogue
    private var out = ""

    init(_ catalogue: Catalogue) { self.catalogue = catalogue }

    static func files(_ catalogue: Catalogue) -> [(path: String, text: String)] {
        var files: [(path: String, text: String)] = []
        for service in catalogue.services {
            for resource in service.resources {
                var writer = DocsWriter(catalogue)
                writer.page(service, resource)
                files.append((pageName(service, resource), writer.out))
            }
        }
        var writer = DocsWriter(catalogue)
        writer.matrix()
        files.append(("README.md", writer.out))
        return files
    }

    private static func pageName(_ service: ServiceCatalogue, _ resource: ResourceDefinition) -> String {
        "\(service.name.lowercased())-\(resource.resource.lowercased()).md"
    }

    private mutating func line(_ text: String = "") { out += text + "\n" }

    /// In a table a bar ends the cell.
    private func cell(_ text: String) -> String { text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|") }

    // MARK: The matrix

    private mutating func matrix() {
        line("# API matrix")
        line()
        line(
            "Written by `APIGenerator docs` from `Sources/Shared/API/Definitions`. Each action is served by Query and, for EC2,"
        )
        line("by SOAP, at every API date from its first on. What is not listed answers `InvalidAction`.")
        for service in catalogue.services {
            let actions = service.resources.flatMap { r in r.actions.map { (r, $0) } }.sorted { $0.1.name < $1.1.name }
            line()
            line("## \(service.name): \(actions.count) actions")
            line()
            line(
                service.isInternal
                    ? "Between daemons, signed SOAP over mutual TLS. Namespace `\(service.namespace)`."
                    : "Namespace `\(service.namespace)`.")
            line()
            if service.isInternal {
                line("| action | what it does |")
                line("|---|---|")
                for (resource, action) in actions {
                    line("| [\(action.name)](\(Self.pageName(service, resource))#\(action.name.lowercased())) | \(cell(action.doc)) |")
                }
            } else {
                line("| action | API dates | permission | what it does |")
                line("|---|---|---|---|")
                for (resource, action) in actions {
                    let link = "[\(action.name)](\(Self.pageName(service, resource))#\(action.name.lowercased()))"
                    line("| \(link) | \(dates(action.since, action.until, "all")) | `\(action.iam)` | \(cell(action.doc)) |")
                }
            }
        }
    }

    private func dates(_ since: String?, _ until: String?, _ always: String) -> String {
        switch (since, until) {
        case (nil, nil): always
        case (let since?, nil): "from \(since)"
        case (nil, let until?): "before \(until)"
        case (let since?, let until?): "from \(since), before \(until)"
        }
    }

    // MARK: A page

    private mutating func page(_ service: ServiceCatalogue, _ resource: ResourceDefinition) {
        line("# \(service.name): \(resource.resource)")
        line()
        line("Written by `APIGenerator docs` from `Definitions/\(resource.file)`; do not edit. [All actions](README.md)")
        for action in resource.actions.sorted(by: { $0.name < $1.name }) { self.action(action, service) }
        guard !resource.shapes.isEmpty else { return }
        for shape in resource.shapes.sorted(by: { $0.name < $1.name }) {
            line()
            line("## Shape \(shape.name)")
            line()
            both(shape.members, service)
        }
    }

    private mutating func action(_ action: ActionDefinition, _ service: ServiceCatalogue) {
        line()
        line("## \(action.name)")
        if !action.doc.isEmpty {
            line()
            line(action.doc)
        }
        if !service.isInternal {
            line()
            line("Permission `\(action.iam)`, API dates: \(dates(action.since, action.until, "all")).")
        }
        line()
        if action.input.members.isEmpty {
            line("No parameters.")
        } else {
            line(service.isInternal ? "| parameter | type | |" : "| parameter (Query) | SOAP | type | |")
            line(service.isInternal ? "|---|---|---|" : "|---|---|---|---|")
            for m in action.input.members {
                let name = "`\(query(m))`\(m.required ? " (required)" : "")"
                let rest = "\(typeName(m.type, service)) | \(cell(notes(m))) |"
                line(service.isInternal ? "| \(name) | \(rest)" : "| \(name) | `\(soap(m))` | \(rest)")
            }
        }
        line()
        if action.output.members.isEmpty {
            line("The reply has no elements of its own.")
        } else {
            line("| reply element | type | |")
            line("|---|---|---|")
            for m in action.output.members {
                line("| `\(xml(m))` | \(typeName(m.type, service)) | \(cell(notes(m, limits: false))) |")
            }
        }
        if !action.errors.isEmpty {
            line()
            line("Errors: " + action.errors.map { "`\($0.code)`" + ($0.doc.isEmpty ? "" : " (\($0.doc))") }.joined(separator: ", ") + ".")
        }
        example(action, service)
    }

    private mutating func example(_ action: ActionDefinition, _ service: ServiceCatalogue) {
        guard let query = action.exampleQuery else { return }
        line()
        line("```")
        let date = service.name == "EC2" ? APIDate.newest : service.namespace.split(separator: "/").last.map { String($0) } ?? ""
        line("Action=\(action.name)&Version=\(date)" + (query.isEmpty ? "" : "&\(query)"))
        line("```")
        let definition = catalogue.definition(service)
        guard let output = action.exampleOutput, let operation = definition.operations[action.name] else { return }
        let body = ReplyBody.query(
            definition, operation, ExampleValue.value(output), version: service.name == "EC2" ? APIDate.newest : nil,
            requestID: "59dbff89-35bd-4eac-99ed-be587ed81825")
        line("```xml")
        out += indented(body)
        line("```")
    }

    private mutating func both(_ members: [MemberDefinition], _ service: ServiceCatalogue) {
        if members.isEmpty { return line("An element without content.") }
        line(service.isInternal ? "| member | type | |" : "| Query | SOAP | reply | type | |")
        line(service.isInternal ? "|---|---|---|" : "|---|---|---|---|---|")
        for m in members {
            let rest = "\(typeName(m.type, service)) | \(cell(notes(m))) |"
            line(service.isInternal ? "| `\(m.name)` | \(rest)" : "| `\(query(m))` | `\(soap(m))` | `\(xml(m))` | \(rest)")
        }
    }

    private func query(_ m: MemberDefinition) -> String { m.isList ? m.query + ".n" : m.query }
    private func soap(_ m: MemberDefinition) -> String { m.isList && !m.soap.contains("/") ? "\(m.soap)/\(m.item)" : m.soap }
    private func xml(_ m: MemberDefinition) -> String { m.isList && !m.xml.contains("/") ? "\(m.xml)/\(m.item)" : m.xml }

    private func typeName(_ type: TypeDefinition, _ service: ServiceCatalogue) -> String {
        switch type {
        case .scalar(let scalar): return scalar.rawValue
        case .list(let element): return "list of " + typeName(element, service)
        case .shape(let owner, let name):
            let home = catalogue.services.first { $0.name == owner }
            let resource = home?.resources.first { $0.shapes.contains { $0.name == name } }
            guard let home, let resource else { return name }
            return "[\(name)](\(Self.pageName(home, resource))#shape-\(name.lowercased()))"
        }
    }

    private func notes(_ m: MemberDefinition, limits: Bool = true) -> String {
        var parts: [String] = []
        if !m.doc.isEmpty { parts.append(m.doc) }
        if limits {
            let unit =
                switch m.type {
                case .scalar(.string): " characters"
                case .scalar(.blob): " bytes"
                case .list: " items"
                default: ""
                }
            switch (m.min, m.max) {
            case (let low?, let high?): parts.append("\(low) to \(high)\(unit)")
            case (let low?, nil): parts.append("at least \(low)\(unit)")
            case (nil, let high?): parts.append("at most \(high)\(unit)")
            case (nil, nil): break
            }
            if !m.allowed.isEmpty { parts.append(m.allowed.map { "`\($0)`" }.joined(separator: ", ")) }
        }
        let when = dates(m.since, m.until, "")
        if !when.isEmpty { parts.append(when) }
        return parts.joined(separator: "; ")
    }

    /// One element a line, so that a page can be read.
    private func indented(_ bytes: [UInt8]) -> String {
        guard let root = try? XMLReader.parse(bytes) else { return String(decoding: bytes, as: UTF8.self) + "\n" }
        var text = ""
        func write(_ e: XMLElement, _ depth: Int, _ namespace: String) {
            let pad = String(repeating: "  ", count: depth)
            let head = e.namespace == namespace ? e.name : "\(e.name) xmlns=\"\(e.namespace)\""
            if e.children.isEmpty {
                var w = XMLWriter(capacity: 128)
                w.text(e.text)
                text += pad + (e.text.isEmpty ? "<\(head)/>" : "<\(head)>\(w.string)</\(e.name)>") + "\n"
            } else {
                text += "\(pad)<\(head)>\n"
                for child in e.children { write(child, depth + 1, e.namespace) }
                text += "\(pad)</\(e.name)>\n"
            }
        }
        write(root, 0, "")
        return text
    }
}
