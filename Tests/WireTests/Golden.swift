import Glibc
import Testing

/// Compares bytes with a file in `Tests/WireTests/Golden`; `UPDATE_GOLDEN=1` rewrites the file.
func expectGolden(_ bytes: [UInt8], _ name: String, sourceLocation: SourceLocation = #_sourceLocation) {
    let path = goldenFolder + "/" + name
    if getenv("UPDATE_GOLDEN") != nil {
        guard let file = fopen(path, "wb") else {
            Issue.record("cannot write \(path)", sourceLocation: sourceLocation)
            return
        }
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
        return
    }
    guard let wanted = goldenFile(name) else {
        Issue.record("no golden file \(name): UPDATE_GOLDEN=1 writes it", sourceLocation: sourceLocation)
        return
    }
    #expect(
        String(decoding: bytes, as: UTF8.self) == String(decoding: wanted, as: UTF8.self), "\(name) differs",
        sourceLocation: sourceLocation)
}

func goldenFile(_ name: String) -> [UInt8]? {
    guard let file = fopen(goldenFolder + "/" + name, "rb") else { return nil }
    defer { fclose(file) }
    var out: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let n = fread(&buffer, 1, buffer.count, file)
        if n == 0 { return out }
        out += buffer[..<n]
    }
}

private let goldenFolder = String(#filePath.dropLast("Golden.swift".count)) + "Golden"

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
