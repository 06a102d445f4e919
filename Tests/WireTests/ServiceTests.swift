import API
import Domain
import Testing
import Wire

/// The generated code as a whole: what the definitions say is what clients and controllers get.
@Suite struct ServiceTests {
    /// The documents in `docs/wsdl` come from the definitions, these from the generated tables: both say the same.
    @Test(arguments: ["2008-05-05", "2009-08-15", "2010-08-31", "2014-10-01", "2016-11-15"])
    func documentsOfEC2(_ date: String) throws {
        let document = try WSDL.document(EC2.service, version: date, endpoint: "https://localhost:8773/services/compute")
        try compare(document, "ec2-\(date).wsdl")
    }

    @Test func documentsOfDaemons() throws {
        for service in [NC.service, CC.service, SC.service, CLC.service] {
            let document = try WSDL.document(service, version: nil, endpoint: "https://localhost/")
            try compare(document, "\(service.name.lowercased()).wsdl")
        }
    }

    private func compare(_ document: [UInt8], _ name: String) throws {
        let checkedIn = try #require(goldenFile("../../../docs/wsdl/" + name))
        #expect(document == checkedIn, "\(name): run `APIGenerator generate`")
        let limits = XMLLimits(maxBytes: 4_000_000, maxElements: 100_000)
        #expect(try XMLReader.parse(document, limits: limits).name == "definitions")
    }

    @Test func documentsOfEveryPublishedDate() throws {
        for date in APIDate.published {
            let document = try WSDL.document(EC2.service, version: date, endpoint: "https://localhost/")
            let text = String(decoding: document, as: UTF8.self)
            #expect(text.contains("targetNamespace=\"http://ec2.amazonaws.com/doc/\(date)/\""))
            #expect(text.contains("name=\"requestId\"") == (date >= "2008-12-01"))
        }
        for bad in ["2007-01-03", "2020-01-01", "x", "", "2008-5-5"] {
            #expect(throws: CloudError.self) { try WSDL.document(EC2.service, version: bad, endpoint: "") }
        }
    }

    /// The actions that issue 2 asks for, no fewer.
    @Test func actionsOfTheFirstIssue() {
        let wanted = [
            "RunInstances", "DescribeInstances", "TerminateInstances", "RebootInstances", "StartInstances", "StopInstances",
            "DescribeInstanceStatus", "DescribeInstanceTypes", "GetConsoleOutput", "BundleInstance", "DescribeBundleTasks",
            "CancelBundleTask",
            "RegisterImage", "DeregisterImage", "DescribeImages", "DescribeImageAttribute", "ModifyImageAttribute", "ResetImageAttribute",
            "CreateKeyPair", "ImportKeyPair", "DeleteKeyPair", "DescribeKeyPairs", "CreateSecurityGroup", "DeleteSecurityGroup",
            "DescribeSecurityGroups", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "AllocateAddress", "ReleaseAddress",
            "AssociateAddress", "DisassociateAddress", "DescribeAddresses", "CreateVolume", "DeleteVolume", "DescribeVolumes",
            "AttachVolume",
            "DetachVolume", "CreateSnapshot", "DeleteSnapshot", "DescribeSnapshots", "DescribeRegions", "DescribeAvailabilityZones",
            "CreateTags", "DeleteTags", "DescribeTags",
        ]
        for name in wanted { #expect(EC2.service.operations[name] != nil, "\(name)") }
        #expect(STS.service.operations["GetCallerIdentity"]?.iamAction == "sts:GetCallerIdentity")
        #expect(IAM.service.operations["GetUser"]?.iamAction == "iam:GetUser")
        #expect(EC2.service.operations["RunInstances"]?.iamAction == "ec2:RunInstances")
    }

    /// A client, its bytes, and a handler at the other end, as the daemons use them.
    @Test func clientAndDispatch() async throws {
        let client = CLCClient(transport: Loopback(handler: Nudged()), endpoint: "clc:8779")
        let context = CallContext(requestID: "r-1")
        _ = try await client.nudge(CLC.Nudge(zone: "karri-1a", ids: ["i-1"]), context)
        await #expect(throws: CloudError(.notFound(.zone, id: "other"))) {
            try await client.nudge(CLC.Nudge(zone: "other"), context)
        }
        await #expect(throws: CloudError.self) { try await CLC.dispatch("Nonsense", .record([:]), Nudged(), context) }
        await #expect(throws: CloudError.self) { try await CLC.dispatch("Nudge", .record([:]), Nudged(), context) }
    }
}

private struct Nudged: CLCCloudActions {
    func nudge(_ request: CLC.Nudge, _ context: CallContext) async throws(CloudError) -> CLC.NudgeResponse {
        guard request.zone == "karri-1a" else { throw CloudError(.notFound(.zone, id: request.zone)) }
        return CLC.NudgeResponse()
    }
}

private struct Loopback: MessageTransport {
    let handler: Nudged

    func call(
        _ service: ServiceDefinition, _ operation: Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value {
        let request = try XMLReader.parse(InternalMessage.request(service, operation, input))
        let answer: [UInt8]
        do {
            let (found, value) = try InternalMessage.readRequest(service, request)
            answer = InternalMessage.reply(service, found, try await CLC.dispatch(found.name, value, handler, context))
        } catch {
            answer = InternalFault.element(error)
        }
        return try InternalMessage.readReply(service, operation, XMLReader.parse(answer))
    }
}
