import API
import Daemon
import Domain
import Logging
@testable import NodeControllerKit
import Signing
import Synchronization
import Testing
import Workflow

private final class HeldClock: Workflow.Clock {
    private let moment = Mutex(Timestamp(seconds: 1_800_000_000))
    func now() -> Timestamp { moment.withLock { $0 } }
    func monotonic() -> Int64 { 0 }
    func sleep(milliseconds: Int) async throws { try Task.checkCancellation() }
    func advance(seconds: Int64) { moment.withLock { $0 = $0.adding(seconds: seconds) } }
}

private final class Orders: MetadataSource {
    let orders: Mutex<[String: NC.InstanceOrder]>
    let served = Mutex<[String]>([])
    init(_ orders: [NC.InstanceOrder]) {
        self.orders = Mutex(Dictionary(orders.map { ($0.privateAddress, $0) }, uniquingKeysWith: { first, _ in first }))
    }
    func order(privateAddress: String) async -> NC.InstanceOrder? { orders.withLock { $0[privateAddress] } }
    func metadataServed(instanceID: String) async { served.withLock { $0.append(instanceID) } }
}

private func sampleOrder(_ change: (inout NC.InstanceMetadata) -> Void = { _ in }) -> NC.InstanceOrder {
    var metadata = NC.InstanceMetadata(
        imageId: "emi-00000001", launchIndex: 2, manifestPath: "images/root.manifest.xml", instanceType: "m1.small",
        kernelId: "eki-00000001",
        localHostname: "ip-10-1-0-11.internal", zone: "karri-1a", region: "karri-1", keyName: "my key", publicKey: "ssh-rsa AAAA my key",
        groupNames: ["default", "web"], groupIds: ["sg-0000000a", "sg-0000000b"], userData: Array("#!/bin/sh\n\u{0}".utf8),
        launchTime: Timestamp(seconds: 1_800_000_000), tags: [NC.KeyValue(key: "Name", value: "one"), NC.KeyValue(key: "a/b", value: "no")])
    change(&metadata)
    return NC.InstanceOrder(
        instanceId: "i-aaaaaaaa", accountId: "123456789012", reservationId: "r-00000001", cores: 1, memoryMiB: 128, diskGiB: 1,
        machine: NC.ImageSource(imageId: "emi-00000001"), macAddress: "02:00:0a:01:00:0b", privateAddress: "10.1.0.11", metadata: metadata,
        volumes: [NC.VolumeOrder(volumeId: "vol-00000001", attachmentId: "attach-00000001", device: "/dev/sdf", storage: "h:1")])
}

@Suite struct MetadataTests {
    private let clock = HeldClock()
    private static let secret = [UInt8](repeating: 7, count: 32)

    private func service(_ source: Orders, secret: [UInt8] = secret, signer: PrivateKey? = nil) -> MetadataService {
        MetadataService(
            source: source, publicAddress: { $0 == "10.1.0.11" ? "198.18.0.11" : nil }, secret: secret, signer: signer, clock: clock)
    }

    private func ask(
        _ service: MetadataService, _ path: String, _ method: String = "GET", headers: HTTPHeaderList = [], from: String = "10.1.0.11"
    ) async -> (status: Int, text: String, reply: HTTPReply) {
        let reply = await service.answer(HTTPRequest(id: "r", method: method, target: path, headers: headers, remoteAddress: from))
        var text = ""
        if case .bytes(let bytes) = reply.body { text = String(decoding: bytes, as: UTF8.self) }
        return (reply.status, text, reply)
    }

