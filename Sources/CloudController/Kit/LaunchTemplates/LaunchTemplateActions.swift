public import API
import Database
public import Domain
import Identity
import Wire
import Workflow

extension EC2Actions: EC2LaunchTemplatesActions {
    public func createLaunchTemplate(
        _ request: EC2.CreateLaunchTemplate, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateLaunchTemplateResponse {
        try LaunchTemplateRules.checkName(request.launchTemplateName)
        try LaunchTemplateRules.checkDescription(request.versionDescription ?? "")
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.launchTemplate])[.launchTemplate] ?? []
        let who = op.caller.principal.arn
        let template = LaunchTemplate(
            id: LaunchTemplateID(random: cloud.random.bytes(9)), accountID: op.accountID, name: request.launchTemplateName,
            createdAt: op.now, createdBy: who, defaultVersion: 1, latestVersion: 1)
        let first = LaunchTemplateVersion(
            version: 1, description: request.versionDescription ?? "", createdAt: op.now, createdBy: who,
            data: request.launchTemplateData.wireValue)
        var hashed = request
        hashed.dryRun = nil
        let (token, hash) = (request.clientToken ?? "", ClientTokenStore.hash(hashed.wireValue))
        let (made, shown) = try await cloud.pool.transaction { tx -> (LaunchTemplate, [ResourceTag]) in
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "CreateLaunchTemplate", token: token, requestHash: hash)
            {
                let old = try LaunchTemplateStore.fetch(tx, try LaunchTemplateKey(id: seen, name: nil), accountID: op.accountID)
                return (old, try TagStore.tags(tx, [seen])[seen] ?? [])
            }
            guard try LaunchTemplateStore.list(tx, accountID: op.accountID).count < LaunchTemplateRules.maxTemplates else {
                throw CloudError(
                    .named(code: "LaunchTemplateLimitExceeded", status: 400),
                    "The maximum number of launch templates has been reached: \(LaunchTemplateRules.maxTemplates).")
            }
            try LaunchTemplateStore.insert(tx, template, first: first)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: template.id.text, type: .launchTemplate, tags)
            try op.endDryRun(request.dryRun)
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "CreateLaunchTemplate", token: token, requestHash: hash, result: template.id.text,
                now: op.now)
            try AuditStore.record(tx, op, action: "CreateLaunchTemplate", resource: template.id.text, detail: template.name)
            return (template, tags)
        }
        return EC2.CreateLaunchTemplateResponse(launchTemplate: made.wire(shown.map(\.wire)))
    }

    public func createLaunchTemplateVersion(
        _ request: EC2.CreateLaunchTemplateVersion, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CreateLaunchTemplateVersionResponse {
        let key = try LaunchTemplateKey(id: request.launchTemplateId, name: request.launchTemplateName)
        try LaunchTemplateRules.checkDescription(request.versionDescription ?? "")
        var hashed = request
        hashed.dryRun = nil
        let (token, hash) = (request.clientToken ?? "", ClientTokenStore.hash(hashed.wireValue))
        let (template, made) = try await cloud.pool.transaction { tx -> (LaunchTemplate, LaunchTemplateVersion) in
            let template = try LaunchTemplateStore.fetch(tx, key, accountID: op.accountID)
            let versions = try LaunchTemplateStore.versions(tx, of: template.id)
            if let seen = try ClientTokenStore.result(
                tx, accountID: op.accountID, action: "CreateLaunchTemplateVersion", token: token, requestHash: hash)
            {
                guard let old = versions.first(where: { String($0.version) == seen }) else {
                    throw LaunchTemplateRules.noVersion(seen, template)
                }
                return (template, old)
            }
            var data = request.launchTemplateData.wireValue
            if let source = request.sourceVersion {
                data = LaunchTemplateRules.merge(data, over: try Self.version(source, template, versions).data)
            }
            guard versions.count < LaunchTemplateRules.maxVersions else {
                throw CloudError(
                    .named(code: "VersionLimitExceeded", status: 400),
                    "The maximum number of versions of a template has been reached: \(LaunchTemplateRules.maxVersions).")
            }
            let new = LaunchTemplateVersion(
                version: template.latestVersion + 1, description: request.versionDescription ?? "", createdAt: op.now,
                createdBy: op.caller.principal.arn, data: data)
            try LaunchTemplateStore.insert(tx, new, of: template.id)
            try op.endDryRun(request.dryRun)
            try ClientTokenStore.store(
                tx, accountID: op.accountID, action: "CreateLaunchTemplateVersion", token: token, requestHash: hash,
                result: String(new.version), now: op.now)
            try AuditStore.record(
                tx, op, action: "CreateLaunchTemplateVersion", resource: template.id.text, detail: "version \(new.version)")
            return (template, new)
        }
        return EC2.CreateLaunchTemplateVersionResponse(launchTemplateVersion: try made.wire(template))
    }

    public func deleteLaunchTemplate(
        _ request: EC2.DeleteLaunchTemplate, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteLaunchTemplateResponse {
        let key = try LaunchTemplateKey(id: request.launchTemplateId, name: request.launchTemplateName)
        let gone = try await cloud.pool.transaction { tx in
            let template = try LaunchTemplateStore.fetch(tx, key, accountID: op.accountID)
            try op.endDryRun(request.dryRun)
            try LaunchTemplateStore.delete(tx, id: template.id)
            try AuditStore.record(tx, op, action: "DeleteLaunchTemplate", resource: template.id.text, detail: template.name)
            return template
        }
        return EC2.DeleteLaunchTemplateResponse(launchTemplate: gone.wire([]))
    }

    public func deleteLaunchTemplateVersions(
        _ request: EC2.DeleteLaunchTemplateVersions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DeleteLaunchTemplateVersionsResponse {
        let key = try LaunchTemplateKey(id: request.launchTemplateId, name: request.launchTemplateName)
        return try await cloud.pool.transaction { tx in
            let template = try LaunchTemplateStore.fetch(tx, key, accountID: op.accountID)
            let known = Set(try LaunchTemplateStore.versions(tx, of: template.id).map(\.version))
            var answer = EC2.DeleteLaunchTemplateVersionsResponse()
            for text in request.versions {
                let number = Int(text)
                if let number, known.contains(number), number != template.defaultVersion {
                    try LaunchTemplateStore.deleteVersion(tx, id: template.id, number)
                    answer.successfullyDeletedLaunchTemplateVersions.append(
                        EC2.DeleteLaunchTemplateVersionsResponseSuccessItem(
                            launchTemplateId: template.id.text, launchTemplateName: template.name, versionNumber: number))
                } else {
                    let isDefault = number == template.defaultVersion
                    answer.unsuccessfullyDeletedLaunchTemplateVersions.append(
                        EC2.DeleteLaunchTemplateVersionsResponseErrorItem(
                            launchTemplateId: template.id.text, launchTemplateName: template.name, versionNumber: number,
                            responseError: EC2.ResponseError(
                                code: isDefault ? "unexpectedError" : "launchTemplateVersionDoesNotExist",
                                message: isDefault
                                    ? "The default version of a template cannot be deleted."
                                    : "The version \(text.prefix(30)) does not exist.")))
                }
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "DeleteLaunchTemplateVersions", resource: template.id.text,
                detail: request.versions.joined(separator: " "))
            return answer
        }
    }

    public func describeLaunchTemplates(
        _ request: EC2.DescribeLaunchTemplates, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeLaunchTemplatesResponse {
        let names = request.launchTemplateNames
        let page = try await cloud.describe(
            request, op, ids: request.launchTemplateIds, filters: request.filters, maxResults: request.maxResults,
            nextToken: request.nextToken, dryRun: request.dryRun
        ) { tx in
            let all = try LaunchTemplateStore.list(tx, accountID: op.accountID)
            if let name = names.first(where: { name in !all.contains { $0.name == name } }) { throw LaunchTemplateRules.noName(name) }
            return names.isEmpty ? all : all.filter { names.contains($0.name) }
        }
        return EC2.DescribeLaunchTemplatesResponse(
            launchTemplates: page.items.map { $0.wire(page.tags($0.id.text)) }, nextToken: page.nextToken)
    }

    public func describeLaunchTemplateVersions(
        _ request: EC2.DescribeLaunchTemplateVersions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeLaunchTemplateVersionsResponse {
        let filters = try Filters(
            request.filters, known: ["create-time", "is-default-version", "image-id", "instance-type", "kernel-id", "ram-disk-id"])
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        var key: LaunchTemplateKey?
        if request.launchTemplateId != nil || request.launchTemplateName != nil {
            key = try LaunchTemplateKey(id: request.launchTemplateId, name: request.launchTemplateName)
        } else {
            // Of all templates only their marked versions can be asked for.
            guard !request.versions.isEmpty, request.versions.allSatisfy({ $0 == "$Latest" || $0 == "$Default" }) else {
                throw CloudError(.missingParameter("LaunchTemplateId"))
            }
        }
        try op.endDryRun(request.dryRun)
        let (lower, upper) = (try Self.bound(request.minVersion, "MinVersion"), try Self.bound(request.maxVersion, "MaxVersion"))
        let one = key
        let all = try await cloud.pool.read { tx -> [(LaunchTemplate, LaunchTemplateVersion)] in
            let templates =
                if let one { [try LaunchTemplateStore.fetch(tx, one, accountID: op.accountID)] } else {
                    try LaunchTemplateStore.list(tx, accountID: op.accountID)
                }
            var out: [(LaunchTemplate, LaunchTemplateVersion)] = []
            for template in templates {
                let versions = try LaunchTemplateStore.versions(tx, of: template.id)
                var wanted: Set<Int>?
                for text in request.versions { wanted = (wanted ?? []).union([try Self.version(text, template, versions).version]) }
                for version in versions where wanted?.contains(version.version) ?? true {
                    if let lower, version.version < lower { continue }
                    if let upper, version.version > upper { continue }
                    out.append((template, version))
                }
            }
            return out
        }
        var shown: [EC2.LaunchTemplateVersion] = []
        for (template, version) in all { shown.append(try version.wire(template)) }
        let found = shown.filter { version in
            filters.match { name in
                switch name {
                case "create-time": [version.createTime?.iso8601Seconds].compactMap { $0 }
                case "is-default-version": [String(version.defaultVersion ?? false)]
                case "image-id": [version.launchTemplateData?.imageId].compactMap { $0 }
                case "instance-type": [version.launchTemplateData?.instanceType].compactMap { $0 }
                case "kernel-id": [version.launchTemplateData?.kernelId].compactMap { $0 }
                default: [version.launchTemplateData?.ramDiskId].compactMap { $0 }
                }
            }
        }
        // Newest first: the key falls as the number rises.
        let page = paging.page(found) { "\($0.launchTemplateId ?? "") \(1_000_000 - ($0.versionNumber ?? 0))" }
        return EC2.DescribeLaunchTemplateVersionsResponse(launchTemplateVersions: page.items, nextToken: page.nextToken)
    }

    public func modifyLaunchTemplate(
        _ request: EC2.ModifyLaunchTemplate, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyLaunchTemplateResponse {
        let key = try LaunchTemplateKey(id: request.launchTemplateId, name: request.launchTemplateName)
        guard let wanted = request.defaultVersion else { throw CloudError(.missingParameter("SetDefaultVersion")) }
        let (template, tags) = try await cloud.pool.transaction { tx in
            var template = try LaunchTemplateStore.fetch(tx, key, accountID: op.accountID)
            let version = try Self.version(wanted, template, try LaunchTemplateStore.versions(tx, of: template.id)).version
            try LaunchTemplateStore.setDefault(tx, id: template.id, version)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ModifyLaunchTemplate", resource: template.id.text, detail: "default \(version)")
            template.defaultVersion = version
            return (template, try TagStore.tags(tx, [template.id.text])[template.id.text] ?? [])
        }
        return EC2.ModifyLaunchTemplateResponse(launchTemplate: template.wire(tags.map(\.wire)))
    }

    public func getLaunchTemplateData(
        _ request: EC2.GetLaunchTemplateData, _ op: OperationContext
    ) async throws(CloudError) -> EC2.GetLaunchTemplateDataResponse {
        let attributes = EC2.DescribeInstanceAttribute(dryRun: request.dryRun, instanceId: request.instanceId, attribute: "userData")
        let userData = try await describeInstanceAttribute(attributes, op).userData?.value
        let id = try InstanceID(parsing: request.instanceId).text
        let (row, groups, subnet) = try await cloud.pool.read { tx in
            let row = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            return (
                row, try InstanceStore.groups(tx, ids: [id])[id] ?? [],
                try NetworkInterfaceStore.list(tx, instanceIDs: [id])[id]?.subnetID
            )
        }
        return EC2.GetLaunchTemplateDataResponse(
            launchTemplateData: EC2.ResponseLaunchTemplateData(
                kernelId: row.kernelID, ebsOptimized: false,
                networkInterfaces: [
                    EC2.LaunchTemplateInstanceNetworkInterfaceSpecification(
                        deleteOnTermination: true, deviceIndex: 0, groups: groups.map(\.id), subnetId: subnet)
                ], imageId: row.imageID, instanceType: row.instanceType, keyName: row.keyName,
                monitoring: EC2.LaunchTemplatesMonitoring(enabled: false),
                placement: EC2.LaunchTemplatePlacement(availabilityZone: row.zone, groupName: "", tenancy: "default"),
                ramDiskId: row.ramdiskID, disableApiTermination: row.terminationProtected,
                instanceInitiatedShutdownBehavior: row.shutdownBehaviour.rawValue, userData: userData,
                metadataOptions: EC2.LaunchTemplateInstanceMetadataOptions(
                    httpTokens: row.tokensRequired ? "required" : "optional", httpPutResponseHopLimit: row.hopLimit,
                    httpEndpoint: row.metadataEnabled ? "enabled" : "disabled", instanceMetadataTags: "enabled"),
                disableApiStop: row.stopProtected))
    }

    // MARK: launches

    /// A launch by a template becomes one without: the template's data under what the request says itself.
    func resolved(_ request: EC2.RunInstances, _ op: OperationContext) async throws(CloudError) -> EC2.RunInstances {
        guard let named = request.launchTemplate else { return request }
        let key = try LaunchTemplateKey(id: named.launchTemplateId, name: named.launchTemplateName)
        let data = try await cloud.pool.read { tx in
            let template = try LaunchTemplateStore.fetch(tx, key, accountID: op.accountID)
            return try Self.version(named.version, template, try LaunchTemplateStore.versions(tx, of: template.id)).data
        }
        return try LaunchTemplateRules.launch(request, with: data)
    }

    private static func version(
        _ text: String?, _ template: LaunchTemplate, _ versions: [LaunchTemplateVersion]
    ) throws(CloudError) -> LaunchTemplateVersion {
        let number = try LaunchTemplateRules.number(text, template, latest: versions.first?.version ?? 0)
        guard let found = versions.first(where: { $0.version == number }) else {
            throw LaunchTemplateRules.noVersion(text ?? "$Default", template)
        }
        return found
    }

    private static func bound(_ text: String?, _ parameter: String) throws(CloudError) -> Int? {
        guard let text else { return nil }
        guard let number = Int(text) else { throw CloudError(.invalidParameter(parameter), "'\(text.prefix(30))' is no number") }
        return number
    }
}
