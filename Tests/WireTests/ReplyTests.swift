import API
import Domain
import Testing
import Wire

/// The bytes that clients see.
@Suite struct ReplyTests {
    private let requestID = "4dbc7fbb-4dbc-7fbb-4dbc-4dbc7fbb4dbc"

    private func instances() -> Value {
        let state = EC2.InstanceState(code: 16, name: "running")
        var instance = EC2.Instance(instanceId: "i-1234567890abcdef0")
        instance.imageId = "emi-0123456789abcdef0"
        instance.state = state
        instance.keyName = "a & <b>"
        instance.launchTime = Timestamp(milliseconds: 1_795_357_416_000)
        var reservation = EC2.Reservation(reservationId: "r-0123456789abcdef0", ownerId: "123456789012")
        reservation.instances = [instance]
        return EC2.DescribeInstancesResponse(reservations: [reservation]).wireValue
    }

    @Test(arguments: ["2008-05-05", "2009-08-15", "2010-08-31", "2016-11-15"])
    func describeInstances(_ date: String) {
        let operation = EC2.DescribeInstances.operation
        let query = ReplyBody.query(EC2.service, operation, instances(), version: date, requestID: requestID)
        expectGolden(query, "describe-instances-\(date).xml")
        let element = ReplyBody.element(EC2.service, operation, instances(), version: date, requestID: requestID)
        let text = String(decoding: query, as: UTF8.self)
        #expect(text.hasSuffix(String(decoding: element, as: UTF8.self)), "SOAP and Query differ")
        #expect(text.contains("http://ec2.amazonaws.com/doc/\(date)/"))
        #expect(text.contains("<requestId>") == (date != "2008-05-05"))
    }

    @Test func soapReply() {
        let element = ReplyBody.element(
            EC2.service, EC2.DescribeInstances.operation, instances(), version: "2009-08-15", requestID: requestID,
            namespace: "http://ec2.amazonaws.com/doc/2009-08-15")
        expectGolden(SOAPEnvelope.wrap(element), "describe-instances-soap.xml")
    }

    @Test func callerIdentity() {
        let reply = STS.GetCallerIdentityResponse(arn: "arn:aws:iam::123456789012:user/alice", userId: "AIDA", account: "123456789012")
        expectGolden(
            ReplyBody.query(STS.service, STS.GetCallerIdentity.operation, reply.wireValue, version: "2011-06-15", requestID: requestID),
            "get-caller-identity.xml")
    }

    @Test func errors() {
        let missing = CloudError(.notFound(.instance, id: "i-<1>"))
        let ec2 = ReplyBody.error(missing, service: EC2.service, version: nil, requestID: requestID)
        #expect(ec2.status == 400)
        expectGolden(ec2.body, "error-ec2.xml")
        let iam = ReplyBody.error(CloudError(.notFound(.user, id: "bob")), service: IAM.service, version: nil, requestID: requestID)
        #expect(iam.status == 404)
        expectGolden(iam.body, "error-iam.xml")
        let v11 = ExternalFault.envelope(missing, requestID: requestID)
        #expect(v11.status == 500)
        expectGolden(v11.body, "fault-11.xml")
        let v12 = ExternalFault.envelope(missing, requestID: requestID, version: .v12)
        #expect(v12.status == 400)
        expectGolden(v12.body, "fault-12.xml")
    }

    @Test func codes() {
        func code(_ reason: CloudError.Reason) -> String {
            let c = EC2ErrorCode.code(for: reason)
            return "\(c.code) \(c.status)"
        }
        #expect(code(.notFound(.volume, id: "")) == "InvalidVolume.NotFound 400")
        #expect(code(.malformedID(.instance, id: "")) == "InvalidInstanceID.Malformed 400")
        #expect(code(.capacity(Shortage(.memoryMiB, []))) == "InsufficientInstanceCapacity 503")
        #expect(code(.capacity(Shortage(.publicAddresses, []))) == "InsufficientAddressCapacity 503")
        #expect(code(.unauthenticated(.missing)) == "MissingAuthenticationToken 403")
        #expect(code(.unauthenticated(.unknownKey)) == "AuthFailure 401")
        #expect(code(.unauthenticated(.expired)) == "RequestExpired 400")
        #expect(code(.unauthenticated(.badSignature)) == "SignatureDoesNotMatch 403")
        #expect(code(.forbidden(action: "")) == "UnauthorizedOperation 403")
        #expect(code(.dryRunSucceeded) == "DryRunOperation 412")
        #expect(code(.idempotencyMismatch) == "IdempotentParameterMismatch 400")
        #expect(code(.unknownAction("")) == "InvalidAction 400")
        #expect(code(.unavailable("")) == "Unavailable 503")
        #expect(code(.bug) == "InternalError 500")
        #expect(CloudError.bug("secret").message == "An internal error has occurred")
    }

    /// A fault between daemons arrives as what was thrown, whatever it was.
    @Test func internalFaults() throws {
        let reasons: [CloudError.Reason] = [
            .notFound(.instance, id: "i-1 & <2>"), .malformedID(.volume, id: ""), .duplicate(.keyPair, name: "k"),
            .inUse(.volume, id: "v", by: "i"), .incorrectState(.instance, id: "i", state: "s"), .missingParameter("a"),
            .invalidParameter("b"),
            .invalidCombination("c"), .unknownAction("d"), .malformedRequest, .requestTooLarge(limit: 9),
            .limitExceeded(.cores, asked: 1, limit: 2),
            .capacity(
                Shortage(.cores, [.init("n1", .cores, asked: 2, free: 1, limit: 4), .init("n2", .diskGiB, asked: 5, free: 0, limit: 9)])),
            .capacity(Shortage(.nodes, [])), .unauthenticated(.replayed), .forbidden(action: "x"), .dryRunSucceeded, .idempotencyMismatch,
            .stale(newest: .max), .unavailable("cc"), .bug, .named(code: "X.Y", status: 409),
        ]
        for reason in reasons {
            let error = CloudError(reason)
            let back = InternalFault.error(from: try XMLReader.parse(InternalFault.element(error)))
            #expect(back == error)
        }
        let secret = InternalFault.element(CloudError(.bug, context: "password"))
        #expect(!String(decoding: secret, as: UTF8.self).contains("password"))
        #expect(InternalFault.error(from: XMLElement(name: "RunInstanceResponse")) == nil)
        let foreign = XMLElement(name: "Fault", namespace: SOAPVersion.v11.namespace)
        #expect(InternalFault.error(from: foreign)?.reason == .bug)
    }
}
