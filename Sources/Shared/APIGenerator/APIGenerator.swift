import ArgumentParser
import Wire

/// The tool of the definitions: they are the one truth of every message, all else is written from them (`ARCHITECTURE.md` §3).
@main
struct APIGenerator: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "APIGenerator", abstract: "Checks the API definitions and writes code, WSDL and documents from them.",
        subcommands: [Check.self, Generate.self, Import.self, WriteWSDL.self, Docs.self])
}

/// Where things are; the defaults suit the top folder of the repository.
struct Places: ParsableArguments {
    @Option(help: "Folder of the definitions.")
    var definitions = "Sources/Shared/API/Definitions"
    @Option(help: "Folder of the generated Swift.")
    var output = "Sources/Shared/API/Generated"
    @Option(help: "Folder of the WSDL documents.")
    var wsdl = "docs/wsdl"
    @Option(help: "Folder of the reference pages.")
    var docs = "docs/api"

    func catalogue() throws -> Catalogue {
        do {
            return try Catalogue(folder: definitions)
        } catch let mistakes as Mistakes {
            throw ValidationError("\n" + mistakes.description)
        }
    }
}

/// A set of files that is written from the definitions.
struct Product {
    let folder: String
    let suffix: String
    let files: [(path: String, text: String)]

    /// Writes what differs, so that unchanged files are not compiled again, and removes what is no more.
    func write() throws {
        var changed = 0
        for (path, text) in files {
            let bytes = Array(text.utf8)
            if try Files.readIfPresent("\(folder)/\(path)") != bytes {
                try Files.write(bytes, "\(folder)/\(path)")
                changed += 1
            }
        }
        for old in try leftovers() {
            try Files.remove("\(folder)/\(old)")
            changed += 1
        }
        Report.say("\(folder): \(files.count) files, \(changed) changed")
    }

    /// What is not as it would be written.
    func stale() throws -> [String] {
        var out: [String] = []
        for (path, text) in files where try Files.readIfPresent("\(folder)/\(path)") != Array(text.utf8) { out.append("\(folder)/\(path)") }
        return out + (try leftovers().map { "\(folder)/\($0) (nothing defines it)" })
    }

    private func leftovers() throws -> [String] {
        guard let present = try? Files.list(folder, suffix: suffix) else { return [] }
        let wanted = Set(files.map(\.path))
        return present.filter { !wanted.contains($0) }
    }
}

extension Catalogue {
    func swift(_ folder: String) -> Product {
        Product(folder: folder, suffix: ".swift", files: services.flatMap { SwiftWriter.files($0) })
    }

    /// EC2 at the dates whose documents clients still have, and the internal vocabularies.
    func wsdl(_ folder: String) throws -> Product {
        var files: [(path: String, text: String)] = []
        for service in services where service.name == "EC2" || service.isInternal {
            let table = definition(service)
            let dates: [String?] = service.isInternal ? [nil] : Self.wsdlDates
            for date in dates {
                let name = service.name.lowercased() + (date.map { "-" + $0 } ?? "") + ".wsdl"
                let endpoint = service.isInternal ? "https://localhost/" : "https://localhost:8773/services/compute"
                files.append((name, String(decoding: try WSDL.document(table, version: date, endpoint: endpoint), as: UTF8.self)))
            }
        }
        return Product(folder: folder, suffix: ".wsdl", files: files)
    }

    static let wsdlDates: [String?] = ["2008-05-05", "2009-08-15", "2010-08-31", "2014-10-01", "2016-11-15"]

    func docs(_ folder: String) -> Product { Product(folder: folder, suffix: ".md", files: DocsWriter.files(self)) }
}

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Says what is wrong in the definitions and what is not up to date.")
    @OptionGroup var places: Places

    func run() throws {
        let catalogue = try places.catalogue()
        let stale = try catalogue.swift(places.output).stale() + catalogue.wsdl(places.wsdl).stale() + catalogue.docs(places.docs).stale()
        guard stale.isEmpty else {
            throw ValidationError("not up to date, run `APIGenerator generate`:\n" + stale.joined(separator: "\n"))
        }
    }
}

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes everything: the generated Swift, the WSDL, the pages.")
    @OptionGroup var places: Places

    func run() throws {
        let catalogue = try places.catalogue()
        try catalogue.swift(places.output).write()
        try catalogue.wsdl(places.wsdl).write()
        try catalogue.docs(places.docs).write()
    }
}

struct WriteWSDL: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "wsdl", abstract: "Writes the WSDL documents only.")
    @OptionGroup var places: Places

    func run() throws { try places.catalogue().wsdl(places.wsdl).write() }
}

struct Docs: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes the reference pages only.")
    @OptionGroup var places: Places

    func run() throws { try places.catalogue().docs(places.docs).write() }
}
