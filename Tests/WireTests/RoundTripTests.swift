import API
import Domain
import Testing
import Wire

/// Every operation of every service: what one end writes the other end reads, on every wire.
@Suite struct RoundTripTests {
    static let services = [EC2.service, IAM.service, STS.service, NC.service, CC.service, SC.service, CLC.service]
    static let rounds = 25

    @Test func everyRequestOnEveryWire() throws {
        let seed = SeededChoices.seed()
        print("KARRI_SEED=\(seed)")
        var random = RandomValues(seed: seed)
        for service in Self.services {
            let namespace = service.namespace(version: nil)
            for operation in service.operations.values.sorted(by: { $0.name < $1.name }) where operation.exists(in: nil) {
                for _ in 0..<Self.rounds {
                    let value = random.record(operation.input)
                    let first = random.choices.below(2)
                    let query = try decodeQuery(
                        operation.input, QueryParameters(encodeQuery(operation.input, value, firstIndex: first)), version: nil)
                    #expect(query == value, "Query, \(service.name).\(operation.name), seed \(seed)")

                    var w = XMLWriter()
                    w.open(operation.name, attributes: [("xmlns", namespace)])
                    encodeRequest(operation.input, value, version: nil, into: &w)
                    w.close()
                    let element = try XMLReader.parse(w.bytes)
                    let soap = try decodeSOAP(operation.input, element, version: nil)
                    #expect(soap == value, "SOAP, \(service.name).\(operation.name), seed \(seed)")

                    let percent = encodeQuery(operation.input, value).map { "\($0.name)=\(percentEncoded($0.value))" }.joined(
                        separator: "&")
                    let decoded = try decodeQuery(operation.input, QueryParameters(parsing: percent), version: nil)
                    #expect(decoded == value, "Query string, \(service.name).\(operation.name), seed \(seed)")
                }
            }
        }
    }

    @Test func everyReply() throws {
        let seed = SeededChoices.seed()
        print("KARRI_SEED=\(seed)")
        var random = RandomValues(seed: seed)
        for service in Self.services {
            for operation in service.operations.values.sorted(by: { $0.name < $1.name }) where operation.exists(in: nil) {
                for _ in 0..<Self.rounds {
                    let value = random.record(operation.output)
                    let bytes = ReplyBody.element(service, operation, value, version: nil, requestID: "r-1")
                    let back = try decodeReply(operation.output, XMLReader.parse(bytes), version: nil)
                    #expect(back == value, "\(service.name).\(operation.name), seed \(seed)")
                }
            }
        }
    }

    /// The structs hold all that a value holds: reading and writing gives the value back, but for empty lists.
    @Test func structs() throws {
        let seed = SeededChoices.seed()
        print("KARRI_SEED=\(seed)")
        var random = RandomValues(seed: seed)
        func check<T: WireRecord>(_ type: T.Type) throws {
            for _ in 0..<Self.rounds {
                let value = random.record(type.shape)
                let record = try type.init(value)
                #expect(try type.init(record.wireValue) == record, "\(type), seed \(seed)")
                #expect(withoutEmptyLists(record.wireValue) == value, "\(type), seed \(seed)")
            }
        }
        try check(EC2.RunInstances.self)
        try check(EC2.DescribeInstancesResponse.self)
        try check(EC2.DescribeImagesResponse.self)
        try check(EC2.DescribeSecurityGroupsResponse.self)
        try check(EC2.AuthorizeSecurityGroupIngress.self)
        try check(EC2.DescribeVolumesResponse.self)
        try check(NC.RunInstance.self)
        try check(NC.DescribeInstancesResponse.self)
        try check(CC.ApplyNetwork.self)
        try check(SC.ExportVolumeResponse.self)
        try check(CLC.Nudge.self)
    }

    /// A member called `value` stays the member; elsewhere `value` is the tree.
    @Test func recordsWithAValue() throws {
        let tag = EC2.Tag(key: "k", value: "v")
        #expect(tag.value == "v")
        #expect(tag.wireValue == .record(["key": .text("k"), "value": .text("v")]))
        let nudge = CLC.Nudge(zone: "z", ids: ["i-1"])
        #expect(nudge.value == .record(["zone": .text("z"), "ids": .texts(["i-1"])]))
    }

    /// An instance record has lists of its own that are empty when they were absent: written as empty, they mean the same.
    private func withoutEmptyLists(_ value: Value) -> Value {
        switch value {
        case .text: value
        case .list(let items): .list(items.map { withoutEmptyLists($0) })
        case .record(let fields): .record(fields.filter { $0.value != .list([]) }.mapValues { withoutEmptyLists($0) })
        }
    }

    private func percentEncoded(_ text: String) -> String {
        text.utf8.map { c in
            let plain = (c >= 0x30 && c <= 0x39) || (c | 0x20 >= 0x61 && c | 0x20 <= 0x7a)
            return plain ? String(UnicodeScalar(c)) : "%" + (c < 16 ? "0" : "") + String(c, radix: 16, uppercase: true)
        }.joined()
    }
}
