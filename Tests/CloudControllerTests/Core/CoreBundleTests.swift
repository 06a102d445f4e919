import API
import Domain
import Identity
import Signing
import Synchronization
import Testing

@testable import CloudControllerKit
@testable import Daemon

/// The object store in memory, which also takes objects.
final class CoreStore: HTTPRequesting {
    let memory = MemoryStore()
    private let puts = Mutex<[String]>([])
    var written: [String] { puts.withLock { $0 } }

    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        let path =
            request.url.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: true).last.map {
                String($0.split(separator: "?")[0])
            } ?? ""
        switch (request.method, request.body) {
        case ("PUT", .bytes(let bytes)):
            memory.put(path, bytes)
            puts.withLock { $0.append(path) }
        case ("DELETE", _): memory.remove(path)
        default: return try await memory.execute(request)
        }
        return HTTPClientResponse(
            status: request.method == "PUT" ? 200 : 204, headers: [("ETag", "\"0\"")], body: [], received: 0, peerCertificateDER: nil)
    }
}

@Suite struct CoreBundleTests {
    /// A bundle of two parts that a node would make, and uploads that arrive.
    private func prepare(_ cloud: CoreCloud) throws {
        let parts = [[UInt8](repeating: 1, count: 700), [UInt8](repeating: 2, count: 300)]
        let keys = try [cloud.signingCertificate, cloud.cloud.keys.imageCertificate].map {
            Hex.encode(try $0.wrap(Array("00112233445566778899aabbccddeeff".utf8)))
        }
        cloud.zone.state.withLock { s in
            s.bundle = NC.BundleReport(
                state: "ready", progress: 100, size: 1 << 20, bundledSize: 1000, digest: String(repeating: "d", count: 40),
                encryptedKeys: keys,
                encryptedIvs: keys,
                parts: parts.enumerated().map { i, bytes in
                    NC.PartReport(
                        index: i, filename: "web.part.\(i)", digest: Hex.encode(Digest.sha1(bytes)), size: bytes.count, uploaded: false)
                })
            s.upload = { url in
                let path = url.dropFirst("http://127.0.0.1:8778/".count).split(separator: "?")[0]
                cloud.store.memory.put(String(path), path.hasSuffix("0") ? parts[0] : parts[1])
            }
        }
    }

    private func images(_ cloud: CoreCloud) async throws -> [EC2.Image] {
        try await cloud.actions.describeImages(EC2.DescribeImages(), try await cloud.op).images.filter { $0.imageId != CoreCloud.image }
    }

    @Test func aSavedDiskIsAnImageBeforeTheInstanceGoes() async throws {
        let cloud = try await CoreCloud()
        try prepare(cloud)
        let tags = [EC2.TagSpecification(resourceType: "instance", tags: [EC2.Tag(key: ImageLocation.saveTag, value: "backup/daily/web")])]
        let id = try await cloud.run { $0.tagSpecifications = tags }[0]
        await cloud.round(2)
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(12)
        #expect(try await cloud.state(id) == "terminated")
        #expect(cloud.store.memory.object("backup/daily/web.part.1")?.count == 300)
        #expect(cloud.store.written == ["backup/daily/web.manifest.xml"])
        let image = try #require(try await images(cloud).first)
        #expect(image.imageLocation == "backup/daily/web.manifest.xml")
        #expect(image.sourceInstanceId == id)
        #expect(cloud.zone.count("EndBundle") == 1)
        let calls = cloud.zone.calls.filter {
            ["StopInstance", "BundleInstance", "UploadBundleParts", "EndBundle", "TerminateInstance"].contains($0)
        }
        #expect(calls == ["StopInstance", "BundleInstance", "UploadBundleParts", "EndBundle", "TerminateInstance"])
        let again = try await cloud.run { $0.imageId = image.imageId }[0]
        await cloud.round(2)
        #expect(try await cloud.state(again) == "running")
    }

