import Testing

@testable import APIGenerator

/// Facts of a foreign model become a definition of ours.
@Suite struct ImporterTests {
    private func model(_ dialect: String, _ service: String, operations: String, shapes: String) throws -> ServiceModel {
        let text = """
            {"metadata": {"protocol": "\(dialect)", "serviceId": "\(service)", "xmlNamespace": "https://iam.amazonaws.com/doc/2010-05-08/"},
             "operations": {\(operations)}, "shapes": {"Text": {"type": "string"}, "Flag": {"type": "boolean"}, \(shapes)}}
            """
        return try ServiceModel(JSON(parsing: Array(text.utf8)))
    }

    @Test func ec2Names() throws {
        let source = try model(
            "ec2", "EC2",
            operations: #""CreateThing": {"input": {"shape": "CreateThingRequest"}, "output": {"shape": "CreateThingResult"}},"#
                + #""DropThing": {"input": {"shape": "DropThingRequest"}}"#,
            shapes: #"""
                "CreateThingRequest": {"type": "structure", "required": ["VpcIds"], "members": {
                    "VpcIds": {"shape": "Ids", "locationName": "VpcId"}, "DryRun": {"shape": "Flag", "locationName": "dryRun"},
                    "Filters": {"shape": "Filters", "locationName": "Filter"},
                    "GroupIds": {"shape": "Ids", "locationName": "groupId", "queryName": "GroupId"},
                    "Count": {"shape": "Count"}, "Kind": {"shape": "Kind"}}},
                "Ids": {"type": "list", "member": {"shape": "Text", "locationName": "VpcId"}},
                "Filters": {"type": "list", "member": {"shape": "Filter", "locationName": "Filter"}},
                "Filter": {"type": "structure", "members": {"Name": {"shape": "Text"}}},
                "Count": {"type": "integer", "min": 5, "max": 1000}, "Kind": {"type": "string", "enum": ["a", "b"]},
                "CreateThingResult": {"type": "structure", "members": {"Thing": {"shape": "Thing", "locationName": "thing"},
                    "Return": {"shape": "Flag", "locationName": "return"}}},
                "Thing": {"type": "structure", "members": {"ThingId": {"shape": "Text", "locationName": "thingId"},
                    "Inner": {"shape": "Thing"}, "Tags": {"shape": "Tags", "locationName": "tagSet"}}},
                "Tags": {"type": "list", "member": {"shape": "Tag", "locationName": "item"}},
                "Tag": {"type": "structure", "members": {"Key": {"shape": "Text", "locationName": "key"}}},
                "DropThingRequest": {"type": "structure", "members": {}}
                """#)
        var importer = Importer(source, known: ["Filter"], since: "2011-01-01")
        let file = try importer.extend(nil, resource: "Things", actions: ["CreateThing", "DropThing"])
        #expect(
            DefinitionText.render(file) == #"""
                {
                  "service": "EC2", "resource": "Things", "audience": "external", "namespace": "http://ec2.amazonaws.com/doc/{version}/",
                  "actions": [
                    { "name": "CreateThing",
                      "since": "2011-01-01",
                      "input": [
                        {"name": "vpcIds", "type": "list<string>", "query": "VpcId", "soap": "vpcSet/item/vpcId", "required": true},
                        {"name": "dryRun", "type": "boolean"},
                        {"name": "filters", "type": "list<Filter>", "query": "Filter", "soap": "filterSet/item"},
                        {"name": "groupIds", "type": "list<string>", "query": "GroupId", "soap": "groupSet/item/groupId"},
                        {"name": "count", "type": "integer", "min": 5, "max": 1000},
                        {"name": "kind", "type": "string", "allowed": ["a", "b"]}
                      ],
                      "output": [
                        {"name": "thing", "type": "Thing"},
                        {"name": "result", "type": "boolean", "xml": "return"}
                      ] },
                    { "name": "DropThing",
                      "since": "2011-01-01",
                      "input": [],
                      "output": [
                        {"name": "result", "type": "boolean", "xml": "return"}
                      ] }
                  ],
                  "shapes": {
                    "Tag": [
                      {"name": "key", "type": "string"}
                    ],
                    "Thing": [
                      {"name": "thingId", "type": "string"},
                      {"name": "tags", "type": "list<Tag>", "xml": "tagSet"}
                    ]
                  }
                }

                """#)
        #expect(importer.notes == ["CreateThing.Thing.Inner contains itself and is left out"])
    }

    @Test func queryNamesAndMaps() throws {
        let source = try model(
            "query", "IAM",
            operations:
                #""GetSummary": {"input": {"shape": "GetSummaryRequest"}, "output": {"shape": "GetSummaryResponse"}, "#
                + #""errors": [{"shape": "NoSuchEntityException"}]}"#,
            shapes: #"""
                "GetSummaryRequest": {"type": "structure", "members": {"OpenIDConnectProviderArn": {"shape": "Text"},
                    "Names": {"shape": "Names"}}},
                "Names": {"type": "list", "max": 7, "member": {"shape": "Text"}},
                "GetSummaryResponse": {"type": "structure", "members": {"SummaryMap": {"shape": "summaryMapType"}}},
                "summaryMapType": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Number"}}, "Number": {"type": "integer"},
                "NoSuchEntityException": {"type": "structure", "members": {}, "error": {"code": "NoSuchEntity"}}
                """#)
        var importer = Importer(source)
        let file = try importer.extend(nil, resource: "Summary", actions: ["GetSummary"])
        let action = try #require(file["actions"]?.array?.first)
        #expect(
            DefinitionText.line(action["input"] ?? .null)
                == #"[{"name": "openIDConnectProviderArn", "type": "string"}, "#
                + #"{"name": "names", "type": "list<string>", "item": "member", "max": 7}]"#)
        #expect(
            DefinitionText.line(action["output"] ?? .null)
                == #"[{"name": "summaryMap", "type": "list<SummaryMapEntry>", "xml": "SummaryMap", "item": "entry"}]"#)
        #expect(DefinitionText.line(action["errors"] ?? .null) == #"["NoSuchEntity"]"#)
        #expect(file["style"] == .string("iam"))
        // What stands there already stays, and the rest comes after it.
        var second = Importer(source)
        #expect(try second.extend(file, resource: "Summary", actions: ["GetSummary"]) == file)
        #expect(second.notes == ["GetSummary is defined already and stays as it is"])
        #expect(throws: ServiceModel.Failure.self) { try second.extend(nil, resource: "X", actions: ["Missing"]) }
    }

    @Test func whatIsWrittenIsADefinition() throws {
        let text = "{\n\"service\": \"X\", \"a\": \"\\\"\\\\\\n\\u0001é\", \"actions\": [], \"shapes\": {}}"
        let json = try JSON(parsing: Array(text.utf8))
        #expect(try JSON(parsing: Array(DefinitionText.render(json).utf8)) == json)
    }

    @Test func camelCase() {
        for (from, to) in [("VpcId", "vpcId"), ("SSHKey", "sshKey"), ("URL", "url"), ("OpenIDConnect", "openIDConnect"), ("a", "a")] {
            #expect(ServiceModel.lowerFirst(from) == to)
        }
    }
}
