import API
import Database
import Domain
import Signing
import Workflow

/// Composes what a node needs to run an instance: image sources with presigned addresses and the image key wrapped for that very node,
/// metadata, volumes. Made anew at each sending, so that addresses never expire in a queue and a node that moved its key is served.
struct InstanceOrders: Sendable {
    let cloud: CloudServices

    /// How long a node may take from the order to the last byte of an image. Too low: a slow first download fails; too high: a leaked
    /// order can be used for longer.
    static let addressSeconds = 6 * 3600

    /// - Parameter certificate: PEM of the node, from its report.
    /// - Throws: `.unavailable` while the node's certificate is not known; `.notFound` when the image has gone.
    func order(for row: InstanceRow, certificate: String?) async throws(CloudError) -> NC.InstanceOrder {
        struct Parts: Sendable {
            let machine: LaunchImage
            let kernel, ramdisk: LaunchImage?
            let groups: [InstanceStore.GroupName]
            let tags: [NC.KeyValue]
            let volumes: [(AttachmentRow, VolumeRow)]
            let storage: String?
        }
        let parts = try await cloud.pool.read { tx in
            Parts(
                machine: try ImageStore.imageForOrder(tx, id: row.imageID),
                kernel: try row.kernelID.map { try ImageStore.imageForOrder(tx, id: $0) },
                ramdisk: try row.ramdiskID.map { try ImageStore.imageForOrder(tx, id: $0) },
                groups: try InstanceStore.groups(tx, ids: [row.id])[row.id] ?? [],
                tags: (try TagStore.tags(tx, [row.id])[row.id] ?? []).map { NC.KeyValue(key: $0.key, value: $0.value) },
                volumes: try VolumeStore.attachments(tx, instanceIDs: [row.id]).filter { $0.desired == .attached }.compactMap { a in
                    try VolumeStore.find(tx, a.volumeID).map { (a, $0) }
                },
                storage: try ComponentStore.all(tx).first { $0.role == .sc && $0.zone == row.zone }?.endpoint)
        }
        guard let certificate, !certificate.isEmpty else {
            throw CloudError(.unavailable("The node"), context: "node \(row.node) has not reported its certificate")
        }
        let node = try Certificate(pem: certificate)
        let volumes = parts.volumes.compactMap { attachment, volume in
            parts.storage.map {
                NC.VolumeOrder(
                    volumeId: volume.id, attachmentId: attachment.id, device: attachment.device.text, storage: $0, sizeGiB: volume.sizeGiB)
            }
        }
        return NC.InstanceOrder(
            instanceId: row.id, accountId: row.accountID, reservationId: row.reservationID, cores: row.cores, memoryMiB: row.memoryMiB,
            diskGiB: row.diskGiB, machine: try source(parts.machine, node),
            kernel: try parts.kernel.map { i throws(CloudError) in try source(i, node) },
            ramdisk: try parts.ramdisk.map { i throws(CloudError) in try source(i, node) }, macAddress: row.macAddress,
            privateAddress: row.privateAddress,
            metadata: NC.InstanceMetadata(
                imageId: row.imageID, launchIndex: row.launchIndex, manifestPath: parts.machine.location, instanceType: row.instanceType,
                kernelId: row.kernelID, ramdiskId: row.ramdiskID, localHostname: hostname(of: row.privateAddress), zone: row.zone,
                region: cloud.settings.region, keyName: row.keyName, publicKey: row.publicKey, groupNames: parts.groups.map(\.name),
                groupIds: parts.groups.map(\.id), userData: row.userData, launchTime: row.launchedAt, tokensRequired: row.tokensRequired,
                hopLimit: row.hopLimit, enabled: row.metadataEnabled, tags: parts.tags),
            volumes: volumes, rebootCount: row.rebootCount)
    }

    /// One image with addresses that work without credentials and a key that only this node can unwrap.
    func source(_ image: LaunchImage, _ node: Certificate) throws(CloudError) -> NC.ImageSource {
        let now = cloud.clock.now()
        let parts = image.parts.map { part in
            NC.ImagePart(
                url: cloud.keys.presign(
                    "GET", bucket: image.bucket, key: part.key, expires: Self.addressSeconds, settings: cloud.settings, now: now),
                size: part.size, digest: part.digest)
        }
        var key: String?
        var iv: String?
        if let wrappedKey = image.encryptedKey, let wrappedIV = image.encryptedIV {
            key = try rewrap(wrappedKey, node, image.id)
            iv = try rewrap(wrappedIV, node, image.id)
        }
        return NC.ImageSource(
            imageId: image.id, role: image.role.rawValue, format: image.format.rawValue, cacheKey: image.cacheKey, digest: image.digest,
            size: image.size, virtualSize: image.virtualSize, bundledSize: image.bundledSize, encryptedKey: key, encryptedIv: iv,
            parts: parts)
    }

    private func rewrap(_ wrapped: String, _ node: Certificate, _ image: String) throws(CloudError) -> String {
        guard let bytes = Hex.decode(wrapped) else { throw .bug("\(image): its wrapped key is not hexadecimal") }
        return Hex.encode(try node.wrap(try cloud.keys.imageKey.unwrap(bytes)))
    }
}

/// The name of an instance inside the cloud: `ip-10-1-0-7`. Source: EC2 User Guide, "Private DNS hostnames".
func hostname(of privateAddress: String) -> String { "ip-" + privateAddress.split(separator: ".").joined(separator: "-") }
