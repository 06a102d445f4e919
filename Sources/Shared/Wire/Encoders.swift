/// A value tree to the elements of a reply: the same bytes for Query and SOAP. Writes what stands in the element of the shape,
/// in the order of the definition (Axis and JAXB read strictly in order), and only what the API date has.
public func encodeXML(_ shape: Shape, _ v: Value, version: String?, into w: inout XMLWriter) {
    ElementEncoder(version: version, names: .reply).record(shape, v, into: &w)
}

/// A value tree to the elements of a SOAP request, as a client writes it.
public func encodeRequest(_ shape: Shape, _ v: Value, version: String?, into w: inout XMLWriter) {
    ElementEncoder(version: version, names: .request).record(shape, v, into: &w)
}

/// A value tree to Query parameters without `Action` and `Version`, as a client writes it.
/// - Parameter firstIndex: 1, or 0 as libcloud counts.
public func encodeQuery(_ shape: Shape, _ v: Value, firstIndex: Int = 1) -> [(name: String, value: String)] {
    var out: [(name: String, value: String)] = []
    queryRecord(shape, v, "", firstIndex, into: &out)
    return out
}

private struct ElementEncoder {
    let version: String?
    let names: ElementNames

    func record(_ shape: Shape, _ v: Value, into w: inout XMLWriter) {
        guard case .record(let fields) = v else { return }
        let members = shape.members
        var i = 0
        while i < members.count {
            let path = names.path(members[i])
            if path.count == 1, case .text(let text)? = fields[members[i].name] {
                // Most members of most replies: one element of text.
                if members[i].exists(in: version) { w.element(path[0], text) }
                i += 1
                continue
            }
            guard path.count > 1, !isList(members[i]) else {
                if members[i].exists(in: version), let value = fields[members[i].name] { member(members[i], value, path, into: &w) }
                i += 1
                continue
            }
            // Neighbours that share a container stand in one element.
            var inner: [(Member, Value, [String])] = []
            while i < members.count, !isList(members[i]), names.path(members[i]).count > 1, names.path(members[i])[0] == path[0] {
                if members[i].exists(in: version), let value = fields[members[i].name] {
                    inner.append((members[i], value, Array(names.path(members[i]).dropFirst())))
                }
                i += 1
            }
            if inner.isEmpty { continue }
            w.open(path[0])
            for (m, value, rest) in inner { member(m, value, rest, into: &w) }
            w.close()
        }
    }

    private func member(_ member: Member, _ value: Value, _ path: [String], into w: inout XMLWriter) {
        switch (member.type, value) {
        case (.list(let element, _), .list(let items)):
            if items.isEmpty {
                if !member.omitEmpty { w.empty(path[0]) }
                return
            }
            w.open(path[0])
            for item in items { single(element, item, Array(path.dropFirst()), into: &w) }
            w.close()
        default: single(member.type, value, path, into: &w)
        }
    }

    private func single(_ type: MemberType, _ value: Value, _ path: [String], into w: inout XMLWriter) {
        for step in path.dropLast() { w.open(step) }
        let name = path.last ?? "item"
        switch (type, value) {
        case (.record(let shape), .record(let fields)):
            if fields.isEmpty {
                w.empty(name)
            } else {
                w.open(name)
                record(shape(), value, into: &w)
                w.close()
            }
        case (.list(let element, let item), .list(let items)):
            w.open(name)
            for one in items { single(element, one, [item], into: &w) }
            w.close()
        case (_, .text(let text)): w.element(name, text)
        default: break
        }
        for _ in path.dropLast() { w.close() }
    }

    private func isList(_ member: Member) -> Bool {
        if case .list = member.type { true } else { false }
    }
}

private func queryRecord(_ shape: Shape, _ v: Value, _ prefix: String, _ first: Int, into out: inout [(name: String, value: String)]) {
    guard case .record(let fields) = v else { return }
    for member in shape.members {
        if let value = fields[member.name] { queryValue(member.type, value, prefix + member.query, first, into: &out) }
    }
}

private func queryValue(_ type: MemberType, _ v: Value, _ name: String, _ first: Int, into out: inout [(name: String, value: String)]) {
    switch (type, v) {
    case (.list(let element, _), .list(let items)):
        for (i, item) in items.enumerated() { queryValue(element, item, "\(name).\(i + first)", first, into: &out) }
    case (.record(let shape), .record): queryRecord(shape(), v, name + ".", first, into: &out)
    case (_, .text(let text)): out.append((name, text))
    default: break
    }
}
