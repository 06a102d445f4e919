import Glibc
import Testing

@testable import APIGenerator

/// The tool itself: what is checked in is up to date, and a mistake in a definition is named with file and member.
@Suite struct GeneratorTests {
    static let repository = String(#filePath.dropLast("/Tests/WireTests/GeneratorTests.swift".count))

    @Test func checkedInFilesAreUpToDate() throws {
        let catalogue = try Catalogue(folder: Self.repository + "/Sources/Shared/API/Definitions")
        let stale =
            try catalogue.swift(Self.repository + "/Sources/Shared/API/Generated").stale()
            + catalogue.wsdl(Self.repository + "/docs/wsdl").stale() + catalogue.docs(Self.repository + "/docs/api").stale()
        #expect(stale.isEmpty, "run `APIGenerator generate`")
    }

    /// - Returns: the mistakes that one definition gives, each as file, member and message.
    private func mistakes(_ json: String) throws -> String {
        var folder = Array("/tmp/karri-generator-XXXXXX".utf8CString)
        let path = try #require(
            folder.withUnsafeMutableBufferPointer { $0.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } })
        defer {
            unlink(path + "/x.json")
            rmdir(path)
        }
        try Files.write(Array(json.utf8), path + "/x.json")
        do {
            _ = try Catalogue(folder: path)
            return ""
        } catch let mistakes as Mistakes {
            return mistakes.description
        }
    }

    private func definition(_ members: String, _ rest: String = "", shapes: String = "") -> String {
        """
        {"service": "SC", "resource": "X", "audience": "internal", "namespace": "urn:x", "actions": [
          {"name": "DoIt", "input": [\(members)], "output": [] \(rest)}], "shapes": {\(shapes)}}
        """
    }

    @Test func soundDefinition() throws {
        #expect(
            try mistakes(definition("{\"name\": \"a\", \"type\": \"list<Y>\"}", shapes: "\"Y\": [{\"name\": \"b\", \"type\": \"string\"}]"))
                == "")
    }

    @Test func mistakesAreNamed() throws {
        let cases: [(String, String)] = [
            ("{\"name\": \"a\", \"type\": \"strin\"}", "x.json: DoIt input.a: unknown type \"strin\""),
            ("{\"name\": \"a\", \"type\": \"Missing\"}", "x.json: DoIt input.a: there is no shape SC.Missing"),
            ("{\"name\": \"a\", \"type\": \"NC.Y\"}", "\"uses\" does not name NC"),
            ("{\"name\": \"A\", \"type\": \"string\"}", "starts with a lower-case letter"),
            ("{\"name\": \"a\", \"type\": \"string\", \"requird\": true}", "x.json: DoIt input.a: unknown key \"requird\""),
            ("{\"name\": \"a\", \"type\": \"string\", \"item\": \"x\"}", "item is for lists"),
            ("{\"name\": \"a\", \"type\": \"list<list<string>>\"}", "a list of lists"),
            ("{\"name\": \"a\", \"type\": \"string\", \"since\": \"2009\"}", "since is a date"),
            ("{\"name\": \"a\", \"type\": \"string\", \"min\": \"1\"}", "min is an integer"),
            ("{\"name\": \"a\", \"type\": \"string\"}, {\"name\": \"a\", \"type\": \"string\"}", "the name comes twice"),
            ("{\"name\": \"a\", \"type\": \"string\"}, {\"name\": \"b\", \"type\": \"string\", \"query\": \"A\"}", "the Query name of a"),
            ("{\"name\": \"a\", \"type\": \"string\"}, {\"name\": \"b\", \"type\": \"string\", \"soap\": \"a\"}", "the SOAP path of a"),
            ("{\"type\": \"string\"}", "name is missing"),
            ("", ""),
        ]
        for (members, message) in cases {
            let found = try mistakes(definition(members))
            #expect(message.isEmpty ? found.isEmpty : found.contains(message), "\(members): \(found)")
        }
        #expect(
            try mistakes(definition("", ", \"example\": {\"query\": \"A=1\"}")).contains(
                "DoIt example: query: The parameter A is not recognized"))
        #expect(try mistakes(definition("", ", \"example\": {\"output\": {\"a\": 1}}")).contains("output has no member a"))
        #expect(try mistakes(definition("", ", \"extra\": 1")).contains("x.json: DoIt: unknown key \"extra\""))
        #expect(try mistakes(definition("", shapes: "\"Y\": [{\"name\": \"b\", \"type\": \"Y\"}]")).contains("contains itself"))
        #expect(try mistakes(definition("", shapes: "\"Value\": []")).contains("cannot be the name of a type"))
        #expect(try mistakes(definition("", shapes: "\"DoIt\": []")).contains("the service has this name twice"))
        #expect(try mistakes("{\"service\": ").contains("x.json: line 1: a value is missing"))
        #expect(try mistakes("{\n\"service\": 1,\n\"service\": 2}").contains("line 3: the key \"service\" comes twice"))
    }

    /// An old form and a new form of one element may share its name when their dates do not overlap.
    @Test func dates() throws {
        let old = "{\"name\": \"a\", \"type\": \"string\", \"xml\": \"x\", \"until\": \"2009-01-01\"}"
        let new = "{\"name\": \"b\", \"type\": \"string\", \"xml\": \"x\", \"since\": \"2009-01-01\"}"
        let overlapping = "{\"name\": \"b\", \"type\": \"string\", \"xml\": \"x\", \"since\": \"2008-12-31\"}"
        #expect(try mistakes(definition("\(old), \(new)")) == "")
        #expect(try mistakes(definition("\(old), \(overlapping)")).contains("the reply's element of a"))
    }

    @Test func json() throws {
        func parse(_ text: String) throws -> JSON { try JSON(parsing: Array(text.utf8)) }
        #expect(
            try parse(" {\"a\": [1, -2.5e3, true, null, \"x\\n\\u00e9\\ud83d\\ude00\\/\"]} ")["a"]?.array?.last == .string("x\né😀/"))
        for bad in [
            "", "{", "[1,]", "{\"a\"}", "{\"a\":1,}", "\"\\x\"", "\"\\ud800\"", "\"a", "tru", "1 2", "{\"a\":1 \"b\":2}", "\"\u{1}\"",
            "[1 2]",
        ] {
            #expect(throws: JSON.Failure.self, "\(bad)") { try parse(bad) }
        }
    }
}
