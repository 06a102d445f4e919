public import API
import Database
public import Domain
import Identity
import Workflow

extension EC2Actions: EC2BundlesActions {
    /// The instance keeps running; its node holds it still while the disk is read. UploadPolicy and its signature are taken and not
    /// needed: the parts are written with the caller's own access key.
    public func bundleInstance(_ request: EC2.BundleInstance, _ op: OperationContext) async throws(CloudError) -> EC2.BundleInstanceResponse
    {
        let instanceID = try InstanceID(parsing: request.instanceId).text
        guard let s3 = request.storage.s3 else { throw CloudError(.missingParameter("Storage.S3.Bucket")) }
        guard let bucket = s3.bucket, !bucket.isEmpty else { throw CloudError(.missingParameter("Storage.S3.Bucket")) }
        guard let prefix = s3.prefix, !prefix.isEmpty else { throw CloudError(.missingParameter("Storage.S3.Prefix")) }
        let location = try ImageLocation(parsing: "\(bucket)/\(prefix)", parameter: "Storage.S3")
        let key = s3.awsAccessKeyId.flatMap { $0.isEmpty ? nil : $0 } ?? op.caller.accessKeyID ?? ""
        if !key.isEmpty {
            guard let owner = try await cloud.identity.credential(accessKeyID: key), owner.caller.principal.accountID == op.accountID else {
                throw CloudError(
                    .invalidParameter("Storage.S3.AWSAccessKeyId"), "The access key '\(key.prefix(40))' is not one of your account.")
            }
        }
        let id = BundleTaskID(random: cloud.random.bytes(9)).text
        let task = try await cloud.pool.transaction { tx in
            let instance = try InstanceStore.fetch(tx, id: instanceID, accountID: op.accountID, now: op.now)
            guard instance.state == .running || instance.state == .stopped else {
                throw CloudError(
                    .named(code: "IncorrectState", status: 400),
                    "The instance '\(instanceID)' is '\(instance.state.rawValue)', not running or stopped.")
            }
            if let other = try BundleTaskStore.openTask(tx, instanceID: instanceID) {
                throw CloudError(
                    .named(code: "BundlingInProgress", status: 400), "The instance '\(instanceID)' is being bundled already (\(other.id)).")
            }
            try op.endDryRun(request.dryRun)
            let task = BundleTask(
                id: id, accountID: op.accountID, instanceID: instanceID, bucket: location.bucket, prefix: location.key, accessKeyID: key,
                forShutdown: false, startedAt: op.now)
            try BundleTaskStore.insert(tx, task)
            try AuditStore.record(tx, op, action: "BundleInstance", resource: "\(id) \(instanceID)", detail: location.description)
            return task
        }
        return EC2.BundleInstanceResponse(bundleTask: task.wire)
    }

    public func describeBundleTasks(
        _ request: EC2.DescribeBundleTasks, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeBundleTasksResponse {
        for id in request.bundleIds { _ = try BundleTaskID(parsing: id) }
        let filters = try Filters(
            request.filters,
            known: [
                "bundle-id", "error-code", "error-message", "instance-id", "progress", "s3-bucket", "s3-prefix", "start-time", "state",
                "update-time",
            ])
        try op.endDryRun(request.dryRun)
        let tasks = try await cloud.pool.read { tx in
            try BundleTaskStore.list(tx, accountID: op.accountID, ids: request.bundleIds.isEmpty ? nil : request.bundleIds, now: op.now)
        }
        return EC2.DescribeBundleTasksResponse(bundleTasks: tasks.filter { task in filters.match { task.values($0) } }.map(\.wire))
    }

    public func cancelBundleTask(
        _ request: EC2.CancelBundleTask, _ op: OperationContext
    ) async throws(CloudError) -> EC2.CancelBundleTaskResponse {
        let id = try BundleTaskID(parsing: request.bundleId).text
        let task = try await cloud.pool.transaction { tx in
            let task = try BundleTaskStore.fetch(tx, id: id, accountID: op.accountID)
            guard !task.state.isOver else {
                throw CloudError(.incorrectState(.bundleTask, id: id, state: task.state.rawValue))
            }
            guard !task.forShutdown else {
                throw CloudError(
                    .incorrectState(.bundleTask, id: id, state: task.state.rawValue),
                    "The task saves the disk of an instance that is ending; it cannot be cancelled."
                )
            }
            try op.endDryRun(request.dryRun)
            try BundleTaskStore.cancel(tx, id: id, now: op.now)
            try AuditStore.record(tx, op, action: "CancelBundleTask", resource: id)
            return try BundleTaskStore.fetch(tx, id: id, accountID: op.accountID)
        }
        return EC2.CancelBundleTaskResponse(bundleTask: task.wire)
    }
}

extension BundleTask {
    var wire: EC2.BundleTask {
        EC2.BundleTask(
            instanceId: instanceID, bundleId: id, state: state.rawValue, startTime: startedAt, updateTime: updatedAt,
            storage: EC2.Storage(s3: EC2.S3Storage(bucket: bucket, prefix: prefix)), progress: "\(progress)%",
            bundleTaskError: errorCode.isEmpty ? nil : EC2.BundleTaskError(code: errorCode, message: errorMessage))
    }

    func values(_ filter: String) -> [String] {
        switch filter {
        case "bundle-id": [id]
        case "error-code": errorCode.isEmpty ? [] : [errorCode]
        case "error-message": errorMessage.isEmpty ? [] : [errorMessage]
        case "instance-id": [instanceID]
        case "progress": ["\(progress)%"]
        case "s3-bucket": [bucket]
        case "s3-prefix": [prefix]
        case "start-time": [startedAt.iso8601]
        case "state": [state.rawValue]
        case "update-time": [updatedAt.iso8601]
        default: []
        }
    }
}
