/// botocore's model of a service (`service-2.json`), read for its facts: names, types, wire names, limits, error codes. Its prose is not
/// taken. Source of the naming rules: botocore's serializers of the protocols `ec2` and `query`.
struct ServiceModel {
    enum Dialect { case ec2, query }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let dialect: Dialect
    /// `EC2`, `IAM`, `STS`.
    let service: String
    let namespace: String
    private let operations: JSON
    private let shapes: JSON

    init(_ json: JSON) throws(Failure) {
        guard let metadata = json["metadata"], let operations = json["operations"], let shapes = json["shapes"] else {
            throw Failure(description: "not a service model: metadata, operations and shapes are expected")
        }
        switch metadata["protocol"]?.string {
        case "ec2": dialect = .ec2
        case "query": dialect = .query
        default: throw Failure(description: "the protocol of the model is neither ec2 nor query")
        }
        service = (metadata["serviceId"]?.string ?? metadata["endpointPrefix"]?.string ?? "?").uppercased()
        let fixed = metadata["xmlNamespace"]?.string ?? "?"
        namespace = dialect == .ec2 ? "http://ec2.amazonaws.com/doc/{version}/" : fixed
        self.operations = operations
        self.shapes = shapes
    }

    func operation(_ name: String) throws(Failure) -> JSON {
        guard let found = operations[name] else { throw Failure(description: "the model has no action \(name)") }
        return found
    }

    func shape(_ name: String) throws(Failure) -> JSON {
        guard let found = shapes[name] else { throw Failure(description: "the model has no shape \(name)") }
        return found
    }

    /// The name in a Query request.
    func queryName(_ member: String, _ reference: JSON) -> String {
        switch dialect {
        case .query: reference["locationName"]?.string ?? member
        case .ec2:
            reference["queryName"]?.string ?? reference["locationName"]?.string.map { Self.upperFirst($0) } ?? member
        }
    }

    /// The element of a reply.
    func elementName(_ member: String, _ reference: JSON) -> String { reference["locationName"]?.string ?? member }

    /// The codes of an action's errors, in the order of the model.
    func errors(_ operation: JSON) throws(Failure) -> [String] {
        var codes: [String] = []
        for reference in operation["errors"]?.array ?? [] {
            guard let name = reference["shape"]?.string else { continue }
            let code = try shape(name)["error"]?["code"]?.string ?? name
            if !codes.contains(code) { codes.append(code) }
        }
        return codes
    }

    static func upperFirst(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst() }

    /// `VpcId` → `vpcId`, `SSHKey` → `sshKey`, `OpenIDConnect` → `openIDConnect`, `URL` → `url`.
    static func lowerFirst(_ text: String) -> String {
        let letters = Array(text.utf8)
        let run = letters.prefix { $0 >= 0x41 && $0 <= 0x5a }.count
        guard run > 1 else { return text.prefix(1).lowercased() + text.dropFirst() }
        // Of a run of capitals the last begins the next word, unless the run is all there is.
        let count = run == letters.count ? run : run - 1
        return text.prefix(count).lowercased() + text.dropFirst(count)
    }
}
