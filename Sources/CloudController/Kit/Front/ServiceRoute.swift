import API
import Domain
import Wire

/// Which of the services of port 8773 a request is for.
enum ServiceRoute: String, Sendable, CaseIterable {
    case ec2, iam, sts

    var definition: ServiceDefinition {
        switch self {
        case .ec2: EC2.service
        case .iam: IAM.service
        case .sts: STS.service
        }
    }

    /// The only API date of IAM and STS.
    var onlyVersion: String? {
        switch self {
        case .ec2: nil
        case .iam: "2010-05-08"
        case .sts: "2011-06-15"
        }
    }

    /// By path alone: `nil` for `/`, where the request says it.
    /// - Throws: `.unknownAction`-class refusal for paths of nobody.
    static func byPath(_ rawPath: String) throws(CloudError) -> ServiceRoute? {
        var path = rawPath[...]
        while path.hasSuffix("/") { path = path.dropLast() }
        switch path {
        case "": return nil
        case "/services/compute", "/services/Eucalyptus": return .ec2
        case "/services/Euare": return .iam
        case "/services/Tokens": return .sts
        default:
            throw CloudError(
                .named(code: "InvalidPath", status: 404), "There is no service at \(path.prefix(100)). EC2 is at / and /services/compute.")
        }
    }

    /// On `/`: by the API date, which no two services share; else by the service of the credential's scope. The scope comes last: some
    /// clients make it up of the host's name (`reference/ec2.md` §1.1).
    static func byContent(version: String?, scope: String?) -> ServiceRoute {
        if let version, let found = allCases.first(where: { $0.onlyVersion == version }) { return found }
        if version == nil, let scope, let found = ServiceRoute(rawValue: scope.lowercased()) { return found }
        return .ec2
    }

    /// By the namespace of a SOAP operation.
    static func byNamespace(_ uri: String) -> (route: ServiceRoute, version: String)? {
        for route in allCases {
            if let version = route.definition.version(inNamespace: uri) { return (route, version) }
        }
        return nil
    }
}

/// The API date of a request, and the namespace that its reply is in.
struct RequestVersion: Sendable {
    /// As asked: an EC2 date, or a version of Eucalyptus.
    let asked: String
    /// The date that members are chosen by.
    let date: String
    /// `nil`: the service's own of that date.
    let namespace: String?

    /// - Throws: `.named("NoSuchVersion")` for a date before the oldest that Karri speaks, or for words that are no version.
    init(_ text: String?, _ route: ServiceRoute) throws(CloudError) {
        if let only = route.onlyVersion {
            (asked, date, namespace) = (only, only, nil)
            return
        }
        let text = text ?? APIDate.newest
        if APIDate.isDate(text) {
            guard text >= APIDate.oldest else {
                throw CloudError(
                    .named(code: "NoSuchVersion", status: 400),
                    "The requested version (\(text)) of service AmazonEC2 does not exist; the oldest is \(APIDate.oldest)")
            }
            (asked, date, namespace) = (text, text, nil)
            return
        }
        // Eucalyptus' own: `3.3.0`, `eucalyptus`; the reply is read in its namespace (`reference/ec2.md` §1.5).
        let isPlain =
            (1...20).contains(text.utf8.count)
            && text.utf8.allSatisfy { c in
                (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x7a) || c == 0x2e || c == 0x2d
            }
        guard isPlain else {
            throw CloudError(.named(code: "NoSuchVersion", status: 400), "The requested version of service AmazonEC2 does not exist")
        }
        (asked, date, namespace) = (text, APIDate.newest, "http://msgs.eucalyptus.com/\(text)")
    }
}
