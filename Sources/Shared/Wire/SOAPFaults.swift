public import Domain

/// Faults to clients, as AWS wrote them: `faultcode` `aws:Client.InvalidInstanceID.NotFound`, the request id in `detail`.
/// Source: `reference/soap.md` §1.6 (the odd date in the namespace is real).
public enum ExternalFault {
    static let namespace = "http://webservices.amazon.com/AWSFault/2005-15-09"

    /// A whole envelope. HTTP status 500, as SOAP 1.1 §6.2 has it, whatever the error (1.2: 400 for the sender's).
    public static func envelope(_ error: CloudError, requestID: String, version: SOAPVersion = .v11) -> (status: Int, body: [UInt8]) {
        let code = EC2ErrorCode.code(for: error.reason)
        var w = XMLWriter(capacity: 1024)
        w.declaration()
        w.open("SOAP-ENV:Envelope", attributes: [("xmlns:SOAP-ENV", version.namespace), ("xmlns:aws", namespace)])
        w.open("SOAP-ENV:Body")
        w.open("SOAP-ENV:Fault")
        switch version {
        case .v11:
            w.element("faultcode", code.code == "MustUnderstand" ? "SOAP-ENV:MustUnderstand" : "aws:\(code.side).\(code.code)")
            w.element("faultstring", error.message)
            w.open("detail")
            w.element("aws:RequestId", requestID, attributes: [("xmlns:aws", namespace)])
            w.close()
        case .v12:
            w.open("SOAP-ENV:Code")
            if code.code == "MustUnderstand" {
                w.element("SOAP-ENV:Value", "SOAP-ENV:MustUnderstand")
            } else {
                w.element("SOAP-ENV:Value", code.status >= 500 ? "SOAP-ENV:Receiver" : "SOAP-ENV:Sender")
                w.open("SOAP-ENV:Subcode")
                w.element("SOAP-ENV:Value", "aws:\(code.code)")
                w.close()
            }
            w.close()
            w.open("SOAP-ENV:Reason")
            w.element("SOAP-ENV:Text", error.message, attributes: [("xml:lang", "en")])
            w.close()
            w.open("SOAP-ENV:Detail")
            w.element("aws:RequestId", requestID)
            w.close()
        }
        w.close()
        w.close()
        w.close()
        return (version == .v12 && code.status < 500 ? 400 : 500, w.bytes)
    }
}

/// Faults between daemons: the reason goes over whole, so that the caller acts on it as if it had been thrown here.
/// The `context` stays at home, in the log of the daemon that threw, under the same request id.
public enum InternalFault {
    static let namespace = "urn:karri:fault:1"

    /// The `Fault` element for a Body (which Signing signs).
    public static func element(_ error: CloudError) -> [UInt8] {
        var w = XMLWriter(capacity: 1024)
        let server = EC2ErrorCode.code(for: error.reason).status >= 500
        w.open("soapenv:Fault", attributes: [("xmlns:soapenv", SOAPVersion.v11.namespace)])
        w.element("faultcode", server ? "soapenv:Server" : "soapenv:Client")
        w.element("faultstring", error.message)
        w.open("detail")
        w.open("error", attributes: [("xmlns", namespace)])
        let (name, arguments) = ReasonCoding.encode(error.reason)
        w.element("reason", name)
        for argument in arguments { w.element("argument", argument) }
        w.close()
        w.close()
        w.close()
        return w.bytes
    }

    /// - Returns: `nil` when the element is no fault.
    public static func error(from element: XMLElement) -> CloudError? {
        guard element.name == "Fault", element.namespace == SOAPVersion.v11.namespace else { return nil }
        let message = element.first("faultstring")?.text ?? ""
        guard let detail = element.first("detail")?.first("error", namespace: namespace), let name = detail.first("reason")?.text,
            let reason = ReasonCoding.decode(name, detail.all("argument").map(\.text))
        else { return CloudError(.bug, context: "a fault that is not understood: \(Scalar.shown(message))") }
        return CloudError(reason, message)
    }
}

/// `CloudError.Reason` as a name and arguments, and back.
enum ReasonCoding {
    static func encode(_ reason: CloudError.Reason) -> (String, [String]) {
        switch reason {
        case .notFound(let kind, let id): ("notFound", [kind.rawValue, id])
        case .malformedID(let kind, let id): ("malformedID", [kind.rawValue, id])
        case .duplicate(let kind, let name): ("duplicate", [kind.rawValue, name])
        case .inUse(let kind, let id, let by): ("inUse", [kind.rawValue, id, by])
        case .incorrectState(let kind, let id, let state): ("incorrectState", [kind.rawValue, id, state])
        case .missingParameter(let name): ("missingParameter", [name])
        case .invalidParameter(let name): ("invalidParameter", [name])
        case .invalidCombination(let what): ("invalidCombination", [what])
        case .unknownAction(let name): ("unknownAction", [name])
        case .malformedRequest: ("malformedRequest", [])
        case .requestTooLarge(let limit): ("requestTooLarge", [String(limit)])
        case .limitExceeded(let name, let asked, let limit): ("limitExceeded", [name.rawValue, String(asked), String(limit)])
        case .capacity(let shortage):
            (
                "capacity",
                [shortage.resource.rawValue]
                    + shortage.places.flatMap { [$0.place, $0.resource.rawValue, String($0.asked), String($0.free), String($0.limit)] }
            )
        case .unauthenticated(let failure): ("unauthenticated", [failure.rawValue])
        case .forbidden(let action): ("forbidden", [action])
        case .dryRunSucceeded: ("dryRunSucceeded", [])
        case .idempotencyMismatch: ("idempotencyMismatch", [])
        case .stale(let newest): ("stale", [String(newest)])
        case .unavailable(let what): ("unavailable", [what])
        case .bug: ("bug", [])
        case .named(let code, let status): ("named", [code, String(status)])
        }
    }

