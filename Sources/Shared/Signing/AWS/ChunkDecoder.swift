public import Domain

/// Takes the `aws-chunked` framing off a body and verifies each chunk's signature, chained from the request's
/// (S3 API Reference, "Signature calculations for the Authorization header: transferring payload in multiple chunks").
///
/// `feed` gives data out as it comes, before its chunk's signature is known, so that memory stays bounded whatever chunk size the
/// client chose: what comes out goes to a staging place, and may be shown to a reader only after `finish` has returned. `feed`
/// throws at the end of the first chunk that is wrong. The last, empty chunk is verified too (truncation), and the length must be
/// the one announced. A value of this type has one owner: a copy shares the digest that is under way.
public struct ChunkDecoder {
    /// A longer chunk header or trailer line is an attack or an error; real ones have 90 and 150 bytes.
    private static let longestLine = 512
    /// More digits than these overflow; the largest object is 5 TiB (11 digits).
    private static let longestSize = 12
    private static let mostTrailers = 16

    private enum State {
        case size, data(left: Int), dataEnd, trailer, end
    }

    private let seed: VerifiedSignature.Seed?
    private let signed: Bool
    private let hasTrailer: Bool
    private let announced: Set<String>
    private let expectedLength: Int?
    private var state = State.size
    private var line: [UInt8] = []
    private var previous: String
    private var claimed = ""
    private let hasher = Digest.Hasher(.sha256)
    private var received = 0
    private var isLastChunk = false
    private var trailers: [(name: String, value: String)] = []
    private var trailerSignature: String?
    private var failure: CloudError?

    /// - Parameters:
    ///   - decodedLength: the value of `x-amz-decoded-content-length`.
    ///   - trailers: the names in `x-amz-trailer` (any case); others are refused.
    /// - Throws: a bug when the signature's payload is not a chunked one.
    public init(verified: VerifiedSignature, decodedLength: Int?, trailers: [String] = []) throws(CloudError) {
        switch verified.payload {
        case .streamingSigned(let trailer):
            guard let seed = verified.seed else { throw .bug("a signed stream without a seed") }
            signed = true
            hasTrailer = trailer
            self.seed = seed
            previous = seed.signature
        case .streamingUnsignedTrailer:
            signed = false
            hasTrailer = true
            seed = nil
            previous = ""
        case .hash, .unsigned, .none: throw .bug("this payload is not chunked")
        }
        announced = Set(trailers.map { $0.collapsedSpaces.asciiLowercased }.filter { !$0.utf8.isEmpty })
        expectedLength = decodedLength
    }

    /// Bytes of data seen so far.
    public var decodedBytes: Int { received }

    /// Takes the next bytes of the body, cut anywhere.
    /// - Returns: the data in them, slices of `bytes`.
    /// - Throws: `.unauthenticated(.badSignature)`, `IncompleteBody`, `InvalidChunkSizeError`, `MalformedTrailerError`; the same again
    ///   ever after.
    public mutating func feed(_ bytes: [UInt8]) throws(CloudError) -> [ArraySlice<UInt8>] { try feed(bytes[...]) }

    public mutating func feed(_ bytes: ArraySlice<UInt8>) throws(CloudError) -> [ArraySlice<UInt8>] {
        if let failure { throw failure }
        do throws(CloudError) { return try take(bytes) } catch {
            failure = error
            throw error
        }
    }

    private mutating func take(_ bytes: ArraySlice<UInt8>) throws(CloudError) -> [ArraySlice<UInt8>] {
        var out: [ArraySlice<UInt8>] = []
        var rest = bytes
        while !rest.isEmpty {
            switch state {
            case .size:
                if let text = try takeLine(&rest) { try startChunk(text) }
            case .data(let left):
                let piece = rest.prefix(left)
                if signed { hasher.update(piece) }
                out.append(piece)
                received += piece.count
                rest = rest.dropFirst(piece.count)
                state = left == piece.count ? .dataEnd : .data(left: left - piece.count)
            case .dataEnd:
                if let text = try takeLine(&rest) {
                    guard text.isEmpty else { throw Self.incomplete("a chunk is longer than it says") }
                    try endChunk()
                }
            case .trailer:
                if let text = try takeLine(&rest) { try takeTrailer(text) }
            case .end: throw Self.incomplete("bytes follow the last chunk")
            }
        }
        return out
    }

    /// To be called at the end of the body.
    /// - Returns: the trailers, without their signature, in order; names in lower case.
    /// - Throws: `IncompleteBody` when the last chunk has not come or the length is not the one announced.
    public mutating func finish() throws(CloudError) -> [(name: String, value: String)] {
        if let failure { throw failure }
        // Clients exist that leave out the line end or the empty line after the trailers or the last chunk.
        if case .trailer = state, !line.isEmpty {
            if line.last == 0x0d { line.removeLast() }
            let text = line
            line = []
            try takeTrailer(text)
        }
        if case .trailer = state, line.isEmpty, !hasTrailer || (signed ? trailerSignature != nil : !trailers.isEmpty || announced.isEmpty) {
            try endTrailers()
        }
        guard case .end = state else { throw Self.incomplete("the last chunk is missing") }
        if let expectedLength, expectedLength != received {
            throw Self.incomplete("x-amz-decoded-content-length is \(expectedLength), the chunks hold \(received) bytes")
        }
        return trailers
    }

