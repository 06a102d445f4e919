public import API
import Database
public import Domain
import Identity

extension IAMActions: IAMManagedPoliciesActions {
    private static func shown(
        _ t: Transaction, _ policy: ManagedPolicy, account: String, isWhole: Bool
    ) throws(CloudError) -> IAM.Policy {
        IAM.Policy(
            policyName: policy.name, policyId: policy.id, arn: policy.arn, path: policy.path, defaultVersionId: policy.defaultVersion,
            attachmentCount: try PolicyStore.uses(t, policy.arn, account: account),
            permissionsBoundaryUsageCount: try PolicyStore.boundaryUses(t, policy.arn), isAttachable: true,
            // Lists are without it, as IAM's are.
            description: isWhole && !policy.description.isEmpty ? policy.description : nil, createDate: policy.created,
            updateDate: policy.updated, tags: isWhole ? try EntityStore.tags(t, policy.arn).map { IAM.Tag($0) } : [])
    }

    private static func shown(_ version: ManagedPolicy.Version, isWhole: Bool) -> IAM.PolicyVersion {
        IAM.PolicyVersion(
            document: isWhole ? encodedDocument(version.document) : nil, versionId: version.id, isDefaultVersion: version.isDefault,
            createDate: version.created)
    }

    public func createPolicy(_ request: IAM.CreatePolicy, _ op: OperationContext) async throws(CloudError) -> IAM.CreatePolicyResponse {
        try await change(op, "CreatePolicy", request.policyName) { t in
            let policy = try PolicyStore.create(
                t, name: request.policyName, path: request.path ?? "/", description: request.description ?? "",
                document: request.policyDocument, account: op.accountID, random: cloud.random, now: op.now)
            try EntityStore.tag(t, policy.arn, request.tags.tags)
            return IAM.CreatePolicyResponse(policy: try Self.shown(t, policy, account: op.accountID, isWhole: true))
        }
    }

    public func getPolicy(_ request: IAM.GetPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.GetPolicyResponse {
        try await read { t in
            let policy = try PolicyStore.fetch(t, request.policyArn, account: op.accountID)
            return IAM.GetPolicyResponse(policy: try Self.shown(t, policy, account: op.accountID, isWhole: true))
        }
    }

    public func deletePolicy(_ request: IAM.DeletePolicy, _ op: OperationContext) async throws(CloudError) -> IAM.DeletePolicyResponse {
        try await change(op, "DeletePolicy", request.policyArn) { t in
            try PolicyStore.delete(t, try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID))
            return IAM.DeletePolicyResponse()
        }
    }

    public func listPolicies(_ request: IAM.ListPolicies, _ op: OperationContext) async throws(CloudError) -> IAM.ListPoliciesResponse {
        let scope = request.scope ?? "All"
        let policies = try await read { t in
            var all: [ManagedPolicy] = scope == "AWS" ? [] : try PolicyStore.list(t, account: op.accountID)
            if scope != "Local" {
                for ours in AWSManagedPolicies.all { all.append(try PolicyStore.fetch(t, ours.arn, account: op.accountID)) }
            }
            var shown: [IAM.Policy] = []
            for policy in all where policy.path.hasPrefix(request.pathPrefix ?? "/") {
                let one = try Self.shown(t, policy, account: op.accountID, isWhole: false)
                let attached = one.attachmentCount ?? 0
                let bounds = one.permissionsBoundaryUsageCount ?? 0
                if request.onlyAttached == true, attached == 0 { continue }
                if request.policyUsageFilter == "PermissionsBoundary", bounds == 0 { continue }
                shown.append(one)
            }
            return shown
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, policies, by: { $0.arn ?? "" })
        return IAM.ListPoliciesResponse(policies: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func createPolicyVersion(
        _ request: IAM.CreatePolicyVersion, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreatePolicyVersionResponse {
        try await change(op, "CreatePolicyVersion", request.policyArn) { t in
            let policy = try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID)
            let version = try PolicyStore.addVersion(
                t, policy, document: request.policyDocument, makeDefault: request.setAsDefault ?? false, now: op.now)
            return IAM.CreatePolicyVersionResponse(policyVersion: Self.shown(version, isWhole: false))
        }
    }

    public func getPolicyVersion(
        _ request: IAM.GetPolicyVersion, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetPolicyVersionResponse {
        try await read { t in
            let policy = try PolicyStore.fetch(t, request.policyArn, account: op.accountID)
            let version = try PolicyStore.version(t, policy, request.versionId)
            return IAM.GetPolicyVersionResponse(policyVersion: Self.shown(version, isWhole: true))
        }
    }

    public func deletePolicyVersion(
        _ request: IAM.DeletePolicyVersion, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeletePolicyVersionResponse {
        try await change(op, "DeletePolicyVersion", "\(request.policyArn) \(request.versionId)") { t in
            try PolicyStore.deleteVersion(
                t, try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID), request.versionId)
            return IAM.DeletePolicyVersionResponse()
        }
    }

    public func listPolicyVersions(
        _ request: IAM.ListPolicyVersions, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListPolicyVersionsResponse {
        let versions = try await read { t in
            try PolicyStore.versions(t, try PolicyStore.fetch(t, request.policyArn, account: op.accountID))
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, versions, by: \.id)
        return IAM.ListPolicyVersionsResponse(
            versions: page.items.map { Self.shown($0, isWhole: false) }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func setDefaultPolicyVersion(
        _ request: IAM.SetDefaultPolicyVersion, _ op: OperationContext
    ) async throws(CloudError) -> IAM.SetDefaultPolicyVersionResponse {
        try await change(op, "SetDefaultPolicyVersion", "\(request.policyArn) \(request.versionId)") { t in
            let policy = try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID)
            try PolicyStore.setDefault(t, policy, request.versionId, now: op.now)
            return IAM.SetDefaultPolicyVersionResponse()
        }
    }

    public func tagPolicy(_ request: IAM.TagPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.TagPolicyResponse {
        try await change(op, "TagPolicy", request.policyArn) { t in
            try EntityStore.tag(t, try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID).arn, request.tags.tags)
            return IAM.TagPolicyResponse()
        }
    }

    public func untagPolicy(_ request: IAM.UntagPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.UntagPolicyResponse {
        try await change(op, "UntagPolicy", request.policyArn) { t in
            try EntityStore.untag(t, try PolicyStore.fetchOwn(t, request.policyArn, account: op.accountID).arn, request.tagKeys)
            return IAM.UntagPolicyResponse()
        }
    }

    public func listPolicyTags(
        _ request: IAM.ListPolicyTags, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListPolicyTagsResponse {
        let tags = try await read { t in
            try EntityStore.tags(t, try PolicyStore.fetch(t, request.policyArn, account: op.accountID).arn)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, tags, by: \.key)
        return IAM.ListPolicyTagsResponse(tags: page.items.map { IAM.Tag($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
