public import API
import Database
public import Domain
import Identity

extension IAMActions: IAMInstanceProfilesActions {
    private static func shown(_ t: Transaction, _ profile: Entity) throws(CloudError) -> IAM.InstanceProfile {
        IAM.InstanceProfile(profile, role: try RoleStore.role(t, of: profile), tags: try EntityStore.tags(t, profile.id))
    }

    public func createInstanceProfile(
        _ request: IAM.CreateInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreateInstanceProfileResponse {
        try await change(op, "CreateInstanceProfile", request.instanceProfileName) { t in
            let profile = try EntityStore.create(
                t, .instanceProfile, name: request.instanceProfileName, path: request.path ?? "/", account: op.accountID,
                random: cloud.random, now: op.now)
            try EntityStore.tag(t, profile.id, request.tags.tags)
            return IAM.CreateInstanceProfileResponse(instanceProfile: try Self.shown(t, profile))
        }
    }

    public func getInstanceProfile(
        _ request: IAM.GetInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetInstanceProfileResponse {
        try await read { t in
            let profile = try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID)
            return IAM.GetInstanceProfileResponse(instanceProfile: try Self.shown(t, profile))
        }
    }

    public func deleteInstanceProfile(
        _ request: IAM.DeleteInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteInstanceProfileResponse {
        try await change(op, "DeleteInstanceProfile", request.instanceProfileName) { t in
            try EntityStore.delete(
                t, try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID))
            return IAM.DeleteInstanceProfileResponse()
        }
    }

    public func listInstanceProfiles(
        _ request: IAM.ListInstanceProfiles, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListInstanceProfilesResponse {
        let profiles = try await read { t in
            var shown: [IAM.InstanceProfile] = []
            for profile in try EntityStore.list(t, .instanceProfile, account: op.accountID, pathPrefix: request.pathPrefix ?? "/") {
                shown.append(IAM.InstanceProfile(profile, role: try RoleStore.role(t, of: profile)))
            }
            return shown
        }
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, profiles, by: { $0.instanceProfileName ?? "" })
        return IAM.ListInstanceProfilesResponse(instanceProfiles: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func listInstanceProfilesForRole(
        _ request: IAM.ListInstanceProfilesForRole, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListInstanceProfilesForRoleResponse {
        let profiles = try await read { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            return try RoleStore.profiles(t, of: role).map { IAM.InstanceProfile($0, role: role) }
        }
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, profiles, by: { $0.instanceProfileName ?? "" })
        return IAM.ListInstanceProfilesForRoleResponse(
            instanceProfiles: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    /// Whoever puts a role on a profile gives it to instances: that needs `iam:PassRole` too.
    public func addRoleToInstanceProfile(
        _ request: IAM.AddRoleToInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AddRoleToInstanceProfileResponse {
        try await change(op, "AddRoleToInstanceProfile", "\(request.instanceProfileName) \(request.roleName)") { t in
            let role = try RoleStore.fetch(t, request.roleName, account: op.accountID)
            try op.authorize("iam:PassRole", resource: role.entity.arn, context: ["iam:PassedToService": "ec2.amazonaws.com"])
            try RoleStore.add(
                t, role, to: try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID))
            return IAM.AddRoleToInstanceProfileResponse()
        }
    }

    public func removeRoleFromInstanceProfile(
        _ request: IAM.RemoveRoleFromInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.RemoveRoleFromInstanceProfileResponse {
        try await change(op, "RemoveRoleFromInstanceProfile", "\(request.instanceProfileName) \(request.roleName)") { t in
            try RoleStore.remove(
                t, try RoleStore.fetch(t, request.roleName, account: op.accountID),
                from: try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID))
            return IAM.RemoveRoleFromInstanceProfileResponse()
        }
    }

    public func tagInstanceProfile(
        _ request: IAM.TagInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.TagInstanceProfileResponse {
        try await change(op, "TagInstanceProfile", request.instanceProfileName) { t in
            let profile = try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID)
            try EntityStore.tag(t, profile.id, request.tags.tags)
            return IAM.TagInstanceProfileResponse()
        }
    }

    public func untagInstanceProfile(
        _ request: IAM.UntagInstanceProfile, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UntagInstanceProfileResponse {
        try await change(op, "UntagInstanceProfile", request.instanceProfileName) { t in
            let profile = try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID)
            try EntityStore.untag(t, profile.id, request.tagKeys)
            return IAM.UntagInstanceProfileResponse()
        }
    }

    public func listInstanceProfileTags(
        _ request: IAM.ListInstanceProfileTags, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListInstanceProfileTagsResponse {
        let tags = try await read { t in
            let profile = try EntityStore.fetch(t, .instanceProfile, request.instanceProfileName, account: op.accountID)
            return try EntityStore.tags(t, profile.id)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, tags, by: \.key)
        return IAM.ListInstanceProfileTagsResponse(
            tags: page.items.map { IAM.Tag($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
