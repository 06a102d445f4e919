import Glibc
import Testing

/// Style is a test: each check names the file, the line and what to use instead.
@Suite struct StyleTests {
    static let repository = String(#filePath.dropLast("/Tests/StyleTests/StyleTests.swift".count))

    struct Source: Sendable {
        let path: String
        let lines: [Substring]
    }

    static func files(below folder: String, suffix: String = ".swift") -> [Source] {
        guard let directory = opendir("\(repository)/\(folder)") else { return [] }
        defer { closedir(directory) }
        var found: [Source] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(cString: $0.bindMemory(to: CChar.self).baseAddress!) }
            if name.hasPrefix(".") { continue }
            let path = "\(folder)/\(name)"
            if entry.pointee.d_type == UInt8(DT_DIR) {
                found += files(below: path, suffix: suffix)
            } else if name.hasSuffix(suffix), let text = read(path) {
                found.append(Source(path: path, lines: text.split(separator: "\n", omittingEmptySubsequences: false)))
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    static func read(_ path: String) -> String? {
        guard let file = fopen("\(repository)/\(path)", "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let n = fread(&chunk, 1, chunk.count, file)
            if n == 0 { break }
            bytes += chunk[..<n]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What is code in a line: without its `//` comment (strings that hold `//` are URLs, which no check looks for).
    static func code(_ line: Substring) -> Substring {
        let trimmed = line.drop { $0 == " " }
        if trimmed.hasPrefix("//") { return "" }
        if let range = line.firstRange(of: " // ") { return line[..<range.lowerBound] }
        return line
    }

    static let ours: Set<String> = [
        "Domain", "Wire", "API", "Signing", "Database", "Identity", "Workflow", "Daemon", "CLibvirt", "CLibXML2", "CPostgres", "COpenSSL",
        "CCurl", "CloudControllerKit", "WalrusKit", "ClusterControllerKit", "StorageControllerKit", "NodeControllerKit", "TestKit",
    ]

    @Test func importsFollowTheArrows() throws {
        let text = try #require(Self.read("Tests/StyleTests/arrows.txt"))
        var rooms = 0
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: ":")
            let folder = String(parts[0])
            let allowed = Set(parts.count > 1 ? parts[1].split(separator: " ").map(String.init) : [])
            let sources = Self.files(below: folder)
            #expect(!sources.isEmpty, "\(folder) has no source: remove it from arrows.txt")
            rooms += 1
            for source in sources {
                for (number, line) in source.lines.enumerated() {
                    let words = line.split(separator: " ")
                    guard let at = words.firstIndex(of: "import"), at <= 2, at + 1 < words.count else { continue }
                    let module = String(words[at + 1].prefix { $0 != "." })
                    if Self.ours.contains(module), !allowed.contains(module) {
                        Issue.record("\(source.path):\(number + 1): \(folder) may not import \(module) (Tests/StyleTests/arrows.txt)")
                    }
                    if module == "Foundation" || module.hasPrefix("FoundationNetworking") {
                        Issue.record(
                            "\(source.path):\(number + 1): Foundation costs 50 MB: use Domain's Timestamp, Glibc, FoundationEssentials at most"
                        )
                    }
                }
            }
        }
        #expect(rooms >= 19)
    }

    @Test func kitsAreDeterministicAndQuiet() {
        let banned: [(String, String)] = [
            ("Task {", "a service's run() or withTaskGroup: an unstructured task escapes the simulator"),
            ("Task.detached", "a service's run() or withTaskGroup"),
            ("Task.sleep", "Workflow's Clock"),
            ("Date()", "Workflow's Clock"),
            ("UUID()", "Workflow's Random"),
            ("Int.random", "Workflow's Random"),
            ("UInt64.random", "Workflow's Random"),
            (".randomElement(", "Workflow's Random"),
            ("print(", "the logger"),
            ("try!", "try, and a CloudError"),
            ("fatalError(", "a CloudError; precondition for what only a bug can do"),
        ]
        for kit in ["CloudController", "Walrus", "ClusterController", "StorageController", "NodeController"] {
            for source in Self.files(below: "Sources/\(kit)/Kit") {
                for (number, line) in source.lines.enumerated() {
                    let code = Self.code(line)
                    for (word, instead) in banned where code.contains(word) {
                        // `fingerprint(` is no `print(`.
                        if word == "print(", !(code.contains(" print(") || code.hasPrefix("print(")) { continue }
                        // `group.addTask {` is what is wanted, and a `BundleTask {` is a type.
                        if word == "Task {", !(code.contains(" Task {") || code.contains("(Task {") || code.hasPrefix("Task {")) {
                            continue
                        }
                        Issue.record("\(source.path):\(number + 1): \(word) is banned in a Kit: use \(instead)")
                    }
                }
            }
        }
    }

    @Test func domainTouchesNothing() {
        for source in Self.files(below: "Sources/Shared/Domain") {
            for (number, line) in source.lines.enumerated() {
                let code = Self.code(line)
                for word in ["import Glibc", "async ", "await ", "Clock.", "getrandom", "open("] where code.contains(word) {
                    Issue.record("\(source.path):\(number + 1): Domain is the standard library only, without \(word)")
                }
            }
        }
    }

    @Test func sqlLivesInStores() {
        for kit in ["CloudController", "Walrus", "StorageController"] {
            for source in Self.files(below: "Sources/\(kit)/Kit") {
                let name = source.path.split(separator: "/").last.map(String.init) ?? ""
                if name.hasSuffix("Store.swift") || name.hasSuffix("Schema.swift") || name.hasSuffix("Migrations.swift") { continue }
                if name.contains("Store+") || name.contains("Store") { continue }
                for (number, line) in source.lines.enumerated() {
                    let code = Self.code(line)
                    for word in [
                        "\"SELECT ", "\"INSERT INTO", "\"UPDATE ", "\"DELETE FROM", " FROM cloud.", " INTO cloud.", " FROM walrus.",
                        " FROM storage.",
                    ]
                    where code.contains(word) {
                        Issue.record("\(source.path):\(number + 1): SQL belongs into a *Store.swift")
                    }
                }
            }
        }
    }

    @Test func mainsAreSmall() {
        for daemon in ["CloudController", "Walrus", "ClusterController", "StorageController", "NodeController"] {
            let lines = Self.files(below: "Sources/\(daemon)/Main").map(\.lines.count).reduce(0, +)
            #expect(
                lines > 0 && lines <= 60,
                "Sources/\(daemon)/Main has \(lines) lines: what is more than parse, build, run belongs into the Kit")
        }
    }

    @Test func noFileIsUnfinished() {
        for folder in ["Sources", "deploy"] {
            for suffix in [".swift", ".sh"] {
                for source in Self.files(below: folder, suffix: suffix) {
                    for (number, line) in source.lines.enumerated() {
                        for word in ["TODO", "FIXME", "not yet implemented", "unimplemented("] where line.contains(word) {
                            Issue.record("\(source.path):\(number + 1): says \(word): finish it or leave it out")
                        }
                        if suffix == ".swift", line.count > 140, !source.path.contains("/Generated/") {
                            Issue.record("\(source.path):\(number + 1): \(line.count) columns, 140 at most")
                        }
                    }
                }
            }
        }
    }

    @Test func nothingNeedsSharedFolder() {
        for folder in ["Sources", "Tests", "deploy", ".ci"] {
            for suffix in [".swift", ".sh", ".py", "run", "karri"] {
                for source in Self.files(below: folder, suffix: suffix) where !source.path.hasSuffix("StyleTests.swift") {
                    for (number, line) in source.lines.enumerated() where line.contains("../shared/") || line.contains("/work/") {
                        Issue.record("\(source.path):\(number + 1): the project stands alone: no path outside the repository")
                    }
                }
            }
        }
    }
}
