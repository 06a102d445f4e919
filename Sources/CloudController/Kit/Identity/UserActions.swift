public import API
public import Domain
import Identity

extension IAMActions: IAMUsersActions {
    public func createUser(_ request: IAM.CreateUser, _ op: OperationContext) async throws(CloudError) -> IAM.CreateUserResponse {
        try await change(op, "CreateUser", request.userName) { t in
            let user = try EntityStore.create(
                t, .user, name: request.userName, path: request.path ?? "/", account: op.accountID, random: cloud.random, now: op.now)
            if let boundary = request.permissionsBoundary { try EntityStore.setBoundary(t, user, boundary) }
            try EntityStore.tag(t, user.id, request.tags.tags)
            return IAM.CreateUserResponse(user: IAM.User(user, boundary: request.permissionsBoundary, tags: request.tags.tags))
        }
    }

    public func getUser(_ request: IAM.GetUser, _ op: OperationContext) async throws(CloudError) -> IAM.GetUserResponse {
        // The root of an account is a user without a name; what it is called stands in its ARN.
        guard let name = try userName(request.userName, op) else {
            let account = try await cloud.identity.accountFetch(op.accountID)
            return IAM.GetUserResponse(
                user: IAM.User(path: "/", userId: account.id, arn: op.caller.principal.arn, createDate: account.created))
        }
        return try await read { t in
            let user = try EntityStore.fetch(t, .user, name, account: op.accountID)
            return IAM.GetUserResponse(
                user: IAM.User(user, boundary: try EntityStore.boundary(t, user), tags: try EntityStore.tags(t, user.id)))
        }
    }

    public func updateUser(_ request: IAM.UpdateUser, _ op: OperationContext) async throws(CloudError) -> IAM.UpdateUserResponse {
        try await change(op, "UpdateUser", request.userName) { t in
            let user = try EntityStore.fetch(t, .user, request.userName, account: op.accountID)
            try EntityStore.rename(t, user, name: request.newUserName, path: request.newPath)
            return IAM.UpdateUserResponse()
        }
    }

    public func deleteUser(_ request: IAM.DeleteUser, _ op: OperationContext) async throws(CloudError) -> IAM.DeleteUserResponse {
        try await change(op, "DeleteUser", request.userName) { t in
            try EntityStore.delete(t, try EntityStore.fetch(t, .user, request.userName, account: op.accountID))
            return IAM.DeleteUserResponse()
        }
    }

    public func listUsers(_ request: IAM.ListUsers, _ op: OperationContext) async throws(CloudError) -> IAM.ListUsersResponse {
        let users = try await read { t in
            try EntityStore.list(t, .user, account: op.accountID, pathPrefix: request.pathPrefix ?? "/")
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, users, by: \.name)
        return IAM.ListUsersResponse(users: page.items.map { IAM.User($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func tagUser(_ request: IAM.TagUser, _ op: OperationContext) async throws(CloudError) -> IAM.TagUserResponse {
        try await change(op, "TagUser", request.userName) { t in
            try EntityStore.tag(t, try EntityStore.fetch(t, .user, request.userName, account: op.accountID).id, request.tags.tags)
            return IAM.TagUserResponse()
        }
    }

    public func untagUser(_ request: IAM.UntagUser, _ op: OperationContext) async throws(CloudError) -> IAM.UntagUserResponse {
        try await change(op, "UntagUser", request.userName) { t in
            try EntityStore.untag(t, try EntityStore.fetch(t, .user, request.userName, account: op.accountID).id, request.tagKeys)
            return IAM.UntagUserResponse()
        }
    }

    public func listUserTags(_ request: IAM.ListUserTags, _ op: OperationContext) async throws(CloudError) -> IAM.ListUserTagsResponse {
        let tags = try await read { t in
            try EntityStore.tags(t, try EntityStore.fetch(t, .user, request.userName, account: op.accountID).id)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, tags, by: \.key)
        return IAM.ListUserTagsResponse(tags: page.items.map { IAM.Tag($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
