public import API
import Database
public import Domain
import Workflow

extension EC2Actions: EC2ImageProtectionActions {
    /// Images of instances are made by BundleInstance: what EC2's CreateImage makes a snapshot of, a root volume, no instance has here.
    public func createImage(_ request: EC2.CreateImage, _ op: OperationContext) async throws(CloudError) -> EC2.CreateImageResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        try ImageRules.checkName(request.name)
        guard (request.description ?? "").unicodeScalars.count <= 255 else {
            throw CloudError(.invalidParameter("Description"), "A description has at most 255 characters")
        }
        _ = try await cloud.pool.read { tx in try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now) }
        throw VpcRules.unsupported(
            "The instance '\(id)' has its root device in the instance store, of which CreateImage cannot make an image: use BundleInstance."
        )
    }

    public func enableImageDeprecation(
        _ request: EC2.EnableImageDeprecation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.EnableImageDeprecationResponse {
        guard request.deprecateAt > op.now else {
            throw CloudError(.invalidParameter("DeprecateAt"), "The deprecation date must be in the future")
        }
        try await protect(request.imageId, request.dryRun, "EnableImageDeprecation", op) { tx, image in
            // To the minute, as EC2 keeps it.
            let at = Timestamp(milliseconds: (request.deprecateAt.milliseconds + 59_999) / 60_000 * 60_000)
            try ImageProtectionStore.setDeprecation(tx, id: image.id, at)
        }
        return EC2.EnableImageDeprecationResponse(result: true)
    }

    public func disableImageDeprecation(
        _ request: EC2.DisableImageDeprecation, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisableImageDeprecationResponse {
        try await protect(request.imageId, request.dryRun, "DisableImageDeprecation", op) { tx, image in
            try ImageProtectionStore.setDeprecation(tx, id: image.id, nil)
        }
        return EC2.DisableImageDeprecationResponse(result: true)
    }

    public func enableImageDeregistrationProtection(
        _ request: EC2.EnableImageDeregistrationProtection, _ op: OperationContext
    ) async throws(CloudError) -> EC2.EnableImageDeregistrationProtectionResponse {
        try await protect(request.imageId, request.dryRun, "EnableImageDeregistrationProtection", op) { tx, image in
            try ImageProtectionStore.setProtected(tx, id: image.id, true)
        }
        return EC2.EnableImageDeregistrationProtectionResponse(result: "true")
    }

    public func disableImageDeregistrationProtection(
        _ request: EC2.DisableImageDeregistrationProtection, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DisableImageDeregistrationProtectionResponse {
        try await protect(request.imageId, request.dryRun, "DisableImageDeregistrationProtection", op) { tx, image in
            try ImageProtectionStore.setProtected(tx, id: image.id, false)
        }
        return EC2.DisableImageDeregistrationProtectionResponse(result: "true")
    }

    private func protect(
        _ id: String, _ dryRun: Bool?, _ action: String, _ op: OperationContext,
        _ body: @escaping @Sendable (Transaction, StoredImage) throws -> Void
    ) async throws(CloudError) {
        try await cloud.pool.transaction { tx in
            let image = try ImageStore.fetchOwned(tx, id: id, accountID: op.accountID)
            try body(tx, image)
            try op.endDryRun(dryRun)
            try AuditStore.record(tx, op, action: action, resource: image.id)
        }
    }
}
