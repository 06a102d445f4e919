public import API
import Database
public import Domain
import Signing
import Workflow

extension EC2Actions: EC2InstanceAttributesActions {
    public func describeInstanceAttribute(
        _ request: EC2.DescribeInstanceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceAttributeResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        try op.endDryRun(request.dryRun)
        let (row, shown) = try await cloud.pool.read { tx in
            let row = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            return (row, try InstanceView(tx, [row], op).instance(row))
        }
        var answer = EC2.DescribeInstanceAttributeResponse(instanceId: id)
        func flag(_ value: Bool) -> EC2.AttributeBooleanValue { EC2.AttributeBooleanValue(value: value) }
        switch request.attribute {
        case "instanceType": answer.instanceType = EC2.AttributeValue(value: row.instanceType)
        case "kernel": answer.kernelId = EC2.AttributeValue(value: row.kernelID)
        case "ramdisk": answer.ramdiskId = EC2.AttributeValue(value: row.ramdiskID)
        case "userData": answer.userData = EC2.AttributeValue(value: row.userData.isEmpty ? nil : Base64.encode(row.userData))
        case "disableApiTermination": answer.disableApiTermination = flag(row.terminationProtected)
        case "disableApiStop": answer.disableApiStop = flag(row.stopProtected)
        case "instanceInitiatedShutdownBehavior":
            answer.instanceInitiatedShutdownBehavior = EC2.AttributeValue(value: row.shutdownBehaviour.rawValue)
        case "rootDeviceName": answer.rootDeviceName = EC2.AttributeValue(value: shown.rootDeviceName)
        case "blockDeviceMapping": answer.blockDeviceMappings = shown.blockDeviceMappings
        case "sourceDestCheck": answer.sourceDestCheck = flag(true)
        case "groupSet": answer.groups = shown.securityGroups
        case "ebsOptimized": answer.ebsOptimized = flag(false)
        case "enaSupport": answer.enaSupport = flag(false)
        case "enclaveOptions": answer.enclaveOptions = EC2.EnclaveOptions(enabled: false)
        case "sriovNetSupport": answer.sriovNetSupport = EC2.AttributeValue()
        default: break
        }
        return answer
    }

