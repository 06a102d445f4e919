/// One key of a daemon's configuration file: its name, what its value must look like, and what it is for.
///
/// A daemon lists all its keys; `check-config` and `run` refuse every key that is not listed and every value that does not fit.
public struct ConfigurationKey: Sendable {
    /// What a value must look like. Checked when the file is read, so a daemon only ever sees values that fit.
    public indirect enum Kind: Sendable {
        case text
        case integer(ClosedRange<Int>)
        /// `yes`, `no`, `true`, `false`, `on`, `off`.
        case boolean
        /// An absolute path; it may not exist yet.
        case path
        /// An absolute path of a file that can be read now.
        case file
        /// A dotted IPv4 address, such as `0.0.0.0`.
        case address
        /// `host:port`.
        case endpoint
        /// `http://` or `https://` and a host.
        case url
        /// `a.b.c.d/n` with no bits set behind the prefix.
        case cidr
        case choice([String])
        /// Values separated by commas or blanks. May be empty.
        case list(Kind)
    }

    public let name: String
    public let kind: Kind
    /// Taken when the file does not have the key. `nil` and not required: the key is simply absent.
    public let standard: String?
    public let isRequired: Bool
    public let doc: String

    private init(_ name: String, _ kind: Kind, standard: String?, isRequired: Bool, doc: String) {
        self.name = name
        self.kind = kind
        self.standard = standard
        self.isRequired = isRequired
        self.doc = doc
    }

    /// A key that the file must have.
    public static func required(_ name: String, _ kind: Kind, _ doc: String) -> ConfigurationKey {
        ConfigurationKey(name, kind, standard: nil, isRequired: true, doc: doc)
    }

    /// A key with a standard value.
    public static func standard(_ name: String, _ kind: Kind, _ standard: String, _ doc: String) -> ConfigurationKey {
        ConfigurationKey(name, kind, standard: standard, isRequired: false, doc: doc)
    }

    /// A key that may be absent.
    public static func optional(_ name: String, _ kind: Kind, _ doc: String) -> ConfigurationKey {
        ConfigurationKey(name, kind, standard: nil, isRequired: false, doc: doc)
    }

    /// The keys that every daemon has; `DaemonProgram` reads them itself.
    public static let common: [ConfigurationKey] = [
        .standard(
            "log_level", .choice(["trace", "debug", "info", "notice", "warning", "error"]), "info", "Least level of what is logged"),
        .standard("metrics_port", .integer(0...65535), "0", "Loopback port for plain GET /metrics and /health; 0 switches it off"),
        .standard("stop_seconds", .integer(1...600), "20", "How long a graceful stop waits for requests under way"),
    ]
}

extension ConfigurationKey.Kind {
    /// Why `text` does not fit, in the words of `check-config`; `nil` when it fits.
    func problem(with text: String) -> String? {
        switch self {
        case .text:
            return text.isEmpty ? "must not be empty" : nil
        case .integer(let range):
            guard let n = Int(text) else { return "must be a whole number, not \"\(text)\"" }
            return range.contains(n) ? nil : "must be from \(range.lowerBound) to \(range.upperBound), not \(n)"
        case .boolean:
            return Self.boolean(text) == nil ? "must be yes or no, not \"\(text)\"" : nil
        case .path:
            return text.hasPrefix("/") ? nil : "must be an absolute path, not \"\(text)\""
        case .file:
            if let problem = Self.path.problem(with: text) { return problem }
            return FileSystem.canRead(text) ? nil : "\(text): cannot be read: \(FileSystem.lastError)"
        case .address:
            return Self.octets(text) == nil ? "must be an IPv4 address, not \"\(text)\"" : nil
        case .endpoint:
            return Self.isEndpoint(text) ? nil : "must be host:port, not \"\(text)\""
        case .url:
            let rest: Substring? =
                text.hasPrefix("http://") ? text.dropFirst(7) : text.hasPrefix("https://") ? text.dropFirst(8) : nil
            return rest?.isEmpty == false ? nil : "must be an http:// or https:// address, not \"\(text)\""
        case .cidr:
            return Self.isCIDR(text) ? nil : "must be a.b.c.d/n with no bits behind the prefix, not \"\(text)\""
        case .choice(let allowed):
            return allowed.contains(text) ? nil : "must be one of \(allowed.joined(separator: ", ")), not \"\(text)\""
        case .list(let kind):
            for item in Self.items(text) {
                if let problem = kind.problem(with: item) { return problem }
            }
            return nil
        }
    }

    static func boolean(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "yes", "true", "on": true
        case "no", "false", "off": false
        default: nil
        }
    }

    static func items(_ text: String) -> [String] {
        text.split(whereSeparator: { $0 == "," || $0 == " " || $0 == "\t" }).map(String.init)
    }

    private static func octets(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var address: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let n = UInt8(part) else {
                return nil
            }
            address = address << 8 | UInt32(n)
        }
        return address
    }

    private static func isEndpoint(_ text: String) -> Bool {
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex else { return false }
        guard let port = UInt16(text[text.index(after: colon)...]), port > 0 else { return false }
        return !text[..<colon].contains { $0 == "/" || $0 == " " || $0 == "@" }
    }

    private static func isCIDR(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = octets(String(parts[0])), let length = Int(parts[1]), (0...32).contains(length) else {
            return false
        }
        return length == 32 || address & (UInt32.max >> UInt32(length)) == 0
    }
}