    @Test func theTreeAsEC2HasIt() async {
        let service = service(Orders([sampleOrder()]))
        let versions = await ask(service, "/").text.split(separator: "\n")
        #expect(versions.first == "1.0" && versions.contains("2009-04-04") && versions.suffix(2) == ["2021-03-23", "latest"])
        #expect(await ask(service, "/latest/").text == "dynamic\nmeta-data\nuser-data")
        let top = await ask(service, "/latest/meta-data/").text.split(separator: "\n")
        #expect(
            top == [
                "ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname", "instance-action", "instance-id",
                "instance-life-cycle", "instance-type", "kernel-id", "local-hostname", "local-ipv4", "mac", "network/", "placement/",
                "public-hostname", "public-ipv4", "public-keys/", "reservation-id", "security-groups", "services/", "tags/",
            ])
        let expected = [
            "ami-id": "emi-00000001", "ami-launch-index": "2", "ami-manifest-path": "images/root.manifest.xml",
            "block-device-mapping": "ami\nebs1\nroot", "block-device-mapping/ebs1": "sdf", "hostname": "ip-10-1-0-11.internal",
            "instance-id": "i-aaaaaaaa", "local-ipv4": "10.1.0.11", "public-ipv4": "198.18.0.11", "kernel-id": "eki-00000001",
            "public-keys/": "0=my key", "public-keys/0": "openssh-key", "public-keys/0/openssh-key": "ssh-rsa AAAA my key",
            "placement/availability-zone": "karri-1a", "placement/region": "karri-1", "security-groups": "default\nweb",
            "network/interfaces/macs/": "02:00:0a:01:00:0b/", "network/interfaces/macs/02:00:0a:01:00:0b/local-ipv4s": "10.1.0.11",
            "network/interfaces/macs/02%3A00%3a0a:01:00:0b/device-number": "0", "tags/instance": "Name", "tags/instance/Name": "one",
            "network/interfaces/macs/02:00:0a:01:00:0b/ipv4-associations/198.18.0.11": "10.1.0.11",
        ]
        for (path, text) in expected {
            let answer = await ask(service, "/2009-04-04/meta-data/\(path)")
            #expect(answer.status == 200 && answer.text == text, "\(path)")
        }
        #expect(await ask(service, "/latest/user-data").text == "#!/bin/sh\n\u{0}")
        for path in [
            "/nonsense", "/latest/nonsense", "/latest/meta-data/ramdisk-id", "/latest/meta-data/instance-id/x", "/latest/meta-data/%zz",
        ] {
            #expect(await ask(service, path).status == 404, "\(path)")
        }
    }

    @Test func theIdentityDocumentIsSigned() async throws {
        let key = try PrivateKey.generateRSA()
        let service = service(Orders([sampleOrder()]), signer: key)
        let document = await ask(service, "/latest/dynamic/instance-identity/document").text
        #expect(document.hasPrefix("{\n  \"accountId\" : \"123456789012\",\n  \"architecture\" : \"x86_64\",\n"))
        #expect(document.hasSuffix("  \"ramdiskId\" : null,\n  \"region\" : \"karri-1\",\n  \"version\" : \"2017-09-30\"\n}"))
        let signature = try #require(Base64.decode(await ask(service, "/latest/dynamic/instance-identity/signature").text))
        #expect(key.publicKey.verify(signature: signature, of: Array(document.utf8), digest: .sha256))
        #expect(await ask(service, "/latest/dynamic/instance-identity/").text == "document\nsignature")
    }

    @Test func whoAsksIsToldByTheAddress() async {
        var other = sampleOrder()
        other.instanceId = "i-bbbbbbbb"
        other.privateAddress = "10.1.0.12"
        let source = Orders([sampleOrder(), other])
        let service = service(source)
        #expect(await ask(service, "/latest/meta-data/instance-id", from: "10.1.0.12").text == "i-bbbbbbbb")
        #expect(await ask(service, "/latest/meta-data/public-ipv4", from: "10.1.0.12").status == 404)
        #expect(await ask(service, "/latest/meta-data/instance-id", from: "127.0.0.1").status == 404)
        #expect(await ask(service, "/latest/meta-data/instance-id").status == 200)
        #expect(await ask(service, "/latest/meta-data/instance-id").status == 200)
        // Each instance's first success is a step of its launch, once.
        #expect(source.served.withLock { $0 } == ["i-bbbbbbbb", "i-aaaaaaaa"])
    }

    @Test func tokens() async {
        var other = sampleOrder()
        other.instanceId = "i-bbbbbbbb"
        other.privateAddress = "10.1.0.12"
        let source = Orders([
            sampleOrder {
                $0.tokensRequired = true; $0.hopLimit = 2
            }, other,
        ])
        let service = service(source)
        let ttl = "X-aws-ec2-metadata-token-ttl-seconds"
        #expect(await ask(service, "/latest/meta-data/instance-id").status == 401)
        #expect(source.served.withLock { $0.isEmpty })
        for wrong in ["0", "21601", "-1", "+5", "x", ""] {
            #expect(await ask(service, "/latest/api/token", "PUT", headers: [(ttl, wrong)]).status == 400, "\(wrong)")
        }
        #expect(await ask(service, "/latest/api/token", "PUT").status == 400)
        #expect(await ask(service, "/latest/api/token", "PUT", headers: [(ttl, "60"), ("X-Forwarded-For", "10.1.0.11")]).status == 403)
        #expect(await ask(service, "/latest/api/other", "PUT", headers: [(ttl, "60")]).status == 404)
        #expect(await ask(service, "/latest/api/token", "POST", headers: [(ttl, "60")]).status == 405)
        let made = await ask(service, "/latest/api/token", "PUT", headers: [(ttl, "60")])
        #expect(made.status == 200 && made.reply.ttl == 2 && made.text.utf8.count == 56)
        let header: HTTPHeaderList = [("X-aws-ec2-metadata-token", made.text)]
        let good = await ask(service, "/latest/meta-data/instance-id", headers: header)
        #expect(good.text == "i-aaaaaaaa" && good.reply.ttl == 64)
        // Of one instance only, also where tokens are not required; and not after a changed letter.
        #expect(await ask(service, "/latest/meta-data/instance-id", headers: header, from: "10.1.0.12").status == 401)
        let changed = (made.text.hasPrefix("A") ? "B" : "A") + made.text.dropFirst()
        #expect(await ask(service, "/latest/meta-data/instance-id", headers: [("X-aws-ec2-metadata-token", changed)]).status == 401)
        // A restart keeps them good, another secret does not.
        #expect(await ask(self.service(source), "/latest/meta-data/instance-id", headers: header).status == 200)
        #expect(
            await ask(self.service(source, secret: [UInt8](repeating: 8, count: 32)), "/latest/meta-data/instance-id", headers: header)
                .status
                == 401)
        clock.advance(seconds: 60)
        #expect(await ask(service, "/latest/meta-data/instance-id", headers: header).status == 401)
    }

    @Test func anInstanceCanSwitchItOff() async {
        let service = service(Orders([sampleOrder { $0.enabled = false }]))
        #expect(await ask(service, "/latest/meta-data/instance-id").status == 403)
        #expect(await ask(service, "/latest/api/token", "PUT", headers: [("X-aws-ec2-metadata-token-ttl-seconds", "60")]).status == 403)
    }

    @Test func theSecretOutlivesARestartButNotABoot() async throws {
        let storage = MemoryJournalStorage()
        let first = try await MetadataService.loadSecret(storage, random: SystemRandom(), bootID: "one")
        #expect(first.count == 32)
        #expect(try await MetadataService.loadSecret(storage, random: SystemRandom(), bootID: "one") == first)
        #expect(try await MetadataService.loadSecret(storage, random: SystemRandom(), bootID: "two") != first)
    }
}
