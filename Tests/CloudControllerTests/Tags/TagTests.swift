import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

@Suite struct TagTests {
    @Test func rules() {
        #expect(code { _ = try ResourceTag(key: "aws:x", value: "") } == "InvalidParameterValue")
        #expect(code { _ = try ResourceTag(key: "", value: "") } == "InvalidParameterValue")
        #expect(code { _ = try ResourceTag(key: String(repeating: "ü", count: 128), value: String(repeating: "é", count: 256)) } == "")
        #expect(code { _ = try ResourceTag(key: String(repeating: "k", count: 129), value: "") } == "InvalidParameterValue")
        #expect(code { _ = try ResourceTag(key: "k", value: String(repeating: "v", count: 257)) } == "InvalidParameterValue")
        #expect(code { _ = try TagRules.parse((0...50).map { EC2.Tag(key: "k\($0)") }) } == "TagLimitExceeded")
        #expect(code { _ = try TagRules.parse([EC2.Tag(key: "k"), EC2.Tag(key: "k")]) } == "InvalidParameterValue")
        #expect(code { _ = try TagRules.onCreate([EC2.TagSpecification(resourceType: "volume")], of: [.image]) } == "InvalidParameterValue")
        #expect(code { _ = try TagRules.resources(["nonsense"]) } == "InvalidID")
        #expect(code { _ = try TagRules.resources(["i-xyz"]) } == "InvalidID")
    }

    @Test func setDescribeDelete() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        try await test.instance("i-00000001", account: alice.accountID, address: "10.1.0.2")
        try await test.instance("i-00000002", account: alice.accountID, address: "10.1.0.3")
        let both = ["i-00000001", "i-00000002"]
        let set = EC2.CreateTags(resources: both, tags: [EC2.Tag(key: "Name", value: "a"), EC2.Tag(key: "Role", value: "db")])
        #expect(await code { _ = try await ec2.createTags(set, bob) } == "InvalidInstanceID.NotFound")
        var dry = set
        dry.dryRun = true
        #expect(await code { _ = try await ec2.createTags(dry, alice) } == "DryRunOperation")
        #expect(try await ec2.describeTags(EC2.DescribeTags(), alice).tags.isEmpty)
        _ = try await ec2.createTags(set, alice)
        // All or none: one that is not there.
        let half = EC2.CreateTags(resources: ["i-00000001", "vol-00000001"], tags: [EC2.Tag(key: "Half", value: "")])
        #expect(await code { _ = try await ec2.createTags(half, alice) } == "InvalidVolume.NotFound")
        let tags = try await ec2.describeTags(EC2.DescribeTags(filters: [EC2.Filter(name: "key", values: ["*"])]), alice).tags
        #expect(
            tags.map { "\($0.resourceId ?? "") \($0.resourceType ?? "") \($0.key ?? "")=\($0.value ?? "")" } == [
                "i-00000001 instance Name=a", "i-00000001 instance Role=db", "i-00000002 instance Name=a", "i-00000002 instance Role=db",
            ])
        #expect(try await ec2.describeTags(EC2.DescribeTags(), bob).tags.isEmpty)
        // A new value; delete by key, by another value (nothing), by all.
        _ = try await ec2.createTags(EC2.CreateTags(resources: ["i-00000001"], tags: [EC2.Tag(key: "Name", value: "b")]), alice)
        _ = try await ec2.deleteTags(EC2.DeleteTags(resources: ["i-00000001"], tags: [EC2.Tag(key: "Name", value: "a")]), alice)
        _ = try await ec2.deleteTags(EC2.DeleteTags(resources: ["i-00000001"], tags: [EC2.Tag(key: "Role")]), alice)
        _ = try await ec2.deleteTags(EC2.DeleteTags(resources: ["i-00000002"]), alice)
        _ = try await ec2.deleteTags(EC2.DeleteTags(resources: ["i-00000001"], tags: [EC2.Tag(key: "Name")]), bob)
        #expect(try await ec2.describeTags(EC2.DescribeTags(), alice).tags.map(\.value) == ["b"])
    }

    @Test func pages() async throws {
        let test = try await TestCloud()
        try await test.instance("i-00000001", account: test.alice.accountID, address: "10.1.0.2")
        let tags = (10..<30).map { EC2.Tag(key: "k\($0)", value: "") }
        _ = try await test.actions.createTags(EC2.CreateTags(resources: ["i-00000001"], tags: tags), test.alice)
        var seen: [String] = []
        var token: String?
        repeat {
            let page = try await test.actions.describeTags(EC2.DescribeTags(maxResults: 6, nextToken: token), test.alice)
            seen += page.tags.compactMap(\.key)
            token = page.nextToken
        } while token != nil
        #expect(seen == tags.compactMap(\.key))
    }
}
