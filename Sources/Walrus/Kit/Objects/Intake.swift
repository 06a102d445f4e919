import Daemon
import Domain
import NIOCore
import Signing
import Synchronization
import Workflow

/// What a request promises about its body, checked before the first byte is read.
struct IntakePlan: Sendable {
    /// Bytes of data, without any framing; of a form's file, which ends where its boundary says so, the most that they can be.
    let length: Int
    let form: FormSizes?
    let contentMD5: [UInt8]?
    /// Hexadecimal SHA-256 that the signature vouches for.
    let payloadHash: String?
    let isChunked: Bool
    let trailers: [String]
    let checksum: ChecksumAlgorithm?
    /// From a header; a trailer's comes at the end.
    let checksumValue: [UInt8]?
    let checksumInTrailer: Bool

    /// - Parameters:
    ///   - limit: of the data.
    ///   - algorithm: computed even when the request names none (parts of an upload with an algorithm).
    ///   - aboutBody: false where `x-amz-checksum-…` headers speak of an object, not of the body (CompleteMultipartUpload).
    /// - Throws: `MissingContentLength`, `EntityTooLarge`, `InvalidDigest`, `InvalidRequest`.
    init(
        _ r: S3Request, limit: Int, needsDigest: Bool = false, algorithm: ChecksumAlgorithm? = nil, aboutBody: Bool = true
    ) throws(CloudError) {
        var hash: String?
        var chunked = false
        switch r.requester.signature?.payload {
        case .hash(let text): hash = text
        case .streamingSigned, .streamingUnsignedTrailer: chunked = true
        case .unsigned, nil: break
        case .some(.none): break
        }
        let sha256Header = r.header("x-amz-content-sha256")
        if r.requester.known == nil, let sha256Header, sha256Header.hasPrefix("STREAMING-") {
            throw S3Failure.invalidRequest("A chunked payload needs a signed request")
        }
        payloadHash = hash
        isChunked = chunked
        form = r.form
        if let form {
            // A file that is too large is refused when that is seen, not for what else the body may hold.
            length = min(form.upperBound, limit)
        } else if chunked {
            guard let text = r.header("x-amz-decoded-content-length") else { throw S3Failure.missingContentLength() }
            guard let n = Int(text), n >= 0 else { throw S3Failure.invalidArgument("x-amz-decoded-content-length is not valid") }
            length = n
        } else {
            guard let n = r.http.contentLength, n >= 0 else { throw S3Failure.missingContentLength() }
            length = n
        }
        guard length <= limit else { throw S3Failure.entityTooLarge(limit: limit) }
        contentMD5 = try Self.md5(r)

        let headerChecksum = aboutBody ? try Self.headerChecksum(r) : nil
        trailers = (r.header("x-amz-trailer") ?? "").split(separator: ",").map { String($0).trimmed.lowercased() }.filter { !$0.isEmpty }
        var trailing: ChecksumAlgorithm?
        for name in trailers where name.hasPrefix("x-amz-checksum-") {
            guard chunked, trailing == nil, headerChecksum == nil else {
                throw S3Failure.invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
            }
            trailing = try ChecksumAlgorithm(parsing: String(name.dropFirst("x-amz-checksum-".count)))
        }
        if aboutBody, let named = r.header("x-amz-sdk-checksum-algorithm") {
            let wanted = try ChecksumAlgorithm(parsing: named)
            guard let given = headerChecksum?.0 ?? trailing else {
                throw S3Failure.invalidRequest(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
            }
            guard given == wanted else {
                throw S3Failure.invalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
            }
        }
        checksum = headerChecksum?.0 ?? trailing ?? algorithm
        checksumValue = headerChecksum?.1
        checksumInTrailer = trailing != nil
        if needsDigest, contentMD5 == nil, headerChecksum == nil, trailing == nil {
            throw S3Failure.invalidRequest("Missing required header for this request: Content-MD5")
        }
    }

    private static func md5(_ r: S3Request) throws(CloudError) -> [UInt8]? {
        guard let text = r.header("content-md5") else { return nil }
        guard let bytes = Base64.decode(text.trimmed, strict: true), bytes.count == 16 else { throw S3Failure.invalidDigest() }
        return bytes
    }

    /// What `x-amz-checksum-<algorithm>` headers say of the object that an upload becomes; composite values end in `-<parts>`.
    static func headerClaims(_ r: S3Request) throws(CloudError) -> [(algorithm: ChecksumAlgorithm, value: String)] {
        var claims: [(algorithm: ChecksumAlgorithm, value: String)] = []
        for (name, value) in r.http.headers {
            let name = name.lowercased()
            guard name.hasPrefix("x-amz-checksum-") else { continue }
            let suffix = String(name.dropFirst("x-amz-checksum-".count))
            if ["mode", "type", "algorithm"].contains(suffix) { continue }
            claims.append((try ChecksumAlgorithm(parsing: suffix), value.trimmed))
        }
        return claims
    }

    /// The one `x-amz-checksum-<algorithm>` header. - Throws: `InvalidRequest` for two, an unknown one or a bad value.
    static func headerChecksum(_ r: S3Request) throws(CloudError) -> (ChecksumAlgorithm, [UInt8])? {
        var found: (ChecksumAlgorithm, [UInt8])?
        for (name, value) in r.http.headers {
            let name = name.lowercased()
            guard name.hasPrefix("x-amz-checksum-") else { continue }
            let suffix = name.dropFirst("x-amz-checksum-".count)
            if ["mode", "type", "algorithm"].contains(suffix) { continue }
            guard found == nil else {
                throw S3Failure.invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
            }
            let algorithm = try ChecksumAlgorithm(parsing: String(suffix))
            // A value of a wrong form is one that cannot match. (S3 has been seen to call it InvalidRequest as well.)
            guard let bytes = Base64.decode(value.trimmed, strict: true), bytes.count == algorithm.length else {
                throw S3Failure.badDigest(algorithm.rawValue)
            }
            found = (algorithm, bytes)
        }
        return found
    }
}

/// A body that is whole, verified and, if it is a blob, on stable storage; not yet visible.
struct Intaken: Sendable {
    let content: ObjectContent
    let size: Int
    /// Hexadecimal: the MD5, or what stands for it (see `Encryption.hasPlainETag`).
    var md5: String
    let checksum: (algorithm: ChecksumAlgorithm, value: [UInt8])?
    var encryption: Encryption?
    /// MD5 of the bytes at rest, where `md5` is that of others.
    var storedMD5: String?

