public import Domain

/// The WSDL of a service at one API date, made from the same tables that read and write its messages, so that it cannot disagree
/// with them. Document/literal, `elementFormDefault="qualified"`, names as in the classic EC2 documents (`AmazonEC2`,
/// `AmazonEC2Port`), wrapper elements as `instancesSet/item/instanceId`. Source: WSDL 1.1, `reference/soap.md` §1.1.
public enum WSDL {
    /// - Parameters:
    ///   - version: the API date; `nil` is the newest.
    ///   - endpoint: URL for `soap:address`.
    /// - Throws: `.invalidParameter` for a date before `APIDate.oldest` or after the newest.
    public static func document(_ service: ServiceDefinition, version: String?, endpoint: String) throws(CloudError) -> [UInt8] {
        let date = version ?? APIDate.newest
        guard APIDate.isDate(date), date >= APIDate.oldest, date <= APIDate.newest else {
            throw CloudError(.invalidParameter("Version"), "The API version \(Scalar.shown(date)) does not exist.")
        }
        let operations = service.operations.values.filter { $0.exists(in: date) }.sorted { $0.name < $1.name }
        var schema = SchemaWriter(service: service, version: date)
        for operation in operations { schema.operation(operation) }
        let namespace = service.namespace(version: date)
        let name = service.audience == .external ? "Amazon" + service.name : service.name

        var w = XMLWriter(capacity: 262_144)
        w.declaration()
        w.open(
            "definitions",
            attributes: [
                ("xmlns", "http://schemas.xmlsoap.org/wsdl/"), ("xmlns:soap", "http://schemas.xmlsoap.org/wsdl/soap/"),
                ("xmlns:xs", SchemaWriter.namespace), ("xmlns:tns", namespace), ("targetNamespace", namespace),
            ])
        w.text("\n")
        w.open("types")
        w.text("\n")
        w.open("xs:schema", attributes: [("targetNamespace", namespace), ("elementFormDefault", "qualified")])
        w.text("\n")
        w.raw(schema.elements.bytes)
        for type in schema.types { w.raw(type) }
        w.close()
        w.close()
        w.text("\n")
        for operation in operations { messages(operation, into: &w) }
        w.open("portType", attributes: [("name", name + "PortType")])
        w.text("\n")
        for operation in operations { port(operation, into: &w) }
        w.close()
        w.text("\n")
        w.open("binding", attributes: [("name", name + "Binding"), ("type", "tns:\(name)PortType")])
        w.empty("soap:binding", attributes: [("style", "document"), ("transport", "http://schemas.xmlsoap.org/soap/http")])
        w.text("\n")
        for operation in operations { binding(operation, into: &w) }
        w.close()
        w.text("\n")
        w.open("service", attributes: [("name", name)])
        w.open("port", attributes: [("name", name + "Port"), ("binding", "tns:\(name)Binding")])
        w.empty("soap:address", attributes: [("location", endpoint)])
        w.close()
        w.close()
        w.text("\n")
        w.close()
        w.text("\n")
        return w.bytes
    }

    private static func messages(_ operation: Operation, into w: inout XMLWriter) {
        for (kind, element) in [("Request", operation.name), ("Response", operation.name + "Response")] {
            w.open("message", attributes: [("name", "\(operation.name)\(kind)Msg")])
            w.empty("part", attributes: [("name", "\(operation.name)\(kind)MsgPart"), ("element", "tns:\(element)")])
            w.close()
            w.text("\n")
        }
    }

    private static func port(_ operation: Operation, into w: inout XMLWriter) {
        w.open("operation", attributes: [("name", operation.name)])
        w.empty("input", attributes: [("message", "tns:\(operation.name)RequestMsg")])
        w.empty("output", attributes: [("message", "tns:\(operation.name)ResponseMsg")])
        w.close()
        w.text("\n")
    }

    private static func binding(_ operation: Operation, into w: inout XMLWriter) {
        w.open("operation", attributes: [("name", operation.name)])
        w.empty("soap:operation", attributes: [("soapAction", operation.name)])
        for direction in ["input", "output"] {
            w.open(direction)
            w.empty("soap:body", attributes: [("use", "literal")])
            w.close()
        }
        w.close()
        w.text("\n")
    }
}

/// The schema part: one global element and type for each message, one type for each shape and direction, everything else inline.
private struct SchemaWriter {
    static let namespace = "http://www.w3.org/2001/XMLSchema"
    let service: ServiceDefinition
    let version: String
    var elements = XMLWriter(capacity: 65_536)
    var types: [[UInt8]] = []
    private var typeNames: [String: String] = [:]
    private var taken: Set<String> = []

    init(service: ServiceDefinition, version: String) {
        self.service = service
        self.version = version
        for operation in service.operations.values {
            taken.insert(operation.name + "Type")
            taken.insert(operation.name + "ResponseType")
        }
    }

    mutating func operation(_ operation: Operation) {
        element(operation.name)
        complexType(operation.name + "Type", operation.input, .request, requestID: false)
        element(operation.name + "Response")
        complexType(
            operation.name + "ResponseType", operation.output, .reply,
            requestID: service.audience == .external && version >= ReplyBody.requestIDSince)
    }

