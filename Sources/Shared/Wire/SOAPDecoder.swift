public import Domain

/// A SOAP request's operation element to a value tree.
///
/// Liberal in the order of elements, strict in everything else: the namespace of every child must be its parent's
/// (`elementFormDefault="qualified"`), an unknown element or a second one of the same name is refused, attributes select nothing.
///
/// - Throws: `.missingParameter`, `.invalidParameter`, `.named("UnknownParameter", 400)` with the element's path.
public func decodeSOAP(_ shape: Shape, _ e: XMLElement, version: String?) throws(CloudError) -> Value {
    try ElementDecoder(version: version, names: .request).record(shape, e, prefix: "")
}

/// A reply's element to a value tree, by the names of replies: what an internal client does with an answer.
public func decodeReply(_ shape: Shape, _ e: XMLElement, version: String?) throws(CloudError) -> Value {
    try ElementDecoder(version: version, names: .reply).record(shape, e, prefix: "")
}

/// Which of a member's two element paths is meant.
enum ElementNames {
    case request, reply
    func path(_ member: Member) -> [String] {
        switch self {
        case .request: member.soap
        case .reply: member.xml
        }
    }
}

private let schemaInstance = "http://www.w3.org/2001/XMLSchema-instance"

private struct ElementDecoder {
    let version: String?
    let names: ElementNames

    func record(_ shape: Shape, _ e: XMLElement, prefix: String) throws(CloudError) -> Value {
        guard e.hasOnlyBlankText else {
            throw Scalar.invalid(prefix.isEmpty ? e.name : String(prefix.dropLast()), "Text where elements are expected.")
        }
        try checkChildren(e, prefix)
        var used = [Bool](repeating: false, count: e.children.count)
        var out: [String: Value] = [:]
        for member in shape.members where member.exists(in: version) {
            let path = names.path(member)
            let at = prefix + path[0]
            if let i = e.children.firstIndex(where: { $0.name == path[0] }) {
                used[i] = true
                // Two members may share a container (`placement/zone`, `placement/tenancy`): each reads its own part.
                if !isNil(e.children[i]), let value = try value(member, e.children[i], path, at) {
                    // An empty wrapper is what classic clients send for "none": of a required list it is nothing.
                    if member.required, names == .request, value == .list([]) { throw CloudError(.missingParameter(at)) }
                    out[member.name] = value
                    continue
                }
            }
            if member.required { throw CloudError(.missingParameter(prefix + path.joined(separator: "/"))) }
        }
        if let i = used.firstIndex(of: false) {
            // `requestId` stands in replies beside the shape's members.
            guard names == .reply, prefix.isEmpty, e.children[i].name == "requestId" else { throw unknown(prefix + e.children[i].name) }
        }
        try checkContainers(shape, e, prefix)
        return .record(out)
    }

    /// What stands in a container of scalars (`userData/data`) must be one of the members that name the container.
    private func checkContainers(_ shape: Shape, _ e: XMLElement, _ prefix: String) throws(CloudError) {
        var known: [String: Set<String>] = [:]
        for member in shape.members where member.exists(in: version) {
            let path = names.path(member)
            if case .list = member.type { continue }
            if path.count > 1 { known[path[0], default: []].insert(path[1]) }
        }
        guard !known.isEmpty else { return }
        for container in e.children {
            guard let parts = known[container.name] else { continue }
            if let other = container.children.first(where: { !parts.contains($0.name) }) {
                throw unknown(prefix + container.name + "/" + other.name)
            }
        }
    }

    private func value(_ member: Member, _ e: XMLElement, _ path: [String], _ at: String) throws(CloudError) -> Value? {
        if case .list(let element, _) = member.type { return try list(element, member, e, path, at) }
        var node = e
        var at = at
        for step in path.dropFirst() {
            guard node.hasOnlyBlankText else { throw Scalar.invalid(at, "Text where elements are expected.") }
            try checkChildren(node, at + "/")
            guard let next = node.first(step) else { return nil }
            if let encoding = node.attribute("encoding"), encoding != "base64" {
                throw Scalar.invalid(at, "The encoding is not base64.")
            }
            node = next
            at += "/" + step
        }
        return try single(member.type, member, node, at)
    }

    private func list(
        _ element: MemberType, _ member: Member, _ container: XMLElement, _ path: [String], _ at: String
    ) throws(CloudError) -> Value {
        guard container.hasOnlyBlankText else { throw Scalar.invalid(at, "Text where elements are expected.") }
        var items: [Value] = []
        items.reserveCapacity(container.children.count)
        let one = member.item
        for child in container.children {
            guard child.name == path[1], child.namespace.utf8.elementsEqual(container.namespace.utf8) else {
                throw unknown(at + "/" + child.name)
            }
            var node = child
            var name = at + "/" + path[1]
            for leaf in path.dropFirst(2) {
                guard node.hasOnlyBlankText else { throw Scalar.invalid(name, "Text where elements are expected.") }
                try checkChildren(node, name + "/")
                guard node.children.count == 1, let next = node.first(leaf) else {
                    throw node.first(leaf) == nil
                        ? CloudError(.missingParameter(name + "/" + leaf))
                        : unknown(name + "/" + (node.children.first { $0.name != leaf }?.name ?? leaf))
                }
                node = next
                name += "/" + leaf
            }
            items.append(try single(element, one, node, name))
        }
        try Scalar.checkCount(items.count, member, at: at)
        return .list(items)
    }

    private func single(_ type: MemberType, _ member: Member, _ node: XMLElement, _ at: String) throws(CloudError) -> Value {
        switch type {
        case .record(let shape): return try record(shape(), node, prefix: at + "/")
        case .list(let inner, let item): return try list(inner, member, node, [node.name, item], at)
        case .string, .integer, .double, .boolean, .timestamp, .blob:
            guard node.children.isEmpty else { throw Scalar.invalid(at, "Elements where text is expected.") }
            return .text(try Scalar.canonical(node.text, type, member, at: at))
        }
    }

    /// Each child in the parent's namespace, each name once.
    private func checkChildren(_ e: XMLElement, _ prefix: String) throws(CloudError) {
        var seen: Set<String> = []
        for child in e.children {
            guard child.namespace.utf8.elementsEqual(e.namespace.utf8) else { throw unknown(prefix + child.name) }
            guard seen.insert(child.name).inserted else {
                throw Scalar.invalid(prefix + child.name, "The element was given more than once.")
            }
        }
    }

    private func isNil(_ e: XMLElement) -> Bool {
        guard let value = e.attribute("nil", namespace: schemaInstance) else { return false }
        return value == "true" || value == "1"
    }

    private func unknown(_ path: String) -> CloudError {
        CloudError(.named(code: "UnknownParameter", status: 400), "The element \(Scalar.shown(path)) is not recognized")
    }
}
