import API
import Domain
import Testing
import Wire

/// Query requests, as real clients send them and as they should not. Golden facts: `reference/ec2.md` §1.
@Suite struct QueryTests {
    private func decode(_ shape: Shape, _ query: String, version: String? = "2016-11-15") throws(CloudError) -> Value {
        try decodeQuery(shape, QueryParameters(parsing: query), version: version)
    }

    private func expect(_ reason: CloudError.Reason, _ shape: Shape, _ query: String, sourceLocation: SourceLocation = #_sourceLocation) {
        do {
            let value = try decode(shape, query)
            Issue.record("was accepted: \(query) as \(value)", sourceLocation: sourceLocation)
        } catch {
            #expect(error.reason == reason, "\(error)", sourceLocation: sourceLocation)
        }
    }

    @Test func flattenedListsAndNestedRecords() throws {
        let request = try EC2.DescribeInstances(
            decode(
                EC2.DescribeInstances.shape,
                "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2&Filter.1.Name=tag%3Aa+b"
                    + "&Filter.1.Value.1=x%26y&Filter.1.Value.2=%C3%A9"
            ))
        #expect(request.instanceIds == ["i-1", "i-2"])
        #expect(request.filters.count == 1 && request.filters[0].name == "tag:a b" && request.filters[0].values == ["x&y", "é"])
    }

    @Test func listsFromZeroAndWithGaps() throws {
        let zero = try decode(EC2.TerminateInstances.shape, "InstanceId.0=i-a&InstanceId.1=i-b")
        let one = try decode(EC2.TerminateInstances.shape, "InstanceId.1=i-a&InstanceId.2=i-b")
        let sparse = try decode(EC2.TerminateInstances.shape, "InstanceId.90=i-b&InstanceId.7=i-a")
        let tenth = try decode(EC2.TerminateInstances.shape, "InstanceId.10=i-b&InstanceId.9=i-a")
        #expect(zero == one && one == sparse && sparse == tenth)
        // libcloud's CreateTags, counted from 0
        let tags = try EC2.CreateTags(
            decode(EC2.CreateTags.shape, "ResourceId.0=i-a&Tag.0.Key=k&Tag.0.Value=v&Tag.1.Key=l&Tag.1.Value="))
        #expect(tags.tags.map(\.key) == ["k", "l"] && tags.resources == ["i-a"])
    }

    @Test func listsOfIAMStyle() throws {
        let shape = Shape("X", [Member("arns", .list(.string, item: "member"), query: "PolicyArns")])
        #expect(try decode(shape, "PolicyArns.member.1=a&PolicyArns.member.2=b") == .record(["arns": .texts(["a", "b"])]))
        #expect(try decode(shape, "PolicyArns=") == .record(["arns": .list([])]))
        expect(.invalidParameter("PolicyArns"), shape, "PolicyArns.member.1=a&PolicyArns.2=b")
    }

    @Test func refusals() {
        let terminate = EC2.TerminateInstances.shape
        let unknown = CloudError.Reason.named(code: "UnknownParameter", status: 400)
        expect(.missingParameter("InstanceId"), terminate, "")
        expect(.missingParameter("InstanceId"), terminate, "Action=TerminateInstances")
        expect(unknown, terminate, "InstanceId.1=i-1&Nonsense=1")
        expect(unknown, terminate, "InstanceId.1=i-1&InstanceId=")
        expect(unknown, terminate, "InstanceId.1=i-1&InstanceId.1.Extra=x")
        expect(unknown, terminate, "InstanceId.1=i-1&instanceid.2=i-2")
        expect(.invalidParameter("InstanceId.x"), terminate, "InstanceId.x=i-1")
        expect(.invalidParameter("InstanceId.01"), terminate, "InstanceId.01=i-1")
        expect(.invalidParameter("InstanceId.-1"), terminate, "InstanceId.-1=i-1")
        expect(.invalidParameter("InstanceId.4294967297"), terminate, "InstanceId.4294967297=i-1")
        expect(.invalidParameter("InstanceId.1"), terminate, "InstanceId.1.x=i-1")
        expect(.invalidParameter("InstanceId.1"), terminate, "InstanceId.1=i-1&InstanceId.1=i-2")
        expect(.invalidParameter("InstanceId.1"), terminate, "InstanceId.1=%01")
        expect(.malformedRequest, terminate, "InstanceId.1=%")
        expect(.malformedRequest, terminate, "InstanceId.1=%zz")
        expect(.malformedRequest, terminate, "InstanceId.1=%ff")
        expect(.malformedRequest, terminate, "=x")
        expect(.malformedRequest, terminate, "Instance%C3%A9=x")
        expect(.malformedRequest, terminate, "%E2%84%AAey=x")  // KELVIN SIGN, which Swift finds equal to K
        expect(.invalidParameter("InstanceId"), terminate, (0..<1001).map { "InstanceId.\($0)=i" }.joined(separator: "&"))
        expect(
            .malformedRequest, terminate, (0..<10_001).map { "N\($0)=i" }.joined(separator: "&"))
        expect(.malformedRequest, terminate, String(repeating: "N", count: 257) + "=1")
        expect(.requestTooLarge(limit: 1_048_576), terminate, "InstanceId.1=" + String(repeating: "i", count: 1_048_576))
    }

