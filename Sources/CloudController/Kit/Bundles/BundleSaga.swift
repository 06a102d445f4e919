import API
import Daemon
import Domain
import Signing
import Workflow

/// An instance's disk becomes a registered image: fixed steps across the node, the object store and our tables, which no row expresses.
/// Ids are made in the first step; each step can be repeated, each can be undone; a step that has to wait throws `.unavailable` and is
/// asked again by the reconciler.
///
/// The parts are written with presigned addresses of the *owner's* access key, so that the object store's own rules say whether the
/// owner may write into that bucket. The manifest is signed with the cloud's image key: RegisterImage accepts it beside the user's own.
enum BundleSaga {
    /// Addresses that are out at a time. Too low: round trips; too high: large messages, and addresses that lapse in a queue.
    static let batch = 50
    /// How long one address works. Too low: a slow upload fails in the middle; too high: a leaked order can overwrite a part for longer.
    static let addressSeconds = 3600

    struct Context: Sendable {
        let cloud: CloudServices
        let task: BundleTask
        let instance: InstanceRow
        let client: any CCClusterActions
        /// The node's report of this task, as seen in this round; `nil` when it does not know of it.
        let report: NC.BundleReport?
        let pace: UploadPace
    }

    static let saga = Saga<Context>(
        "bundle",
        [
            SagaStep("ids", perform: ids),
            SagaStep("bundle", perform: bundle, undo: end),
            SagaStep("upload", perform: upload, undo: removeParts),
            SagaStep("manifest", perform: manifest, undo: removeManifest),
            SagaStep("register", perform: register, undo: deregister),
            SagaStep(
                "end",
                perform: { context, facts throws(CloudError) in
                    try await end(context, facts)
                    return [:]
                }),
        ])

    private static func checkCancelled(_ c: Context) throws(CloudError) {
        if c.task.cancelled { throw CloudError(.named(code: "Client.Cancelled", status: 400), "User initiated cancellation") }
    }

    @Sendable private static func ids(_ c: Context, _ facts: SagaFacts) async throws(CloudError) -> SagaFacts {
        try checkCancelled(c)
        return [
            "image": Hex.encode(c.cloud.random.bytes(9)), "node": c.instance.node, "name": fileName(c.task.prefix) ?? c.instance.id,
        ]
    }

    /// The prefix's last component as far as it can be a file's name on any node; its parts and manifest are named by the same rule.
    static func fileName(_ prefix: String) -> String? {
        guard let last = prefix.split(separator: "/").last else { return nil }
        let name = last.utf8.map { c -> UInt8 in
            let isPlain =
                (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a) || [0x2d, 0x2e, 0x5f].contains(c)
            return isPlain ? c : 0x5f
        }
        var text = String(decoding: name.prefix(100), as: UTF8.self)[...]
        while text.hasPrefix(".") || text.hasPrefix("-") { text = text.dropFirst() }
        return text.isEmpty ? nil : String(text)
    }

    @Sendable private static func bundle(_ c: Context, _ facts: SagaFacts) async throws(CloudError) -> SagaFacts {
        try checkCancelled(c)
        var report = c.report
        if report == nil {
            let cloudCertificate = c.cloud.keys.imageCertificate.pem
            let user = try await BundleOwner.certificate(c) ?? cloudCertificate
            report = try await c.client.bundleInstance(
                CC.BundleInstance(
                    node: facts["node"] ?? c.instance.node, taskId: c.task.id, instanceId: c.instance.id,
                    imageName: facts["name"] ?? c.instance.id,
                    recipients: [user, cloudCertificate]), c.cloud.callContext()
            ).bundle
        }
        switch report?.state {
        case "ready", "uploading", "uploaded": return [:]
        case "failed": throw failure(report)
        default: throw CloudError(.unavailable("The bundle"), context: "bundling \(report?.progress ?? 0) %")
        }
    }

    private static func failure(_ report: NC.BundleReport?) -> CloudError {
        CloudError(
            .named(code: "Server.InternalError", status: 500), "The node could not bundle the disk: \(report?.error ?? "no reason given")")
    }

    static func key(_ c: Context, _ filename: String) -> String {
        let folder = c.task.prefix.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        return folder.isEmpty ? filename : folder + "/" + filename
    }
    static func manifestKey(_ c: Context) -> String { c.task.prefix + ".manifest.xml" }