    private static func incomplete(_ why: String) -> CloudError {
        CloudError(
            .named(code: "IncompleteBody", status: 400),
            "The request body terminated unexpectedly or is not valid aws-chunked: \(why)")
    }

    /// The next line without its CR LF, or `nil` when it has not ended yet.
    private mutating func takeLine(_ rest: inout ArraySlice<UInt8>) throws(CloudError) -> [UInt8]? {
        guard let newline = rest.firstIndex(of: 0x0a) else {
            guard line.count + rest.count <= Self.longestLine else { throw Self.incomplete("a line is too long") }
            line += rest
            rest = []
            return nil
        }
        line += rest[rest.startIndex..<newline]
        rest = rest[(newline + 1)...]
        guard line.count <= Self.longestLine, line.last == 0x0d else { throw Self.incomplete("a line does not end in CR LF") }
        let text = Array(line.dropLast())
        line = []
        return text
    }

    private mutating func startChunk(_ text: [UInt8]) throws(CloudError) {
        let parts = text.split(separator: 0x3b, maxSplits: 1, omittingEmptySubsequences: false)
        guard !parts[0].isEmpty, parts[0].count <= Self.longestSize, let size = Int(String(decoding: parts[0], as: UTF8.self), radix: 16),
            parts[0].first != 0x2b, parts[0].first != 0x2d
        else { throw CloudError(.named(code: "InvalidChunkSizeError", status: 400), "The size of a chunk is not valid") }
        if let expectedLength, received + size > expectedLength {
            throw Self.incomplete("the chunks hold more than the \(expectedLength) bytes of x-amz-decoded-content-length")
        }
        if signed {
            let prefix = Array("chunk-signature=".utf8)
            guard parts.count == 2, parts[1].starts(with: prefix), parts[1].count == prefix.count + 64 else {
                throw CloudError(.unauthenticated(.malformed), context: "a chunk without a signature")
            }
            claimed = String(decoding: parts[1].dropFirst(prefix.count), as: UTF8.self)
        }
        isLastChunk = size == 0
        if !isLastChunk {
            state = .data(left: size)
            return
        }
        try verifyChunk()
        state = .trailer
    }

    private mutating func endChunk() throws(CloudError) {
        try verifyChunk()
        state = .size
    }

    private mutating func verifyChunk() throws(CloudError) {
        guard signed, let seed else { return }
        let text =
            "AWS4-HMAC-SHA256-PAYLOAD\n\(seed.date)\n\(seed.scope)\n\(previous)\n\(CanonicalV4.emptySHA256)\n\(Hex.encode(hasher.finish()))"
        let right = Hex.encode(CanonicalV4.signature(key: seed.signingKey, text))
        guard constantTimeEqual(right.utf8, claimed.asciiLowercased.utf8) else {
            throw CloudError(.unauthenticated(.badSignature), context: "the signature of the chunk that ends at byte \(received) is wrong")
        }
        previous = right
    }

    /// After the last chunk: trailer lines, then an empty line. Without trailers the empty line comes at once.
    private mutating func takeTrailer(_ text: [UInt8]) throws(CloudError) {
        if text.isEmpty {
            // An SDK ends the 0 chunk with an empty line as it ends the others, then sends trailers, then another empty line.
            if hasTrailer, trailers.isEmpty, trailerSignature == nil, !announced.isEmpty { return }
            try endTrailers()
            return
        }
        let malformed = CloudError(
            .named(code: "MalformedTrailerError", status: 400), "The request contained trailing data that was not well-formed")
        guard hasTrailer, let colon = text.firstIndex(of: 0x3a), trailers.count < Self.mostTrailers else { throw malformed }
        let name = String(decoding: text[..<colon], as: UTF8.self).collapsedSpaces.asciiLowercased
        let value = String(decoding: text[(colon + 1)...], as: UTF8.self).collapsedSpaces
        if name == "x-amz-trailer-signature" {
            guard signed, trailerSignature == nil else { throw malformed }
            trailerSignature = value
            return
        }
        guard trailerSignature == nil, announced.contains(name), !trailers.contains(where: { $0.name == name }) else { throw malformed }
        trailers.append((name, value))
    }

    private mutating func endTrailers() throws(CloudError) {
        state = .end
        guard Set(trailers.map(\.name)) == announced || !hasTrailer else {
            throw CloudError(
                .named(code: "MalformedTrailerError", status: 400), "The request did not send all trailers that x-amz-trailer announced")
        }
        guard signed, hasTrailer, let seed else { return }
        guard let claimed = trailerSignature else {
            throw CloudError(.unauthenticated(.malformed), context: "the trailers have no signature")
        }
        let lines = trailers.map { "\($0.name):\($0.value)\n" }.joined()
        let text =
            "AWS4-HMAC-SHA256-TRAILER\n\(seed.date)\n\(seed.scope)\n\(previous)\n\(Hex.encode(Digest.sha256(lines.utf8)))"
        guard constantTimeEqual(Hex.encode(CanonicalV4.signature(key: seed.signingKey, text)).utf8, claimed.asciiLowercased.utf8) else {
            throw CloudError(.unauthenticated(.badSignature), context: "the signature of the trailers is wrong")
        }
    }
}
