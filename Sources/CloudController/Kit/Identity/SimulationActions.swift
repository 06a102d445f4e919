public import API
import Database
public import Domain
import Identity

/// What would be decided, and by which statements: the evaluator itself, asked with made-up requests.
extension IAMActions: IAMSimulationActions {
    private struct Simulation: Sendable {
        var sources: [PolicyStore.Source] = []
        var boundary: PolicyDocument?
        var principal: PolicyPrincipal?
        /// Of the caller, where the request says nothing else.
        var context = PolicyContext()
        var accountID: String
    }

    private static func sources(_ texts: [String], named: String) throws(CloudError) -> [PolicyStore.Source] {
        var out: [PolicyStore.Source] = []
        for (index, text) in texts.enumerated() {
            let document: PolicyDocument
            do throws(CloudError) { document = try PolicyDocument(parsing: text, maxBytes: 131_072) } catch {
                throw IdentityError.input("The policy \(named).\(index + 1) is not valid: \(error.message)")
            }
            out.append(PolicyStore.Source(name: "\(named).\(index + 1)", type: "none", document: document))
        }
        return out
    }

    public func simulateCustomPolicy(
        _ request: IAM.SimulateCustomPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.SimulateCustomPolicyResponse {
        var simulation = Simulation(accountID: op.accountID)
        simulation.sources = try Self.sources(request.policyInputList, named: "PolicyInputList")
        simulation.boundary = try Self.sources(
            request.permissionsBoundaryPolicyInputList, named: "PermissionsBoundaryPolicyInputList"
        ).first?.document
        simulation.principal = Self.principal(request.callerArn)
        let results = try Self.results(
            simulation, actions: request.actionNames, resources: request.resourceArns, resourcePolicy: request.resourcePolicy,
            resourceOwner: request.resourceOwner, entries: request.contextEntries)
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, Self.numbered(results), by: \.order)
        return IAM.SimulateCustomPolicyResponse(
            evaluationResults: page.items.map(\.result), isTruncated: page.isTruncated, marker: page.marker)
    }

