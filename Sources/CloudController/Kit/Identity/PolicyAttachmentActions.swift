public import API
public import Domain
import Identity

/// Managed policies on users, groups and roles, and as their boundaries.
extension IAMActions: IAMPolicyAttachmentsActions {
    private func attach(
        _ kind: EntityKind, _ name: String, _ arn: String, _ action: String, _ op: OperationContext
    ) async throws(CloudError) {
        try await change(op, action, "\(name) \(arn)") { t in
            try PolicyStore.attach(t, arn, to: try EntityStore.fetch(t, kind, name, account: op.accountID))
        }
    }

    private func detach(
        _ kind: EntityKind, _ name: String, _ arn: String, _ action: String, _ op: OperationContext
    ) async throws(CloudError) {
        try await change(op, action, "\(name) \(arn)") { t in
            try PolicyStore.detach(t, arn, from: try EntityStore.fetch(t, kind, name, account: op.accountID))
        }
    }

    private func attached(
        _ kind: EntityKind, _ name: String, _ pathPrefix: String?, _ op: OperationContext
    ) async throws(CloudError) -> [IAM.AttachedPolicy] {
        try await read { t in
            try PolicyStore.attached(t, try EntityStore.fetch(t, kind, name, account: op.accountID))
                .filter { $0.path.hasPrefix(pathPrefix ?? "/") }
                .map { IAM.AttachedPolicy(policyName: $0.name, policyArn: $0.arn) }
        }
    }

    private func setBoundary(
        _ kind: EntityKind, _ name: String, _ arn: String?, _ action: String, _ op: OperationContext
    ) async throws(CloudError) {
        try await change(op, action, "\(name) \(arn ?? "")") { t in
            try EntityStore.setBoundary(t, try EntityStore.fetch(t, kind, name, account: op.accountID), arn)
        }
    }

    public func attachUserPolicy(
        _ request: IAM.AttachUserPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AttachUserPolicyResponse {
        try await attach(.user, request.userName, request.policyArn, "AttachUserPolicy", op)
        return IAM.AttachUserPolicyResponse()
    }

    public func detachUserPolicy(
        _ request: IAM.DetachUserPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DetachUserPolicyResponse {
        try await detach(.user, request.userName, request.policyArn, "DetachUserPolicy", op)
        return IAM.DetachUserPolicyResponse()
    }

    public func listAttachedUserPolicies(
        _ request: IAM.ListAttachedUserPolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListAttachedUserPoliciesResponse {
        let list = try await attached(.user, request.userName, request.pathPrefix, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, list, by: { $0.policyArn ?? "" })
        return IAM.ListAttachedUserPoliciesResponse(
            attachedPolicies: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func attachGroupPolicy(
        _ request: IAM.AttachGroupPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AttachGroupPolicyResponse {
        try await attach(.group, request.groupName, request.policyArn, "AttachGroupPolicy", op)
        return IAM.AttachGroupPolicyResponse()
    }

    public func detachGroupPolicy(
        _ request: IAM.DetachGroupPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DetachGroupPolicyResponse {
        try await detach(.group, request.groupName, request.policyArn, "DetachGroupPolicy", op)
        return IAM.DetachGroupPolicyResponse()
    }

    public func listAttachedGroupPolicies(
        _ request: IAM.ListAttachedGroupPolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListAttachedGroupPoliciesResponse {
        let list = try await attached(.group, request.groupName, request.pathPrefix, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, list, by: { $0.policyArn ?? "" })
        return IAM.ListAttachedGroupPoliciesResponse(
            attachedPolicies: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func attachRolePolicy(
        _ request: IAM.AttachRolePolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AttachRolePolicyResponse {
        try await attach(.role, request.roleName, request.policyArn, "AttachRolePolicy", op)
        return IAM.AttachRolePolicyResponse()
    }

    public func detachRolePolicy(
        _ request: IAM.DetachRolePolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DetachRolePolicyResponse {
        try await detach(.role, request.roleName, request.policyArn, "DetachRolePolicy", op)
        return IAM.DetachRolePolicyResponse()
    }

    public func listAttachedRolePolicies(
        _ request: IAM.ListAttachedRolePolicies, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListAttachedRolePoliciesResponse {
        let list = try await attached(.role, request.roleName, request.pathPrefix, op)
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, list, by: { $0.policyArn ?? "" })
        return IAM.ListAttachedRolePoliciesResponse(
            attachedPolicies: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func putUserPermissionsBoundary(
        _ request: IAM.PutUserPermissionsBoundary, _ op: OperationContext
    ) async throws(CloudError) -> IAM.PutUserPermissionsBoundaryResponse {
        try await setBoundary(.user, request.userName, request.permissionsBoundary, "PutUserPermissionsBoundary", op)
        return IAM.PutUserPermissionsBoundaryResponse()
    }

    public func deleteUserPermissionsBoundary(
        _ request: IAM.DeleteUserPermissionsBoundary, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteUserPermissionsBoundaryResponse {
        try await setBoundary(.user, request.userName, nil, "DeleteUserPermissionsBoundary", op)
        return IAM.DeleteUserPermissionsBoundaryResponse()
    }

    public func putRolePermissionsBoundary(
        _ request: IAM.PutRolePermissionsBoundary, _ op: OperationContext
    ) async throws(CloudError) -> IAM.PutRolePermissionsBoundaryResponse {
        try await setBoundary(.role, request.roleName, request.permissionsBoundary, "PutRolePermissionsBoundary", op)
        return IAM.PutRolePermissionsBoundaryResponse()
    }

    public func deleteRolePermissionsBoundary(
        _ request: IAM.DeleteRolePermissionsBoundary, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteRolePermissionsBoundaryResponse {
        try await setBoundary(.role, request.roleName, nil, "DeleteRolePermissionsBoundary", op)
        return IAM.DeleteRolePermissionsBoundaryResponse()
    }

    public func listEntitiesForPolicy(
        _ request: IAM.ListEntitiesForPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListEntitiesForPolicyResponse {
        let wanted: [EntityKind] =
            switch request.entityFilter {
            case nil: [.group, .role, .user]
            case "User": [.user]
            case "Group": [.group]
            case "Role": [.role]
            default: []
            }
        let entities = try await read { t in
            _ = try PolicyStore.fetch(t, request.policyArn, account: op.accountID)
            var out: [Entity] = []
            for kind in wanted {
                for asBoundary in [false, true]
                where request.policyUsageFilter == nil || (request.policyUsageFilter == "PermissionsBoundary") == asBoundary {
                    out += try PolicyStore.entities(t, request.policyArn, kind, account: op.accountID, asBoundary: asBoundary)
                }
            }
            let prefix = request.pathPrefix ?? "/"
            return Set(out).filter { $0.path.hasPrefix(prefix) }
        }
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, Array(entities), by: { "\($0.kind.rawValue)/\($0.name)" })
        func of(_ kind: EntityKind) -> [Entity] { page.items.filter { $0.kind == kind } }
        return IAM.ListEntitiesForPolicyResponse(
            policyGroups: of(.group).map { IAM.PolicyGroup(groupName: $0.name, groupId: $0.id) },
            policyUsers: of(.user).map { IAM.PolicyUser(userName: $0.name, userId: $0.id) },
            policyRoles: of(.role).map { IAM.PolicyRole(roleName: $0.name, roleId: $0.id) }, isTruncated: page.isTruncated,
            marker: page.marker)
    }
}
