import API
import Testing
import Wire

@testable import APIGenerator

/// Each action of EC2 on the wire: the request of its example as Query and as SOAP read it, and the bytes of its reply, in one golden file
/// for each definition.
@Suite struct ExampleTests {
    private static let requestID = "4dbc7fbb-4dbc-7fbb-4dbc-4dbc7fbb4dbc"

    @Test func everyExampleHasItsBytes() throws {
        let catalogue = try Catalogue(folder: GeneratorTests.repository + "/Sources/Shared/API/Definitions")
        var count = 0
        for service in catalogue.services where service.name == "EC2" {
            for resource in service.resources {
                var out: [UInt8] = []
                for action in resource.actions {
                    guard let query = action.exampleQuery, let output = action.exampleOutput else { continue }
                    let operation = try #require(EC2.service.operations[action.name], "\(action.name)")
                    let request = try decodeQuery(operation.input, try QueryParameters(parsing: query), version: nil)
                    // SOAP says the same: what the one decodes the other reads back.
                    var element = XMLWriter()
                    element.open(action.name, attributes: [("xmlns", EC2.service.namespace(version: nil))])
                    encodeRequest(operation.input, request, version: nil, into: &element)
                    element.close()
                    #expect(
                        try decodeSOAP(operation.input, try XMLReader.parse(element.bytes), version: nil) == request, "\(action.name)")
                    let reply = ReplyBody.query(
                        EC2.service, operation, ExampleValue.value(output), version: nil, requestID: Self.requestID)
                    out += Array("\(action.name) \(query)\n".utf8) + element.bytes + [0x0a] + reply + [0x0a]
                    count += 1
                }
                let name = resource.file.split(separator: "/").last.map { String($0.dropLast(".json".count)) } ?? resource.resource
                expectGolden(out, "examples-ec2-\(name.lowercased()).xml")
            }
        }
        #expect(count > 150, "\(count) examples")
    }
}