    private mutating func element(_ name: String) {
        elements.empty("xs:element", attributes: [("name", name), ("type", "tns:\(name)Type")])
        elements.text("\n")
    }

    private mutating func complexType(_ name: String, _ shape: Shape, _ names: ElementNames, requestID: Bool) {
        let slot = types.count
        types.append([])
        var w = XMLWriter(capacity: 2048)
        w.open("xs:complexType", attributes: [("name", name)])
        w.open("xs:sequence")
        if requestID { w.empty("xs:element", attributes: [("name", "requestId"), ("type", "xs:string")]) }
        members(shape, names, into: &w)
        w.close()
        w.close()
        w.text("\n")
        types[slot] = w.bytes
    }

    /// In the order of the definition; neighbours in one container stand in one element, as the writer of messages has it.
    private mutating func members(_ shape: Shape, _ names: ElementNames, into w: inout XMLWriter) {
        let present = shape.members.filter { $0.exists(in: version) }
        var i = 0
        while i < present.count {
            let member = present[i]
            let path = names.path(member)
            if case .list(let element, _) = member.type {
                list(member, element, path, names, into: &w)
                i += 1
            } else if path.count == 1 {
                scalarOrRecord(member.type, path[0], required: member.required, names, into: &w)
                i += 1
            } else {
                var inner: [Member] = []
                while i < present.count, names.path(present[i]).count > 1, names.path(present[i])[0] == path[0] {
                    inner.append(present[i])
                    i += 1
                }
                container(path[0], inner, names, into: &w)
            }
        }
    }

    private mutating func container(_ name: String, _ inner: [Member], _ names: ElementNames, into w: inout XMLWriter) {
        w.open("xs:element", attributes: occurs(name, required: inner.contains { $0.required }))
        w.open("xs:complexType")
        w.open("xs:sequence")
        var isBlob = false
        for member in inner {
            let path = names.path(member)
            for step in path.dropFirst().dropLast() { openNested(step, into: &w) }
            scalarOrRecord(member.type, path[path.count - 1], required: member.required, names, into: &w)
            for _ in path.dropFirst().dropLast() { closeNested(into: &w) }
            if case .blob = member.type { isBlob = true }
        }
        w.close()
        // RunInstances' userData: clients of the classic documents write both.
        if isBlob {
            for attribute in ["version", "encoding"] { w.empty("xs:attribute", attributes: [("name", attribute), ("type", "xs:string")]) }
        }
        w.close()
        w.close()
    }

    private mutating func list(
        _ member: Member, _ element: MemberType, _ path: [String], _ names: ElementNames, into w: inout XMLWriter
    ) {
        w.open("xs:element", attributes: occurs(path[0], required: member.required))
        w.open("xs:complexType")
        w.open("xs:sequence")
        let many = [("minOccurs", "0"), ("maxOccurs", "unbounded")]
        if path.count > 2 {
            w.open("xs:element", attributes: [("name", path[1])] + many)
            w.open("xs:complexType")
            w.open("xs:sequence")
            scalarOrRecord(element, path[2], required: true, names, into: &w)
            closeNested(into: &w)
        } else {
            w.empty("xs:element", attributes: [("name", path[1]), ("type", typeName(element, names))] + many)
        }
        closeNested(into: &w)
    }

    private mutating func scalarOrRecord(
        _ type: MemberType, _ name: String, required: Bool, _ names: ElementNames, into w: inout XMLWriter
    ) {
        let reference = typeName(type, names)
        w.empty("xs:element", attributes: [("name", name), ("type", reference)] + (required ? [] : [("minOccurs", "0")]))
    }

    private func occurs(_ name: String, required: Bool) -> [(String, String)] {
        [("name", name)] + (required ? [] : [("minOccurs", "0")])
    }

    private func openNested(_ name: String, into w: inout XMLWriter) {
        w.open("xs:element", attributes: [("name", name)])
        w.open("xs:complexType")
        w.open("xs:sequence")
    }

    private func closeNested(into w: inout XMLWriter) {
        w.close()
        w.close()
        w.close()
    }

    private mutating func typeName(_ type: MemberType, _ names: ElementNames) -> String {
        switch type {
        case .string, .blob: return "xs:string"
        case .integer: return service.audience == .external ? "xs:int" : "xs:long"
        case .double: return "xs:double"
        case .boolean: return "xs:boolean"
        case .timestamp: return "xs:dateTime"
        case .list: return "xs:anyType"
        case .record(let shape): return "tns:" + shapeType(shape(), names)
        }
    }

    /// A shape has one type as part of requests and one as part of replies, because element names differ.
    private mutating func shapeType(_ shape: Shape, _ names: ElementNames) -> String {
        let suffix = names == .request ? "InputType" : "Type"
        let key = shape.name + "/" + suffix
        if let known = typeNames[key] { return known }
        var name = shape.name + suffix
        while !taken.insert(name).inserted { name = "_" + name }
        typeNames[key] = name
        complexType(name, shape, names, requestID: false)
        return name
    }
}
