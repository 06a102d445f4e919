/// Writes a definition file as people write them: a line a member, a line an example.
enum DefinitionText {
    static func render(_ file: JSON) -> String {
        var out = "{\n  "
        let fields = file.fields ?? []
        out += fields.filter { $0.key != "actions" && $0.key != "shapes" }.map { "\(quoted($0.key)): \(line($0.value))" }.joined(
            separator: ", ")
        out += ",\n  \"actions\": [\n"
        out += (file["actions"]?.array ?? []).map(action).joined(separator: ",\n")
        out += "\n  ],\n  \"shapes\": {"
        let shapes = file["shapes"]?.fields ?? []
        if !shapes.isEmpty {
            out += "\n" + shapes.map { "    \(quoted($0.key)): \(members($0.value, indent: "    "))" }.joined(separator: ",\n") + "\n  "
        }
        return out + "}\n}\n"
    }

    private static func action(_ json: JSON) -> String {
        let fields = json.fields ?? []
        let rows = fields.enumerated().map { index, field in
            (index == 0 ? "    { " : "      ") + "\(quoted(field.key)): \(members(field.value, indent: "      "))"
        }
        return rows.joined(separator: ",\n") + " }"
    }

    /// A list of objects, one a line; anything else on one line.
    private static func members(_ json: JSON, indent: String) -> String {
        guard let items = json.array, items.contains(where: { $0.fields != nil }), items.allSatisfy({ $0["name"] != nil }) else {
            return line(json)
        }
        return "[\n" + items.map { indent + "  " + line($0) }.joined(separator: ",\n") + "\n\(indent)]"
    }

    static func line(_ json: JSON) -> String {
        switch json {
        case .object(let fields): "{" + fields.map { "\(quoted($0.key)): \(line($0.value))" }.joined(separator: ", ") + "}"
        case .array(let items): "[" + items.map(line).joined(separator: ", ") + "]"
        case .string(let text): quoted(text)
        case .number(let text): text
        case .boolean(let flag): flag ? "true" : "false"
        case .null: "null"
        }
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            case "\r": out += "\\r"
            default:
                if scalar.value < 0x20 {
                    let digits = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out + "\""
    }
}
