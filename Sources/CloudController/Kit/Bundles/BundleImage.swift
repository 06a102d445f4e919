import API
import Daemon
import Database
import Domain
import Identity
import Workflow

/// With whose rights a bundle is written: those of the access key that asked for it, or that launched the instance.
enum BundleOwner {
    /// - Throws: `.forbidden` when the account has no active key to write with.
    static func key(_ c: BundleSaga.Context) async throws(CloudError) -> (id: String, secret: String) {
        let identity = c.cloud.identity
        if !c.task.accessKeyID.isEmpty, let known = try await identity.credential(accessKeyID: c.task.accessKeyID),
            known.caller.principal.accountID == c.task.accountID
        {
            return (c.task.accessKeyID, known.secret)
        }
        // Asked for with a certificate, or the key has gone since: any active key of the account's root.
        for key in try await identity.accessKeyList(account: c.task.accountID) where key.isActive {
            if let known = try await identity.credential(accessKeyID: key.id) { return (key.id, known.secret) }
        }
        throw CloudError(
            .forbidden(action: "s3:PutObject"),
            "The account \(c.task.accountID) has no active access key that the image could be written with")
    }

    static func store(_ c: BundleSaga.Context) async throws(CloudError) -> S3Client {
        let owner = try await key(c)
        return c.cloud.objects(accessKeyID: owner.id, secret: owner.secret)
    }

    /// The certificate that the owner can unwrap the image key with; `nil` when the account's root has registered none.
    static func certificate(_ c: BundleSaga.Context) async throws(CloudError) -> String? {
        try await c.cloud.identity.certificateList(account: c.task.accountID).first { $0.isActive }?.pem
    }
}

/// The manifest and the registration of an image that was made of an instance's disk.
enum BundleImage {
    /// Signed with the cloud's image key, which RegisterImage accepts beside the owner's certificates.
    static func manifest(_ c: BundleSaga.Context, _ report: NC.BundleReport, name: String) throws(CloudError) -> [UInt8] {
        guard report.encryptedKeys.count == 2, report.encryptedIvs.count == 2, let digest = report.digest, let size = report.size,
            let bundledSize = report.bundledSize
        else { throw .bug("\(c.task.id): the node's report of the bundle is not complete") }
        let parts = report.parts.sorted { ($0.index ?? 0) < ($1.index ?? 0) }
        let manifest = ImageManifest(
            architecture: c.instance.architecture, kernelID: c.instance.kernelID, ramdiskID: c.instance.ramdiskID, name: name,
            user: c.task.accountID, role: .machine, digest: digest, size: size, bundledSize: bundledSize,
            cloudKey: report.encryptedKeys[1], cloudIV: report.encryptedIvs[1], userKey: report.encryptedKeys[0],
            userIV: report.encryptedIvs[0],
            parts: parts.map { ImageManifest.Part(filename: $0.filename ?? "", digest: $0.digest ?? "") })
        do {
            return try manifest.write(bundler: (name: "karri", version: KarriVersion.text), signedBy: c.cloud.keys.imageKey)
        } catch {
            throw DaemonFailure.cloudError(error)
        }
    }

    /// The same inspection that RegisterImage makes, so that what is registered can be run.
    /// - Parameter random: makes the id, so that repeating registers the same image.
    static func register(_ c: BundleSaga.Context, random: [UInt8], location: String) async throws(CloudError) -> String {
        let now = c.cloud.clock.now()
        var order = ImageRegistrar.Order(location: try ImageLocation(parsing: location, parameter: "ImageLocation"))
        order.description = "Disk of \(c.instance.id)"
        order.architecture = c.instance.architecture
        order.kernelID = c.instance.kernelID
        order.ramdiskID = c.instance.ramdiskID
        order.sourceInstanceID = c.instance.id
        let registrar = ImageRegistrar(imageKey: c.cloud.keys.imageKey, objects: try await BundleOwner.store(c))
        let image = try await registrar.inspect(
            order, accountID: c.task.accountID, signers: [c.cloud.keys.imageCertificate], random: random, now: now)
        try await c.cloud.pool.transaction { tx in
            guard try ImageStore.find(tx, id: image.id) == nil else { return }
            try ImageStore.insert(tx, image)
        }
        return image.id
    }

    static func deregister(_ c: BundleSaga.Context, id: String) async throws(CloudError) {
        let now = c.cloud.clock.now()
        try await c.cloud.pool.transaction { tx in try ImageStore.deregister(tx, id: id, now: now) }
    }
}
