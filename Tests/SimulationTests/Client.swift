import API
import CloudControllerKit
import Domain
import Synchronization
import TestKit
import Workflow

/// Alice, with a client that repeats a call until it knows how it ended, as the AWS command line does. Her way to the cloud loses requests
/// and replies too.
struct Client: Sendable {
    let world: World
    let random: SeededRandom

    /// How a call ended.
    enum Outcome<R: Sendable>: Sendable {
        case done(R)
        case refused(CloudError)
    }

    private enum Attempt<R: Sendable>: Sendable {
        case known(Outcome<R>)
        /// It may have happened or not.
        case unknown
    }

    /// - Parameter repeats: an answer that, to a repeated call, says that the earlier one was done.
    func call<R: Sendable>(
        _ what: String, _ body: @escaping @Sendable (EC2Actions, OperationContext) async throws(CloudError) -> R
    ) async -> Outcome<R> {
        var tries = 0
        while true {
            tries += 1
            if case .known(let outcome) = await attempt(what, body) {
                switch outcome {
                case .done: world.trace.note("client: \(what): done")
                case .refused(let error):
                    world.trace.note("client: \(what): \(error.message) [\(error.context)]")
                    if case .bug = error.reason { world.complain("\(what) met a bug: \(error.context)") }
                }
                return outcome
            }
            await world.sleep(200 + random.below(500 * min(tries, 8)))
        }
    }

    private func attempt<R: Sendable>(
        _ what: String, _ body: @escaping @Sendable (EC2Actions, OperationContext) async throws(CloudError) -> R
    ) async -> Attempt<R> {
        let weather = world.network.weather
        await world.sleep(random.below(weather.delayMilliseconds + 1))
        guard !random.chance(perMille: weather.loseRequestPerMille), let front = world.cloud.listening else { return .unknown }
        let op = SimulatedCloud.context(now: world.clock.now(), requestID: "req-\(random.below(1 << 30))")
        let (answers, continuation) = AsyncStream<Attempt<R>>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let accepted = front.life.submit {
            let attempt: Attempt<R>
            do throws(CloudError) {
                attempt = .known(.done(try await body(front.actions, op)))
            } catch {
                if case .unavailable = error.reason { attempt = .unknown } else { attempt = .known(.refused(error)) }
            }
            continuation.yield(front.life.isAlive ? attempt : .unknown)
        }
        guard accepted else { return .unknown }
        // The database's notification wakes the reconcilers; now and then it is lost.
        if !random.chance(perMille: 100) {
            front.nudges.cluster.signal()
            front.nudges.storage.signal()
            front.nudges.network.signal()
        }
        let result = await withTaskGroup(of: Attempt<R>.self) { group in
            group.addTask {
                for await answer in answers { return answer }
                return .unknown
            }
            group.addTask {
                await world.sleep(60_000)
                return .unknown
            }
            let first = await group.next() ?? .unknown
            group.cancelAll()
            return first
        }
        return random.chance(perMille: weather.loseReplyPerMille) ? .unknown : result
    }
}
