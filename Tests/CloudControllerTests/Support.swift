import API
import Database
import Domain
import Glibc
import Identity
import Signing
import Synchronization
import TestKit
import Testing
import Wire
import Workflow

@testable import CloudControllerKit
@testable import Daemon

/// Runs a shell command and returns what it writes.
func shell(_ command: String) throws -> String {
    let pipe = try #require(popen("set -e; " + command, "r"))
    var out: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let n = fread(&buffer, 1, buffer.count, pipe)
        if n == 0 { break }
        out += buffer[..<n]
    }
    #expect(pclose(pipe) == 0, "\(command)")
    return String(decoding: out, as: UTF8.self).trimmed
}

/// A folder that goes with the closure.
func withFolder<R>(_ body: (String) throws -> R) throws -> R {
    let folder = try shell("mktemp -d /tmp/karri-test-XXXXXX")
    defer { _ = try? shell("rm -rf \(folder)") }
    return try body(folder)
}

func contents(_ path: String) throws -> [UInt8] { try GoldenFile.read(path) }

/// The code that a client would see; empty when nothing was thrown.
func code(_ body: () async throws -> Void) async -> String {
    do {
        try await body()
        return ""
    } catch let error as CloudError {
        return EC2ErrorCode.code(for: error.reason).code
    } catch {
        return "\(error)"
    }
}

func code(_ body: () throws -> Void) -> String {
    do {
        try body()
        return ""
    } catch let error as CloudError {
        return EC2ErrorCode.code(for: error.reason).code
    } catch {
        return "\(error)"
    }
}

/// An object store in memory, behind the same client that the controller uses.
final class MemoryStore: HTTPRequesting {
    private let state = Mutex<(objects: [String: [UInt8]], requests: [String])>(([:], []))

    func put(_ path: String, _ bytes: [UInt8]) { state.withLock { $0.objects[path] = bytes } }
    func remove(_ path: String) { state.withLock { _ = $0.objects.removeValue(forKey: path) } }
    func object(_ path: String) -> [UInt8]? { state.withLock { $0.objects[path] } }
    /// `METHOD path`, in order.
    var requests: [String] { state.withLock { $0.requests } }

    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        let path =
            request.url.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: true).dropFirst(2).first.map { String($0) } ?? ""
        let name = path.split(separator: "?").first.map { String($0) } ?? ""
        state.withLock { $0.requests.append("\(request.method) \(name)") }
        guard var bytes = object(name) else {
            let body = request.method == "HEAD" ? "" : "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
            return HTTPClientResponse(status: 404, headers: [], body: Array(body.utf8), received: 0, peerCertificateDER: nil)
        }
        if let range = request.headers.first(where: { $0.0.lowercased() == "range" })?.1.dropFirst(6).split(separator: "-"),
            range.count == 2,
            let first = Int(range[0]), let last = Int(range[1])
        {
            bytes = Array(bytes[first...min(last, bytes.count - 1)])
        }
        let headers = HTTPHeaderList([(name: "content-length", value: String(bytes.count)), (name: "etag", value: "\"0\"")])
        if request.method == "HEAD" {
            return HTTPClientResponse(status: 200, headers: headers, body: [], received: 0, peerCertificateDER: nil)
        }
        guard case .consumer(let take) = request.sink else {
            return HTTPClientResponse(status: 200, headers: headers, body: bytes, received: bytes.count, peerCertificateDER: nil)
        }
        for start in stride(from: 0, to: bytes.count, by: 1 << 16) {
            let goesOn = bytes[start..<min(bytes.count, start + 1 << 16)].withUnsafeBytes { take($0) }
            guard goesOn else { throw CloudError(.unavailable("The store"), context: "the consumer stopped") }
        }
        return HTTPClientResponse(status: 200, headers: headers, body: [], received: bytes.count, peerCertificateDER: nil)
    }
}

/// Nobody is there.
struct NoTransport: MessageTransport {
    func call(
        _ service: ServiceDefinition, _ operation: Wire.Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value {
        throw CloudError(.unavailable(endpoint))
    }
}

/// The EC2 actions on an empty database, with two accounts.
final class TestCloud: Sendable {
    let actions: EC2Actions
    let cloud: CloudServices
    let store = MemoryStore()
    let alice, bob: OperationContext
    /// The cloud's image key.
    static let imageKey = Result { try PrivateKey.generateRSA(bits: 2048) }

    init(settings: CloudSettings = CloudSettings(), connections: Int = 2) async throws {
        // Tests run side by side on one server, which has so many connections and no more.
        let pool = try TransientPostgres.pool(size: connections)
        let identity = IdentityStore(pool: pool, secretKey: [UInt8](repeating: 7, count: 32))
        try await identity.migrate()
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)
        let key = try Self.imageKey.get()
        let keys = CloudKeys(
            imageKey: key, imageCertificate: try CertificateAuthority.selfSigned(name: "cloud", key: key, days: 30),
            systemAccessKeyID: "SYS",
            systemSecret: "secret", secret: [UInt8](repeating: 9, count: 32))
        cloud = CloudServices(
            pool: pool, identity: identity, clock: SystemClock(), random: SystemRandom(), settings: settings,
            cluster: ClusterRegistry(pool: pool, transport: NoTransport()), keys: keys, http: store)
        actions = EC2Actions(cloud)
        alice = try await Self.context(identity, "alice")
        bob = try await Self.context(identity, "bob")
    }

    deinit { cloud.pool.close() }

    private static func context(_ identity: IdentityStore, _ name: String) async throws -> OperationContext {
        let account = try await identity.accountCreate(name: name)
        let pair = try await identity.accessKeyCreate(account: account.id)
        let known = try #require(try await identity.credential(accessKeyID: pair.id))
        return OperationContext(caller: known.caller, requestID: "test", apiVersion: "2016-11-15", now: SystemClock().now())
    }

    /// A row of an instance, as far as these resources look at it.
    func instance(_ id: String, account: String, address: String) async throws {
        try await cloud.pool.transaction { tx in
            try tx.execute(
                """
                INSERT INTO cloud.instances (id, reservation_id, account_id, launch_index, image_id, architecture, instance_type, cores,
                    memory_mib, disk_gib, zone, node, private_address, mac_address, created_at, launched_at, desired, generation,
                    shutdown_behaviour)
                VALUES ($1, 'r-00000000', $2, 0, 'emi-00000000', 'x86_64', 'm1.small', 1, 1, 1, 'z', 'n', $3, 'm',
                    0, 0, 'running', 1, 'terminate')
                """, .text(id), .text(account), .text(address))
        }
    }
}