    /// The same, encrypted.
    /// - Parameter atRest: the hexadecimal MD5 of what was written.
    func encrypted(_ encryption: OpenEncryption?, atRest: @autoclosure () -> String) -> Intaken {
        guard let encryption else { return self }
        var taken = self
        taken.encryption = encryption.record
        taken.md5 = encryption.etag(md5)
        taken.storedMD5 = atRest()
        return taken
    }
}

/// The digests of a body. Fed in order, by one thread at a time.
struct BodyDigests: Sendable {
    let md5 = Digest.Hasher(.md5)
    let sha256: Digest.Hasher?
    let checksum: RunningChecksum?

    init(sha256: Bool, checksum: ChecksumAlgorithm?) {
        self.sha256 = sha256 ? Digest.Hasher(.sha256) : nil
        self.checksum = checksum.map(RunningChecksum.init)
    }

    func update(_ bytes: UnsafeRawBufferPointer) {
        md5.update(bytes)
        sha256?.update(bytes)
        checksum?.update(bytes)
    }
}

/// Takes bodies in: unframes, hashes, writes, verifies.
struct Intake: Sendable {
    let bytes: any ObjectBytes
    let ledger: SpaceLedger
    let random: any Random

    /// Bytes up to which an object lives in its row. Too high: rows and the log swell, lists read past bytes; too low: a file, two
    /// syncs and a rename for what one commit could hold.
    static let inlineLimit = 16 * 1024
    /// Bytes that are hashed and written in one visit to the thread pool. Too high: memory per upload (twice this); too low: the
    /// visits cost more than the work.
    static let batchSize = 512 * 1024

    /// Reads the body of a request.
    /// - Parameter allowInline: parts of uploads are always blobs.
    /// - Throws: every error leaves nothing behind.
    func take(
        _ r: S3Request, _ plan: IntakePlan, allowInline: Bool = true, encryption: OpenEncryption? = nil
    ) async throws(CloudError) -> Intaken {
        let reservation = try await ledger.reserve(plan.length)
        var source = try BodyUnframer(r, plan)
        if allowInline, plan.length <= Self.inlineLimit {
            let data = try await source.collect(limit: plan.length)
            let digests = BodyDigests(sha256: plan.payloadHash != nil, checksum: plan.checksum)
            data.withUnsafeBytes { digests.update($0) }
            let stored = try encryption?.cipher(nil).applied(to: data) ?? data
            return try source.verified(digests, content: .inline(stored), size: data.count)
                .encrypted(encryption, atRest: Hex.encode(Digest.md5(stored)))
        }
        let id = BlobID(random: random.bytes(16))
        let writer = try await bytes.create(id)
        do {
            let digests = BodyDigests(sha256: plan.payloadHash != nil, checksum: plan.checksum)
            let seal = try encryption.map { e throws(CloudError) in Seal(cipher: try e.cipher(id)) }
            let size = try await Self.pump(from: &source, to: writer, digests, reservation, seal)
            let taken = try source.verified(digests, content: .blob(id), size: size)
            try await writer.makeDurable()
            return taken.encrypted(encryption, atRest: seal?.digest ?? "")
        } catch {
            await writer.abandon()
            throw DaemonFailure.cloudError(error)
        }
    }