    public func simulatePrincipalPolicy(
        _ request: IAM.SimulatePrincipalPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.SimulatePrincipalPolicyResponse {
        let entity = try await entity(request.policySourceArn, op)
        var simulation = Simulation(accountID: op.accountID)
        let (own, boundary) = try await read { t in
            let boundary = try EntityStore.boundary(t, entity)
            let bound = try boundary.map { arn throws(CloudError) in
                let policy = try PolicyStore.fetch(t, arn, account: op.accountID)
                return try PolicyDocument(
                    parsing: try PolicyStore.version(t, policy, policy.defaultVersion).document, maxBytes: 131_072)
            }
            return (try PolicyStore.sources(t, entityID: entity.id), bound)
        }
        simulation.sources = own + (try Self.sources(request.policyInputList, named: "PolicyInputList"))
        simulation.boundary =
            try Self.sources(request.permissionsBoundaryPolicyInputList, named: "PermissionsBoundaryPolicyInputList").first?.document
            ?? boundary
        simulation.principal = Self.principal(request.callerArn) ?? PolicyPrincipal(accountID: op.accountID, arn: entity.arn)
        if entity.kind == .user {
            simulation.context["aws:username"] = [entity.name]
            simulation.context["aws:userid"] = [entity.id]
        }
        simulation.context["aws:PrincipalArn"] = [entity.arn]
        simulation.context["aws:PrincipalAccount"] = [op.accountID]
        let results = try Self.results(
            simulation, actions: request.actionNames, resources: request.resourceArns, resourcePolicy: request.resourcePolicy,
            resourceOwner: request.resourceOwner, entries: request.contextEntries)
        let page = try page(
            request, op, marker: request.marker, maxItems: request.maxItems, Self.numbered(results), by: \.order)
        return IAM.SimulatePrincipalPolicyResponse(
            evaluationResults: page.items.map(\.result), isTruncated: page.isTruncated, marker: page.marker)
    }

    public func getContextKeysForCustomPolicy(
        _ request: IAM.GetContextKeysForCustomPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetContextKeysForCustomPolicyResponse {
        let documents = try Self.sources(request.policyInputList, named: "PolicyInputList").map(\.document)
        return IAM.GetContextKeysForCustomPolicyResponse(contextKeyNames: Self.keys(documents))
    }

    public func getContextKeysForPrincipalPolicy(
        _ request: IAM.GetContextKeysForPrincipalPolicy, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetContextKeysForPrincipalPolicyResponse {
        let entity = try await entity(request.policySourceArn, op)
        let own = try await read { t in try PolicyStore.sources(t, entityID: entity.id) }
        let more = try Self.sources(request.policyInputList, named: "PolicyInputList")
        return IAM.GetContextKeysForPrincipalPolicyResponse(contextKeyNames: Self.keys((own + more).map(\.document)))
    }

    // MARK: the parts

    private static func keys(_ documents: [PolicyDocument]) -> [String] {
        var out: [String] = []
        for key in documents.flatMap(\.contextKeys) where !out.contains(where: { $0.lowercased() == key.lowercased() }) { out.append(key) }
        return out
    }

    /// A user, group or role by its ARN.
    private func entity(_ arn: String, _ op: OperationContext) async throws(CloudError) -> Entity {
        let parts = arn.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        guard parts.count == 6, parts[2] == "iam", let slash = parts[5].firstIndex(of: "/"),
            let kind = EntityKind(rawValue: String(parts[5][..<slash])), kind != .instanceProfile,
            let name = parts[5].split(separator: "/").last
        else { throw IdentityError.input("Invalid Entity Arn: \(arn.prefix(200)) does not clearly define entity type and name.") }
        let found = try await read { t in try EntityStore.fetch(t, kind, String(name), account: op.accountID) }
        guard found.arn == arn else { throw IdentityError.missing(kind.words, String(arn.prefix(200))) }
        return found
    }

    private static func principal(_ arn: String?) -> PolicyPrincipal? {
        guard let arn else { return nil }
        let parts = arn.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        return PolicyPrincipal(accountID: parts.count == 6 ? String(parts[4]) : "", arn: arn)
    }

    private static func numbered(_ results: [IAM.EvaluationResult]) -> [(order: String, result: IAM.EvaluationResult)] {
        results.enumerated().map { index, result in
            let digits = String(index)
            return (String(repeating: "0", count: max(0, 8 - digits.count)) + digits, result)
        }
    }

    private static func results(
        _ simulation: Simulation, actions: [String], resources: [String], resourcePolicy: String?, resourceOwner: String?,
        entries: [IAM.ContextEntry]
    ) throws(CloudError) -> [IAM.EvaluationResult] {
        var context = simulation.context
        for entry in entries { if let name = entry.contextKeyName { context[name] = entry.contextKeyValues } }
        let theirs: PolicyDocument?
        if let resourcePolicy {
            do throws(CloudError) { theirs = try PolicyDocument(parsing: resourcePolicy, for: .resource) } catch {
                throw IdentityError.input("ResourcePolicy is not valid: \(error.message)")
            }
        } else {
            theirs = nil
        }
        let owner = resourceOwner.map { Self.principal($0)?.accountID ?? $0 } ?? simulation.accountID
        let stack = PolicyStack(identity: simulation.sources.map(\.document), boundary: simulation.boundary)
        let missing = Self.keys(stack.identity + (theirs.map { [$0] } ?? [])).filter { context[$0].isEmpty }
        var out: [IAM.EvaluationResult] = []
        for action in actions {
            guard action.contains(":") else { throw IdentityError.input("Invalid Action Name: \(action.prefix(100))") }
            for resource in resources.isEmpty ? ["*"] : resources {
                let question = PolicyRequest(principal: simulation.principal, action: action, resource: resource, context: context)
                let decision = PolicyEvaluator.evaluate(
                    question, stack, resourcePolicy: theirs,
                    isOwnAccount: theirs == nil || simulation.principal == nil || simulation.principal?.accountID == owner)
                let effect: PolicyDocument.Effect = decision == .explicitlyDenied ? .deny : .allow
                var matched: [IAM.Statement] = []
                for source in simulation.sources
                    + (theirs.map { [PolicyStore.Source(name: "ResourcePolicy", type: "resource", document: $0)] } ?? [])
                where PolicyEvaluator.matches(question, source.document).contains(where: { $0.effect == effect }) {
                    matched.append(IAM.Statement(sourcePolicyId: source.name, sourcePolicyType: source.type))
                }
                var result = IAM.EvaluationResult(
                    evalActionName: action, evalResourceName: resource, evalDecision: words(decision), matchedStatements: matched,
                    missingContextValues: missing)
                if let boundary = simulation.boundary {
                    result.permissionsBoundaryDecisionDetail = IAM.PermissionsBoundaryDecisionDetail(
                        allowedByPermissionsBoundary: PolicyEvaluator.evaluate(question, [boundary]) == .allowed)
                }
                out.append(result)
            }
        }
        return out
    }

    private static func words(_ decision: PolicyDecision) -> String {
        switch decision {
        case .allowed: "allowed"
        case .explicitlyDenied: "explicitDeny"
        case .notMentioned: "implicitDeny"
        }
    }
}
