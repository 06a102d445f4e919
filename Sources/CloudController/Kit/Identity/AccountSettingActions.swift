public import API
import Database
public import Domain
import Identity

extension IAMActions: IAMAccountSettingsActions {
    public func createAccountAlias(
        _ request: IAM.CreateAccountAlias, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreateAccountAliasResponse {
        try await change(op, "CreateAccountAlias", request.accountAlias) { t in
            try LoginStore.setAlias(t, account: op.accountID, request.accountAlias)
            return IAM.CreateAccountAliasResponse()
        }
    }

    public func deleteAccountAlias(
        _ request: IAM.DeleteAccountAlias, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteAccountAliasResponse {
        try await change(op, "DeleteAccountAlias", request.accountAlias) { t in
            guard try LoginStore.alias(t, account: op.accountID) == request.accountAlias else {
                throw IdentityError.missing("account alias", request.accountAlias)
            }
            try LoginStore.setAlias(t, account: op.accountID, nil)
            return IAM.DeleteAccountAliasResponse()
        }
    }

    public func listAccountAliases(
        _ request: IAM.ListAccountAliases, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListAccountAliasesResponse {
        let alias = try await read { t in try LoginStore.alias(t, account: op.accountID) }
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, alias.map { [$0] } ?? [], by: \.self)
        return IAM.ListAccountAliasesResponse(accountAliases: page.items, isTruncated: page.isTruncated, marker: page.marker)
    }

    public func getAccountSummary(
        _ request: IAM.GetAccountSummary, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetAccountSummaryResponse {
        let counts = try await read { t in try LoginStore.counts(t, account: op.accountID) }
        return IAM.GetAccountSummaryResponse(summaryMap: counts.map { IAM.SummaryMapEntry(key: $0.name, value: $0.count) })
    }

    public func getAccountPasswordPolicy(
        _ request: IAM.GetAccountPasswordPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetAccountPasswordPolicyResponse {
        guard let policy = try await read({ t in try LoginStore.passwordPolicy(t, account: op.accountID) }) else {
            throw CloudError(
                .named(code: "NoSuchEntity", status: 404), "The Password Policy with domain name \(op.accountID) cannot be found.")
        }
        return IAM.GetAccountPasswordPolicyResponse(
            passwordPolicy: IAM.PasswordPolicy(
                minimumPasswordLength: policy.minimumLength, requireSymbols: policy.requireSymbols, requireNumbers: policy.requireNumbers,
                requireUppercaseCharacters: policy.requireUppercase, requireLowercaseCharacters: policy.requireLowercase,
                allowUsersToChangePassword: policy.allowUsersToChange, expirePasswords: policy.maxAgeDays != nil,
                maxPasswordAge: policy.maxAgeDays, passwordReusePrevention: policy.reusePrevention, hardExpiry: policy.hardExpiry))
    }

    /// What is not said goes back to its default. Source: IAM API Reference, UpdateAccountPasswordPolicy.
    public func updateAccountPasswordPolicy(
        _ request: IAM.UpdateAccountPasswordPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateAccountPasswordPolicyResponse {
        var policy = PasswordPolicy()
        policy.minimumLength = request.minimumPasswordLength ?? 6
        policy.requireSymbols = request.requireSymbols ?? false
        policy.requireNumbers = request.requireNumbers ?? false
        policy.requireUppercase = request.requireUppercaseCharacters ?? false
        policy.requireLowercase = request.requireLowercaseCharacters ?? false
        policy.allowUsersToChange = request.allowUsersToChangePassword ?? false
        policy.maxAgeDays = request.maxPasswordAge
        policy.reusePrevention = request.passwordReusePrevention
        policy.hardExpiry = request.hardExpiry ?? false
        let order = policy
        return try await change(op, "UpdateAccountPasswordPolicy", op.accountID) { t in
            try LoginStore.setPasswordPolicy(t, account: op.accountID, order)
            return IAM.UpdateAccountPasswordPolicyResponse()
        }
    }

    public func deleteAccountPasswordPolicy(
        _ request: IAM.DeleteAccountPasswordPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteAccountPasswordPolicyResponse {
        try await change(op, "DeleteAccountPasswordPolicy", op.accountID) { t in
            guard try LoginStore.passwordPolicy(t, account: op.accountID) != nil else {
                throw CloudError(
                    .named(code: "NoSuchEntity", status: 404), "The account policy with name PasswordPolicy cannot be found.")
            }
            try LoginStore.setPasswordPolicy(t, account: op.accountID, nil)
            return IAM.DeleteAccountPasswordPolicyResponse()
        }
    }

    // MARK: everything at once

    private enum Detail: Sendable {
        case user(IAM.UserDetail)
        case group(IAM.GroupDetail)
        case role(IAM.RoleDetail)
        case policy(IAM.ManagedPolicyDetail)

        var arn: String {
            switch self {
            case .user(let user): user.arn ?? ""
            case .group(let group): group.arn ?? ""
            case .role(let role): role.arn ?? ""
            case .policy(let policy): policy.arn ?? ""
            }
        }
    }

    public func getAccountAuthorizationDetails(
        _ request: IAM.GetAccountAuthorizationDetails, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetAccountAuthorizationDetailsResponse {
        let wanted = Set(request.filter)
        func wants(_ kind: String) -> Bool { wanted.isEmpty || wanted.contains(kind) }
        let (users, groups, roles, local, ours) = (
            wants("User"), wants("Group"), wants("Role"), wants("LocalManagedPolicy"), wants("AWSManagedPolicy")
        )
        let all = try await read { t in
            var out: [Detail] = []
            if users { out += try Self.users(t, op.accountID) }
            if groups { out += try Self.groups(t, op.accountID) }
            if roles { out += try Self.roles(t, op.accountID) }
            if local { out += try PolicyStore.list(t, account: op.accountID).map { .policy(try Self.detail(t, $0, op.accountID)) } }
            if ours {
                for policy in AWSManagedPolicies.all where try PolicyStore.uses(t, policy.arn, account: op.accountID) > 0 {
                    out.append(.policy(try Self.detail(t, try PolicyStore.fetch(t, policy.arn, account: op.accountID), op.accountID)))
                }
            }
            return out
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, all, by: \.arn)
        var response = IAM.GetAccountAuthorizationDetailsResponse(isTruncated: page.isTruncated, marker: page.marker)
        for detail in page.items {
            switch detail {
            case .user(let user): response.userDetailList.append(user)
            case .group(let group): response.groupDetailList.append(group)
            case .role(let role): response.roleDetailList.append(role)
            case .policy(let policy): response.policies.append(policy)
            }
        }
        return response
    }

    private static func inline(_ t: Transaction, _ entity: Entity) throws(CloudError) -> [IAM.PolicyDetail] {
        try PolicyStore.inline(t, entity).map { IAM.PolicyDetail(policyName: $0.name, policyDocument: encodedDocument($0.document)) }
    }

    private static func attached(_ t: Transaction, _ entity: Entity) throws(CloudError) -> [IAM.AttachedPolicy] {
        try PolicyStore.attached(t, entity).map { IAM.AttachedPolicy(policyName: $0.name, policyArn: $0.arn) }
    }

    private static func users(_ t: Transaction, _ account: String) throws(CloudError) -> [Detail] {
        var out: [Detail] = []
        for user in try EntityStore.list(t, .user, account: account) {
            out.append(
                .user(
                    IAM.UserDetail(
                        path: user.path, userName: user.name, userId: user.id, arn: user.arn, createDate: user.created,
                        userPolicyList: try inline(t, user), groupList: try EntityStore.groups(t, user: user).map(\.name),
                        attachedManagedPolicies: try attached(t, user),
                        permissionsBoundary: try EntityStore.boundary(t, user).map { IAM.AttachedPermissionsBoundary($0) },
                        tags: try EntityStore.tags(t, user.id).map { IAM.Tag($0) })))
        }
        return out
    }

    private static func groups(_ t: Transaction, _ account: String) throws(CloudError) -> [Detail] {
        var out: [Detail] = []
        for group in try EntityStore.list(t, .group, account: account) {
            out.append(
                .group(
                    IAM.GroupDetail(
                        path: group.path, groupName: group.name, groupId: group.id, arn: group.arn, createDate: group.created,
                        groupPolicyList: try inline(t, group), attachedManagedPolicies: try attached(t, group))))
        }
        return out
    }

    private static func roles(_ t: Transaction, _ account: String) throws(CloudError) -> [Detail] {
        var out: [Detail] = []
        for role in try RoleStore.list(t, account: account) {
            out.append(
                .role(
                    IAM.RoleDetail(
                        path: role.entity.path, roleName: role.entity.name, roleId: role.entity.id, arn: role.entity.arn,
                        createDate: role.entity.created, assumeRolePolicyDocument: encodedDocument(role.trust),
                        instanceProfileList: try RoleStore.profiles(t, of: role).map { IAM.InstanceProfile($0, role: role) },
                        rolePolicyList: try inline(t, role.entity), attachedManagedPolicies: try attached(t, role.entity),
                        permissionsBoundary: role.boundary.map { IAM.AttachedPermissionsBoundary($0) },
                        tags: try EntityStore.tags(t, role.entity.id).map { IAM.Tag($0) },
                        roleLastUsed: IAM.RoleLastUsed(lastUsedDate: role.used?.at, region: role.used?.region))))
        }
        return out
    }

    private static func detail(_ t: Transaction, _ policy: ManagedPolicy, _ account: String) throws(CloudError) -> IAM.ManagedPolicyDetail {
        IAM.ManagedPolicyDetail(
            policyName: policy.name, policyId: policy.id, arn: policy.arn, path: policy.path, defaultVersionId: policy.defaultVersion,
            attachmentCount: try PolicyStore.uses(t, policy.arn, account: account),
            permissionsBoundaryUsageCount: try PolicyStore.boundaryUses(t, policy.arn), isAttachable: true,
            description: policy.description.isEmpty ? nil : policy.description, createDate: policy.created, updateDate: policy.updated,
            policyVersionList: try PolicyStore.versions(t, policy).map {
                IAM.PolicyVersion(
                    document: encodedDocument($0.document), versionId: $0.id, isDefaultVersion: $0.isDefault, createDate: $0.created)
            })
    }
}