    public func modifyInstanceAttribute(
        _ request: EC2.ModifyInstanceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstanceAttributeResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        let change = try InstanceAttributeChange(request)
        let settings = cloud.settings
        try await cloud.pool.transaction { tx in
            let row = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            guard row.finishedAt == nil, row.desired != .terminated else {
                throw CloudError(.incorrectState(.instance, id: id, state: row.state.rawValue))
            }
            if change.needsStop, row.desired != .stopped || row.state != .stopped { throw InstanceAttributeRules.mustBeStopped(row) }
            switch change {
            case .type(let name):
                let type = try InstanceTypeStore.fetch(tx, name: name)
                let cores = try InstanceStore.usage(tx, accountID: op.accountID).cores - row.cores + type.cores
                guard cores <= settings.quotas.cores else {
                    throw CloudError(.limitExceeded(.cores, asked: cores, limit: settings.quotas.cores))
                }
                try InstanceAttributeStore.setType(tx, id: id, type)
            case .kernel(let image):
                try InstanceAttributeStore.setKernel(tx, id: id, try Self.image(tx, image, .kernel, "Kernel", op))
            case .ramdisk(let image):
                guard row.kernelID != nil else { throw CloudError(.invalidCombination("A ramdisk needs a kernel")) }
                try InstanceAttributeStore.setRamdisk(tx, id: id, try Self.image(tx, image, .ramdisk, "Ramdisk", op))
            case .userData(let bytes): try InstanceAttributeStore.setUserData(tx, id: id, bytes)
            case .terminationProtected(let on): try InstanceAttributeStore.setTerminationProtected(tx, id: id, on)
            case .stopProtected(let on): try InstanceAttributeStore.setStopProtected(tx, id: id, on)
            case .shutdownBehaviour(let behaviour): try InstanceAttributeStore.setShutdownBehaviour(tx, id: id, behaviour)
            case .groups(let ids): _ = try Self.setGroups(tx, instanceID: id, ids: ids, op)
            case .deleteOnTermination(let devices):
                let attachments = try VolumeStore.attachments(tx, instanceIDs: [id])
                for (device, on) in devices.sorted(by: { $0.key < $1.key }) {
                    guard let attachment = attachments.first(where: { $0.device.text == device && $0.desired == .attached }) else {
                        throw CloudError(
                            .invalidParameter("blockDeviceMapping"), "No volume is attached at the device \(device.prefix(40))")
                    }
                    try InstanceAttributeStore.setDeleteOnTermination(tx, attachmentID: attachment.id, on)
                }
            case .nothing: break
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ModifyInstanceAttribute", resource: id, detail: change.words)
        }
        return EC2.ModifyInstanceAttributeResponse(result: true)
    }

    public func resetInstanceAttribute(
        _ request: EC2.ResetInstanceAttribute, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ResetInstanceAttributeResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        try await cloud.pool.transaction { tx in
            let row = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            if request.attribute != "sourceDestCheck" {
                guard row.desired == .stopped, row.state == .stopped else { throw InstanceAttributeRules.mustBeStopped(row) }
                let image = try ImageStore.imageForOrder(tx, id: row.imageID)
                if request.attribute == "kernel" {
                    try InstanceAttributeStore.setKernel(tx, id: id, image.kernelID)
                } else {
                    try InstanceAttributeStore.setRamdisk(tx, id: id, image.ramdiskID)
                }
            }
            try op.endDryRun(request.dryRun)
            try AuditStore.record(tx, op, action: "ResetInstanceAttribute", resource: id, detail: request.attribute)
        }
        return EC2.ResetInstanceAttributeResponse(result: true)
    }

    public func modifyInstanceMetadataOptions(
        _ request: EC2.ModifyInstanceMetadataOptions, _ op: OperationContext
    ) async throws(CloudError) -> EC2.ModifyInstanceMetadataOptionsResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        if request.httpProtocolIpv6 == "enabled" { throw InstanceAttributeChange.notHere("The metadata service over IPv6") }
        if request.instanceMetadataTags == "disabled" {
            throw InstanceAttributeChange.notHere("Hiding an instance's tags from its metadata")
        }
        let shown = try await cloud.pool.transaction { tx in
            let row = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            guard row.finishedAt == nil, row.desired != .terminated else {
                throw CloudError(.incorrectState(.instance, id: id, state: row.state.rawValue))
            }
            let tokens = request.httpTokens.map { $0 == "required" } ?? row.tokensRequired
            let enabled = request.httpEndpoint.map { $0 == "enabled" } ?? row.metadataEnabled
            try InstanceAttributeStore.setMetadata(
                tx, id: id, tokensRequired: tokens, hopLimit: request.httpPutResponseHopLimit ?? row.hopLimit, enabled: enabled)
            try op.endDryRun(request.dryRun)
            try AuditStore.record(
                tx, op, action: "ModifyInstanceMetadataOptions", resource: id, detail: "tokens \(tokens) endpoint \(enabled)")
            let row2 = try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now)
            return try InstanceView(tx, [row2], op).instance(row2).metadataOptions
        }
        return EC2.ModifyInstanceMetadataOptionsResponse(instanceId: id, instanceMetadataOptions: shown)
    }

    public func getPasswordData(
        _ request: EC2.GetPasswordData, _ op: OperationContext
    ) async throws(CloudError) -> EC2.GetPasswordDataResponse {
        let console = try await getConsoleOutput(EC2.GetConsoleOutput(instanceId: request.instanceId, dryRun: request.dryRun), op)
        return EC2.GetPasswordDataResponse(
            instanceId: console.instanceId, timestamp: console.timestamp,
            passwordData: InstanceAttributeRules.password(onConsole: console.output ?? []))
    }

    /// - Throws: `.notFound(.image)`; `.invalidParameter` for an image of another kind.
    private static func image(
        _ tx: Transaction, _ id: String, _ role: ImageContent.Role, _ parameter: String, _ op: OperationContext
    ) throws(CloudError) -> String {
        let image = try ImageStore.launchImage(tx, id: id, accountID: op.accountID)
        guard image.role == role else { throw CloudError(.invalidParameter(parameter), "\(id) is no \(role.rawValue)") }
        return image.id
    }
}

extension InstanceAttributeChange {
    /// For the audit: never what user data holds.
    var words: String {
        switch self {
        case .type(let name): "instanceType \(name)"
        case .kernel(let id): "kernel \(id)"
        case .ramdisk(let id): "ramdisk \(id)"
        case .userData(let bytes): "userData \(bytes.count) bytes"
        case .terminationProtected(let on): "disableApiTermination \(on)"
        case .stopProtected(let on): "disableApiStop \(on)"
        case .shutdownBehaviour(let behaviour): "instanceInitiatedShutdownBehavior \(behaviour.rawValue)"
        case .groups(let ids): "groupSet \(ids.joined(separator: " "))"
        case .deleteOnTermination(let devices): "deleteOnTermination of \(devices.keys.sorted().joined(separator: " "))"
        case .nothing: "unchanged"
        }
    }
}