    @Test func bundleInstanceOnRequestLeavesTheInstanceRunning() async throws {
        let cloud = try await CoreCloud()
        try prepare(cloud)
        let id = try await cloud.run()[0]
        await cloud.round(2)
        let request = EC2.BundleInstance(instanceId: id, storage: EC2.Storage(s3: EC2.S3Storage(bucket: "images", prefix: "web")))
        let task = try #require(try await cloud.actions.bundleInstance(request, try await cloud.op).bundleTask)
        #expect(task.state == "pending")
        #expect(await code { _ = try await cloud.actions.bundleInstance(request, try await cloud.op) } == "BundlingInProgress")
        await cloud.round(8)
        let done = try await cloud.actions.describeBundleTasks(
            EC2.DescribeBundleTasks(bundleIds: [task.bundleId ?? ""]), try await cloud.op)
        #expect(done.bundleTasks.map(\.state) == ["complete"])
        #expect(done.bundleTasks.map(\.progress) == ["100%"])
        #expect(try await cloud.state(id) == "running")
        #expect(try await images(cloud).count == 1)
    }

    @Test func aCancelledTaskIsUndone() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        await cloud.round(2)
        let request = EC2.BundleInstance(instanceId: id, storage: EC2.Storage(s3: EC2.S3Storage(bucket: "images", prefix: "web")))
        let task = try #require(try await cloud.actions.bundleInstance(request, try await cloud.op).bundleTask?.bundleId)
        await cloud.round(3)
        let cancelling = try await cloud.actions.cancelBundleTask(EC2.CancelBundleTask(bundleId: task), try await cloud.op)
        #expect(cancelling.bundleTask?.state == "cancelling")
        await cloud.round(3)
        let done = try await cloud.actions.describeBundleTasks(EC2.DescribeBundleTasks(bundleIds: [task]), try await cloud.op)
        #expect(done.bundleTasks.map(\.bundleTaskError?.code) == ["Client.Cancelled"])
        #expect(cloud.zone.count("EndBundle") == 1)
        #expect(try await cloud.state(id) == "running")
        #expect(await code { _ = try await cloud.actions.cancelBundleTask(EC2.CancelBundleTask(bundleId: task), try await cloud.op) } != "")
    }

    @Test func aDiskThatCannotBeSavedStaysWithItsInstance() async throws {
        let cloud = try await CoreCloud()
        try prepare(cloud)
        cloud.zone.state.withLock { $0.bundle?.state = "failed" }
        let tags = [EC2.TagSpecification(resourceType: "instance", tags: [EC2.Tag(key: ImageLocation.saveTag, value: "backup/web")])]
        let id = try await cloud.run { $0.tagSpecifications = tags }[0]
        await cloud.round(2)
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        // The store refuses every object: what was wrapped for another cloud cannot be registered.
        cloud.zone.state.withLock { $0.bundle?.encryptedKeys = ["00", "00"] }
        await cloud.round(12)
        let shown = try await cloud.describe(id)
        #expect(shown.state?.name == "stopped")
        #expect(shown.stateReason?.code == "Server.SaveOnShutdownFailed")
        #expect(cloud.zone.count("TerminateInstance") == 0)
        #expect(try await images(cloud).isEmpty)
        #expect(cloud.store.memory.object("backup/web.manifest.xml") == nil)
        // Without the tag the owner may throw it away.
        _ = try await cloud.actions.deleteTags(
            EC2.DeleteTags(resources: [id], tags: [EC2.Tag(key: ImageLocation.saveTag)]), try await cloud.op)
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(3)
        #expect(try await cloud.state(id) == "terminated")
    }

    @Test func thePaceOfUploads() {
        let pace = UploadPace()
        let now = Timestamp(seconds: 1000)
        var report = NC.BundleReport(state: "ready")
        #expect(pace.next(task: "t", report, missing: [0, 1], now: now) == .send)
        pace.sent(task: "t", [0, 1], now: now)
        report.state = "uploading"
        #expect(pace.next(task: "t", report, missing: [1], now: now.adding(seconds: 10)) == .wait)
        #expect(pace.next(task: "t", report, missing: [1], now: now.adding(seconds: 200)) == .send)
        report.state = "ready"
        report.error = "part 1: the object store answers 403"
        var last = UploadPace.Next.wait
        for i in 1...5 {
            last = pace.next(task: "t", report, missing: [1], now: now.adding(seconds: Int64(200 + 10 * i)))
            if last == .send { pace.sent(task: "t", [1], now: now.adding(seconds: Int64(200 + 10 * i))) }
        }
        #expect(last == .giveUp("part 1: the object store answers 403"))
    }
}
