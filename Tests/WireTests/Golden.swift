import Glibc
import TestKit
import Testing

/// Compares bytes with a file in `Tests/WireTests/Golden`.
func expectGolden(_ bytes: [UInt8], _ name: String, sourceLocation: SourceLocation = #_sourceLocation) {
    if let difference = GoldenFile(name).difference(from: bytes) { Issue.record("\(difference)", sourceLocation: sourceLocation) }
}

func goldenFile(_ name: String) -> [UInt8]? { try? GoldenFile(name).bytes() }

/// A repeatable source of choices (SplitMix64): a failing run is repeated with the printed seed in `KARRI_SEED`.
struct SeededChoices: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

    /// From `KARRI_SEED`, else from the clock; the test prints it.
    static func seed() -> UInt64 {
        if let text = getenv("KARRI_SEED"), let n = UInt64(String(cString: text)) { return n }
        var t = timespec()
        clock_gettime(CLOCK_REALTIME, &t)
        return UInt64(t.tv_nsec) ^ UInt64(t.tv_sec) << 20
    }
}
