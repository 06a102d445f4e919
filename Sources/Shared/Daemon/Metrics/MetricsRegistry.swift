import Synchronization

// Numbers for Prometheus, in its text format 0.0.4. Own code, because it is 150 lines and needs no event loop and no exporter package.

/// All metrics of a process. Make one, hand it down; asking twice for the same name and labels gives the same metric.
public final class MetricsRegistry: Sendable {
    private struct Family {
        let kind: String
        let help: String
        var members: [String: any MetricMember] = [:]
    }
    private let families = Mutex<[String: Family]>([:])
    private let collectors = Mutex<[@Sendable () -> Void]>([])

    public init() {}

    /// A number that only grows. By convention its name ends in `_total`.
    public func counter(_ name: String, _ labels: [String: String] = [:], help: String = "") -> Counter {
        member(name, "counter", labels, help) { Counter() }
    }

    /// A number that goes up and down.
    public func gauge(_ name: String, _ labels: [String: String] = [:], help: String = "") -> Gauge {
        member(name, "gauge", labels, help) { Gauge() }
    }

    /// How many observations fell below each bound, with their sum. Unit: what the name says, seconds as a rule.
    public func histogram(
        _ name: String, _ labels: [String: String] = [:], help: String = "", bounds: [Double] = Histogram.seconds
    ) -> Histogram {
        member(name, "histogram", labels, help) { Histogram(bounds: bounds) }
    }

    /// `body` is called before each exposition, to set gauges that nobody else keeps.
    public func collect(_ body: @escaping @Sendable () -> Void) { collectors.withLock { $0.append(body) } }

    private func member<M: MetricMember>(
        _ name: String, _ kind: String, _ labels: [String: String], _ help: String, _ make: () -> M
    ) -> M {
        let key = Self.labelText(labels)
        return families.withLock { families in
            var family = families[name] ?? Family(kind: kind, help: help)
            if let there = family.members[key] as? M { return there }
            let made = make()
            precondition(family.members[key] == nil, "metric \(name) is used as two kinds")
            family.members[key] = made
            families[name] = family
            return made
        }
    }

    /// The exposition: `text/plain; version=0.0.4`.
    public func text() -> String {
        for body in collectors.withLock({ $0 }) { body() }
        let families = families.withLock { $0 }
        var out = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            if !family.help.isEmpty { out += "# HELP \(name) \(Self.escape(family.help, quote: false))\n" }
            out += "# TYPE \(name) \(family.kind)\n"
            for (labels, member) in family.members.sorted(by: { $0.key < $1.key }) { member.write(name, labels, into: &out) }
        }
        return out
    }

    private static func labelText(_ labels: [String: String]) -> String {
        labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(escape($0.value, quote: true))\"" }.joined(separator: ",")
    }

    private static func escape(_ text: String, quote: Bool) -> String {
        var out = ""
        for c in text {
            switch c {
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\"" where quote: out += "\\\""
            default: out.append(c)
            }
        }
        return out
    }

    static func number(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
        return "\(value)"
    }
}

protocol MetricMember: Sendable {
    func write(_ name: String, _ labels: String, into out: inout String)
}

private func sample(_ name: String, _ labels: String, _ value: String) -> String {
    labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
}

public final class Counter: MetricMember {
    private let value = Atomic<Int64>(0)
    public func increment(by n: Int = 1) { value.wrappingAdd(Int64(n), ordering: .relaxed) }
    public var count: Int { Int(value.load(ordering: .relaxed)) }
    func write(_ name: String, _ labels: String, into out: inout String) { out += sample(name, labels, "\(count)") }
}

public final class Gauge: MetricMember {
    private let bits = Mutex<Double>(0)
    public func set(_ value: Double) { bits.withLock { $0 = value } }
    public func add(_ delta: Double) { bits.withLock { $0 += delta } }
    public var value: Double { bits.withLock { $0 } }
    func write(_ name: String, _ labels: String, into out: inout String) { out += sample(name, labels, MetricsRegistry.number(value)) }
}

public final class Histogram: MetricMember {
    /// From a millisecond to a minute: what requests and launches take.
    public static let seconds: [Double] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

    private struct State {
        var counts: [Int]
        var sum = 0.0
        var total = 0
    }
    private let bounds: [Double]
    private let state: Mutex<State>

    init(bounds: [Double]) {
        self.bounds = bounds
        state = Mutex(State(counts: Array(repeating: 0, count: bounds.count)))
    }

    public func observe(_ value: Double) {
        let bucket = bounds.firstIndex { value <= $0 }
        state.withLock {
            if let bucket { $0.counts[bucket] += 1 }
            $0.sum += value
            $0.total += 1
        }
    }

    public var count: Int { state.withLock { $0.total } }

    func write(_ name: String, _ labels: String, into out: inout String) {
        let now = state.withLock { $0 }
        var below = 0
        for (bound, count) in zip(bounds, now.counts) {
            below += count
            out += sample(name + "_bucket", (labels.isEmpty ? "" : labels + ",") + "le=\"\(MetricsRegistry.number(bound))\"", "\(below)")
        }
        out += sample(name + "_bucket", (labels.isEmpty ? "" : labels + ",") + "le=\"+Inf\"", "\(now.total)")
        out += sample(name + "_sum", labels, MetricsRegistry.number(now.sum))
        out += sample(name + "_count", labels, "\(now.total)")
    }
}
