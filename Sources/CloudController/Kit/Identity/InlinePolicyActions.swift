public import API
public import Domain
import Identity

/// Policies that stand in a user, a group or a role.
extension IAMActions: IAMInlinePoliciesActions {
    private func putInline(
        _ kind: EntityKind, _ name: String, _ policy: String, _ document: String, _ action: String, _ op: OperationContext
    ) async throws(CloudError) {
        try await change(op, action, "\(name) \(policy)") { t in
            try PolicyStore.put(t, try EntityStore.fetch(t, kind, name, account: op.accountID), name: policy, document: document)
        }
    }

    private func getInline(
        _ kind: EntityKind, _ name: String, _ policy: String, _ op: OperationContext
    ) async throws(CloudError) -> (entity: String, document: String) {
        try await read { t in
            let entity = try EntityStore.fetch(t, kind, name, account: op.accountID)
            return (entity.name, encodedDocument(try PolicyStore.inline(t, entity, name: policy)))
        }
    }

    private func deleteInline(
        _ kind: EntityKind, _ name: String, _ policy: String, _ action: String, _ op: OperationContext
    ) async throws(CloudError) {
        try await change(op, action, "\(name) \(policy)") { t in
            try PolicyStore.deleteInline(t, try EntityStore.fetch(t, kind, name, account: op.accountID), name: policy)
        }
    }

    private func inlineNames(_ kind: EntityKind, _ name: String, _ op: OperationContext) async throws(CloudError) -> [String] {
        try await read { t in try PolicyStore.inline(t, try EntityStore.fetch(t, kind, name, account: op.accountID)).map(\.name) }
    }

    public func putUserPolicy(_ request: IAM.PutUserPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.PutUserPolicyResponse {
        try await putInline(.user, request.userName, request.policyName, request.policyDocument, "PutUserPolicy", op)
        return IAM.PutUserPolicyResponse()
    }

    public func getUserPolicy(_ request: IAM.GetUserPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.GetUserPolicyResponse {
        let found = try await getInline(.user, request.userName, request.policyName, op)
        return IAM.GetUserPolicyResponse(userName: found.entity, policyName: request.policyName, policyDocument: found.document)
    }

    public func deleteUserPolicy(
        _ request: IAM.DeleteUserPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteUserPolicyResponse {
        try await deleteInline(.user, request.userName, request.policyName, "DeleteUserPolicy", op)
        return IAM.DeleteUserPolicyResponse()
    }

    public func listUserPolicies(
        _ request: IAM.ListUserPolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListUserPoliciesResponse {
        let names = try await inlineNames(.user, request.userName, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, names, by: \.self)
        return IAM.ListUserPoliciesResponse(policyNames: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func putGroupPolicy(_ request: IAM.PutGroupPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.PutGroupPolicyResponse
    {
        try await putInline(.group, request.groupName, request.policyName, request.policyDocument, "PutGroupPolicy", op)
        return IAM.PutGroupPolicyResponse()
    }

    public func getGroupPolicy(_ request: IAM.GetGroupPolicy, _ op: OperationContext) async throws(CloudError) -> IAM.GetGroupPolicyResponse
    {
        let found = try await getInline(.group, request.groupName, request.policyName, op)
        return IAM.GetGroupPolicyResponse(groupName: found.entity, policyName: request.policyName, policyDocument: found.document)
    }

    public func deleteGroupPolicy(
        _ request: IAM.DeleteGroupPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteGroupPolicyResponse {
        try await deleteInline(.group, request.groupName, request.policyName, "DeleteGroupPolicy", op)
        return IAM.DeleteGroupPolicyResponse()
    }

    public func listGroupPolicies(
        _ request: IAM.ListGroupPolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListGroupPoliciesResponse {
        let names = try await inlineNames(.group, request.groupName, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, names, by: \.self)
        return IAM.ListGroupPoliciesResponse(policyNames: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func putRolePolicy(_ request: IAM.PutRolePolicy, _ op: OperationContext) async throws(CloudError) -> IAM.PutRolePolicyResponse {
        try await putInline(.role, request.roleName, request.policyName, request.policyDocument, "PutRolePolicy", op)
        return IAM.PutRolePolicyResponse()
    }

    public func getRolePolicy(_ request: IAM.GetRolePolicy, _ op: OperationContext) async throws(CloudError) -> IAM.GetRolePolicyResponse {
        let found = try await getInline(.role, request.roleName, request.policyName, op)
        return IAM.GetRolePolicyResponse(roleName: found.entity, policyName: request.policyName, policyDocument: found.document)
    }

    public func deleteRolePolicy(
        _ request: IAM.DeleteRolePolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteRolePolicyResponse {
        try await deleteInline(.role, request.roleName, request.policyName, "DeleteRolePolicy", op)
        return IAM.DeleteRolePolicyResponse()
    }

    public func listRolePolicies(
        _ request: IAM.ListRolePolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListRolePoliciesResponse {
        let names = try await inlineNames(.role, request.roleName, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, names, by: \.self)
        return IAM.ListRolePoliciesResponse(policyNames: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }
}