    /// `nil` when the name or an argument is not known: another version of Karri sent it.
    static func decode(_ name: String, _ a: [String]) -> CloudError.Reason? {
        func kind(_ i: Int) -> ResourceKind? { i < a.count ? ResourceKind(rawValue: a[i]) : nil }
        func text(_ i: Int) -> String? { i < a.count ? a[i] : nil }
        func number(_ i: Int) -> Int? { i < a.count ? Int(a[i]) : nil }
        switch name {
        case "notFound":
            guard let kind = kind(0), let id = text(1) else { return nil }
            return .notFound(kind, id: id)
        case "malformedID":
            guard let kind = kind(0), let id = text(1) else { return nil }
            return .malformedID(kind, id: id)
        case "duplicate":
            guard let kind = kind(0), let name = text(1) else { return nil }
            return .duplicate(kind, name: name)
        case "inUse":
            guard let kind = kind(0), let id = text(1), let by = text(2) else { return nil }
            return .inUse(kind, id: id, by: by)
        case "incorrectState":
            guard let kind = kind(0), let id = text(1), let state = text(2) else { return nil }
            return .incorrectState(kind, id: id, state: state)
        case "missingParameter": return text(0).map { .missingParameter($0) }
        case "invalidParameter": return text(0).map { .invalidParameter($0) }
        case "invalidCombination": return text(0).map { .invalidCombination($0) }
        case "unknownAction": return text(0).map { .unknownAction($0) }
        case "malformedRequest": return .malformedRequest
        case "requestTooLarge": return number(0).map { .requestTooLarge(limit: $0) }
        case "limitExceeded":
            guard let name = text(0).flatMap(LimitName.init(rawValue:)), let asked = number(1), let limit = number(2) else { return nil }
            return .limitExceeded(name, asked: asked, limit: limit)
        case "capacity": return capacity(a)
        case "unauthenticated": return text(0).flatMap(AuthenticationFailure.init(rawValue:)).map { .unauthenticated($0) }
        case "forbidden": return text(0).map { .forbidden(action: $0) }
        case "dryRunSucceeded": return .dryRunSucceeded
        case "idempotencyMismatch": return .idempotencyMismatch
        case "stale": return text(0).flatMap { Int64($0) }.map { .stale(newest: $0) }
        case "unavailable": return text(0).map { .unavailable($0) }
        case "bug": return .bug
        case "named":
            guard let code = text(0), let status = number(1) else { return nil }
            return .named(code: code, status: status)
        default: return nil
        }
    }

    private static func capacity(_ a: [String]) -> CloudError.Reason? {
        guard let first = a.first, let resource = Shortage.Resource(rawValue: first), (a.count - 1) % 5 == 0 else { return nil }
        var places: [Shortage.Place] = []
        for i in stride(from: 1, to: a.count, by: 5) {
            guard let of = Shortage.Resource(rawValue: a[i + 1]), let asked = Int(a[i + 2]), let free = Int(a[i + 3]),
                let limit = Int(a[i + 4])
            else { return nil }
            places.append(Shortage.Place(a[i], of, asked: asked, free: free, limit: limit))
        }
        return .capacity(Shortage(resource, places))
    }
}

/// The two forms of an internal message's body element, before Signing puts it into its signed envelope.
public enum InternalMessage {
    public static func request(_ service: ServiceDefinition, _ operation: Operation, _ input: Value) -> [UInt8] {
        var w = XMLWriter(capacity: 4096)
        w.open(operation.name, attributes: [("xmlns", service.namespace)])
        encodeRequest(operation.input, input, version: nil, into: &w)
        w.close()
        return w.bytes
    }

    public static func reply(_ service: ServiceDefinition, _ operation: Operation, _ output: Value) -> [UInt8] {
        var w = XMLWriter(capacity: 4096)
        w.open(operation.name + "Response", attributes: [("xmlns", service.namespace)])
        encodeXML(operation.output, output, version: nil, into: &w)
        w.close()
        return w.bytes
    }

    /// - Throws: `.unknownAction`, or what `decodeSOAP` throws.
    public static func readRequest(_ service: ServiceDefinition, _ e: XMLElement) throws(CloudError) -> (Operation, Value) {
        guard e.namespace.utf8.elementsEqual(service.namespace.utf8), let operation = service.operations[e.name] else {
            throw CloudError(.unknownAction(e.name))
        }
        return (operation, try decodeSOAP(operation.input, e, version: nil))
    }

    /// - Throws: the fault that the other end sent; `.bug` when the answer is of another operation.
    public static func readReply(_ service: ServiceDefinition, _ operation: Operation, _ e: XMLElement) throws(CloudError) -> Value {
        if let error = InternalFault.error(from: e) { throw error }
        guard e.namespace.utf8.elementsEqual(service.namespace.utf8), e.name == operation.name + "Response" else {
            throw CloudError.bug("\(service.name).\(operation.name) was answered with \(Scalar.shown(e.name))")
        }
        return try decodeReply(operation.output, e, version: nil)
    }
}
