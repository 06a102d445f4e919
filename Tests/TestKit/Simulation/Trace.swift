import Synchronization

/// What happened in a simulation, for whoever replays a seed.
public final class Trace: Sendable {
    private let lines = Mutex<[String]>([])
    private let clock: VirtualClock
    /// Too low: the cause has scrolled away; too high: memory.
    private static let most = 20_000

    public init(clock: VirtualClock) { self.clock = clock }

    public func note(_ text: @autoclosure () -> String) {
        let line = "\(Self.seconds(clock.elapsed)) \(text())"
        lines.withLock { all in
            all.append(line)
            if all.count > Self.most { all.removeFirst(Self.most / 4) }
        }
    }

    public var all: [String] { lines.withLock { $0 } }

    /// A number that is the same for the same course of events.
    public var digest: UInt64 {
        lines.withLock { all in
            all.reduce(14_695_981_039_346_656_037) { sum, line in line.utf8.reduce(sum) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 } }
        }
    }

    private static func seconds(_ milliseconds: Int64) -> String {
        let rest = String(milliseconds % 1000)
        return "\(milliseconds / 1000).\(String(repeating: "0", count: 3 - rest.utf8.count))\(rest)"
    }
}