    /// A document that is wanted whole in memory.
    static func small(_ r: S3Request, _ plan: IntakePlan) async throws(CloudError) -> [UInt8] {
        var source = try BodyUnframer(r, plan)
        let data = try await source.collect(limit: plan.length)
        let digests = BodyDigests(sha256: plan.payloadHash != nil, checksum: plan.checksum)
        data.withUnsafeBytes { digests.update($0) }
        _ = try source.verified(digests, content: .inline([]), size: data.count)
        return data
    }

    /// Reads one batch while the one before is hashed and written. A slow disk stops the reading: at most two batches are in memory.
    private static func pump(
        from source: inout BodyUnframer, to writer: any BlobWriter, _ digests: BodyDigests, _ reservation: SpaceReservation, _ seal: Seal?
    ) async throws -> Int {
        var total = 0
        try await withThrowingTaskGroup(of: Void.self) { group in
            let share = UploadShare()
            while let batch = try await source.next(atLeast: share.batch) {
                total += batch.readableBytes
                try await group.next()
                group.addTask {
                    try await append(batch, to: writer, digests, seal)
                    reservation.written(batch.readableBytes)
                }
            }
            try await group.waitForAll()
        }
        return total
    }

    /// Makes batches smaller when many uploads run, so that all of them together stay within a bound.
    private final class UploadShare: Sendable {
        /// Of all uploads' batches together. Too high: memory; too low: more visits to the thread pool for each byte.
        private static let bound = 24 << 20
        private static let running = Atomic<Int>(0)

        init() { Self.running.wrappingAdd(1, ordering: .relaxed) }
        deinit { Self.running.wrappingSubtract(1, ordering: .relaxed) }

        var batch: Int { max(64 * 1024, min(batchSize, Self.bound / (2 * max(1, Self.running.load(ordering: .relaxed))))) }
    }

    /// Encrypts what goes to a blob, in order, and keeps the digest of it.
    private struct Seal: Sendable {
        let cipher: AESCounter
        let atRest = Digest.Hasher(.md5)
        var digest: String { Hex.encode(atRest.finish()) }
    }

    private static func append(
        _ plain: ByteBuffer, to writer: any BlobWriter, _ digests: BodyDigests, _ seal: Seal?
    ) async throws(CloudError) {
        guard let seal else { return try await writer.append(plain) { digests.update($0) } }
        let sealed = await seal.cipher.staged(plain) { digests.update($0) }
        try await writer.append(sealed) { seal.atRest.update($0) }
    }

    /// Writes bytes in memory as a new blob.
    func store(_ data: [UInt8], checksum: ChecksumAlgorithm?, encryption: OpenEncryption? = nil) async throws(CloudError) -> Intaken {
        let reservation = try await ledger.reserve(data.count)
        let id = BlobID(random: random.bytes(16))
        let writer = try await bytes.create(id)
        let digests = BodyDigests(sha256: false, checksum: checksum)
        let seal = try encryption.map { e throws(CloudError) in Seal(cipher: try e.cipher(id)) }
        do throws(CloudError) {
            try await Self.append(ByteBuffer(bytes: data), to: writer, digests, seal)
            reservation.written(data.count)
            try await writer.makeDurable()
        } catch {
            await writer.abandon()
            throw error
        }
        return Intaken(
            content: .blob(id), size: data.count, md5: Hex.encode(digests.md5.finish()),
            checksum: digests.checksum.map { ($0.algorithm, $0.finish()) }
        )
        .encrypted(encryption, atRest: seal?.digest ?? "")
    }

    /// Writes bytes that are in the store already as a new blob (copies).
    /// - Parameters:
    ///   - source: how these bytes are encrypted.
    ///   - encryption: how the new ones shall be.
    func copy(
        _ segments: [Segment], checksum: ChecksumAlgorithm?, source: OpenEncryption? = nil, encryption: OpenEncryption? = nil
    ) async throws(CloudError) -> Intaken {
        let size = segments.reduce(0) { $0 + $1.length }
        let reservation = try await ledger.reserve(size)
        let id = BlobID(random: random.bytes(16))
        let writer = try await bytes.create(id)
        let digests = BodyDigests(sha256: false, checksum: checksum)
        let seal = try encryption.map { e throws(CloudError) in Seal(cipher: try e.cipher(id)) }
        do throws(CloudError) {
            for segment in segments {
                guard let blob = try await bytes.open(segment.blob) else { throw CloudError.bug("blob \(segment.blob) of a copy is gone") }
                let opening = try source?.cipher(segment.blob, offset: segment.offset)
                var done = 0
                while done < segment.length {
                    let count = min(2 * Self.batchSize, segment.length - done)
                    var buffer = try await blob.read(offset: segment.offset + done, length: count)
                    if let opening { buffer = await opening.staged(buffer) }
                    try await Self.append(buffer, to: writer, digests, seal)
                    reservation.written(count)
                    done += count
                }
            }
            try await writer.makeDurable()
        } catch {
            await writer.abandon()
            throw error
        }
        return Intaken(
            content: .blob(id), size: size, md5: Hex.encode(digests.md5.finish()),
            checksum: digests.checksum.map { ($0.algorithm, $0.finish()) }
        )
        .encrypted(encryption, atRest: seal?.digest ?? "")
    }
}

/// A stretch of a blob.
struct Segment: Sendable, Equatable {
    let blob: BlobID
    let offset: Int
    let length: Int
}

/// A request's body without its framing, and the comparison with all that the request promised.
struct BodyUnframer {
    private let plan: IntakePlan
    private var iterator: RequestBody.AsyncIterator
    private var decoder: ChunkDecoder?
    private var received = 0

