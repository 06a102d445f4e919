/// The xxHash family with seed 0, fed piece by piece: XXH64 and XXH3 (64 and 128 bits).
///
/// Source: the xxHash specification (Yann Collet, "xxHash fast digest algorithm", doc/xxhash_spec.md); XXH3 with its default secret.
/// Values come out most significant byte first, the canonical form, which is what S3 puts into Base64.
enum XXHash {
    static let prime32x1: UInt64 = 0x9E37_79B1
    static let prime32x2: UInt64 = 0x85EB_CA77
    static let prime32x3: UInt64 = 0xC2B2_AE3D
    static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

    @inline(__always) static func rotate(_ x: UInt64, _ n: UInt64) -> UInt64 { x &<< n | x &>> (64 &- n) }

    @inline(__always) static func read64(_ p: UnsafeRawPointer, _ at: Int) -> UInt64 {
        UInt64(littleEndian: p.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    }

    @inline(__always) static func read32(_ p: UnsafeRawPointer, _ at: Int) -> UInt64 {
        UInt64(UInt32(littleEndian: p.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
    }

    /// The last mixing of XXH64.
    static func avalanche(_ hash: UInt64) -> UInt64 {
        var h = (hash ^ hash >> 33) &* prime2
        h = (h ^ h >> 29) &* prime3
        return h ^ h >> 32
    }

    static func bigEndian(_ value: UInt64) -> [UInt8] { (0..<8).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) } }
}

/// XXH64: four lanes of 64 bits, 32 bytes a round.
struct XXH64: Sendable {
    private var lanes: (UInt64, UInt64, UInt64, UInt64) = (
        XXHash.prime1 &+ XXHash.prime2, XXHash.prime2, 0, 0 &- XXHash.prime1
    )
    private var pending: [UInt8] = []
    private var total: UInt64 = 0

    @inline(__always) private static func round(_ lane: UInt64, _ input: UInt64) -> UInt64 {
        XXHash.rotate(lane &+ input &* XXHash.prime2, 31) &* XXHash.prime1
    }

    private mutating func stripes(_ p: UnsafeRawPointer, _ count: Int) {
        var (a, b, c, d) = lanes
        var at = 0
        while at < count {
            a = Self.round(a, XXHash.read64(p, at))
            b = Self.round(b, XXHash.read64(p, at &+ 8))
            c = Self.round(c, XXHash.read64(p, at &+ 16))
            d = Self.round(d, XXHash.read64(p, at &+ 24))
            at &+= 32
        }
        lanes = (a, b, c, d)
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        total &+= UInt64(bytes.count)
        var rest = bytes[...]
        if !pending.isEmpty {
            let piece = rest.prefix(32 - pending.count)
            pending += piece
            rest = rest.dropFirst(piece.count)
            guard pending.count == 32 else { return }
            let full = pending
            full.withUnsafeBytes { if let base = $0.baseAddress { stripes(base, 32) } }
            pending.removeAll(keepingCapacity: true)
        }
        let whole = rest.count & ~31
        if whole > 0, let base = UnsafeRawBufferPointer(rebasing: rest).baseAddress { stripes(base, whole) }
        pending += rest.dropFirst(whole)
    }

    func finish() -> [UInt8] {
        var hash: UInt64
        if total >= 32 {
            let (a, b, c, d) = lanes
            hash = XXHash.rotate(a, 1) &+ XXHash.rotate(b, 7) &+ XXHash.rotate(c, 12) &+ XXHash.rotate(d, 18)
            for lane in [a, b, c, d] { hash = (hash ^ Self.round(0, lane)) &* XXHash.prime1 &+ XXHash.prime4 }
        } else {
            hash = XXHash.prime5
        }
        hash &+= total
        pending.withUnsafeBytes { raw in
            guard let p = raw.baseAddress else { return }
            var at = 0
            while at + 8 <= raw.count {
                hash = XXHash.rotate(hash ^ Self.round(0, XXHash.read64(p, at)), 27) &* XXHash.prime1 &+ XXHash.prime4
                at += 8
            }
            if at + 4 <= raw.count {
                hash = XXHash.rotate(hash ^ XXHash.read32(p, at) &* XXHash.prime1, 23) &* XXHash.prime2 &+ XXHash.prime3
                at += 4
            }
            while at < raw.count {
                hash = XXHash.rotate(hash ^ UInt64(raw[at]) &* XXHash.prime5, 11) &* XXHash.prime1
                at += 1
            }
        }
        return XXHash.bigEndian(XXHash.avalanche(hash))
    }
}

/// XXH3: up to 240 bytes by formulas of their own, more by eight lanes over blocks of 1,024 bytes.
struct XXH3: Sendable {
    private static let block = 1024
    private static let stripe = 64
    private static let mix1: UInt64 = 0x1656_6791_9E37_79F9
    private static let mix2: UInt64 = 0x9FB2_1C65_1E98_DF25

