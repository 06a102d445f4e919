import API
public import Daemon
public import Domain
import Glibc
import Logging
public import Signing
import Synchronization
import Wire
public import Workflow

// The metadata service, http://169.254.169.254 as instances see it. The node answers it alone, from its journal: it works while every
// controller is down.
//
// Who asks is told by the source address. That is sound because the bridge's firewall lets a tap send its own address only, and because
// nothing but our bridge may reach this address. Version 2 (session tokens) guards the guest's own processes: a token is had by
// PUT, which what forwards requests for others does not do; it is refused to what admits to forwarding (X-Forwarded-For); and its reply
// dies after `hopLimit` hops. An instance may require it.

public final class MetadataService: Sendable {
    private let source: any MetadataSource
    private let publicAddress: @Sendable (_ privateAddress: String) async -> String?
    private let tokens: MetadataToken
    private let signer: PrivateKey?
    private let clock: any Clock
    private let served = Mutex<Set<String>>([])

    static let tokenHeader = "x-aws-ec2-metadata-token"
    static let ttlHeader = "x-aws-ec2-metadata-token-ttl-seconds"
    /// What the kernel gives packets of its own; a reply on a kept connection must not keep the token's short life.
    private static let ordinaryTTL = 64

    /// - Parameters:
    ///   - publicAddress: the one that is associated with a private address now.
    ///   - secret: 32 bytes for tokens, see `loadSecret`.
    ///   - signer: signs the instance identity document; nil: there is no signature.
    public init(
        source: any MetadataSource, publicAddress: @escaping @Sendable (_ privateAddress: String) async -> String?, secret: [UInt8],
        signer: PrivateKey?, clock: any Clock
    ) {
        self.source = source
        self.publicAddress = publicAddress
        tokens = MetadataToken(secret: secret)
        self.signer = signer
        self.clock = clock
    }

    /// The listener. It waits for the address, which comes with the bridge.
    public func listener(settings: NetworkSettings, port: Int = 80, runtime: DaemonRuntime) -> HTTPServer {
        HTTPServer(
            address: settings.metadataAddress, port: port,
            limits: HTTPLimits(
                connections: 512, connectionsPerPeer: 16, headerBytes: 16 * 1024, idleSeconds: 15, slowSeconds: 10, drainBytes: 4096),
            runtime: runtime, name: "metadata", bindRetryMilliseconds: 500
        ) { await self.answer($0) }
    }

    /// The secret of this boot: kept, so that tokens outlive a restart of the daemon, and new after a boot of the host.
    public static func loadSecret(
        _ storage: any JournalStorage, random: any Random, bootID: String = currentBootID()
    ) async throws(CloudError) -> [UInt8] {
        if let bytes = try await storage.load("network")["metadata"] {
            let fields = try RecordText.decode(bytes).fields()
            if try fields.text("boot") == bootID, let secret = Hex.decode(try fields.text("secret")), secret.count == 32 { return secret }
        }
        let secret = random.bytes(32)
        try await storage.save(
            "network", "metadata", RecordText.encode(.record(["boot": .text(bootID), "secret": .text(Hex.encode(secret))])))
        return secret
    }

    public static func currentBootID() -> String {
        let bytes = (try? FileSystem.read("/proc/sys/kernel/random/boot_id", limit: 256)) ?? []
        return String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
    }

    // MARK: Answering

    public func answer(_ request: HTTPRequest) async -> HTTPReply {
        guard let order = await source.order(privateAddress: request.remoteAddress) else { return Self.error(404) }
        let metadata = order.metadata ?? NC.InstanceMetadata()
        guard metadata.enabled ?? true else { return Self.error(403) }
        if request.method == "PUT" { return token(request, order.instanceId, hopLimit: metadata.hopLimit ?? 1) }
        guard request.method == "GET" || request.method == "HEAD" else {
            var reply = Self.error(405)
            reply.headers.append(("Allow", "GET, HEAD, PUT"))
            return reply
        }
        if let token = request.headers.first(Self.tokenHeader) {
            guard tokens.isValid(token, for: order.instanceId, now: clock.now()) else { return Self.error(401) }
        } else if metadata.tokensRequired ?? false {
            return Self.error(401)
        }
        guard let found = await lookUp(request.rawPath, order) else { return Self.error(404) }
        if served.withLock({ $0.insert(order.instanceId).inserted }) { await source.metadataServed(instanceID: order.instanceId) }
        return HTTPReply(
            status: 200, headers: [("Content-Type", found.type), ("Server", "EC2ws")], body: .bytes(found.bytes), ttl: Self.ordinaryTTL)
    }

