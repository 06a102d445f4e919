import API
import Domain
import Wire

/// What RunInstances is to be told, under a name, in versions.
struct LaunchTemplate: Sendable, Equatable {
    let id: LaunchTemplateID
    let accountID, name: String
    let createdAt: Timestamp
    let createdBy: String
    var defaultVersion: Int
    /// The highest number that was ever given: numbers are not given again.
    var latestVersion: Int

    func wire(_ tags: [EC2.Tag]) -> EC2.LaunchTemplate {
        EC2.LaunchTemplate(
            launchTemplateId: id.text, launchTemplateName: name, createTime: createdAt, createdBy: createdBy,
            defaultVersionNumber: defaultVersion, latestVersionNumber: latestVersion, tags: tags)
    }
}

struct LaunchTemplateVersion: Sendable, Equatable {
    let version: Int
    let description: String
    let createdAt: Timestamp
    let createdBy: String
    let data: Value

    func wire(_ template: LaunchTemplate) throws(CloudError) -> EC2.LaunchTemplateVersion {
        EC2.LaunchTemplateVersion(
            launchTemplateId: template.id.text, launchTemplateName: template.name, versionNumber: version,
            versionDescription: description.isEmpty ? nil : description, createTime: createdAt, createdBy: createdBy,
            defaultVersion: version == template.defaultVersion, launchTemplateData: try EC2.ResponseLaunchTemplateData(data))
    }
}

extension LaunchTemplate: Described {
    typealias Kind = LaunchTemplateKind
    var describedID: String { id.text }

    /// Source: EC2 API Reference, DescribeLaunchTemplates.
    static let filters: Set<String> = ["create-time", "launch-template-name", "tag"]

    func values(_ filter: String) -> [String] {
        switch filter {
        case "create-time": [createdAt.iso8601, createdAt.iso8601Seconds]
        case "launch-template-name": [name]
        default: []
        }
    }
}

enum LaunchTemplateRules {
    /// EC2's limits.
    static let maxTemplates = 5000
    static let maxVersions = 10_000

    /// - Throws: `InvalidLaunchTemplateName.MalformedException`.
    static func checkName(_ name: String) throws(CloudError) {
        let isSound =
            (3...128).contains(name.utf8.count)
            && name.utf8.allSatisfy { c in
                (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) || "().-/_".utf8.contains(c)
            }
        guard isSound else {
            throw CloudError(
                .named(code: "InvalidLaunchTemplateName.MalformedException", status: 400),
                "A launch template name has 3 to 128 characters: letters, digits and ().-/_")
        }
    }

    static func checkDescription(_ text: String) throws(CloudError) {
        guard text.unicodeScalars.count <= 255 else {
            throw CloudError(.invalidParameter("VersionDescription"), "A description has at most 255 characters")
        }
    }

    static func noName(_ name: String) -> CloudError {
        CloudError(
            .named(code: "InvalidLaunchTemplateName.NotFoundException", status: 400),
            "The specified launch template, with template name \(name.prefix(130)), does not exist.")
    }

    static func noVersion(_ version: String, _ template: LaunchTemplate) -> CloudError {
        CloudError(
            .named(code: "InvalidLaunchTemplateId.VersionNotFound", status: 400),
            "Could not find launch template version \(version.prefix(30)) for template \(template.id).")
    }

    /// `$Default`, `$Latest`, or a number.
    static func number(_ text: String?, _ template: LaunchTemplate, latest: Int) throws(CloudError) -> Int {
        switch text ?? "$Default" {
        case "$Default", "": return template.defaultVersion
        case "$Latest": return latest
        case let other:
            guard let number = Int(other), number > 0 else {
                throw CloudError(
                    .named(code: "InvalidLaunchTemplateVersion", status: 400),
                    "The version '\(other.prefix(30))' is neither a number nor $Latest or $Default.")
            }
            return number
        }
    }

    /// Data laid over other data: what the upper says counts, whole lists included.
    static func merge(_ upper: Value, over lower: Value) -> Value {
        guard case .record(let top) = upper, case .record(let bottom) = lower else { return upper }
        return .record(
            bottom.merging(top) { old, new in
                if case .list(let items) = new, items.isEmpty { return old }
                return new
            })
    }

    /// A launch by a template: the template's data under what the request itself says.
    static func launch(_ request: EC2.RunInstances, with data: Value) throws(CloudError) -> EC2.RunInstances {
        guard case .record(var members) = data else { throw .bug("launch template data is no record") }
        // The two messages spell this one member differently.
        if let ramdisk = members.removeValue(forKey: "ramDiskId") { members["ramdiskId"] = ramdisk }
        var own = request
        own.launchTemplate = nil
        let merged = try EC2.RunInstances(merge(own.wireValue, over: .record(members)))
        guard merged.userData?.count ?? 0 <= 16_384 else {
            throw CloudError(.invalidParameter("UserData"), "User data is limited to 16384 bytes")
        }
        return merged
    }

    // MARK: as text

    static func text(_ value: Value) -> String { json(value).encoded }

    static func value(_ text: String) throws(CloudError) -> Value {
        do throws(JSONValue.ParseError) {
            return value(try JSONValue(parsing: text))
        } catch {
            throw .bug("launch template data: \(error)")
        }
    }

    private static func json(_ value: Value) -> JSONValue {
        switch value {
        case .text(let text): .string(text)
        case .list(let items): .array(items.map(json))
        case .record(let members): .object(members.sorted { $0.key < $1.key }.map { JSONValue.Member($0.key, json($0.value)) })
        }
    }

    private static func value(_ json: JSONValue) -> Value {
        if let members = json.members {
            return .record(Dictionary(members.map { ($0.name, value($0.value)) }, uniquingKeysWith: { first, _ in first }))
        }
        if let items = json.items { return .list(items.map { value($0) }) }
        return .text(json.text ?? "")
    }
}
