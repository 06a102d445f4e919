public import API
public import Domain
import Identity

extension IAMActions: IAMGroupsActions {
    public func createGroup(_ request: IAM.CreateGroup, _ op: OperationContext) async throws(CloudError) -> IAM.CreateGroupResponse {
        try await change(op, "CreateGroup", request.groupName) { t in
            let group = try EntityStore.create(
                t, .group, name: request.groupName, path: request.path ?? "/", account: op.accountID, random: cloud.random, now: op.now)
            return IAM.CreateGroupResponse(group: IAM.Group(group))
        }
    }

    public func getGroup(_ request: IAM.GetGroup, _ op: OperationContext) async throws(CloudError) -> IAM.GetGroupResponse {
        let (group, members) = try await read { t in
            let group = try EntityStore.fetch(t, .group, request.groupName, account: op.accountID)
            return (group, try EntityStore.members(t, group: group))
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, members, by: \.name)
        return IAM.GetGroupResponse(
            group: IAM.Group(group), users: page.items.map { IAM.User($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func updateGroup(_ request: IAM.UpdateGroup, _ op: OperationContext) async throws(CloudError) -> IAM.UpdateGroupResponse {
        try await change(op, "UpdateGroup", request.groupName) { t in
            let group = try EntityStore.fetch(t, .group, request.groupName, account: op.accountID)
            try EntityStore.rename(t, group, name: request.newGroupName, path: request.newPath)
            return IAM.UpdateGroupResponse()
        }
    }

    public func deleteGroup(_ request: IAM.DeleteGroup, _ op: OperationContext) async throws(CloudError) -> IAM.DeleteGroupResponse {
        try await change(op, "DeleteGroup", request.groupName) { t in
            try EntityStore.delete(t, try EntityStore.fetch(t, .group, request.groupName, account: op.accountID))
            return IAM.DeleteGroupResponse()
        }
    }

    public func listGroups(_ request: IAM.ListGroups, _ op: OperationContext) async throws(CloudError) -> IAM.ListGroupsResponse {
        let groups = try await read { t in
            try EntityStore.list(t, .group, account: op.accountID, pathPrefix: request.pathPrefix ?? "/")
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, groups, by: \.name)
        return IAM.ListGroupsResponse(groups: page.items.map { IAM.Group($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func addUserToGroup(
        _ request: IAM.AddUserToGroup, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AddUserToGroupResponse {
        try await change(op, "AddUserToGroup", "\(request.groupName) \(request.userName)") { t in
            try EntityStore.join(
                t, user: try EntityStore.fetch(t, .user, request.userName, account: op.accountID),
                group: try EntityStore.fetch(t, .group, request.groupName, account: op.accountID))
            return IAM.AddUserToGroupResponse()
        }
    }

    public func removeUserFromGroup(
        _ request: IAM.RemoveUserFromGroup, _ op: OperationContext
    ) async throws(CloudError) -> IAM.RemoveUserFromGroupResponse {
        try await change(op, "RemoveUserFromGroup", "\(request.groupName) \(request.userName)") { t in
            try EntityStore.leave(
                t, user: try EntityStore.fetch(t, .user, request.userName, account: op.accountID),
                group: try EntityStore.fetch(t, .group, request.groupName, account: op.accountID))
            return IAM.RemoveUserFromGroupResponse()
        }
    }

    public func listGroupsForUser(
        _ request: IAM.ListGroupsForUser, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListGroupsForUserResponse {
        let groups = try await read { t in
            try EntityStore.groups(t, user: try EntityStore.fetch(t, .user, request.userName, account: op.accountID))
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, groups, by: \.name)
        return IAM.ListGroupsForUserResponse(groups: page.items.map { IAM.Group($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
