import Domain
import Wire

/// The three ways in which a request gives an ACL: a canned name, grant headers, or a document.
enum ACLParsing {
    private static let grantHeaders: [(String, AccessControlList.Permission)] = [
        ("x-amz-grant-read", .read), ("x-amz-grant-write", .write), ("x-amz-grant-read-acp", .readACP),
        ("x-amz-grant-write-acp", .writeACP), ("x-amz-grant-full-control", .fullControl),
    ]

    static func hasHeaders(_ r: S3Request) -> Bool {
        r.header("x-amz-acl") != nil || grantHeaders.contains { r.header($0.0) != nil }
    }

    /// - Returns: `nil` when the headers say nothing of an ACL.
    /// - Throws: `InvalidRequest` for both ways at once, `InvalidArgument`.
    static func fromHeaders(_ r: S3Request, owner: String, bucketOwner: String) throws(CloudError) -> AccessControlList? {
        var grants: [AccessControlList.Grant] = []
        for (name, permission) in grantHeaders {
            guard let value = r.header(name) else { continue }
            for part in value.split(separator: ",") { grants.append(.init(try grantee(String(part).trimmed), permission)) }
        }
        if let canned = r.header("x-amz-acl") {
            guard grants.isEmpty else {
                throw S3Failure.invalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
            }
            return try AccessControlList(canned: canned, owner: owner, bucketOwner: bucketOwner)
        }
        return grants.isEmpty ? nil : try limited(AccessControlList(grants))
    }

    private static func limited(_ acl: AccessControlList) throws(CloudError) -> AccessControlList {
        guard acl.grants.count <= AccessControlList.grantLimit else { throw S3Failure.invalidRequest("An ACL has at most 100 grants") }
        return acl
    }

    /// `id="…"`, `uri="…"`
    private static func grantee(_ text: String) throws(CloudError) -> AccessControlList.Grantee {
        guard let equals = text.firstIndex(of: "=") else { throw S3Failure.invalidArgument("Invalid grant: \(text)") }
        var value = String(text[text.index(after: equals)...]).trimmed
        if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") { value = String(value.dropFirst().dropLast()) }
        switch String(text[..<equals]).trimmed.lowercased() {
        case "id": return try user(value)
        case "uri":
            guard let group = AccessControlList.Grantee(uri: value) else { throw S3Failure.invalidArgument("Invalid group uri") }
            return group
        case "emailaddress":
            throw S3Failure.named(
                "UnresolvableGrantByEmailAddress", 400, "The email address you provided does not match any account on record.")
        default: throw S3Failure.invalidArgument("Invalid grant: \(text)")
        }
    }

    private static func user(_ id: String) throws(CloudError) -> AccessControlList.Grantee {
        guard id.utf8.count == 64, Hex.decode(id) != nil else { throw S3Failure.invalidArgument("Invalid id") }
        return .canonicalUser(id)
    }

    /// An `AccessControlPolicy` document. Its owner must be the one that the thing has.
    static func fromDocument(_ bytes: [UInt8], owner: String) throws(CloudError) -> AccessControlList {
        let root = try S3Document.parse(bytes, root: "AccessControlPolicy")
        if let named = root.first("Owner")?.first("ID")?.text, named.trimmed != owner {
            throw S3Failure.accessDenied("another owner in the ACL")
        }
        guard let list = root.first("AccessControlList") else { throw S3Failure.malformedXML("no AccessControlList") }
        var grants: [AccessControlList.Grant] = []
        for element in list.all("Grant") {
            guard let who = element.first("Grantee"),
                let permission = AccessControlList.Permission(rawValue: element.first("Permission")?.text.trimmed ?? "")
            else { throw S3Failure.malformedXML("a Grant without Grantee or Permission") }
            if let uri = who.first("URI")?.text.trimmed {
                guard let group = AccessControlList.Grantee(uri: uri) else { throw S3Failure.invalidArgument("Invalid group uri") }
                grants.append(.init(group, permission))
            } else if let id = who.first("ID")?.text.trimmed {
                grants.append(.init(try user(id), permission))
            } else if who.first("EmailAddress") != nil {
                throw S3Failure.named(
                    "UnresolvableGrantByEmailAddress", 400, "The email address you provided does not match any account on record.")
            } else {
                throw S3Failure.malformedXML("a Grantee without ID or URI")
            }
        }
        return try limited(AccessControlList(grants))
    }
}

/// Tags of objects and buckets. Source: S3 User Guide, "Categorizing your storage using tags".
enum Tagging {
    static let objectLimit = 10
    static let bucketLimit = 50

    static func fromDocument(_ bytes: [UInt8], limit: Int) throws(CloudError) -> [(name: String, value: String)] {
        let root = try S3Document.parse(bytes, root: "Tagging")
        guard let set = root.first("TagSet") else { throw S3Failure.malformedXML("no TagSet") }
        var tags: [(name: String, value: String)] = []
        for tag in set.children {
            guard tag.name == "Tag", let key = tag.first("Key"), let value = tag.first("Value") else {
                throw S3Failure.malformedXML("a TagSet holds Tags of a Key and a Value")
            }
            tags.append((key.text, value.text))
        }
        return try checked(tags, limit: limit)
    }

    /// `x-amz-tagging: a=b&c=d`
    static func fromHeader(_ text: String) throws(CloudError) -> [(name: String, value: String)] {
        try checked(try S3Query(raw: text).pairs.map { ($0.name, $0.value ?? "") }, limit: objectLimit)
    }

    private static func checked(_ tags: [(name: String, value: String)], limit: Int) throws(CloudError) -> [(name: String, value: String)] {
        guard tags.count <= limit else {
            throw S3Failure.named("InvalidTag", 400, "There are at most \(limit) tags")
        }
        var names: Set<String> = []
        for tag in tags {
            guard !tag.name.isEmpty, tag.name.unicodeScalars.count <= 128 else {
                throw S3Failure.named("InvalidTag", 400, "The TagKey you have provided is invalid")
            }
            guard tag.value.unicodeScalars.count <= 256 else {
                throw S3Failure.named("InvalidTag", 400, "The TagValue you have provided is invalid")
            }
            guard names.insert(tag.name).inserted else {
                throw S3Failure.named("InvalidTag", 400, "Cannot provide multiple Tags with the same key")
            }
        }
        return tags.sorted { $0.name < $1.name }
    }
}
