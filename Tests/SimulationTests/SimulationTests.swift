import Glibc
import TestKit
import Testing

/// The whole cloud in one process. `KARRI_SEED=n` replays one seed and prints what happened; `KARRI_SEEDS=n` runs that many, from
/// `KARRI_FIRST_SEED` on. With `SWIFT_DETERMINISTIC_HASHING=1` a seed is the same to the last step in every process; without it, the order in
/// which dictionaries are walked differs, and a seed may hit or miss what it hit before.
@Suite(.serialized) struct SimulationTests {
    static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

    static func template() async throws -> String {
        let url = try TransientPostgres.database()
        try await SimulatedCloud.prepare(url)
        return url
    }

    @Test func theCloudHoldsInEveryStorm() async throws {
        let template = try await Self.template()
        if let seed = Self.number("KARRI_SEED") {
            let verdict = try await Self.onThread { try Simulation.run(seed: seed, template: template) }
            for line in verdict.trace { print(line) }
            #expect(verdict.broken.isEmpty, "\(Self.told(verdict))")
            return
        }
        let count = Self.number("KARRI_SEEDS") ?? 12
        let first = Self.number("KARRI_FIRST_SEED") ?? 1
        let verdicts = try await Self.run(Array(first..<(first + count)), template)
        for verdict in verdicts where !verdict.broken.isEmpty { Issue.record("\(Self.told(verdict))") }
        let calls = verdicts.reduce(0) { $0 + $1.calls }
        let seconds = verdicts.reduce(0) { $0 + $1.seconds }
        print("\(verdicts.count) seeds, \(calls) calls as SOAP, \(seconds) s of the cloud's time")
    }

    @Test func aSeedIsReproducible() async throws {
        let template = try await Self.template()
        let first = try await Self.onThread { try Simulation.run(seed: 4242, steps: 20, template: template) }
        let second = try await Self.onThread { try Simulation.run(seed: 4242, steps: 20, template: template) }
        #expect(first.digest == second.digest)
        if first.digest != second.digest, let i = zip(first.trace, second.trace).enumerated().first(where: { $0.element.0 != $0.element.1 })
        {
            Issue.record("they part at line \(i.offset): \(i.element.0) | \(i.element.1)")
        }
        #expect(first.calls == second.calls)
    }

    /// The ring bites: nodes that forget, at a restart, what they have ended, obey old commands, and the rules notice.
    @Test func nodesWithoutTombstonesAreFoundOut() async throws {
        var plan = World.Plan()
        plan.forgetsTombstones = true
        #expect(try await Self.isFoundOut(plan), "nodes without a memory went unnoticed")
    }

    /// And so do nodes for which a command's generation means nothing.
    @Test func nodesWithoutAFenceAreFoundOut() async throws {
        var plan = World.Plan()
        plan.obeysOldCommands = true
        #expect(try await Self.isFoundOut(plan), "nodes that obey old commands went unnoticed")
    }

    private static func isFoundOut(_ plan: World.Plan) async throws -> Bool {
        let template = try await template()
        for seed in UInt64(1)...10 {
            let broken = try await onThread { try Simulation.run(seed: seed, plan: plan, steps: 30, template: template) }.broken
            if !broken.isEmpty { return true }
        }
        return false
    }

    // MARK: -

    static func told(_ verdict: Simulation.Verdict) -> String {
        "seed \(verdict.seed) (replay: SWIFT_DETERMINISTIC_HASHING=1 KARRI_SEED=\(verdict.seed)):\n  "
            + verdict.broken.joined(separator: "\n  ")
    }

    /// Two seeds at a time, each on a thread of its own.
    static func run(_ seeds: [UInt64], _ template: String) async throws -> [Simulation.Verdict] {
        try await withThrowingTaskGroup(of: [Simulation.Verdict].self) { group in
            for half in 0..<2 {
                group.addTask {
                    var verdicts: [Simulation.Verdict] = []
                    for (i, seed) in seeds.enumerated() where i % 2 == half {
                        verdicts.append(try await onThread { try Simulation.run(seed: seed, template: template) })
                    }
                    return verdicts
                }
            }
            var all: [Simulation.Verdict] = []
            for try await some in group { all += some }
            return all.sorted { $0.seed < $1.seed }
        }
    }

    /// A simulation blocks its thread until it is over: not one of the cooperative pool's.
    static func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            let job = Unmanaged.passRetained(ThreadBody { continuation.resume(with: Result { try body() }) })
            var thread = pthread_t()
            let failure = pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run() }
                    return nil
                }, job.toOpaque())
            if failure == 0 {
                pthread_detach(thread)
            } else {
                job.release()
                continuation.resume(throwing: CancellationError())
            }
        }
    }

    private final class ThreadBody {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
