import Synchronization
public import Workflow

/// The same numbers for the same seed (SplitMix64). Each part of a simulation forks its own, so that one part's use of numbers does not
/// change another's.
public final class SeededRandom: Workflow.Random {
    private let state: Mutex<UInt64>

    public init(seed: UInt64) { state = Mutex(seed) }

    public func next() -> UInt64 {
        state.withLock { s in
            s &+= 0x9E37_79B9_7F4A_7C15
            var z = s
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }

    /// Another stream of numbers, told by this one's next number and the name.
    public func fork(_ name: String) -> SeededRandom {
        SeededRandom(seed: name.utf8.reduce(next()) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 })
    }

    public func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
    public func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    public func number(in range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
    public func chance(perMille: Int) -> Bool { below(1000) < perMille }
    public func pick<Element>(_ items: [Element]) -> Element? { items.isEmpty ? nil : items[below(items.count)] }
}
