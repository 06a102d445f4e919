public import API
import Database
public import Domain
import Identity

extension IAMActions: IAMOIDCProvidersActions {
    private func changing(
        _ arn: String, _ action: String, _ op: OperationContext, _ body: @escaping @Sendable (Transaction, OIDCProvider) throws -> Void
    ) async throws(CloudError) {
        try await change(op, action, arn) { t in try body(t, try OIDCStore.fetch(t, arn, account: op.accountID)) }
    }

    public func createOpenIDConnectProvider(
        _ request: IAM.CreateOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.CreateOpenIDConnectProviderResponse {
        try await change(op, "CreateOpenIDConnectProvider", request.url) { t in
            let provider = try OIDCStore.create(
                t, url: request.url, clients: request.clientIDList, thumbprints: request.thumbprintList, account: op.accountID, now: op.now)
            try EntityStore.tag(t, provider.arn, request.tags.tags)
            return IAM.CreateOpenIDConnectProviderResponse(openIDConnectProviderArn: provider.arn, tags: request.tags)
        }
    }

    public func getOpenIDConnectProvider(
        _ request: IAM.GetOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.GetOpenIDConnectProviderResponse {
        try await read { t in
            let provider = try OIDCStore.fetch(t, request.openIDConnectProviderArn, account: op.accountID)
            return IAM.GetOpenIDConnectProviderResponse(
                url: provider.url, clientIDList: provider.clients, thumbprintList: provider.thumbprints, createDate: provider.created,
                tags: try EntityStore.tags(t, provider.arn).map { IAM.Tag($0) })
        }
    }

    public func deleteOpenIDConnectProvider(
        _ request: IAM.DeleteOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.DeleteOpenIDConnectProviderResponse {
        try await changing(request.openIDConnectProviderArn, "DeleteOpenIDConnectProvider", op) { try OIDCStore.delete($0, $1) }
        return IAM.DeleteOpenIDConnectProviderResponse()
    }

    public func listOpenIDConnectProviders(
        _ request: IAM.ListOpenIDConnectProviders, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListOpenIDConnectProvidersResponse {
        let list = try await read { t in try OIDCStore.list(t, account: op.accountID) }
        return IAM.ListOpenIDConnectProvidersResponse(
            openIDConnectProviderList: list.map { IAM.OpenIDConnectProviderListEntry(arn: $0.arn) })
    }

    public func addClientIDToOpenIDConnectProvider(
        _ request: IAM.AddClientIDToOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.AddClientIDToOpenIDConnectProviderResponse {
        try await changing(request.openIDConnectProviderArn, "AddClientIDToOpenIDConnectProvider", op) { t, provider in
            guard !provider.clients.contains(request.clientID) else { return }
            try OIDCStore.update(t, provider, clients: provider.clients + [request.clientID])
        }
        return IAM.AddClientIDToOpenIDConnectProviderResponse()
    }

    public func removeClientIDFromOpenIDConnectProvider(
        _ request: IAM.RemoveClientIDFromOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.RemoveClientIDFromOpenIDConnectProviderResponse {
        try await changing(request.openIDConnectProviderArn, "RemoveClientIDFromOpenIDConnectProvider", op) { t, provider in
            try OIDCStore.update(t, provider, clients: provider.clients.filter { $0 != request.clientID })
        }
        return IAM.RemoveClientIDFromOpenIDConnectProviderResponse()
    }

    public func updateOpenIDConnectProviderThumbprint(
        _ request: IAM.UpdateOpenIDConnectProviderThumbprint, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UpdateOpenIDConnectProviderThumbprintResponse {
        try await changing(request.openIDConnectProviderArn, "UpdateOpenIDConnectProviderThumbprint", op) { t, provider in
            try OIDCStore.update(t, provider, thumbprints: request.thumbprintList)
        }
        return IAM.UpdateOpenIDConnectProviderThumbprintResponse()
    }

    public func tagOpenIDConnectProvider(
        _ request: IAM.TagOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.TagOpenIDConnectProviderResponse {
        try await changing(request.openIDConnectProviderArn, "TagOpenIDConnectProvider", op) { t, provider in
            try EntityStore.tag(t, provider.arn, request.tags.tags)
        }
        return IAM.TagOpenIDConnectProviderResponse()
    }

    public func untagOpenIDConnectProvider(
        _ request: IAM.UntagOpenIDConnectProvider, _ op: OperationContext
    ) async throws(CloudError) -> IAM.UntagOpenIDConnectProviderResponse {
        try await changing(request.openIDConnectProviderArn, "UntagOpenIDConnectProvider", op) { t, provider in
            try EntityStore.untag(t, provider.arn, request.tagKeys)
        }
        return IAM.UntagOpenIDConnectProviderResponse()
    }

    public func listOpenIDConnectProviderTags(
        _ request: IAM.ListOpenIDConnectProviderTags, _ op: OperationContext
    ) async throws(CloudError) -> IAM.ListOpenIDConnectProviderTagsResponse {
        let tags = try await read { t in
            try EntityStore.tags(t, try OIDCStore.fetch(t, request.openIDConnectProviderArn, account: op.accountID).arn)
        }
        let page = try page(request, op, marker: request.marker, maxItems: request.maxItems, tags, by: \.key)
        return IAM.ListOpenIDConnectProviderTagsResponse(
            tags: page.items.map { IAM.Tag($0) }, isTruncated: page.isTruncated, marker: page.marker)
    }
}