    /// The default secret, 192 bytes.
    // SAFETY: written once, read-only afterwards, lives as long as the process.
    nonisolated(unsafe) private static let secret: UnsafeRawPointer = {
        let words: [UInt64] = [
            0xb8fe_6c39_23a4_4bbe, 0x7c01_812c_f721_ad1c, 0xded4_6de9_8390_97db, 0x7240_a4a4_b7b3_671f, 0xcb79_e64e_ccc0_e578,
            0x825a_d07d_ccff_7221, 0xb808_4674_f743_248e, 0xe035_90e6_813a_264c, 0x3c28_52bb_91c3_00cb, 0x88d0_658b_1b53_2ea3,
            0x7164_4897_a20d_f94e, 0x3819_ef46_a9de_acd8, 0xa8fa_763f_e39c_343f, 0xf9dc_bbc7_c70b_4f1d, 0x8a51_e04b_cdb4_5931,
            0xc89f_7ec9_d978_7364, 0xeac5_ac83_34d3_ebc3, 0xc581_a0ff_fa13_63eb, 0x170d_dd51_b7f0_da49, 0xd316_5526_29d4_689e,
            0x2b16_be58_7d47_a1fc, 0x8ff8_b8d1_7ad0_31ce, 0x45cb_3a8f_9516_0428, 0xafd7_fbca_bb4b_407e,
        ]
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 192, alignment: 64)
        for (index, word) in words.enumerated() { memory.storeBytes(of: word.bigEndian, toByteOffset: index * 8, as: UInt64.self) }
        return UnsafeRawPointer(memory)
    }()

