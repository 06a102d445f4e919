import API
import Daemon
import Domain
import Glibc
import Signing
import Synchronization
import Testing
import Workflow

@testable import NodeControllerKit

/// An object store in memory that answers like Walrus, ranges included, and can be made to misbehave.
final class FakeWalrus: HTTPRequesting {
    private struct State {
        var objects: [String: [UInt8]] = [:]
        var requests: [String] = []
        var most = 0
        var under = 0
        var fault: (@Sendable (_ url: String, _ request: Int) -> HTTPClientResponse?)?
    }
    private let state = Mutex(State())

    func put(_ url: String, _ bytes: [UInt8]) { state.withLock { $0.objects[url] = bytes } }
    func get(_ url: String) -> [UInt8]? { state.withLock { $0.objects[url] } }
    func setFault(_ fault: (@Sendable (String, Int) -> HTTPClientResponse?)?) { state.withLock { $0.fault = fault } }
    var requests: [String] { state.withLock { $0.requests } }
    /// Most requests under way at once.
    var most: Int { state.withLock { $0.most } }

    static func reply(_ status: Int, _ body: [UInt8] = []) -> HTTPClientResponse {
        HTTPClientResponse(status: status, headers: HTTPHeaderList(), body: body, received: body.count, peerCertificateDER: nil)
    }

    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        let fault = state.withLock { s -> HTTPClientResponse? in
            s.requests.append("\(request.method) \(request.url)")
            s.under += 1
            s.most = max(s.most, s.under)
            return s.fault?(request.url, s.requests.count)
        }
        for _ in 0..<5 { await Task.yield() }
        defer { state.withLock { $0.under -= 1 } }
        if let fault { return fault }
        if request.method == "PUT" {
            guard case .file(let path, let offset, let length) = request.body else { return Self.reply(400) }
            let bytes = try FileSystem.read(path)
            put(request.url, Array(bytes[offset..<(offset + length)]))
            return Self.reply(200)
        }
        guard let object = get(request.url) else { return Self.reply(404) }
        guard let range = request.headers.first(where: { $0.0 == "Range" })?.1 else { return try limited(request, Self.reply(200, object)) }
        let ends = range.dropFirst("bytes=".count).split(separator: "-").compactMap { Int($0) }
        guard ends.count == 2, ends[0] < object.count else { return Self.reply(416) }
        return try limited(request, Self.reply(206, Array(object[ends[0]...min(ends[1], object.count - 1)])))
    }

    private func limited(_ request: HTTPClientRequest, _ reply: HTTPClientResponse) throws(CloudError) -> HTTPClientResponse {
        if case .memory(let limit) = request.sink, reply.body.count > limit { throw CloudError(.requestTooLarge(limit: limit)) }
        return reply
    }
}

/// A node's key, and bundles for it.
struct BundleFactory {
    static let key = try? PrivateKey.generateRSA(bits: 2048)
    static let otherKey = try? PrivateKey.generateRSA(bits: 2048)

    static func run(_ script: String, _ arguments: String...) async throws {
        try await CommandRunner().check(Command("sh", ["-ec", script, "sh"] + arguments, timeoutMilliseconds: 60_000))
    }

    /// What `ec2-bundle-image` does, by the programs that it uses: tar -S, gzip, openssl, split.
    /// - Returns: the source for a node with `key`; its parts are put into the store.
    static func bundle(
        _ folder: String, file: String, store: FakeWalrus, tarOptions: String = "--sparse", key: PrivateKey, keyText: [UInt8]? = nil
    ) async throws -> NC.ImageSource {
        let aes = [UInt8](repeating: 0x2b, count: 16)
        let iv = [UInt8](repeating: 0x51, count: 16)
        try await run(
            """
            cd "$1"; rm -f part.*; tar $5 -cf archive "$2"
            gzip -c archive | openssl enc -e -aes-128-cbc -K "$3" -iv "$4" > encrypted
            split -b 100000 -d -a 3 encrypted part.
            """, folder, file, Hex.encode(aes), Hex.encode(iv), tarOptions)
        let archive = try FileSystem.read(folder + "/archive", limit: 1 << 30)
        var parts: [NC.ImagePart] = []
        for name in try Folder.names(folder) where name.hasPrefix("part.") {
            let bytes = try FileSystem.read(folder + "/" + name)
            let url = "http://walrus/\(UInt32.random(in: 0...UInt32.max))/\(name)?X-Amz-Signature=x"
            store.put(url, bytes)
            parts.append(NC.ImagePart(url: url, size: bytes.count, digest: Hex.encode(Digest.sha1(bytes))))
        }
        let length = Folder.size(folder + "/" + file)?.length ?? 0
        let digest = Hex.encode(Digest.sha1(archive))
        return NC.ImageSource(
            imageId: "emi-00000001", role: "machine", format: "bundle", cacheKey: digest, digest: digest, size: length, virtualSize: length,
            bundledSize: parts.reduce(0) { $0 + ($1.size ?? 0) },
            encryptedKey: Hex.encode(try key.publicKey.wrap(keyText ?? Array(Hex.encode(aes).utf8))),
            encryptedIv: Hex.encode(try key.publicKey.wrap(Array(Hex.encode(iv).utf8))), parts: parts)
    }
}

/// A folder that goes with the test.
final class ScratchFolder {
    let path: String
    init() throws {
        path = "/tmp/karri-nc-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        try FileSystem.makeFolder(path)
    }
    deinit { try? Folder.removeTree(path) }
}