    @Test func limitsOfTheDefinition() {
        let shape = Shape(
            "X",
            [
                Member("number", .integer, min: 1, max: 9), Member("name", .string, min: 2, max: 4),
                Member("kind", .string, allowed: ["a", "b"]), Member("data", .blob, max: 3), Member("flag", .boolean),
                Member("time", .timestamp), Member("ratio", .double, min: 0, max: 1), Member("list", .list(.string, item: "item"), max: 2),
                Member("kinds", .list(.string, item: "item"), allowed: ["a", "b"]),
            ])
        for good in [
            "Number=1", "Number=9", "Number=%2B5", "Name=ab", "Name=%F0%9F%98%80%F0%9F%98%80", "Kind=a", "Data=AAAA", "Data=", "Flag=1",
            "Flag=TRUE",
            "Time=2026-11-22T14:33:36Z", "Ratio=0.5", "Ratio=1e-3", "List.1=x&List.2=y", "Kinds.1=a&Kinds.2=b",
        ] {
            #expect(throws: Never.self, "\(good)") { try decode(shape, good) }
        }
        for (bad, name) in [
            ("Number=0", "Number"), ("Number=10", "Number"), ("Number=", "Number"), ("Number=1.5", "Number"), ("Number=0x5", "Number"),
            ("Number=99999999999999999999", "Number"), ("Name=a", "Name"), ("Name=abcde", "Name"), ("Kind=c", "Kind"), ("Kind=", "Kind"),
            ("Data=AAA", "Data"), ("Data=AAAAAA==", "Data"), ("Data=A*AA", "Data"), ("Data=AA==AA==", "Data"), ("Data=AB==", "Data"),
            ("Flag=yes", "Flag"), ("Flag=", "Flag"), ("Time=now", "Time"), ("Time=2026-02-30T00:00:00Z", "Time"), ("Ratio=nan", "Ratio"),
            ("Ratio=inf", "Ratio"), ("Ratio=0x1p-1", "Ratio"), ("Ratio=1.5", "Ratio"), ("List.1=x&List.2=y&List.3=z", "List"),
            ("Kinds.1=a&Kinds.2=c", "Kinds.2"),
        ] {
            expect(.invalidParameter(name), shape, bad)
        }
    }

    @Test func scalarsGetOneForm() throws {
        let shape = Shape("X", [Member("n", .integer), Member("b", .boolean), Member("t", .timestamp), Member("d", .blob)])
        let value = try decode(shape, "N=%2B007&B=True&T=2026-11-22T14:33:36%2B00:00&D=AA%0AAA")
        #expect(
            value
                == .record(["n": .text("7"), "b": .text("true"), "t": .text("2026-11-22T14:33:36.000Z"), "d": .text("AAAA")]))
    }

    /// `since` and `until` decide what a request of an API date may have.
    @Test func apiDates() throws {
        let shape = Shape(
            "X", [Member("old", .string, until: "2009-08-15"), Member("new", .string, since: "2009-08-15"), Member("both", .string)])
        #expect(try decode(shape, "Old=1&Both=2", version: "2008-05-05") == .record(["old": .text("1"), "both": .text("2")]))
        #expect(try decode(shape, "New=1", version: "2009-08-15") == .record(["new": .text("1")]))
        #expect(throws: CloudError.self) { try decode(shape, "New=1", version: "2009-08-14") }
        #expect(throws: CloudError.self) { try decode(shape, "Old=1", version: "2009-08-15") }
        #expect(throws: CloudError.self) { try decode(shape, "Old=1", version: nil) }
    }

    @Test func queryStringAndBodyTogether() throws {
        let p = try QueryParameters(parsing: "Action=X&A=1", body: Array("B=2&C=a+b".utf8))
        #expect(p.names == ["Action", "A", "B", "C"] && p["C"] == "a b" && p["D"] == nil)
        #expect(throws: CloudError.self) { try QueryParameters(parsing: "A=1", body: Array("A=1".utf8)) }
        #expect(try QueryParameters(parsing: nil).pairs.isEmpty)
        #expect(try QueryParameters(parsing: "&&A&").pairs.map(\.value) == [""])
    }

    /// Random parameters are refused or decoded, never more.
    @Test func randomParametersDoNotCrash() {
        let seed = SeededChoices.seed()
        print("KARRI_SEED=\(seed)")
        var choices = SeededChoices(seed: seed)
        let parts = [
            "Filter", "1", "0", "Name", "Value", "member", "", ".", "InstanceId", "999999999", "=", "&", "%", "%41", "MaxResults", "x",
        ]
        for _ in 0..<5_000 {
            let text = (0..<choices.below(20)).map { _ in parts[choices.below(parts.count)] + (choices.chance(40) ? "." : "") }.joined()
            _ = try? decode(EC2.DescribeInstances.shape, text)
        }
    }
}
