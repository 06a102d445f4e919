import Domain

// The configuration file: `key = value` lines, `#` comments on lines of their own, nothing else. No quoting, no sections, no includes:
// what stands behind the first `=` is the value, without the blanks around it.

/// Something wrong with a configuration file.
public struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// Where; `nil` for a key that is missing.
    public let line: Int?
    public let key: String
    public let message: String

    public init(line: Int?, key: String, message: String) {
        self.line = line
        self.key = key
        self.message = message
    }

    public var description: String {
        let place = line.map { "line \($0): " } ?? ""
        return key.isEmpty ? "\(place)\(message)" : "\(place)\(key): \(message)"
    }
}

/// Everything that is wrong with a configuration file, not only the first thing.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    public let problems: [ConfigurationProblem]

    public init(_ problems: [ConfigurationProblem]) { self.problems = problems }

    /// For rules between keys that a daemon's `init` checks; the line is found by the reader.
    public init(key: String, _ message: String) { problems = [ConfigurationProblem(line: nil, key: key, message: message)] }

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// A daemon's configuration, parsed into a type that cannot be wrong.
public protocol DaemonConfiguration: Sendable {
    /// All keys but the common ones.
    static var keys: [ConfigurationKey] { get }
    /// - Throws: for rules between keys; each value alone has been checked against its kind.
    init(_ values: ConfigurationValues) throws(ConfigurationError)
}

/// The values of a file, each checked against the kind of its key, with the standard values filled in.
///
/// Asking for a key that is not listed, or in another kind than listed, is a defect of the daemon and stops it.
public struct ConfigurationValues: Sendable {
    private let values: [String: String]
    private let keys: [String: ConfigurationKey]
    /// The line that each key of the file stands in.
    let lines: [String: Int]

    init(values: [String: String], keys: [String: ConfigurationKey], lines: [String: Int]) {
        self.values = values
        self.keys = keys
        self.lines = lines
    }

    public func optionalText(_ name: String) -> String? {
        precondition(keys[name] != nil, "configuration key \(name) is not listed")
        return values[name]
    }

    /// The value; empty for an absent optional key.
    public func text(_ name: String) -> String { optionalText(name) ?? "" }

    public func optionalInteger(_ name: String) -> Int? { optionalText(name).flatMap { Int($0) } }

    /// The number; 0 for an absent optional key.
    public func integer(_ name: String) -> Int { optionalInteger(name) ?? 0 }

    /// The switch; off for an absent optional key.
    public func boolean(_ name: String) -> Bool { optionalText(name).flatMap(ConfigurationKey.Kind.boolean) ?? false }

    public func list(_ name: String) -> [String] { optionalText(name).map(ConfigurationKey.Kind.items) ?? [] }
}

public enum ConfigurationFile {
    /// Reads and checks a file.
    /// - Throws: `ConfigurationError` with every wrong value, unknown key, double key, missing key and line that is not `key = value`.
    public static func load<C: DaemonConfiguration>(
        _ type: C.Type, path: String
    ) throws(ConfigurationError) -> (configuration: C, values: ConfigurationValues) {
        let bytes: [UInt8]
        do {
            bytes = try FileSystem.read(path, limit: 1 << 20)
        } catch {
            throw ConfigurationError([ConfigurationProblem(line: nil, key: "", message: "\(path): \(error.context)")])
        }
        return try parse(type, text: String(decoding: bytes, as: UTF8.self))
    }

    public static func parse<C: DaemonConfiguration>(
        _ type: C.Type, text: String
    ) throws(ConfigurationError) -> (configuration: C, values: ConfigurationValues) {
        let values = try read(text, keys: C.keys + ConfigurationKey.common)
        do {
            return (try C(values), values)
        } catch {
            let placed = error.problems.map {
                ConfigurationProblem(line: $0.line ?? values.lines[$0.key], key: $0.key, message: $0.message)
            }
            throw ConfigurationError(placed)
        }
    }

    static func read(_ text: String, keys: [ConfigurationKey]) throws(ConfigurationError) -> ConfigurationValues {
        let known = Dictionary(keys.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var values: [String: String] = [:]
        var lines: [String: Int] = [:]
        var problems: [ConfigurationProblem] = []
        for (index, raw) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let number = index + 1
            let line = trim(raw)
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let equals = line.firstIndex(of: "=") else {
                problems.append(ConfigurationProblem(line: number, key: "", message: "not a \"key = value\" line: \(line)"))
                continue
            }
            let name = trim(line[..<equals])
            let value = trim(line[line.index(after: equals)...])
            guard let key = known[name] else {
                problems.append(ConfigurationProblem(line: number, key: name, message: unknown(name, among: known.keys.sorted())))
                continue
            }
            if let first = lines[name] {
                problems.append(ConfigurationProblem(line: number, key: name, message: "is already set in line \(first)"))
                continue
            }
            lines[name] = number
            if let problem = key.kind.problem(with: value) {
                problems.append(ConfigurationProblem(line: number, key: name, message: problem))
            } else {
                values[name] = value
            }
        }
        for key in keys where lines[key.name] == nil {
            if let standard = key.standard {
                values[key.name] = standard
            } else if key.isRequired {
                problems.append(ConfigurationProblem(line: nil, key: key.name, message: "is missing (\(key.doc))"))
            }
        }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        return ConfigurationValues(values: values, keys: known, lines: lines)
    }

    private static func trim(_ text: some StringProtocol) -> String {
        var slice = Substring(text)
        while let first = slice.first, first == " " || first == "\t" || first == "\r" || first == "\r\n" { slice.removeFirst() }
        while let last = slice.last, last == " " || last == "\t" || last == "\r" || last == "\r\n" { slice.removeLast() }
        return String(slice)
    }

    private static func unknown(_ name: String, among names: [String]) -> String {
        let near = names.map { ($0, distance(name, $0)) }.min { $0.1 < $1.1 }
        guard let near, near.1 <= max(2, name.count / 3) else { return "is not a key of this daemon" }
        return "is not a key of this daemon; did you mean \(near.0)?"
    }

    /// Levenshtein's distance.
    private static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        var row = Array(0...b.count)
        for i in 0..<a.count {
            var diagonal = row[0]
            row[0] = i + 1
            for j in 0..<b.count {
                let change = diagonal + (a[i] == b[j] ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(change, row[j] + 1, diagonal + 1)
            }
        }
        return row[b.count]
    }
}
