public import Domain

/// Query parameters to a value tree, walked by the shape and never guessed from the names.
///
/// Lists are flattened (`InstanceId.1`; IAM and STS write `PolicyArns.member.1`), count from 0 or 1 and may have gaps: libcloud
/// counts from 0 (`reference/ec2.md` §1), and the order of the numbers is the order of the list. A parameter that no shape has
/// is refused, so that a misspelt one is never silently ignored.
///
/// - Throws: `.missingParameter`, `.invalidParameter` with the parameter's full name, `.named("UnknownParameter", 400)`.
public func decodeQuery(_ shape: Shape, _ p: QueryParameters, version: String?) throws(CloudError) -> Value {
    let tree = QueryTree(p)
    var decoder = QueryDecoder(tree: tree, version: version)
    let value = try decoder.record(shape, at: 0, prefix: "")
    for (i, node) in tree.nodes.enumerated() where node.value != nil && !decoder.used[i] {
        guard let name = node.name, !QueryParameters.isCommon(name) else { continue }
        throw CloudError(.named(code: "UnknownParameter", status: 400), "The parameter \(Scalar.shown(name)) is not recognized")
    }
    return value
}

/// Items that one list of a request may have when the definition says nothing.
private let maxListItems = 1_000

/// `Filter.1.Value.2=x` as a path in a tree. Built once in linear time; a node is an index.
private struct QueryTree {
    struct Node {
        var value: String?
        /// The full name, where a parameter ends.
        var name: String?
        var children: [String: Int] = [:]
    }
    var nodes = [Node()]

    init(_ p: QueryParameters) {
        for (name, value) in p.pairs {
            var at = 0
            for part in name.utf8.split(separator: 0x2e, omittingEmptySubsequences: false) {
                let key = String(Substring(part))
                if let next = nodes[at].children[key] {
                    at = next
                } else {
                    nodes.append(Node())
                    nodes[at].children[key] = nodes.count - 1
                    at = nodes.count - 1
                }
            }
            nodes[at].value = value
            nodes[at].name = name
        }
    }

    /// A definition's query name may have dots itself (`Placement.AvailabilityZone` for a flat member).
    func find(_ name: String, from start: Int) -> Int? {
        if let direct = nodes[start].children[name] { return direct }
        guard name.utf8.contains(0x2e) else { return nil }
        var at = start
        for part in name.utf8.split(separator: 0x2e) {
            guard let next = nodes[at].children[String(Substring(part))] else { return nil }
            at = next
        }
        return at
    }
}

private struct QueryDecoder {
    let tree: QueryTree
    let version: String?
    var used: [Bool]

    init(tree: QueryTree, version: String?) {
        self.tree = tree
        self.version = version
        used = [Bool](repeating: false, count: tree.nodes.count)
    }

    mutating func record(_ shape: Shape, at node: Int, prefix: String) throws(CloudError) -> Value {
        var out: [String: Value] = [:]
        for member in shape.members where member.exists(in: version) {
            let name = prefix + member.query
            if let child = tree.find(member.query, from: node), let value = try value(member.type, member, at: child, name: name) {
                if member.required, value == .list([]) { throw CloudError(.missingParameter(name)) }
                out[member.name] = value
            } else if member.required {
                throw CloudError(.missingParameter(name))
            }
        }
        return .record(out)
    }

    /// `nil` when nothing of this type stands here.
    private mutating func value(_ type: MemberType, _ member: Member, at node: Int, name: String) throws(CloudError) -> Value? {
        switch type {
        case .list(let element, _):
            if tree.nodes[node].value == "", tree.nodes[node].children.isEmpty {
                used[node] = true  // botocore writes an empty list of a "query" service as `Name=`
                return .list([])
            }
            return try list(element, member, at: node, name: name)
        case .record(let shape):
            guard !tree.nodes[node].children.isEmpty else { return nil }
            return try record(shape(), at: node, prefix: name + ".")
        case .string, .integer, .double, .boolean, .timestamp, .blob:
            guard let raw = tree.nodes[node].value else { return nil }
            used[node] = true
            return .text(try Scalar.canonical(raw, type, member, at: name))
        }
    }

    private mutating func list(
        _ element: MemberType, _ member: Member, at node: Int, name: String
    ) throws(CloudError) -> Value? {
        var holder = node
        var prefix = name + "."
        if let inner = tree.nodes[node].children["member"] {
            guard tree.nodes[node].children.count == 1 else { throw Scalar.invalid(name, "Two forms of list are mixed.") }
            holder = inner
            prefix += "member."
        }
        var numbered: [(Int, Int)] = []
        for (key, child) in tree.nodes[holder].children {
            guard let n = Self.number(key) else { throw Scalar.invalid(prefix + key, "Items of a list are numbered.") }
            numbered.append((n, child))
        }
        guard !numbered.isEmpty else { return nil }
        guard numbered.count <= max(member.max ?? 0, maxListItems) else {
            throw Scalar.invalid(name, "It has more than \(max(member.max ?? 0, maxListItems)) items.")
        }
        numbered.sort { $0.0 < $1.0 }
        var items: [Value] = []
        items.reserveCapacity(numbered.count)
        let one = member.item
        for (n, child) in numbered {
            guard let item = try value(element, one, at: child, name: prefix + String(n)) else {
                throw Scalar.invalid(prefix + String(n), "The item is empty.")
            }
            items.append(item)
        }
        try Scalar.checkCount(items.count, member, at: name)
        return .list(items)
    }

    /// Plain decimal, no sign, no leading zero (`1` and `01` would be one item twice), at most nine digits.
    private static func number(_ key: String) -> Int? {
        let b = key.utf8
        guard !b.isEmpty, b.count <= 9, b.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), b.count == 1 || b.first != 0x30 else { return nil }
        return Int(key)
    }
}

extension Member {
    /// The rules for one item of this list: `allowed` holds for each item, `min` and `max` are of the list itself.
    var item: Member {
        var one = self
        one.min = nil
        one.max = nil
        return one
    }
}
