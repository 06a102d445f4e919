import API
import Database
import Domain
import Identity
import Signing
import Wire

/// The value that implements the IAM actions. Each resource's file adds the conformance for its protocol.
public struct IAMActions: Sendable {
    public typealias Context = OperationContext
    public let cloud: CloudServices
    public init(_ cloud: CloudServices) { self.cloud = cloud }

    /// When a request says none. Source: IAM API Reference, `MaxItems`.
    static let standardPage = 100

    func read<R: Sendable>(_ body: @escaping @Sendable (Transaction) throws -> R) async throws(CloudError) -> R {
        try await cloud.pool.read(body)
    }

    /// A change with its audit row, told to everybody's caches.
    func change<R: Sendable>(
        _ op: OperationContext, _ action: String, _ resource: String, _ body: @escaping @Sendable (Transaction) throws -> R
    ) async throws(CloudError) -> R {
        try await cloud.pool.transaction { t in
            let result = try body(t)
            try AuditStore.record(t, op, action: action, resource: resource)
            try IdentityStore.changed(t)
            return result
        }
    }

    /// A page of what is in the order of `id`; the marker is bound to the request.
    func page<R: WireRequest, T>(
        _ request: R, _ op: OperationContext, marker: String?, maxItems: Int?, _ items: [T], by id: (T) -> String
    ) throws(CloudError) -> (items: [T], isTruncated: Bool, marker: String?) {
        var value = request.wireValue
        if case .record(var members) = value {
            members["marker"] = nil
            members["maxItems"] = nil
            value = .record(members)
        }
        let paging: Paging
        do throws(CloudError) {
            paging = try Paging(
                maxResults: maxItems ?? Self.standardPage, nextToken: marker, action: R.operation.name, accountID: op.accountID,
                request: value, key: cloud.keys.paging, now: op.now)
        } catch {
            throw CloudError(.named(code: "ValidationError", status: 400), "Invalid Marker.", context: error.context)
        }
        let page = paging.page(items.sorted { id($0) < id($1) }, by: id)
        return (page.items, page.nextToken != nil, page.nextToken)
    }

    /// The user that a request means: the one named, else the caller. `nil` is the account's root.
    func userName(_ name: String?, _ op: OperationContext) throws(CloudError) -> String? {
        if let name { return name == "root" && op.caller.principal.isRoot ? nil : name }
        if op.caller.principal.isRoot { return nil }
        guard op.caller.principal.isUser else {
            throw CloudError(
                .named(code: "ValidationError", status: 400), "Must specify userName when calling with non-User credentials")
        }
        return op.caller.principal.userName
    }

}

/// Documents go out percent-encoded. Source: IAM API Reference, `PolicyDocument` of the Get actions.
func encodedDocument(_ text: String) -> String { Presign.encode(component: text) }

extension IAM.Tag {
    init(_ tag: IdentityTag) { self.init(key: tag.key, value: tag.value) }
    var tag: IdentityTag { IdentityTag(key: key, value: value) }
}

extension [IAM.Tag] {
    var tags: [IdentityTag] { map(\.tag) }
}

extension IAM.AttachedPermissionsBoundary {
    init(_ arn: String) { self.init(permissionsBoundaryType: "PermissionsBoundaryPolicy", permissionsBoundaryArn: arn) }
}

extension IAM.User {
    init(_ user: Entity, boundary: String? = nil, tags: [IdentityTag] = []) {
        self.init(
            path: user.path, userName: user.name, userId: user.id, arn: user.arn, createDate: user.created,
            permissionsBoundary: boundary.map { IAM.AttachedPermissionsBoundary($0) }, tags: tags.map { IAM.Tag($0) })
    }
}

extension IAM.Group {
    init(_ group: Entity) {
        self.init(path: group.path, groupName: group.name, groupId: group.id, arn: group.arn, createDate: group.created)
    }
}

extension IAM.Role {
    /// As it stands in lists and profiles: without tags and last use.
    init(_ role: Role) {
        self.init(
            path: role.entity.path, roleName: role.entity.name, roleId: role.entity.id, arn: role.entity.arn,
            createDate: role.entity.created, assumeRolePolicyDocument: encodedDocument(role.trust),
            description: role.description.isEmpty ? nil : role.description, maxSessionDuration: role.maxSessionSeconds)
    }

    init(_ role: Role, tags: [IdentityTag]) {
        self.init(role)
        permissionsBoundary = role.boundary.map { IAM.AttachedPermissionsBoundary($0) }
        self.tags = tags.map { IAM.Tag($0) }
        roleLastUsed = IAM.RoleLastUsed(lastUsedDate: role.used?.at, region: role.used?.region)
    }
}

extension IAM.InstanceProfile {
    init(_ profile: Entity, role: Role?, tags: [IdentityTag] = []) {
        self.init(
            path: profile.path, instanceProfileName: profile.name, instanceProfileId: profile.id, arn: profile.arn,
            createDate: profile.created, roles: role.map { [IAM.Role($0)] } ?? [], tags: tags.map { IAM.Tag($0) })
    }
}
