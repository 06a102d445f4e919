public import API
import Database
public import Domain

extension EC2Actions: EC2TagsActions {
    public func createTags(_ request: EC2.CreateTags, _ op: OperationContext) async throws(CloudError) -> EC2.CreateTagsResponse {
        let resources = try TagRules.resources(request.resources)
        guard !request.tags.isEmpty else { throw CloudError(.missingParameter("Tag")) }
        let tags = try TagRules.parse(request.tags)
        try await cloud.pool.transaction { tx in
            for (id, type) in resources {
                guard try TagStore.exists(tx, accountID: op.accountID, id: id, type: type) else { throw TagErrors.notFound(id, type) }
                for tag in tags { try TagStore.set(tx, accountID: op.accountID, resourceID: id, type: type, tag) }
                try TagRules.checkCount(try TagStore.count(tx, resourceID: id))
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "CreateTags", resource: resources.map(\.id).joined(separator: " "))
            // A tag may tell a reconciler what to do with an instance (`karri:save-on-shutdown`), and nodes show tags to guests.
            try tx.notify(NetworkStore.channel, "tags")
        }
        return EC2.CreateTagsResponse(result: true)
    }

    public func deleteTags(_ request: EC2.DeleteTags, _ op: OperationContext) async throws(CloudError) -> EC2.DeleteTagsResponse {
        let resources = try TagRules.resources(request.resources)
        for tag in request.tags where tag.key == nil { throw CloudError(.missingParameter("Tag.Key")) }
        try await cloud.pool.transaction { tx in
            for (id, type) in resources {
                // A tag can outlive what it was on for a moment only; deleting tags of things that are gone is no error in EC2.
                guard try TagStore.exists(tx, accountID: op.accountID, id: id, type: type) else { continue }
                if request.tags.isEmpty { try TagStore.deleteAll(tx, id) }
                for tag in request.tags { try TagStore.remove(tx, resourceID: id, key: tag.key ?? "", value: tag.value) }
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "DeleteTags", resource: resources.map(\.id).joined(separator: " "))
            try tx.notify(NetworkStore.channel, "tags")
        }
        return EC2.DeleteTagsResponse(result: true)
    }

    public func describeTags(_ request: EC2.DescribeTags, _ op: OperationContext) async throws(CloudError) -> EC2.DescribeTagsResponse {
        let filters = try Filters(request.filters, known: TagRules.filters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let all = try await cloud.pool.read { tx in try TagStore.list(tx, accountID: op.accountID) }
        let found = all.filter { stored in
            filters.match(tags: [stored.tag.key: stored.tag.value]) { name in
                switch name {
                case "key": [stored.tag.key]
                case "value": [stored.tag.value]
                case "resource-id": [stored.resourceID]
                case "resource-type": [stored.resourceType]
                default: []
                }
            }
        }
        let page = paging.page(found) { $0.sortKey }
        return EC2.DescribeTagsResponse(
            tags: page.items.map {
                EC2.TagDescription(resourceId: $0.resourceID, resourceType: $0.resourceType, key: $0.tag.key, value: $0.tag.value)
            }, nextToken: page.nextToken)
    }
}

enum TagErrors {
    static func notFound(_ id: String, _ type: TaggableType) -> CloudError {
        switch type {
        case .dhcpOptions: CloudError(.notFound(.dhcpOptions, id: id))
        case .elasticIP: CloudError(.notFound(.address, id: id))
        case .internetGateway: CloudError(.notFound(.internetGateway, id: id))
        case .launchTemplate: CloudError(.notFound(.launchTemplate, id: id))
        case .networkAcl: CloudError(.notFound(.networkAcl, id: id))
        case .networkInterface: CloudError(.notFound(.networkInterface, id: id))
        case .routeTable: CloudError(.notFound(.routeTable, id: id))
        case .subnet: CloudError(.notFound(.subnet, id: id))
        case .vpc: CloudError(.notFound(.vpc, id: id))
        case .image: CloudError(.notFound(.image, id: id))
        case .instance: CloudError(.notFound(.instance, id: id))
        case .keyPair: CloudError(.notFound(.keyPair, id: id))
        case .securityGroup: CloudError(.notFound(.securityGroup, id: id))
        case .securityGroupRule: SecurityGroupRules.unknownRule(id)
        case .snapshot: CloudError(.notFound(.snapshot, id: id))
        case .volume: CloudError(.notFound(.volume, id: id))
        }
    }
}
