public import API
public import Domain
import Identity

extension IAMActions: IAMRolesActions {
    /// A session of a role is an hour unless it says otherwise. Source: IAM API Reference, CreateRole.
    static let standardSessionSeconds = 3600

    public func createRole(_ request: IAM.CreateRole, _ op: OperationContext) async throws(CloudError) -> IAM.CreateRoleResponse {
        try await change(op, "CreateRole", request.roleName) { t in
            let role = try RoleStore.create(
                t, name: request.roleName, path: request.path ?? "/",
                RoleStore.Order(
                    trust: request.assumeRolePolicyDocument, description: request.description ?? "",
                    maxSessionSeconds: request.maxSessionDuration ?? Self.standardSessionSeconds, boundary: request.permissionsBoundary),
                account: op.accountID, random: cloud.random, now: op.now)
            try EntityStore.tag(t, role.entity.id, request.tags.tags)
            return IAM.CreateRoleResponse(role: IAM.Role(role, tags: request.tags.tags))
        }
    }

    public func getRole(_ request: IAM.GetRole, _ op: OperationContext) async throws(CloudError) -> IAM.GetRoleResponse {
        try await read { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            return IAM.GetRoleResponse(role: IAM.Role(role, tags: try EntityStore.tags(t, role.entity.id)))
        }
    }

    public func updateRole(_ request: IAM.UpdateRole, _ op: OperationContext) async throws(CloudError) -> IAM.UpdateRoleResponse {
        try await change(op, "UpdateRole", request.roleName) { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            try RoleStore.update(t, role, description: request.description, maxSessionSeconds: request.maxSessionDuration)
            return IAM.UpdateRoleResponse()
        }
    }

    public func updateRoleDescription(
        _ request: IAM.UpdateRoleDescription, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateRoleDescriptionResponse {
        try await change(op, "UpdateRoleDescription", request.roleName) { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            try RoleStore.update(t, role, description: request.description, maxSessionSeconds: nil)
            let changed = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            return IAM.UpdateRoleDescriptionResponse(role: IAM.Role(changed, tags: try EntityStore.tags(t, role.entity.id)))
        }
    }

    public func deleteRole(_ request: IAM.DeleteRole, _ op: OperationContext) async throws(CloudError) -> IAM.DeleteRoleResponse {
        try await change(op, "DeleteRole", request.roleName) { t in
            try EntityStore.delete(t, try EntityStore.fetch(t, .role, request.roleName, account: op.accountID))
            return IAM.DeleteRoleResponse()
        }
    }

    public func listRoles(_ request: IAM.ListRoles, _ op: OperationContext) async throws(CloudError) -> IAM.ListRolesResponse {
        let roles = try await read { t in
            try RoleStore.list(t, account: op.accountID, pathPrefix: request.pathPrefix ?? "/")
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, roles, by: \.entity.name)
        return IAM.ListRolesResponse(roles: page.items.map { IAM.Role($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func updateAssumeRolePolicy(
        _ request: IAM.UpdateAssumeRolePolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateAssumeRolePolicyResponse {
        try await change(op, "UpdateAssumeRolePolicy", request.roleName) { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            try RoleStore.update(t, role, description: nil, maxSessionSeconds: nil, trust: request.policyDocument)
            return IAM.UpdateAssumeRolePolicyResponse()
        }
    }

    public func tagRole(_ request: IAM.TagRole, _ op: OperationContext) async throws(CloudError) -> IAM.TagRoleResponse {
        try await change(op, "TagRole", request.roleName) { t in
            try EntityStore.tag(t, try EntityStore.fetch(t, .role, request.roleName, account: op.accountID).id, request.tags.tags)
            return IAM.TagRoleResponse()
        }
    }

    public func untagRole(_ request: IAM.UntagRole, _ op: OperationContext) async throws(CloudError) -> IAM.UntagRoleResponse {
        try await change(op, "UntagRole", request.roleName) { t in
            try EntityStore.untag(t, try EntityStore.fetch(t, .role, request.roleName, account: op.accountID).id, request.tagKeys)
            return IAM.UntagRoleResponse()
        }
    }

    public func listRoleTags(_ request: IAM.ListRoleTags, _ op: OperationContext) async throws(CloudError) -> IAM.ListRoleTagsResponse {
        let tags = try await read { t in
            try EntityStore.tags(t, try EntityStore.fetch(t, .role, request.roleName, account: op.accountID).id)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, tags, by: \.key)
        return IAM.ListRoleTagsResponse(tags: page.items.map { IAM.Tag($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
