public import API
import Daemon
import Database
import Workflow
public import Domain

extension EC2Actions: EC2ImagesActions {
    public func registerImage(_ request: EC2.RegisterImage, _ op: OperationContext) async throws(CloudError) -> EC2.RegisterImageResponse {
        guard let text = request.imageLocation, !text.isEmpty else { throw CloudError(.missingParameter("ImageLocation")) }
        var order = ImageRegistrar.Order(location: try ImageLocation(parsing: text, parameter: "ImageLocation"), locationText: text)
        if let name = request.name { try ImageRules.checkName(name) }
        try ImageRules.checkKernel(request.kernelId, request.ramdiskId)
        guard request.ramdiskId == nil || request.kernelId != nil else { throw CloudError(.invalidCombination("A ramdisk needs a kernel")) }
        order.name = request.name
        order.description = request.description ?? ""
        order.architecture = request.architecture
        order.kernelID = request.kernelId
        order.ramdiskID = request.ramdiskId
        order.rootDeviceName = request.rootDeviceName
        order.virtualizationType = request.virtualizationType
        order.mappings = try ImageRules.mappings(request.blockDeviceMappings)
        let tags = try TagRules.onCreate(request.tagSpecifications, of: [.image])[.image] ?? []
        let registrar = ImageRegistrar(imageKey: cloud.keys.imageKey, objects: try await cloud.objects(of: op))
        let signers = try await cloud.signers(accountID: op.accountID)
        let image = try await registrar.inspect(
            order, accountID: op.accountID, signers: signers, random: cloud.random.bytes(9), now: op.now)
        try await cloud.pool.transaction { tx in
            for other in [image.kernelID, image.ramdiskID].compactMap({ $0 }) where other == request.kernelId || other == request.ramdiskId
            {
                _ = try ImageStore.launchImage(tx, id: other, accountID: op.accountID)
            }
            try ImageStore.insert(tx, image)
            try TagStore.insert(tx, accountID: op.accountID, resourceID: image.id, type: .image, tags)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "RegisterImage", resource: image.id, detail: image.location)
        }
        return EC2.RegisterImageResponse(imageId: image.id)
    }

    public func deregisterImage(_ request: EC2.DeregisterImage, _ op: OperationContext) async throws(CloudError)
        -> EC2.DeregisterImageResponse
    {
        try await cloud.pool.transaction { tx in
            let image = try ImageStore.fetchOwned(tx, id: request.imageId, accountID: op.accountID)
            guard !image.isDeregistrationProtected else {
                throw CloudError(
                    .named(code: "OperationNotPermitted", status: 400),
                    "The image '\(image.id)' is protected against deregistration: use DisableImageDeregistrationProtection first.")
            }
            try op.endDryRun(request.dryRun)
            try ImageStore.deregister(tx, id: image.id, now: op.now)
            try AuditStore.record(tx, op, action: "DeregisterImage", resource: image.id, detail: image.location)
        }
        return EC2.DeregisterImageResponse(result: true)
    }

    public func describeImages(_ request: EC2.DescribeImages, _ op: OperationContext) async throws(CloudError) -> EC2.DescribeImagesResponse
    {
        let filters = try Filters(request.filters, known: ImageRules.filters)
        for id in request.imageIds { try ImageRules.checkID(id) }
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let (all, tags) = try await cloud.pool.read { tx in
            let all = try ImageStore.list(tx, visibleTo: op.accountID)
            return (all, try TagStore.tags(tx, all.filter { $0.accountID == op.accountID }.map(\.id)))
        }
        if let id = request.imageIds.first(where: { id in !all.contains { $0.id == id } }) { throw CloudError(.notFound(.image, id: id)) }
        let owners = Set(request.owners.map { $0 == "self" ? op.accountID : $0 })
        let found = all.filter { image in
            (request.imageIds.isEmpty || request.imageIds.contains(image.id)) && (owners.isEmpty || owners.contains(image.accountID))
                && (image.accountID == op.accountID || request.includeDeprecated == true || request.imageIds.contains(image.id)
                    || image.deprecateAt.map { $0 > op.now } ?? true)
                && isExecutable(image, by: request.executableUsers, op)
                && filters.match(tags: (tags[image.id] ?? []).byKey) { ImageRules.values(image, $0) }
        }
        let page = paging.page(found) { $0.id }
        return EC2.DescribeImagesResponse(
            images: page.items.map { ImageRules.wire($0, tags: tags[$0.id] ?? []) }, nextToken: page.nextToken)
    }

    /// `self`: those that the caller was given by name; `all`: the public ones; an account: those of the caller that it was given.
    private func isExecutable(_ image: StoredImage, by users: [String], _ op: OperationContext) -> Bool {
        users.isEmpty
            || users.contains { user in
                user == ImageRules.everyone ? image.isPublic : image.launchPermissions.contains(user == "self" ? op.accountID : user)
            }
    }

    public func describeImageAttribute(
        _ request: EC2.DescribeImageAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeImageAttributeResponse {
        let chosen: [(String, EC2.EmptyElement?)] = [
            ("launchPermission", request.chooseLaunchPermission), ("productCodes", request.chooseProductCodes),
            ("kernel", request.chooseKernel),
            ("ramdisk", request.chooseRamdisk), ("blockDeviceMapping", request.chooseBlockDeviceMapping),
            ("description", request.chooseDescription),
        ]
        let attributes = chosen.filter { $0.1 != nil }.map(\.0) + [request.attribute].compactMap { $0 }
        guard let attribute = attributes.first else { throw CloudError(.missingParameter("Attribute")) }
        guard attributes.count == 1 else { throw CloudError(.invalidCombination("One attribute can be described at a time")) }
        try op.endDryRun(request.dryRun)
        let image = try await cloud.pool.read { tx in try ImageStore.fetchOwned(tx, id: request.imageId, accountID: op.accountID) }
        var reply = EC2.DescribeImageAttributeResponse(imageId: image.id)
        switch attribute {
        case "launchPermission":
            reply.launchPermissions = image.launchPermissions.sorted().map {
                $0 == ImageRules.everyone ? EC2.LaunchPermission(group: $0) : EC2.LaunchPermission(userId: $0)
            }
        case "productCodes": reply.productCodes = image.productCodes.map { EC2.ProductCode(productCodeId: $0) }
        case "kernel": reply.kernelId = EC2.AttributeValue(value: image.kernelID)
        case "ramdisk": reply.ramdiskId = EC2.AttributeValue(value: image.ramdiskID)
        case "blockDeviceMapping": reply.blockDeviceMappings = ImageRules.mappings(image)
        case "description": reply.description = EC2.AttributeValue(value: image.description)
        case "bootMode": reply.bootMode = EC2.AttributeValue()
        case "sriovNetSupport": reply.sriovNetSupport = EC2.AttributeValue()
        default: throw CloudError(.invalidParameter("Attribute"))
        }
        return reply
    }

    public func modifyImageAttribute(
        _ request: EC2.ModifyImageAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyImageAttributeResponse {
        let permissions = try ImageRules.permissionChanges(request)
        let description = request.description?.value ?? (request.attribute == "description" ? request.value : nil)
        if let description, description.unicodeScalars.count > 255 {
            throw CloudError(.invalidParameter("Description"), "A description has at most 255 characters")
        }
        guard permissions != nil || description != nil || !request.productCodes.isEmpty else {
            throw CloudError(
                .missingParameter("LaunchPermission"), "Nothing is to be changed: no launch permission, description or product code")
        }
        try await cloud.pool.transaction { tx in
            let image = try ImageStore.fetchOwned(tx, id: request.imageId, accountID: op.accountID)
            for account in permissions?.add ?? [] { try ImageStore.add(tx, id: image.id, .launch, account) }
            for account in permissions?.remove ?? [] { try ImageStore.remove(tx, id: image.id, .launch, account) }
            // Product codes cannot be taken away again. Source: EC2 API Reference, ModifyImageAttribute.
            for code in request.productCodes { try ImageStore.add(tx, id: image.id, .productCode, code) }
            if let description { try ImageStore.setDescription(tx, id: image.id, description) }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ModifyImageAttribute", resource: image.id)
        }
        return EC2.ModifyImageAttributeResponse(result: true)
    }

    public func resetImageAttribute(
        _ request: EC2.ResetImageAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ResetImageAttributeResponse {
        guard request.attribute != nil || request.chooseLaunchPermission != nil else { throw CloudError(.missingParameter("Attribute")) }
        try await cloud.pool.transaction { tx in
            let image = try ImageStore.fetchOwned(tx, id: request.imageId, accountID: op.accountID)
            try op.endDryRun(request.dryRun)
            try ImageStore.removeAll(tx, id: image.id, .launch)
            try AuditStore.record(tx, op, action: "ResetImageAttribute", resource: image.id, detail: "launchPermission")
        }
        return EC2.ResetImageAttributeResponse(result: true)
    }
}
