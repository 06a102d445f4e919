/// The three reflected cyclic redundancy checks of S3, eight bytes a step.
///
/// Source: "A Systematic Approach to Building High Performance Software-based CRC Generators" (Kounavis and Berry, slicing by 8);
/// parameters from the CRC catalogue: CRC-32/ISO-HDLC, CRC-32/ISCSI (Castagnoli), CRC-64/NVME.
public final class CRC: @unchecked Sendable {
    /// 32 or 64 bits.
    public let width: Int
    private let polynomial: UInt64
    private let ones: UInt64
    // SAFETY: written in `init` only, read-only afterwards, lives as long as the process (the three instances are static).
    private let tables: UnsafeMutablePointer<UInt64>
    /// `powers[n]` is x to the power 2ⁿ modulo the polynomial.
    private let powers: [UInt64]
    /// x to the power 8·`lane`.
    private let laneShift: UInt64

    public static let crc32 = CRC(width: 32, polynomial: 0xEDB8_8320)
    public static let crc32c = CRC(width: 32, polynomial: 0x82F6_3B78)
    public static let crc64nvme = CRC(width: 64, polynomial: 0x9A6C_9329_AC4B_C9B5)

    private init(width: Int, polynomial: UInt64) {
        self.width = width
        self.polynomial = polynomial
        ones = width == 64 ? UInt64.max : (1 << UInt64(width)) - 1
        tables = .allocate(capacity: 8 * 256)
        for byte in 0..<256 {
            var value = UInt64(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ polynomial : value >> 1 }
            tables[byte] = value
        }
        for slice in 1..<8 {
            for byte in 0..<256 {
                let previous = tables[(slice - 1) * 256 + byte]
                tables[slice * 256 + byte] = (previous >> 8) ^ tables[Int(previous & 0xFF)]
            }
        }
        var power: UInt64 = 1 << UInt64(width - 2)  // x¹: the highest bit is x⁰
        var powers: [UInt64] = []
        for _ in 0..<70 {
            powers.append(power)
            power = Self.multiply(power, power, width: width, polynomial: polynomial)
        }
        self.powers = powers
        laneShift = powers[Self.lane.trailingZeroBitCount + 3]
    }

    /// The register before the first byte.
    public var start: UInt64 { ones }

    /// Bytes of one of the three stretches that are worked on at once. Too low: joining them costs more than it saves; too high: short
    /// pieces do not profit.
    private static let lane = 4096

    /// The register after `bytes`. A register waits for its own tables' answers; so long pieces are cut into three stretches whose
    /// registers run side by side, and are joined as `combine` joins parts.
    public func update(_ register: UInt64, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        guard let base = bytes.baseAddress else { return register }
        let lane = Self.lane
        var crc = register
        var at = 0
        while bytes.count &- at >= 3 &* lane {
            let p = base + at
            var (first, second, third) = (crc, UInt64(0), UInt64(0))
            var i = 0
            while i < lane {
                first = step(first ^ UInt64(littleEndian: p.loadUnaligned(fromByteOffset: i, as: UInt64.self)))
                second = step(second ^ UInt64(littleEndian: p.loadUnaligned(fromByteOffset: i &+ lane, as: UInt64.self)))
                third = step(third ^ UInt64(littleEndian: p.loadUnaligned(fromByteOffset: i &+ 2 &* lane, as: UInt64.self)))
                i &+= 8
            }
            let joined = Self.multiply(laneShift, first, width: width, polynomial: polynomial) ^ second
            crc = Self.multiply(laneShift, joined, width: width, polynomial: polynomial) ^ third
            at &+= 3 &* lane
        }
        let whole = at &+ (bytes.count &- at) & ~7
        while at < whole {
            crc = step(crc ^ UInt64(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt64.self)))
            at &+= 8
        }
        while at < bytes.count {
            crc = (crc >> 8) ^ tables[Int((crc ^ UInt64(base.load(fromByteOffset: at, as: UInt8.self))) & 0xFF)]
            at &+= 1
        }
        return crc
    }

    /// Eight bytes, already added to the register.
    @inline(__always)
    private func step(_ crc: UInt64) -> UInt64 {
        let t = tables
        return t[7 * 256 + Int(crc & 0xFF)] ^ t[6 * 256 + Int(crc >> 8 & 0xFF)] ^ t[5 * 256 + Int(crc >> 16 & 0xFF)]
            ^ t[4 * 256 + Int(crc >> 24 & 0xFF)] ^ t[3 * 256 + Int(crc >> 32 & 0xFF)] ^ t[2 * 256 + Int(crc >> 40 & 0xFF)]
            ^ t[256 + Int(crc >> 48 & 0xFF)] ^ t[Int(crc >> 56)]
    }

    /// The value of a register, as a number.
    public func finish(_ register: UInt64) -> UInt64 { register ^ ones }

    /// The value of a register, most significant byte first, as S3 puts it into Base64.
    public func bytes(_ value: UInt64) -> [UInt8] {
        (0..<width / 8).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// The opposite of `bytes`; `nil` when the length is not that of this CRC.
    public func value(_ bytes: [UInt8]) -> UInt64? {
        guard bytes.count == width / 8 else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The CRC of A followed by B, from those of A and B and B's length in bytes: how a multipart upload gets the checksum of the
    /// whole object without reading it again. Source: zlib's crc32_combine (x to the power of 8·length, modulo the polynomial).
    public func combine(_ first: UInt64, _ second: UInt64, secondLength: Int) -> UInt64 {
        var shift: UInt64 = 1 << UInt64(width - 1)  // x⁰
        var rest = UInt64(secondLength)
        var power = 3  // bytes to bits
        while rest != 0 {
            if rest & 1 == 1 { shift = Self.multiply(powers[power], shift, width: width, polynomial: polynomial) }
            rest >>= 1
            power += 1
        }
        return Self.multiply(shift, first, width: width, polynomial: polynomial) ^ second
    }

    private static func multiply(_ a: UInt64, _ b: UInt64, width: Int, polynomial: UInt64) -> UInt64 {
        var mask: UInt64 = 1 << UInt64(width - 1)
        var b = b
        var product: UInt64 = 0
        while mask != 0 {
            if a & mask != 0 { product ^= b }
            mask >>= 1
            b = b & 1 == 1 ? (b >> 1) ^ polynomial : b >> 1
        }
        return product
    }
}
