extension PolicyDocument {
    /// The keys of the request that conditions and variables ask for, as they are written, each once, in order of appearance.
    public var contextKeys: [String] {
        var out: [String] = []
        var seen: Set<String> = []
        func add(_ key: String) {
            if seen.insert(key.asciiLowercased).inserted { out.append(key) }
        }
        for statement in statements {
            if usesVariables { statement.resources.patterns.flatMap(Self.variables).forEach(add) }
            for condition in statement.conditions {
                add(condition.name)
                if usesVariables { condition.values.flatMap(Self.variables).forEach(add) }
            }
        }
        return out
    }

    /// The names of the variables in a text: `${aws:username}`, `${key, 'default'}`.
    private static func variables(_ text: String) -> [String] {
        var out: [String] = []
        var rest = text[...]
        while let start = rest.firstRange(of: "${") {
            rest = rest[start.upperBound...]
            guard let end = rest.firstIndex(of: "}") else { break }
            let name = rest[..<end].split(separator: ",", maxSplits: 1).first.map { $0.trimmingSpaces } ?? ""
            if !name.isEmpty, !["*", "?", "$"].contains(name) { out.append(name) }
            rest = rest[rest.index(after: end)...]
        }
        return out
    }
}
