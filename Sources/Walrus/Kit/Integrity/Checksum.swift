public import Domain
import Signing
import Synchronization

/// The checksum algorithms of S3's flexible checksums.
/// Source: S3 User Guide, "Checking object integrity"; S3 API reference, "Checksum".
public enum ChecksumAlgorithm: String, Sendable, CaseIterable {
    case crc32 = "CRC32"
    case crc32c = "CRC32C"
    case sha1 = "SHA1"
    case sha256 = "SHA256"
    case crc64nvme = "CRC64NVME"
    case sha512 = "SHA512"
    case md5 = "MD5"
    case xxhash64 = "XXHASH64"
    case xxhash3 = "XXHASH3"
    case xxhash128 = "XXHASH128"

    /// `x-amz-checksum-crc32`
    public var header: String { "x-amz-checksum-" + rawValue.lowercased() }
    /// `ChecksumCRC32`
    public var element: String { "Checksum" + rawValue }

    /// `nil`: not a cyclic redundancy check, so values of parts cannot be combined.
    var crc: CRC? {
        switch self {
        case .crc32: .crc32
        case .crc32c: .crc32c
        case .crc64nvme: .crc64nvme
        case .sha1, .sha256, .sha512, .md5, .xxhash64, .xxhash3, .xxhash128: nil
        }
    }

    /// Bytes of the value.
    public var length: Int {
        switch self {
        case .crc32, .crc32c: 4
        case .crc64nvme, .xxhash64, .xxhash3: 8
        case .md5, .xxhash128: 16
        case .sha1: 20
        case .sha256: 32
        case .sha512: 64
        }
    }

    /// What a multipart upload may be asked for; the first is what it gets unasked.
    public var multipartTypes: [ChecksumType] {
        switch self {
        case .crc64nvme: [.fullObject]
        case .crc32, .crc32c: [.composite, .fullObject]
        case .sha1, .sha256, .sha512, .md5, .xxhash64, .xxhash3, .xxhash128: [.composite]
        }
    }

    /// The names as clients write them, in any case. - Throws: `InvalidRequest`.
    public init(parsing text: String) throws(CloudError) {
        guard let found = Self(rawValue: text.uppercased()) else {
            throw S3Failure.invalidRequest(
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \(Self.names)")
        }
        self = found
    }

    static var names: String { "[" + allCases.map(\.rawValue).joined(separator: ", ") + "]" }

    public func of(_ bytes: [UInt8]) -> [UInt8] {
        let running = RunningChecksum(self)
        bytes.withUnsafeBytes { running.update($0) }
        return running.finish()
    }
}

public enum ChecksumType: String, Sendable {
    case fullObject = "FULL_OBJECT"
    case composite = "COMPOSITE"
}

/// A checksum as it is stored with an object or part.
public struct StoredChecksum: Sendable, Equatable {
    public let algorithm: ChecksumAlgorithm
    public let type: ChecksumType
    /// Base64, with `-<parts>` at the end of a composite one.
    public let value: String
    public init(_ algorithm: ChecksumAlgorithm, _ type: ChecksumType, _ value: String) {
        self.algorithm = algorithm
        self.type = type
        self.value = value
    }
}

/// A checksum that is fed piece by piece, by one task after the other.
public final class RunningChecksum: Sendable {
    public let algorithm: ChecksumAlgorithm
    private enum State: Sendable {
        case crc(CRC, UInt64)
        case digest(Digest.Hasher)
        case xxh64(XXH64)
        case xxh3(XXH3)
    }
    private let state: Mutex<State>

    public init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        let start: State =
            switch algorithm {
            case .crc32: .crc(.crc32, CRC.crc32.start)
            case .crc32c: .crc(.crc32c, CRC.crc32c.start)
            case .crc64nvme: .crc(.crc64nvme, CRC.crc64nvme.start)
            case .sha1: .digest(Digest.Hasher(.sha1))
            case .sha256: .digest(Digest.Hasher(.sha256))
            case .sha512: .digest(Digest.Hasher(.sha512))
            case .md5: .digest(Digest.Hasher(.md5))
            case .xxhash64: .xxh64(XXH64())
            case .xxhash3, .xxhash128: .xxh3(XXH3())
            }
        state = Mutex(start)
    }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        state.withLock { state in
            switch state {
            case .crc(let crc, let register): state = .crc(crc, crc.update(register, bytes))
            case .digest(let hasher): hasher.update(bytes)
            case .xxh64(var hash):
                hash.update(bytes)
                state = .xxh64(hash)
            case .xxh3(var hash):
                hash.update(bytes)
                state = .xxh3(hash)
            }
        }
    }

    /// The value, most significant byte first.
    public func finish() -> [UInt8] {
        let isWide = algorithm == .xxhash128
        return state.withLock { state in
            switch state {
            case .crc(let crc, let register): crc.bytes(crc.finish(register))
            case .digest(let hasher): hasher.finish()
            case .xxh64(let hash): hash.finish()
            case .xxh3(let hash): isWide ? hash.finish128() : hash.finish64()
            }
        }
    }
}

/// The checksum of an object that is made of parts.
public enum PartChecksums {
    public struct Part: Sendable {
        let value: [UInt8]
        let size: Int
        public init(value: [UInt8], size: Int) {
            self.value = value
            self.size = size
        }
    }

    /// Full object: the parts' CRCs combined; composite: the checksum of the parts' values, and their number.
    /// `nil` when the algorithm has no full-object form for parts (all but the CRCs) or a value has a wrong length.
    public static func combine(_ parts: [Part], _ algorithm: ChecksumAlgorithm, _ type: ChecksumType) -> String? {
        switch type {
        case .composite:
            return Base64.encode(algorithm.of(parts.flatMap(\.value))) + "-\(parts.count)"
        case .fullObject:
            guard let crc = algorithm.crc else { return nil }
            var total: UInt64 = 0
            for part in parts {
                guard let value = crc.value(part.value) else { return nil }
                total = crc.combine(total, value, secondLength: part.size)
            }
            return Base64.encode(crc.bytes(total))
        }
    }
}
