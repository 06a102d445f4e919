public import Domain

/// The bodies of replies to clients: success in one form for Query and SOAP alike, errors in the form of each wire.
public enum ReplyBody {
    /// The first EC2 date whose replies are known to carry `requestId` (the document of 2008-05-05 has none, recorded replies of
    /// 2008-12-01 have it); strict SOAP clients of the older ones reject it (`reference/soap.md` §1.3).
    static let requestIDSince = "2008-12-01"

    /// `<XxxResponse xmlns="…"><requestId>…`: the element only, for a SOAP Body or, after a declaration, a Query reply.
    ///
    /// - Parameter namespace: when given, the one that the request used (with or without the last slash: answer as asked).
    public static func element(
        _ service: ServiceDefinition, _ operation: Operation, _ output: Value, version: String?, requestID: String,
        namespace: String? = nil
    ) -> [UInt8] {
        var w = XMLWriter(capacity: 8192)
        write(service, operation, output, version: version, requestID: requestID, namespace: namespace, into: &w)
        return w.bytes
    }

    /// A whole reply to a Query request.
    ///
    /// EC2: `<RunInstancesResponse xmlns><requestId/>…`. IAM and STS:
    /// `<GetUserResponse xmlns><GetUserResult>…</GetUserResult><ResponseMetadata><RequestId/></ResponseMetadata></GetUserResponse>`.
    public static func query(
        _ service: ServiceDefinition, _ operation: Operation, _ output: Value, version: String?, requestID: String
    ) -> [UInt8] {
        var w = XMLWriter(capacity: 8192)
        w.declaration()
        guard usesResultElement(service) else {
            write(service, operation, output, version: version, requestID: requestID, namespace: nil, into: &w)
            return w.bytes
        }
        w.open(operation.name + "Response", attributes: [("xmlns", service.namespace(version: version))])
        if !operation.output.members.isEmpty {
            w.open(operation.name + "Result")
            encodeXML(operation.output, output, version: version, into: &w)
            w.close()
        }
        w.open("ResponseMetadata")
        w.element("RequestId", requestID)
        w.close()
        w.close()
        return w.bytes
    }

    /// The body of an error to a Query client of this service, and its HTTP status.
    public static func error(_ error: CloudError, service: ServiceDefinition, version: String?, requestID: String) -> (
        status: Int, body: [UInt8]
    ) {
        usesResultElement(service)
            ? iamError(error, namespace: service.namespace(version: version), requestID: requestID)
            : ec2Error(error, requestID: requestID)
    }

    /// `<Response><Errors><Error><Code/><Message/></Error></Errors><RequestID/></Response>`
    public static func ec2Error(_ error: CloudError, requestID: String) -> (status: Int, body: [UInt8]) {
        let code = EC2ErrorCode.code(for: error.reason)
        var w = XMLWriter(capacity: 512)
        w.declaration()
        w.open("Response")
        w.open("Errors")
        w.open("Error")
        w.element("Code", code.code)
        w.element("Message", error.message)
        w.close()
        w.close()
        w.element("RequestID", requestID)
        w.close()
        return (code.status, w.bytes)
    }

    /// `<ErrorResponse xmlns><Error><Type/><Code/><Message/></Error><RequestId/></ErrorResponse>`
    public static func iamError(_ error: CloudError, namespace: String, requestID: String) -> (status: Int, body: [UInt8]) {
        let code = IAMErrorCode.code(for: error.reason)
        var w = XMLWriter(capacity: 512)
        w.declaration()
        w.open("ErrorResponse", attributes: [("xmlns", namespace)])
        w.open("Error")
        w.element("Type", code.status >= 500 ? "Receiver" : "Sender")
        w.element("Code", code.code)
        w.element("Message", error.message)
        w.close()
        w.element("RequestId", requestID)
        w.close()
        return (code.status, w.bytes)
    }

    /// IAM and STS speak AWS's "query" protocol, EC2 its own.
    private static func usesResultElement(_ service: ServiceDefinition) -> Bool {
        service.audience == .external && service.name != "EC2"
    }

    private static func write(
        _ service: ServiceDefinition, _ operation: Operation, _ output: Value, version: String?, requestID: String, namespace: String?,
        into w: inout XMLWriter
    ) {
        w.open(operation.name + "Response", attributes: [("xmlns", namespace ?? service.namespace(version: version))])
        if service.audience == .external, version.map({ $0 >= requestIDSince }) ?? true { w.element("requestId", requestID) }
        encodeXML(operation.output, output, version: version, into: &w)
        w.close()
    }
}