    private var lanes: SIMD8<UInt64> = [
        XXHash.prime32x3, XXHash.prime1, XXHash.prime2, XXHash.prime3, XXHash.prime4, XXHash.prime32x2, XXHash.prime5, XXHash.prime32x1,
    ]
    /// Bytes that are not in the lanes yet, and before them the last 64 that are (zeros at the beginning): the last stripe may reach
    /// back into them.
    private var pending = [UInt8](repeating: 0, count: stripe)
    private var total = 0

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0, let base = bytes.baseAddress else { return }
        total += bytes.count
        var at = 0
        // A block goes into the lanes only when a byte follows it: the last one is treated otherwise.
        if pending.count > Self.stripe || bytes.count <= Self.block {
            at = min(bytes.count, Self.stripe + Self.block - pending.count)
            pending += bytes[..<at]
            guard at < bytes.count else { return }
            flush()
        }
        if bytes.count - at > Self.block {
            while bytes.count - at > Self.block {
                consume(base + at)
                at += Self.block
            }
            pending = Array(bytes[(at - Self.stripe)..<at])
        }
        pending += bytes[at...]
    }

    private mutating func flush() {
        let full = pending
        full.withUnsafeBytes { if let base = $0.baseAddress { consume(base + Self.stripe) } }
        pending = Array(full.suffix(Self.stripe))
    }

    private mutating func consume(_ p: UnsafeRawPointer) {
        for n in 0..<16 { Self.accumulate(&lanes, p + n &* Self.stripe, Self.secret + n &* 8) }
        let key = (Self.secret + 128).loadUnaligned(as: SIMD8<UInt64>.self)
        lanes = (lanes ^ (lanes &>> 47) ^ key) &* XXHash.prime32x1
    }

    @inline(__always)
    private static func accumulate(_ lanes: inout SIMD8<UInt64>, _ p: UnsafeRawPointer, _ secret: UnsafeRawPointer) {
        let value = p.loadUnaligned(as: SIMD8<UInt64>.self)
        let keyed = value ^ secret.loadUnaligned(as: SIMD8<UInt64>.self)
        let swapped = SIMD8<UInt64>(value[1], value[0], value[3], value[2], value[5], value[4], value[7], value[6])
        lanes = lanes &+ swapped &+ (keyed & 0xFFFF_FFFF) &* (keyed &>> 32)
    }

    // MARK: the end

    @inline(__always) private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.low ^ product.high
    }

    private static func avalanche(_ hash: UInt64) -> UInt64 {
        let h = (hash ^ hash >> 37) &* mix1
        return h ^ h >> 32
    }

    private static func key64(_ at: Int) -> UInt64 { XXHash.read64(secret, at) }
    private static func key32(_ at: Int) -> UInt64 { XXHash.read32(secret, at) }

    /// 16 bytes of input against 16 of the secret.
    private static func mix(_ p: UnsafeRawPointer, _ at: Int, _ key: Int) -> UInt64 {
        fold(XXHash.read64(p, at) ^ key64(key), XXHash.read64(p, at + 8) ^ key64(key + 8))
    }

    private static func merge(_ lanes: SIMD8<UInt64>, _ key: Int, _ start: UInt64) -> UInt64 {
        var result = start
        for i in 0..<4 { result &+= fold(lanes[2 * i] ^ key64(key + 16 * i), lanes[2 * i + 1] ^ key64(key + 16 * i + 8)) }
        return avalanche(result)
    }

    /// The lanes with the last, unfinished block and the last 64 bytes in them.
    private func finalLanes() -> SIMD8<UInt64> {
        var lanes = lanes
        let count = pending.count - Self.stripe
        pending.withUnsafeBytes { raw in
            guard let base = raw.baseAddress else { return }
            for n in 0..<(count - 1) / Self.stripe {
                Self.accumulate(&lanes, base + Self.stripe + n * Self.stripe, Self.secret + n * 8)
            }
            Self.accumulate(&lanes, base + count, Self.secret + 121)
        }
        return lanes
    }

    private func short<R>(_ body: (UnsafeRawPointer) -> R) -> R {
        pending.withUnsafeBytes { raw in body(raw.baseAddress.map { $0 + Self.stripe } ?? Self.secret) }
    }

    func finish64() -> [UInt8] {
        let length = UInt64(total)
        guard total <= 240 else { return XXHash.bigEndian(Self.merge(finalLanes(), 11, length &* XXHash.prime1)) }
        return XXHash.bigEndian(short { Self.short64($0, total) })
    }

    func finish128() -> [UInt8] {
        let length = UInt64(total)
        let (low, high): (UInt64, UInt64)
        if total <= 240 {
            (low, high) = short { Self.short128($0, total) }
        } else {
            let lanes = finalLanes()
            low = Self.merge(lanes, 11, length &* XXHash.prime1)
            high = Self.merge(lanes, 192 - 64 - 11, ~(length &* XXHash.prime2))
        }
        return XXHash.bigEndian(high) + XXHash.bigEndian(low)
    }

    private static func short64(_ p: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let length = UInt64(count)
        switch count {
        case 0: return XXHash.avalanche(key64(56) ^ key64(64))
        case 1...3:
            return XXHash.avalanche(combined(p, count) ^ (key32(0) ^ key32(4)))
        case 4...8:
            let input = XXHash.read32(p, count - 4) &+ XXHash.read32(p, 0) << 32
            var h = input ^ (key64(8) ^ key64(16))
            h ^= XXHash.rotate(h, 49) ^ XXHash.rotate(h, 24)
            h = h &* mix2
            h ^= h >> 35 &+ length
            h = h &* mix2
            return h ^ h >> 28
        case 9...16:
            let low = XXHash.read64(p, 0) ^ (key64(24) ^ key64(32))
            let high = XXHash.read64(p, count - 8) ^ (key64(40) ^ key64(48))
            return avalanche(length &+ low.byteSwapped &+ high &+ fold(low, high))
        case 17...128:
            var sum = length &* XXHash.prime1
            for i in stride(from: (count - 1) / 32, through: 0, by: -1) {
                sum &+= mix(p, 16 * i, 32 * i)
                sum &+= mix(p, count - 16 * (i + 1), 32 * i + 16)
            }
            return avalanche(sum)
        default:
            var sum = length &* XXHash.prime1
            for i in 0..<8 { sum &+= mix(p, 16 * i, 16 * i) }
            sum = avalanche(sum)
            for i in 8..<count / 16 { sum &+= mix(p, 16 * i, 16 * (i - 8) + 3) }
            return avalanche(sum &+ mix(p, count - 16, 136 - 17))
        }
    }

    private static func combined(_ p: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let first = UInt64(p.load(as: UInt8.self))
        let middle = UInt64(p.load(fromByteOffset: count >> 1, as: UInt8.self))
        let last = UInt64(p.load(fromByteOffset: count - 1, as: UInt8.self))
        return first << 16 | middle << 24 | last | UInt64(count) << 8
    }

    private static func mix32(
        _ sum: (low: UInt64, high: UInt64), _ p: UnsafeRawPointer, _ first: Int, _ second: Int, _ key: Int
    ) -> (low: UInt64, high: UInt64) {
        let low = (sum.low &+ mix(p, first, key)) ^ (XXHash.read64(p, second) &+ XXHash.read64(p, second + 8))
        let high = (sum.high &+ mix(p, second, key + 16)) ^ (XXHash.read64(p, first) &+ XXHash.read64(p, first + 8))
        return (low, high)
    }

    private static func end128(_ sum: (low: UInt64, high: UInt64), _ length: UInt64) -> (UInt64, UInt64) {
        let high = sum.low &* XXHash.prime1 &+ sum.high &* XXHash.prime4 &+ length &* XXHash.prime2
        return (avalanche(sum.low &+ sum.high), 0 &- avalanche(high))
    }

    private static func short128(_ p: UnsafeRawPointer, _ count: Int) -> (UInt64, UInt64) {
        let length = UInt64(count)
        switch count {
        case 0: return (XXHash.avalanche(key64(64) ^ key64(72)), XXHash.avalanche(key64(80) ^ key64(88)))
        case 1...3:
            let low = combined(p, count)
            let swapped = UInt32(truncatingIfNeeded: low).byteSwapped
            let high = UInt64(swapped << 13 | swapped >> 19)
            return (XXHash.avalanche(low ^ (key32(0) ^ key32(4))), XXHash.avalanche(high ^ (key32(8) ^ key32(12))))
        case 4...8:
            let input = XXHash.read32(p, 0) &+ XXHash.read32(p, count - 4) << 32
            let product = (input ^ (key64(16) ^ key64(24))).multipliedFullWidth(by: XXHash.prime1 &+ length << 2)
            var (low, high) = (product.low, product.high)
            high &+= low << 1
            low ^= high >> 3
            low = (low ^ low >> 35) &* mix2
            return (low ^ low >> 28, avalanche(high))
        case 9...16:
            let first = XXHash.read64(p, 0)
            var second = XXHash.read64(p, count - 8)
            let product = (first ^ second ^ (key64(32) ^ key64(40))).multipliedFullWidth(by: XXHash.prime1)
            var (low, high) = (product.low, product.high)
            low &+= (length &- 1) << 54
            second ^= key64(48) ^ key64(56)
            high &+= second &+ (second & 0xFFFF_FFFF) &* (XXHash.prime32x2 &- 1)
            low ^= high.byteSwapped
            let end = low.multipliedFullWidth(by: XXHash.prime2)
            return (avalanche(end.low), avalanche(end.high &+ high &* XXHash.prime2))
        case 17...128:
            var sum = (low: length &* XXHash.prime1, high: UInt64(0))
            for i in stride(from: (count - 1) / 32, through: 0, by: -1) {
                sum = mix32(sum, p, 16 * i, count - 16 * (i + 1), 32 * i)
            }
            return end128(sum, length)
        default:
            var sum = (low: length &* XXHash.prime1, high: UInt64(0))
            for i in 0..<4 { sum = mix32(sum, p, 32 * i, 32 * i + 16, 32 * i) }
            sum = (avalanche(sum.low), avalanche(sum.high))
            for i in stride(from: 160, through: count, by: 32) { sum = mix32(sum, p, i - 32, i - 16, 3 + i - 160) }
            sum = mix32(sum, p, count - 16, count - 32, 136 - 17 - 16)
            return end128(sum, length)
        }
    }
}
