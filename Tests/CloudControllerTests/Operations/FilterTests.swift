import API
import Domain
import Testing

@testable import CloudControllerKit

@Suite struct FilterTests {
    @Test(arguments: [
        ("web", "web", true), ("web", "Web", false), ("w*", "web", true), ("*", "", true), ("w?b", "web", true), ("w?b", "wb", false),
        ("*a*b*c", "xxaxxbxxc", true), ("*a*b*c", "xxbxxaxxc", false), ("a\\*", "a*", true), ("a\\*", "ab", false), ("\\", "\\", true),
        ("**", "x", true), ("ü?", "üé", true), ("", "", true), ("", "a", false), ("*.2", "10.0.0.2", true),
    ]) func patterns(pattern: String, text: String, expected: Bool) {
        #expect(FilterPattern(pattern).matches(text) == expected)
    }

    /// A pattern that makes a naive matcher try every split.
    @Test func patternsAreNotExponential() {
        let pattern = FilterPattern(String(repeating: "a*", count: 100) + "b")
        #expect(!pattern.matches(String(repeating: "a", count: 5000)))
    }

    @Test func allFiltersAndAnyValue() throws {
        let filters = try Filters(
            [EC2.Filter(name: "name", values: ["x", "we*"]), EC2.Filter(name: "tag:Role", values: ["db", "front"])], known: ["name", "tag"])
        let match = { (name: String, tags: [String: String]) in filters.match(tags: tags) { $0 == "name" ? [name] : [] } }
        #expect(match("web", ["Role": "front"]))
        #expect(!match("web", ["Role": "back"]))
        #expect(!match("web", [:]))
        #expect(!match("mail", ["Role": "front"]))
        #expect(match("x", ["Role": "db"]))
    }

    @Test func tagKeysAndValues() throws {
        let tags = ["Name": "a", "Owner": "b"]
        #expect(try Filters([EC2.Filter(name: "tag-key", values: ["Own*"])], known: ["tag"]).match(tags: tags) { _ in [] })
        #expect(try Filters([EC2.Filter(name: "tag-value", values: ["b"])], known: ["tag"]).match(tags: tags) { _ in [] })
        #expect(try !Filters([EC2.Filter(name: "tag:Owner", values: ["a"])], known: ["tag"]).match(tags: tags) { _ in [] })
    }

    @Test func refusals() {
        #expect(code { _ = try Filters([EC2.Filter(name: "nope", values: ["x"])], known: ["name"]) } == "InvalidParameterValue")
        #expect(code { _ = try Filters([EC2.Filter(name: "tag:Name", values: ["x"])], known: ["name"]) } == "InvalidParameterValue")
        #expect(code { _ = try Filters([EC2.Filter(name: "name", values: [])], known: ["name"]) } == "InvalidParameterValue")
        #expect(code { _ = try Filters([EC2.Filter(values: ["x"])], known: ["name"]) } == "MissingParameter")
        #expect(
            code { _ = try Filters([EC2.Filter(name: "name", values: (0...200).map { "\($0)" })], known: ["name"]) }
                == "FilterLimitExceeded")
    }
}
