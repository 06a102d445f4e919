import Daemon
import Domain
import Glibc
import Logging
import Signing

/// A folder that goes away with the test.
final class ScratchFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/karri-test-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/tmp"
    }

    deinit {
        guard path != "/tmp", let folder = opendir(path) else { return }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            unlink("\(path)/\(name)")
        }
        closedir(folder)
        rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }
    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try FileSystem.writeAtomically(bytes, to: file(name))
        return file(name)
    }
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }
}

func testRuntime() -> DaemonRuntime {
    var logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    logger.logLevel = .critical
    return DaemonRuntime(name: "test", logger: logger)
}

/// Runs a server while `body` runs.
func serving<R: Sendable>(
    tls: ServerTLS? = nil, limits: HTTPLimits = HTTPLimits(), admin: Bool = false, runtime: DaemonRuntime = testRuntime(),
    _ handler: @escaping @Sendable (HTTPRequest) async -> HTTPReply, _ body: @Sendable @escaping (Int) async throws -> R
) async throws -> R {
    let server = HTTPServer(
        address: "127.0.0.1", port: 0, tls: tls, limits: limits, runtime: runtime, name: "test", admin: admin ? runtime.admin() : nil,
        handler: handler)
    return try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask {
            try await server.run()
            return nil
        }
        group.addTask { try await body(await server.waitUntilListening()) }
        defer { group.cancelAll() }
        while let result = try await group.next() {
            if let result { return result }
        }
        throw CancellationError()
    }
}

/// A client that sends exactly these bytes.
struct RawClient: Sendable {
    let port: Int

    /// Connects, sends the pieces (with a pause between them) and reads until the server closes or `seconds` are over.
    func exchange(_ pieces: [String], pause: UInt32 = 0, seconds: Int = 3, until: String? = nil) async throws -> String {
        let port = port
        return try await BlockingPool.run { () throws(CloudError) -> String in
            let descriptor = Self.connect(port)
            defer { close(descriptor) }
            var text = ""
            for (index, piece) in pieces.enumerated() {
                if index > 0 && pause > 0 { usleep(pause * 1000) }
                _ = piece.utf8.withContiguousStorageIfAvailable { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            }
            var limit = timeval(tv_sec: seconds, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                let got = recv(descriptor, &chunk, chunk.count, 0)
                if got < 0 { return text + (errno == EAGAIN ? "<timeout>" : "<reset>") }
                if got == 0 { return text + "<closed>" }
                text += String(decoding: chunk[..<got], as: UTF8.self)
                if let until, text.contains(until) { return text }
            }
        }
    }

    private static func connect(_ port: Int) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return descriptor
    }
}

extension String {
    func contains(_ needle: String) -> Bool {
        var rest = Substring(self)
        while !rest.isEmpty {
            if rest.hasPrefix(needle) { return true }
            rest.removeFirst()
        }
        return needle.isEmpty
    }
}

/// A cloud's CA and certificates for tests, as files.
struct TestCloud: Sendable {
    let folder = ScratchFolder()
    let ca: Certificate
    let caKey: PrivateKey

    init() throws {
        (ca, caKey) = try CertificateAuthority.makeRoot(name: "test", days: 1)
        try folder.write("ca.pem", ca.pem)
    }

    var caPath: String { folder.file("ca.pem") }

    func host(_ role: String, cloud: String = "c1") throws -> HostIdentity {
        let key = try PrivateKey.generateRSA()
        let certificate = try CertificateAuthority.issue(
            name: role, uris: ["karri://\(cloud)/\(role)/one"], dns: ["localhost"], ips: ["127.0.0.1"], ca: ca, caKey: caKey,
            publicKey: key.publicKey, days: 1)
        return try HostIdentity(
            certificate: folder.write("\(cloud)-\(role).pem", certificate.pem), key: folder.write("\(cloud)-\(role).key", key.pem),
            ca: caPath)
    }
}
