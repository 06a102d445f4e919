public import Domain
import Glibc

/// The machine's clocks.
public struct SystemClock: Clock {
    public init() {}

    public func now() -> Timestamp {
        var t = timespec()
        clock_gettime(CLOCK_REALTIME, &t)
        return Timestamp(milliseconds: Int64(t.tv_sec) * 1000 + Int64(t.tv_nsec) / 1_000_000)
    }

    public func monotonic() -> Int64 {
        var t = timespec()
        clock_gettime(CLOCK_MONOTONIC, &t)
        return Int64(t.tv_sec) * 1_000_000_000 + Int64(t.tv_nsec)
    }

    public func sleep(milliseconds: Int) async throws {
        try await Task.sleep(for: .milliseconds(max(0, milliseconds)))
    }
}

/// The kernel's random numbers: the standard library's system generator is getrandom(2) here, fit for secrets.
public struct SystemRandom: Random {
    public init() {}

    public func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        var out: [UInt8] = []
        out.reserveCapacity(max(0, count))
        while out.count < count {
            var word = generator.next()
            for _ in 0..<min(8, count - out.count) {
                out.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        return out
    }

    public func below(_ bound: Int) -> Int {
        var generator = SystemRandomNumberGenerator()
        return Int(generator.next(upperBound: UInt(bound)))
    }
}
