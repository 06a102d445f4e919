public import Domain

/// Which SOAP: told by the envelope's namespace; a reply is in the version of its request.
public enum SOAPVersion: Sendable {
    case v11, v12
    public var namespace: String {
        switch self {
        case .v11: "http://schemas.xmlsoap.org/soap/envelope/"
        case .v12: "http://www.w3.org/2003/05/soap-envelope"
        }
    }
    public var contentType: String {
        switch self {
        case .v11: "text/xml; charset=UTF-8"
        case .v12: "application/soap+xml; charset=UTF-8"
        }
    }
}

/// Building and opening envelopes, faults in both directions. Source: SOAP 1.1 §4, §6.2.1; `reference/soap.md` §1.
public enum SOAPEnvelope {
    /// What an envelope holds.
    public struct Message: Sendable {
        public let version: SOAPVersion
        public let headers: [XMLElement]
        /// The only child of Body.
        public let operation: XMLElement
    }

    /// Puts one element, already written, into an envelope without headers.
    public static func wrap(_ element: [UInt8], version: SOAPVersion = .v11) -> [UInt8] {
        var w = XMLWriter(capacity: element.count + 256)
        w.declaration()
        w.open("soapenv:Envelope", attributes: [("xmlns:soapenv", version.namespace)])
        w.empty("soapenv:Header")
        w.open("soapenv:Body")
        w.raw(element)
        w.close()
        w.close()
        return w.bytes
    }

    /// Opens an envelope: one optional Header, exactly one Body with exactly one element, nothing else.
    ///
    /// A signed request does not come this way: there the operation is the node that Signing digested.
    /// - Throws: `.malformedRequest`; `.named("MustUnderstand", 500)` for a mandatory header that is not in `understood`.
    public static func open(
        _ envelope: XMLElement, understood: Set<String> = []
    ) throws(CloudError) -> Message {
        let version: SOAPVersion
        if envelope.namespace.utf8.elementsEqual(SOAPVersion.v11.namespace.utf8) {
            version = .v11
        } else if envelope.namespace.utf8.elementsEqual(SOAPVersion.v12.namespace.utf8) {
            version = .v12
        } else {
            throw malformed("The root element is not a SOAP envelope")
        }
        guard envelope.name == "Envelope", envelope.hasOnlyBlankText else { throw malformed("The root element is not a SOAP envelope") }
        var parts = envelope.children[...]
        var headers: [XMLElement] = []
        if let first = parts.first, first.name == "Header", first.namespace == version.namespace {
            guard first.hasOnlyBlankText else { throw malformed("The SOAP Header has text") }
            headers = first.children
            parts = parts.dropFirst()
        }
        guard parts.count == 1, let body = parts.first, body.name == "Body", body.namespace == version.namespace, body.hasOnlyBlankText,
            body.children.count == 1
        else { throw malformed("The envelope must have one Body with one element") }
        try checkMustUnderstand(headers, version, understood)
        return Message(version: version, headers: headers, operation: body.children[0])
    }

    /// - Parameter understood: `{namespace}name` of the header blocks that the receiver acts on.
    public static func checkMustUnderstand(
        _ headers: [XMLElement], _ version: SOAPVersion, _ understood: Set<String>
    ) throws(CloudError) {
        for block in headers {
            guard let flag = block.attribute("mustUnderstand", namespace: version.namespace), flag == "1" || flag == "true" else {
                continue
            }
            let actor = block.attribute(version == .v11 ? "actor" : "role", namespace: version.namespace) ?? ""
            let forUs =
                actor.isEmpty || actor.hasSuffix("/actor/next") || actor.hasSuffix("/role/next")
                || actor.hasSuffix("/role/ultimateReceiver")
            guard forUs, !understood.contains("{\(block.namespace)}\(block.name)") else { continue }
            throw CloudError(.named(code: "MustUnderstand", status: 500), "The header \(Scalar.shown(block.name)) is not understood")
        }
    }

    /// Finds the action that an operation element asks for, by its qualified name and never by SOAPAction (`reference/soap.md` §1.1).
    /// - Returns: the operation, the API date of the namespace, and the namespace as the request wrote it (answer as asked).
    /// - Throws: `.unknownAction`; `.malformedRequest` when SOAPAction names another action.
    public static func action(
        of element: XMLElement, service: ServiceDefinition, soapAction: String?
    ) throws(CloudError) -> (operation: Operation, version: String, namespace: String) {
        guard let version = service.version(inNamespace: element.namespace) else {
            throw CloudError(.unknownAction(element.name), "The namespace \(Scalar.shown(element.namespace)) is not of this web service.")
        }
        guard let operation = service.operations[element.name], operation.exists(in: version) else {
            throw CloudError(.unknownAction(Scalar.shown(element.name)))
        }
        if var header = soapAction, !header.isEmpty {
            if header.count >= 2, header.hasPrefix("\""), header.hasSuffix("\"") { header = String(header.dropFirst().dropLast()) }
            guard header.isEmpty || header == element.name else {
                throw malformed("SOAPAction names another action than the body")
            }
        }
        return (operation, version, element.namespace)
    }

    static func malformed(_ why: String) -> CloudError { CloudError(.malformedRequest, why) }
}