    init(_ r: S3Request, _ plan: IntakePlan) throws(CloudError) {
        self.plan = plan
        iterator = r.http.body.makeAsyncIterator()
        if plan.isChunked, let signature = r.requester.signature {
            decoder = try ChunkDecoder(verified: signature, decodedLength: plan.length, trailers: plan.trailers)
        }
    }

    /// The next data, at least this much unless the body ends; `nil` at the end.
    mutating func next(atLeast count: Int) async throws(CloudError) -> ByteBuffer? {
        var batch = ByteBuffer()
        while batch.readableBytes < count {
            let read: ByteBuffer?
            do { read = try await iterator.next() } catch {
                throw error as? CloudError ?? S3Failure.incompleteBody(received: received + batch.readableBytes, expected: plan.length)
            }
            guard var piece = read else { break }
            if decoder != nil {
                for slice in try decode(piece) { batch.writeBytes(slice) }
            } else if batch.readableBytes == 0, piece.readableBytes >= count {
                batch = piece
            } else {
                // Made once in its final size: a buffer that grows is copied, and leaves a hole behind.
                if batch.capacity == 0 { batch.reserveCapacity(min(count + 256 * 1024, plan.length - received)) }
                batch.writeBuffer(&piece)
            }
            if let form = plan.form, received + batch.readableBytes > form.allowed.upperBound {
                throw S3Failure.entityTooLarge(limit: form.allowed.upperBound)
            }
            guard received + batch.readableBytes <= plan.length else {
                throw S3Failure.incompleteBody(received: received + batch.readableBytes, expected: plan.length)
            }
        }
        received += batch.readableBytes
        return batch.readableBytes == 0 ? nil : batch
    }

    private mutating func decode(_ piece: ByteBuffer) throws(CloudError) -> [ArraySlice<UInt8>] {
        try decoder?.feed(Array(piece.readableBytesView)) ?? []
    }

    mutating func collect(limit: Int) async throws(CloudError) -> [UInt8] {
        var data: [UInt8] = []
        data.reserveCapacity(limit)
        while let piece = try await next(atLeast: 1) { data += piece.readableBytesView }
        return data
    }

    /// Compares everything that was promised with everything that came.
    /// - Throws: `IncompleteBody`, `XAmzContentSHA256Mismatch`, `BadDigest`, what the chunks' signatures say.
    mutating func verified(_ digests: BodyDigests, content: ObjectContent, size: Int) throws(CloudError) -> Intaken {
        if let form = plan.form {
            try form.check(size)
        } else if size != plan.length {
            throw S3Failure.incompleteBody(received: size, expected: plan.length)
        }
        let trailers = try decoder?.finish() ?? []
        if let hash = plan.payloadHash, let sha256 = digests.sha256, Hex.encode(sha256.finish()) != hash {
            throw S3Failure.payloadHashMismatch()
        }
        let md5 = digests.md5.finish()
        if let expected = plan.contentMD5, expected != md5 { throw S3Failure.badDigest("Content-MD5") }
        var checksum: (ChecksumAlgorithm, [UInt8])?
        if let running = digests.checksum {
            let value = running.finish()
            var expected = plan.checksumValue
            if plan.checksumInTrailer {
                guard let text = trailers.first(where: { $0.name == running.algorithm.header })?.value,
                    let bytes = Base64.decode(text, strict: true), bytes.count == running.algorithm.length
                else { throw S3Failure.invalidRequest("Value for \(running.algorithm.header) trailing header is invalid.") }
                expected = bytes
            }
            if let expected, expected != value { throw S3Failure.badDigest("\(running.algorithm.rawValue)") }
            checksum = (running.algorithm, value)
        }
        return Intaken(content: content, size: size, md5: Hex.encode(md5), checksum: checksum)
    }
}
