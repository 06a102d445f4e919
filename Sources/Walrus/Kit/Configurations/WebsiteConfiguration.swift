import Domain
import Wire

/// A bucket that is served as a web site. Source: S3 API reference, PutBucketWebsite; S3 User Guide, "Hosting a static website".
struct WebsiteConfiguration: Sendable, Equatable {
    struct Redirect: Sendable, Equatable {
        var host: String?
        var scheme: String?
        var replaceKey: String?
        var replacePrefix: String?
        var status = 301
        var statusIsGiven = false
    }
    struct RoutingRule: Sendable, Equatable {
        var keyPrefix: String?
        var errorCode: Int?
        var redirect: Redirect
    }
    enum Answer: Sendable, Equatable {
        case redirectAll(host: String, scheme: String?)
        case pages(index: String, errorKey: String?, rules: [RoutingRule])
    }
    let answer: Answer

    /// Source: S3 User Guide, "Configuring advanced conditional redirects".
    static let ruleLimit = 50

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "WebsiteConfiguration")
        if let all = root.first("RedirectAllRequestsTo") {
            guard root.children.count == 1 else {
                throw S3Failure.invalidRequest("RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.")
            }
            guard let host = all.first("HostName")?.text.trimmed, !host.isEmpty else { throw S3Failure.malformedXML("no HostName") }
            answer = .redirectAll(host: host, scheme: try Self.scheme(all))
            return
        }
        guard let index = root.first("IndexDocument")?.first("Suffix")?.text.trimmed else {
            throw S3Failure.invalidArgument("A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty")
        }
        guard !index.isEmpty, !index.contains("/") else {
            throw S3Failure.invalidArgument("The IndexDocument Suffix is not well formed")
        }
        var errorKey: String?
        if let error = root.first("ErrorDocument") {
            guard let key = error.first("Key")?.text.trimmed, !key.isEmpty else {
                throw S3Failure.malformedXML("an ErrorDocument without Key")
            }
            errorKey = key
        }
        let elements = root.first("RoutingRules")?.all("RoutingRule") ?? []
        guard elements.count <= Self.ruleLimit else {
            throw S3Failure.invalidRequest("\(elements.count) routing rules provided, the number of routing rules is limited to 50.")
        }
        var rules: [RoutingRule] = []
        for element in elements { rules.append(try Self.rule(element)) }
        answer = .pages(index: index, errorKey: errorKey, rules: rules)
    }

    private static func scheme(_ element: XMLElement) throws(CloudError) -> String? {
        guard let text = element.first("Protocol")?.text.trimmed else { return nil }
        guard text == "http" || text == "https" else {
            throw S3Failure.invalidRequest(
                "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.")
        }
        return text
    }

    private static func rule(_ element: XMLElement) throws(CloudError) -> RoutingRule {
        guard let to = element.first("Redirect") else { throw S3Failure.malformedXML("a RoutingRule without Redirect") }
        var redirect = Redirect(
            host: to.first("HostName")?.text.trimmed, scheme: try scheme(to), replaceKey: to.first("ReplaceKeyWith")?.text,
            replacePrefix: to.first("ReplaceKeyPrefixWith")?.text)
        guard redirect.replaceKey == nil || redirect.replacePrefix == nil else {
            throw S3Failure.invalidRequest("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
        }
        if let code = to.first("HttpRedirectCode")?.text.trimmed {
            guard let status = Int(code), (301...308).contains(status), status != 306 else {
                throw S3Failure.invalidRequest("The provided HTTP redirect code (\(code)) is not valid. Valid codes are 3XX except 300.")
            }
            redirect.status = status
            redirect.statusIsGiven = true
        }
        var rule = RoutingRule(redirect: redirect)
        if let condition = element.first("Condition") {
            rule.keyPrefix = condition.first("KeyPrefixEquals")?.text
            if let code = condition.first("HttpErrorCodeReturnedEquals")?.text.trimmed {
                guard let status = Int(code), (400...599).contains(status) else {
                    throw S3Failure.invalidRequest(
                        "The provided HTTP error code (\(code)) is not valid. Valid codes are 4XX or 5XX.")
                }
                rule.errorCode = status
            }
            guard rule.keyPrefix != nil || rule.errorCode != nil else { throw S3Failure.malformedXML("a Condition without conditions") }
        }
        return rule
    }

    var document: [UInt8] {
        S3Document.make("WebsiteConfiguration") { xml in
            switch answer {
            case .redirectAll(let host, let scheme):
                xml.open("RedirectAllRequestsTo")
                xml.element("HostName", host)
                if let scheme { xml.element("Protocol", scheme) }
                xml.close()
            case .pages(let index, let errorKey, let rules):
                xml.open("IndexDocument")
                xml.element("Suffix", index)
                xml.close()
                if let errorKey {
                    xml.open("ErrorDocument")
                    xml.element("Key", errorKey)
                    xml.close()
                }
                if !rules.isEmpty {
                    xml.open("RoutingRules")
                    for rule in rules { Self.write(rule, &xml) }
                    xml.close()
                }
            }
        }
    }

    private static func write(_ rule: RoutingRule, _ xml: inout XMLWriter) {
        xml.open("RoutingRule")
        if rule.keyPrefix != nil || rule.errorCode != nil {
            xml.open("Condition")
            if let prefix = rule.keyPrefix { xml.element("KeyPrefixEquals", prefix) }
            if let code = rule.errorCode { xml.element("HttpErrorCodeReturnedEquals", String(code)) }
            xml.close()
        }
        xml.open("Redirect")
        if let scheme = rule.redirect.scheme { xml.element("Protocol", scheme) }
        if let host = rule.redirect.host { xml.element("HostName", host) }
        if let prefix = rule.redirect.replacePrefix { xml.element("ReplaceKeyPrefixWith", prefix) }
        if let key = rule.redirect.replaceKey { xml.element("ReplaceKeyWith", key) }
        if rule.redirect.statusIsGiven { xml.element("HttpRedirectCode", String(rule.redirect.status)) }
        xml.close()
        xml.close()
    }

    /// The first rule for a key: before the object is looked for (`error` is `nil`), or after it was refused with this status.
    static func match(_ rules: [RoutingRule], key: String, error: Int?) -> RoutingRule? {
        rules.first { rule in
            (rule.keyPrefix.map { key.hasPrefix($0) } ?? true) && rule.errorCode == error
        }
    }

    /// Where a rule sends a key.
    static func target(_ rule: RoutingRule, key: String) -> String {
        if let whole = rule.redirect.replaceKey { return whole }
        guard let prefix = rule.redirect.replacePrefix else { return key }
        return prefix + key.dropFirst(rule.keyPrefix?.count ?? 0)
    }
}
