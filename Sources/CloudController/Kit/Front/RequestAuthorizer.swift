import Database
import Domain
import Identity
import Wire

/// May the caller do what the request asks, on each resource that it names? Asked before anything is done, with the condition keys that
/// the request and the resources give.
struct RequestAuthorizer {
    let cloud: CloudServices

    /// These need no permission, or ask for it themselves, since the trust policy of the role has its say.
    private static let open: Set<String> = ["AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity", "GetSessionToken"]

    func authorize(
        _ route: ServiceRoute, _ operation: Operation, _ input: Value, _ context: OperationContext
    ) async throws(CloudError) {
        if route == .sts, Self.open.contains(operation.name) { return }
        let caller = context.caller
        // Roots and our own daemons have no policies to ask: what follows would cost look-ups for nothing.
        if caller.principal.isRoot || caller.principal.isSystem { return }
        var conditions = context.conditions
        let tags = Self.tags(input)
        conditions.add(tags: tags)
        for (resource, found) in try await resources(route, operation, input, context) {
            var own = conditions
            for (key, value) in found {
                own["aws:ResourceTag/\(key)"] = [value]
                own["\(route.rawValue):ResourceTag/\(key)"] = [value]
            }
            if route == .iam { Self.add(input, to: &own) }
            try decide(route, operation.iamAction, resource, own, caller)
        }
        // Tags given with what is created are CreateTags too: policies that allow the one by tags must not be got round by the other.
        if route == .ec2, case .record(let members) = input, case .list(let specifications)? = members["tagSpecifications"],
            !specifications.isEmpty
        {
            conditions["ec2:CreateAction"] = [operation.name]
            try decide(route, "ec2:CreateTags", "*", conditions, caller)
        }
    }

    private func decide(
        _ route: ServiceRoute, _ action: String, _ resource: String, _ conditions: PolicyContext, _ caller: AuthenticatedCaller
    ) throws(CloudError) {
        guard Authorizer.decide(caller, action: action, resource: resource, context: conditions) != .allowed else { return }
        let refusal = Authorizer.refusal(caller, action: action, resource: resource)
        guard route == .ec2 else { throw refusal }
        let encoded = try AuthorizationMessage.encode(
            caller, action: action, resource: resource, context: conditions, key: cloud.keys.authorization)
        throw CloudError(
            refusal.reason,
            "You are not authorized to perform this operation. \(refusal.message). Encoded authorization failure message: \(encoded)")
    }

    // MARK: resources

    /// Each with its tags, as far as a policy of the caller asks for tags.
    private func resources(
        _ route: ServiceRoute, _ operation: Operation, _ input: Value, _ context: OperationContext
    ) async throws(CloudError) -> [(arn: String, tags: [String: String])] {
        let account = context.accountID
        switch route {
        case .ec2:
            let arns = RequestResources.arns(operation, input, region: cloud.settings.region, account: account)
            guard asksForTags(context.caller) else { return arns.map { ($0, [:]) } }
            let ids = arns.compactMap { $0.split(separator: "/").last.map { String($0) } }
            let found = try await cloud.pool.read { t in try TagStore.tags(t, ids) }
            return arns.map { arn in
                let id = arn.split(separator: "/").last.map { String($0) } ?? ""
                return (arn, Dictionary((found[id] ?? []).map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first }))
            }
        case .iam: return try await identities(operation, input, context)
        case .sts:
            if operation.name == "GetFederationToken", case .record(let members) = input, case .text(let name)? = members["name"] {
                return [("arn:aws:sts::\(account):federated-user/\(name)", [:])]
            }
            return [("*", [:])]
        }
    }

    private func asksForTags(_ caller: AuthenticatedCaller) -> Bool {
        caller.contextKeys.contains {
            $0.hasPrefix("aws:resourcetag/") || $0.hasPrefix("ec2:resourcetag/") || $0.hasPrefix("iam:resourcetag/")
        }
    }

    /// The user, group, role, profile, policy or provider that an IAM action is about. Without a name it is the caller, where the action
    /// has one. What does not exist is asked for at the path that the request gives, or `/`.
    private func identities(
        _ operation: Operation, _ input: Value, _ context: OperationContext
    ) async throws(CloudError) -> [(arn: String, tags: [String: String])] {
        guard case .record(let members) = input else { return [("*", [:])] }
        let account = context.accountID
        func text(_ name: String) -> String? { if case .text(let text)? = members[name] { text } else { nil } }
        let kinds: [(member: String, kind: EntityKind)] = [
            ("groupName", .group), ("roleName", .role), ("instanceProfileName", .instanceProfile), ("userName", .user),
        ]
        var wanted: [(EntityKind, String)] = []
        for (member, kind) in kinds {
            // Membership is granted on the group, a profile's role on the profile. Source: Service Authorization Reference, IAM.
            if kind == .user, operation.input.member("groupName") != nil { continue }
            if kind == .role, operation.input.member("instanceProfileName") != nil { continue }
            if let name = text(member) {
                wanted.append((kind, name))
            } else if member == "userName", operation.input.member("userName") != nil, context.caller.principal.isUser {
                wanted.append((kind, context.caller.principal.userName))
            }
        }
        guard !wanted.isEmpty else {
            let arn = text("policyArn") ?? text("openIDConnectProviderArn") ?? text("policySourceArn")
            if let arn { return [(arn, [:])] }
            if operation.name == "CreatePolicy" {
                return [("arn:aws:iam::\(account):policy\(text("path") ?? "/")\(text("policyName") ?? "")", [:])]
            }
            return [("*", [:])]
        }
        let path = text("path") ?? "/"
        let names = wanted
        return try await cloud.pool.read { t in
            var out: [(arn: String, tags: [String: String])] = []
            for (kind, name) in names {
                if let entity = try? EntityStore.fetch(t, kind, name, account: account) {
                    let tags = try EntityStore.tags(t, entity.id)
                    out.append((entity.arn, Dictionary(tags.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })))
                } else {
                    out.append(("arn:aws:iam::\(account):\(kind.rawValue)\(path)\(name)", [:]))
                }
            }
            return out
        }
    }

    private static func add(_ input: Value, to conditions: inout PolicyContext) {
        guard case .record(let members) = input else { return }
        if case .text(let arn)? = members["policyArn"] { conditions["iam:PolicyARN"] = [arn] }
        if case .text(let arn)? = members["permissionsBoundary"] { conditions["iam:PermissionsBoundary"] = [arn] }
    }

    /// The tags that a request gives or takes away.
    private static func tags(_ input: Value) -> [(key: String, value: String)] {
        guard case .record(let members) = input else { return [] }
        var lists: [Value] = []
        if let tags = members["tags"] { lists.append(tags) }
        if case .list(let specifications)? = members["tagSpecifications"] {
            for case .record(let specification) in specifications { if let tags = specification["tags"] { lists.append(tags) } }
        }
        var out: [(key: String, value: String)] = []
        for case .list(let tags) in lists {
            for case .record(let tag) in tags {
                guard case .text(let key)? = tag["key"] else { continue }
                if case .text(let value)? = tag["value"] { out.append((key, value)) } else { out.append((key, "")) }
            }
        }
        if case .list(let keys)? = members["tagKeys"] {
            for case .text(let key) in keys { out.append((key, "")) }
        }
        return out
    }
}
