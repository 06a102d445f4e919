import API
public import Daemon
import Domain
import Glibc
public import Signing
public import Workflow

/// Brings an image's bytes from their presigned addresses into a file: verified, decrypted, unpacked on the way, so that what is in
/// the file in the end is the image or nothing. Bounded memory: a few parts at a time.
public struct ImageFetcher: Sendable {
    private let http: any HTTPRequesting
    private let key: PrivateKey
    private let clock: any Clock

    /// Parts under way or waiting. Too high: memory (10 MiB each); too low: the network waits for the decryption.
    static let ahead = 4
    /// One request's share of a single object.
    static let rangeBytes = 8 << 20
    /// Bundles have parts of 10 MiB; larger ones than this are not held in memory.
    static let partLimit = 64 << 20
    /// Tries for each part; the pause doubles from half a second.
    static let attempts = 4

    /// - Parameter key: the node's private key: image keys are wrapped for its certificate.
    public init(http: any HTTPRequesting, key: PrivateKey, clock: any Clock) {
        self.http = http
        self.key = key
        self.clock = clock
    }

    /// Fetches `source` into a new file at `path`, at most `limit` bytes.
    /// - Throws: `.named` with `InvalidImage…` for wrong bytes (naming part, digest and what was expected); `.unavailable` when a
    /// part could not
    ///   be had. The file is then removed.
    func fetch(_ source: NC.ImageSource, to path: String, limit: Int) async throws(CloudError) {
        do throws(CloudError) {
            if source.format == "bundle" {
                try await fetchBundle(source, to: path, limit: limit)
            } else {
                try await fetchObject(source, to: path, limit: limit)
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    // MARK: Bundles

    private func fetchBundle(_ source: NC.ImageSource, to path: String, limit: Int) async throws(CloudError) {
        let (aesKey, iv) = try imageKey(source)
        guard let digest = source.digest, !digest.isEmpty else { throw CloudError(.missingParameter("digest")) }
        let decryptor = try AES.CBCDecryptor(key: aesKey, iv: iv)
        let child = try FilterProcess("gzip", ["-dc"])
        let feeder = Feeder(child)
        let unpacker = Unpacker(child)
        async let unpacked = unpacker.run(into: path, limit: limit)
        let fed: CloudError?
        do throws(CloudError) {
            try await inOrder(source.parts.count) { index async throws(CloudError) in
                try await part(source, index)
            } consume: { bytes async throws(CloudError) in
                try await feeder.feed(bytes, decryptor)
            }
            try await feeder.finish(decryptor, source.imageId)
            fed = nil
        } catch {
            fed = error
            // The program must not go on with half of its input.
            child.interrupt()
        }
        let result = await unpacked
        await feeder.close()
        // What was wrong first comes first: bytes that could not be had or decrypted; then what the program and the archive say.
        if let fed, !Feeder.isBrokenPipe(fed) { throw fed }
        let tar = try result.get()
        if tar.status != 0 || fed != nil {
            throw CloudError(
                .named(code: "InvalidImage.Compression", status: 400),
                "Image \(source.imageId): its parts are complete, but are no gzip file after decryption: damaged, or another key")
        }
        guard Hex.encode(tar.digest) == digest.lowercased() else {
            throw CloudError(
                .named(code: "InvalidImage.Digest", status: 400),
                "Image \(source.imageId): the SHA-1 of its archive is \(Hex.encode(tar.digest)), not \(digest)")
        }
        guard tar.isComplete else { throw TarReader.broken("image \(source.imageId) ends before its file does") }
        if let size = source.size, size > 0, size != tar.length {
            throw CloudError(
                .named(code: "InvalidImage.Size", status: 400), "Image \(source.imageId) has \(tar.length) bytes, not the declared \(size)")
        }
    }

    /// The manifest holds the key and IV as hexadecimal text, RSA-encrypted, hexadecimal (AMI manifest 2007-10-10).
    private func imageKey(_ source: NC.ImageSource) throws(CloudError) -> (key: [UInt8], iv: [UInt8]) {
        func unwrap(_ text: String?, _ name: String) throws(CloudError) -> [UInt8] {
            guard let text, let wrapped = Hex.decode(text) else { throw CloudError(.invalidParameter(name)) }
            let plain: [UInt8]
            do throws(CloudError) { plain = try key.unwrap(wrapped) } catch {
                throw CloudError(
                    .named(code: "InvalidImage.Key", status: 400), "Image \(source.imageId): its key is not wrapped for this node",
                    context: error.context)
            }
            guard let bytes = Hex.decode(String(decoding: plain, as: UTF8.self)), bytes.count == 16 else {
                throw CloudError(
                    .named(code: "InvalidImage.Key", status: 400), "Image \(source.imageId): its \(name) is not one of AES-128")
            }
            return bytes
        }
        return (try unwrap(source.encryptedKey, "encryptedKey"), try unwrap(source.encryptedIv, "encryptedIv"))
    }

    private func part(_ source: NC.ImageSource, _ index: Int) async throws(CloudError) -> [UInt8] {
        let part = source.parts[index]
        guard let url = part.url else { throw CloudError(.missingParameter("url")) }
        let size = part.size ?? Self.partLimit
        guard size > 0, size <= Self.partLimit else { throw CloudError(.invalidParameter("size")) }
        let what = "part \(index) of image \(source.imageId)"
        return try await patiently(what) { () async throws(CloudError) in
            let reply = try await http.execute(
                HTTPClientRequest(url: url, sink: .memory(limit: size), timeoutMilliseconds: 0, stallSeconds: 30))
            try Self.check(reply, what)
            if let size = part.size, reply.body.count != size {
                throw CloudError(
                    .named(code: "InvalidImage.Part", status: 400),
                    "\(what) has \(reply.body.count) bytes, not \(size): it is truncated or not the part")
            }
            if let digest = part.digest, !digest.isEmpty {
                let bytes = reply.body
                let found = try await BlockingPool.run { () throws(CloudError) -> String in Hex.encode(Digest.sha1(bytes)) }
                guard found == digest.lowercased() else {
                    throw CloudError(
                        .named(code: "InvalidImage.Part", status: 400), "\(what) is damaged: its SHA-1 is \(found), not \(digest)")
                }
            }
            return reply.body
        }
    }

    // MARK: Single objects

    private func fetchObject(_ source: NC.ImageSource, to path: String, limit: Int) async throws(CloudError) {
        guard let first = source.parts.first, let url = first.url else { throw CloudError(.missingParameter("parts")) }
        guard let digest = source.digest, !digest.isEmpty else { throw CloudError(.missingParameter("digest")) }
        let total = first.size ?? source.size ?? 0
        guard total > 0, total <= limit else { throw CloudError(.invalidParameter("size")) }
        let what = "image \(source.imageId)"
        let writer = try ObjectWriter(path: path, limit: limit)
        try await inOrder((total + Self.rangeBytes - 1) / Self.rangeBytes) { index async throws(CloudError) in
            let start = index * Self.rangeBytes
            let end = min(total, start + Self.rangeBytes) - 1
            return try await patiently(what) { () async throws(CloudError) in
                let reply = try await http.execute(
                    HTTPClientRequest(
                        url: url, headers: [("Range", "bytes=\(start)-\(end)")], sink: .memory(limit: Self.rangeBytes),
                        timeoutMilliseconds: 0,
                        stallSeconds: 30))
                try Self.check(reply, what)
                guard reply.body.count == end - start + 1 else {
                    throw CloudError(
                        .named(code: "InvalidImage.Size", status: 400),
                        "\(what): bytes \(start) to \(end) were asked, \(reply.body.count) came: it has not the declared \(total) bytes"
                    )
                }
                return reply.body
            }
        } consume: { bytes async throws(CloudError) in
            try await writer.append(bytes)
        }
        let found = try await writer.finish()
        guard found == digest.lowercased() else {
            throw CloudError(.named(code: "InvalidImage.Digest", status: 400), "\(what) is damaged: its SHA-256 is \(found), not \(digest)")
        }
    }

    // MARK: Requests

    private static func check(_ reply: HTTPClientResponse, _ what: String) throws(CloudError) {
        if reply.isSuccess { return }
        switch reply.status {
        case 416:
            throw CloudError(.named(code: "InvalidImage.Size", status: 400), "\(what) is shorter than declared")
        case 400..<500:
            throw CloudError(
                .named(code: "ImageUnavailable", status: 400), "\(what) cannot be had: the object store answers \(reply.status)",
                context: String(decoding: reply.body.prefix(300), as: UTF8.self))
        default: throw CloudError(.unavailable(what), context: "the object store answers \(reply.status)")
        }
    }

    /// Tries again what may work then: a lost connection, a busy store, a part that was damaged on its way.
    private func patiently(_ what: String, _ body: () async throws(CloudError) -> [UInt8]) async throws(CloudError) -> [UInt8] {
        var attempt = 1
        while true {
            do throws(CloudError) { return try await body() } catch {
                let retry =
                    switch error.reason {
                    case .unavailable: true
                    case .named(code: "InvalidImage.Part", status: _): attempt < 2
                    default: false
                    }
                guard retry, attempt < Self.attempts, !Task.isCancelled else { throw error }
                do { try await clock.sleep(milliseconds: 500 << (attempt - 1)) } catch {
                    throw CloudError(.unavailable(what), context: "cancelled")
                }
                attempt += 1
            }
        }
    }

    /// Makes `count` pieces, some ahead, and consumes them in order.
    private func inOrder(
        _ count: Int, _ make: @escaping @Sendable (Int) async throws(CloudError) -> [UInt8],
        consume: @Sendable ([UInt8]) async throws(CloudError) -> Void
    ) async throws(CloudError) {
        do {
            try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
                var started = 0
                var ready: [Int: [UInt8]] = [:]
                func startNext() {
                    guard started < count else { return }
                    let index = started
                    started += 1
                    group.addTask { (index, try await make(index)) }
                }
                for _ in 0..<min(Self.ahead, count) { startNext() }
                for index in 0..<count {
                    while ready[index] == nil {
                        guard let (i, bytes) = try await group.next() else { throw CloudError.bug("a part was lost") }
                        ready[i] = bytes
                    }
                    if let bytes = ready.removeValue(forKey: index) { try await consume(bytes) }
                    startNext()
                }
            }
        } catch let error as CloudError {
            throw error
        } catch { throw CloudError(.unavailable("The image"), context: "\(error)") }
    }
}

/// Decrypts and writes into the program, on a thread of its own: a full pipe is the back-pressure.
private actor Feeder {
    private nonisolated let executor = ThreadExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let child: FilterProcess

    init(_ child: FilterProcess) { self.child = child }

    private static let brokenPipe = "the program does not read any more"
    static func isBrokenPipe(_ error: CloudError) -> Bool { error.context == brokenPipe }

    func feed(_ bytes: [UInt8], _ decryptor: AES.CBCDecryptor) throws(CloudError) { try write(try decryptor.update(bytes)) }

    func finish(_ decryptor: AES.CBCDecryptor, _ image: String) throws(CloudError) {
        do throws(CloudError) { try write(try decryptor.finish()) } catch {
            if Self.isBrokenPipe(error) { throw error }
            throw CloudError(
                .named(code: "InvalidImage.Decryption", status: 400),
                "Image \(image): its parts cannot be decrypted: another key, or parts are missing", context: error.context)
        }
        child.closeInput()
    }

    func close() { child.end() }

    private func write(_ plain: [UInt8]) throws(CloudError) {
        guard plain.withUnsafeBytes({ child.write($0) }) else { throw CloudError(.unavailable(child.name), context: Self.brokenPipe) }
    }
}

/// Reads the archive from the program, digests it and takes the file out, on a thread of its own.
private actor Unpacker {
    struct Archive: Sendable {
        var digest: [UInt8]
        var length: Int
        var isComplete: Bool
        /// The program's exit status.
        var status: Int32
    }
    private nonisolated let executor = ThreadExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let child: FilterProcess

    init(_ child: FilterProcess) { self.child = child }

    func run(into path: String, limit: Int) -> Result<Archive, CloudError> {
        do throws(CloudError) { return .success(try unpack(into: path, limit: limit)) } catch {
            child.interrupt()
            return .failure(error)
        }
    }

    private func unpack(into path: String, limit: Int) throws(CloudError) -> Archive {
        let file = try SparseFile(creating: path, limit: limit)
        var reader = TarReader(into: file)
        let hasher = Digest.Hasher(.sha1)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            let got = child.read(into: buffer)
            if got < 0 { throw CloudError(.unavailable(child.name), context: "reading from it: errno \(errno)") }
            if got == 0 { break }
            let piece = UnsafeRawBufferPointer(rebasing: buffer[..<got])
            hasher.update(piece)
            try reader.feed(piece)
        }
        let status = child.wait()
        if status == 0, reader.isComplete { try file.finish() }
        return Archive(digest: hasher.finish(), length: file.length, isComplete: reader.isComplete, status: status)
    }
}

/// Writes and digests a single object, on a thread of its own.
private actor ObjectWriter {
    private nonisolated let executor = ThreadExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let file: SparseFile
    private let hasher = Digest.Hasher(.sha256)

    init(path: String, limit: Int) throws(CloudError) { file = try SparseFile(creating: path, limit: limit) }

    func append(_ bytes: [UInt8]) throws(CloudError) {
        hasher.update(bytes)
        try file.append(bytes)
    }

    /// - Returns: the SHA-256, hexadecimal. The file is on disk.
    func finish() throws(CloudError) -> String {
        try file.finish()
        return Hex.encode(hasher.finish())
    }
}