    private func token(_ request: HTTPRequest, _ instanceID: String, hopLimit: Int) -> HTTPReply {
        guard request.rawPath == "/latest/api/token" else { return Self.error(404) }
        guard !request.headers.contains("x-forwarded-for") else { return Self.error(403) }
        let given = request.headers.all(Self.ttlHeader)
        guard given.count == 1, given[0].utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let seconds = Int(given[0]),
            (1...MetadataToken.longestSeconds).contains(seconds)
        else { return Self.error(400) }
        let token = tokens.make(for: instanceID, seconds: seconds, now: clock.now())
        return HTTPReply(
            status: 200,
            headers: [("Content-Type", "text/plain"), ("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "\(seconds)"), ("Server", "EC2ws")],
            body: .bytes(Array(token.utf8)), ttl: max(1, min(64, hopLimit)))
    }

    private func lookUp(_ rawPath: String, _ order: NC.InstanceOrder) async -> (bytes: [UInt8], type: String)? {
        guard rawPath.hasPrefix("/"), let path = Self.parts(rawPath) else { return nil }
        guard let version = path.first else { return (Array(MetadataTree.versions.joined(separator: "\n").utf8), "text/plain") }
        guard MetadataTree.versions.contains(version) else { return nil }
        let userData = order.metadata?.userData ?? []
        if path.dropFirst().elementsEqual(["user-data"]) {
            return userData.isEmpty ? nil : (userData, "application/octet-stream")
        }
        let text: String?
        switch path.dropFirst().first {
        case nil:
            text = (["dynamic", "meta-data"] + (userData.isEmpty ? [] : ["user-data"])).joined(separator: "\n")
        case "meta-data":
            let address = await publicAddress(order.privateAddress)
            text = MetadataTree.metaData(order, publicAddress: address).at(path.dropFirst(2))?.text
        case "dynamic":
            text = dynamic(order).at(path.dropFirst(2))?.text
        default:
            text = nil
        }
        return text.map { (Array($0.utf8), "text/plain") }
    }

    private func dynamic(_ order: NC.InstanceOrder) -> MetadataNode {
        let document = MetadataTree.identityDocument(order)
        var children: [(String, MetadataNode?)] = [("document", .value(document))]
        if let signer, let signature = try? signer.sign(Array(document.utf8), .sha256) {
            children.append(("signature", .value(Base64.encode(signature))))
        }
        return MetadataTree.folder([("instance-identity", MetadataTree.folder(children))])
    }

    /// The decoded parts of a path; empty ones (`//`, a slash at the end) do not count. `nil` for a broken escape.
    static func parts(_ rawPath: String) -> [String]? {
        var out: [String] = []
        for part in rawPath.split(separator: "/") {
            var bytes: [UInt8] = []
            var rest = Array(part.utf8)[...]
            while let byte = rest.popFirst() {
                guard byte == UInt8(ascii: "%") else {
                    bytes.append(byte)
                    continue
                }
                guard rest.count >= 2, let decoded = Hex.decode(String(decoding: rest.prefix(2), as: UTF8.self))?.first else { return nil }
                bytes.append(decoded)
                rest = rest.dropFirst(2)
            }
            guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
            out.append(text)
        }
        return out
    }

    private static func error(_ status: Int) -> HTTPReply {
        let reasons = [400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"]
        return HTTPReply(
            status: status, headers: [("Content-Type", "text/plain"), ("Server", "EC2ws")],
            body: .bytes(Array("\(status) \(reasons[status] ?? "")\n".utf8)), ttl: ordinaryTTL)
    }
}
