public import Domain
import Signing
import Synchronization

/// The checksum algorithms of S3's flexible checksums that Walrus verifies and keeps.
/// Source: S3 User Guide, "Checking object integrity".
public enum ChecksumAlgorithm: String, Sendable, CaseIterable {
    case crc32 = "CRC32"
    case crc32c = "CRC32C"
    case crc64nvme = "CRC64NVME"
    case sha1 = "SHA1"
    case sha256 = "SHA256"

    /// `x-amz-checksum-crc32`
    public var header: String { "x-amz-checksum-" + rawValue.lowercased() }
    /// `ChecksumCRC32`
    public var element: String { "Checksum" + rawValue }

    var crc: CRC? {
        switch self {
        case .crc32: .crc32
        case .crc32c: .crc32c
        case .crc64nvme: .crc64nvme
        case .sha1, .sha256: nil
        }
    }

    /// Bytes of the value.
    public var length: Int {
        switch self {
        case .crc32, .crc32c: 4
        case .crc64nvme: 8
        case .sha1: 20
        case .sha256: 32
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
    private let register: Mutex<UInt64>
    private let hasher: Digest.Hasher?

    public init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        register = Mutex(algorithm.crc?.start ?? 0)
        hasher =
            switch algorithm {
            case .sha1: Digest.Hasher(.sha1)
            case .sha256: Digest.Hasher(.sha256)
            case .crc32, .crc32c, .crc64nvme: nil
            }
    }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        if let crc = algorithm.crc {
            let before = register.withLock { $0 }
            let after = crc.update(before, bytes)
            register.withLock { $0 = after }
        } else {
            hasher?.update(bytes)
        }
    }

    /// The value, most significant byte first.
    public func finish() -> [UInt8] {
        if let crc = algorithm.crc { return crc.bytes(crc.finish(register.withLock { $0 })) }
        return hasher?.finish() ?? []
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
    /// `nil` when the algorithm has no full-object form for parts (SHA-1, SHA-256) or a value has a wrong length.
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