    @Sendable private static func upload(_ c: Context, _ facts: SagaFacts) async throws(CloudError) -> SagaFacts {
        try checkCancelled(c)
        guard let report = c.report else { throw CloudError(.unavailable("The node"), context: "no report of the bundle") }
        if report.state == "failed" { throw failure(report) }
        let missing = report.parts.filter { $0.uploaded != true }
        if missing.isEmpty, !report.parts.isEmpty { return [:] }
        if report.parts.isEmpty { throw CloudError(.unavailable("The bundle"), context: "the node reports no parts yet") }
        let now = c.cloud.clock.now()
        switch c.pace.next(task: c.task.id, report, missing: missing.compactMap(\.index), now: now) {
        case .wait: throw CloudError(.unavailable("The upload"), context: "\(missing.count) parts are on their way")
        case .giveUp(let why):
            throw CloudError(.named(code: "Server.UploadFailed", status: 500), "The disk could not be stored in \(c.task.bucket): \(why)")
        case .send: break
        }
        let owner = try await BundleOwner.key(c)
        let parts = missing.prefix(batch).map { part in
            NC.PartUpload(
                index: part.index,
                url: CloudKeys.presign(
                    "PUT", bucket: c.task.bucket, key: key(c, part.filename ?? ""), accessKeyID: owner.id, secret: owner.secret,
                    expires: addressSeconds, settings: c.cloud.settings, now: now))
        }
        c.pace.sent(task: c.task.id, parts.compactMap(\.index), now: now)
        _ = try await c.client.uploadBundleParts(
            CC.UploadBundleParts(node: facts["node"] ?? c.instance.node, taskId: c.task.id, parts: parts), c.cloud.callContext())
        throw CloudError(.unavailable("The upload"), context: "\(missing.count) parts to go")
    }

    @Sendable private static func removeParts(_ c: Context, _ facts: SagaFacts) async throws(CloudError) {
        guard let report = c.report, let store = try? await BundleOwner.store(c) else { return }
        for part in report.parts {
            if let name = part.filename {
                try await quietly { () throws(CloudError) in try await store.delete(c.task.bucket, key(c, name)) }
            }
        }
    }

    /// Undoing must end: a bucket that has gone, or rights that were taken away, leave nothing that we could still remove.
    private static func quietly(_ body: () async throws(CloudError) -> Void) async throws(CloudError) {
        do throws(CloudError) {
            try await body()
        } catch {
            if case .unavailable = error.reason { throw error }
        }
    }

    @Sendable private static func manifest(_ c: Context, _ facts: SagaFacts) async throws(CloudError) -> SagaFacts {
        try checkCancelled(c)
        guard let report = c.report, report.state == "uploaded" || report.parts.allSatisfy({ $0.uploaded == true }) else {
            throw CloudError(.unavailable("The node"), context: "no report of the uploaded bundle")
        }
        let bytes = try BundleImage.manifest(c, report, name: facts["name"] ?? c.instance.id)
        let store = try await BundleOwner.store(c)
        _ = try await store.put(c.task.bucket, manifestKey(c), .bytes(bytes), contentType: "application/xml")
        return ["location": "\(c.task.bucket)/\(manifestKey(c))"]
    }

    @Sendable private static func removeManifest(_ c: Context, _ facts: SagaFacts) async throws(CloudError) {
        guard let store = try? await BundleOwner.store(c) else { return }
        try await quietly { () throws(CloudError) in try await store.delete(c.task.bucket, manifestKey(c)) }
    }

    @Sendable private static func register(_ c: Context, _ facts: SagaFacts) async throws(CloudError) -> SagaFacts {
        guard let random = facts["image"].flatMap({ Hex.decode($0) }), let location = facts["location"] else {
            throw .bug("the bundle saga has no image or location")
        }
        return ["imageId": try await BundleImage.register(c, random: random, location: location)]
    }

    @Sendable private static func deregister(_ c: Context, _ facts: SagaFacts) async throws(CloudError) {
        guard let random = facts["image"].flatMap({ Hex.decode($0) }) else { return }
        try await BundleImage.deregister(c, id: MachineImageID(random: random).text)
    }

    @Sendable private static func end(_ c: Context, _ facts: SagaFacts) async throws(CloudError) {
        try await quietly { () throws(CloudError) in
            _ = try await c.client.endBundle(
                CC.EndBundle(node: facts["node"] ?? c.instance.node, taskId: c.task.id), c.cloud.callContext())
        }
    }
}
