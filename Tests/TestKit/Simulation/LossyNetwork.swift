public import Domain
import Synchronization
public import Wire
import Workflow

/// The wires between daemons: each call is encoded into the SOAP bytes of an internal message, and these are lost, delayed, delivered twice
/// or held up between two hosts, as the seed tells. What is not here is the signature (its ring is SigningTests); so a repeated message
/// arrives as an attacker without a replay cache in his way would send it.
public final class LossyNetwork: Sendable {
    public struct Weather: Sendable {
        public var loseRequestPerMille = 0
        public var loseReplyPerMille = 0
        public var duplicatePerMille = 0
        /// Each way.
        public var delayMilliseconds = 3
        /// How late a second copy may come. More than 60 s cannot happen: no message is valid for longer (`InternalNames.lifetime`).
        public var lateMilliseconds = 0
        public init() {}
        public static let fair = Weather()
        public static var storm: Weather {
            var weather = Weather()
            weather.loseRequestPerMille = 40
            weather.loseReplyPerMille = 40
            weather.duplicatePerMille = 60
            weather.delayMilliseconds = 150
            weather.lateMilliseconds = 45_000
            return weather
        }
    }

    /// What serves at an endpoint.
    public struct Server: Sendable {
        let host: String
        let service: ServiceDefinition
        let life: Life
        let dispatch: @Sendable (String, Value, CallContext) async throws(CloudError) -> Value

        public init(
            host: String, service: ServiceDefinition, life: Life,
            dispatch: @escaping @Sendable (String, Value, CallContext) async throws(CloudError) -> Value
        ) {
            self.host = host
            self.service = service
            self.life = life
            self.dispatch = dispatch
        }
    }

    enum Answer: Sendable {
        case bytes([UInt8])
        case refused, reset, timeout
    }

    struct Parcel: Sendable {
        let service: String
        let delay: Int
        let from: PeerIdentity
        let to: String
        let requestID: String
        let bytes: [UInt8]
        let answer: @Sendable (Answer) -> Void
    }

    private struct State {
        var weather = Weather.fair
        var servers: [String: Server] = [:]
        /// Pairs of hosts that do not reach each other.
        var cuts: Set<[String]> = []
        var calls = 0
        var bytes = 0
        var recorded: [Parcel] = []
    }
    private let state = Mutex(State())
    let clock: VirtualClock
    let random: SeededRandom
    private let trace: Trace
    private let parcels: AsyncStream<Parcel>
    private let parcelsContinuation: AsyncStream<Parcel>.Continuation

    public init(clock: VirtualClock, random: SeededRandom, trace: Trace) {
        self.clock = clock
        self.random = random
        self.trace = trace
        (parcels, parcelsContinuation) = AsyncStream.makeStream()
    }

    // MARK: fate

    public var weather: Weather {
        get { state.withLock { $0.weather } }
        set { state.withLock { $0.weather = newValue } }
    }
    public func cut(_ a: String, _ b: String) { state.withLock { _ = $0.cuts.insert([a, b].sorted()) } }
    public func mend(_ a: String, _ b: String) { state.withLock { _ = $0.cuts.remove([a, b].sorted()) } }
    public func mendAll() { state.withLock { $0.cuts = [] } }
    /// Calls made and bytes sent so far.
    public var traffic: (calls: Int, bytes: Int) { state.withLock { ($0.calls, $0.bytes) } }

    /// Sends every message that was ever sent once more, in another order; nobody waits for the answers.
    /// - Parameter service: only those to this service.
    /// - Returns: how many.
    public func replay(service: ServiceDefinition? = nil, withinMilliseconds span: Int) -> Int {
        let all = state.withLock { s in
            s.recorded.filter { parcel in service.map { parcel.service == $0.name } ?? true }
        }
        for parcel in all {
            parcelsContinuation.yield(
                Parcel(
                    service: parcel.service, delay: random.below(span), from: parcel.from, to: parcel.to, requestID: parcel.requestID,
                    bytes: parcel.bytes
                ) { _ in })
        }
        return all.count
    }

    private func isCut(_ a: String, _ b: String) -> Bool { state.withLock { $0.cuts.contains([a, b].sorted()) } }

    // MARK: servers

    public func attach(_ endpoint: String, _ server: Server) { state.withLock { $0.servers[endpoint] = server } }
    public func detach(_ endpoint: String) { state.withLock { _ = $0.servers.removeValue(forKey: endpoint) } }

    /// Carries parcels until the task is cancelled.
    public func run() async {
        await withDiscardingTaskGroup { group in
            for await parcel in parcels {
                group.addTask {
                    do { try await self.clock.sleep(milliseconds: parcel.delay) } catch { return }
                    self.deliver(parcel)
                }
            }
            group.cancelAll()
        }
    }

    private func deliver(_ parcel: Parcel) {
        guard let server = state.withLock({ $0.servers[parcel.to] }) else { return parcel.answer(.refused) }
        if isCut(parcel.from.name, server.host) { return }
        let accepted = server.life.submit {
            let reply = await Self.serve(server, parcel)
            // A daemon that was killed meanwhile has answered nothing; its kernel closes the connection.
            parcel.answer(server.life.isAlive ? .bytes(reply) : .reset)
        }
        if !accepted { parcel.answer(.refused) }
    }

    /// The server's end: bytes in, bytes out.
    private static func serve(_ server: Server, _ parcel: Parcel) async -> [UInt8] {
        do throws(CloudError) {
            let message = try SOAPEnvelope.open(try XMLReader.parse(parcel.bytes))
            let (operation, input) = try InternalMessage.readRequest(server.service, message.operation)
            let output = try await server.dispatch(operation.name, input, CallContext(requestID: parcel.requestID, caller: parcel.from))
            return SOAPEnvelope.wrap(InternalMessage.reply(server.service, operation, output))
        } catch {
            return SOAPEnvelope.wrap(InternalFault.element(error))
        }
    }

    // MARK: callers

    /// The transport of one life of a daemon.
    public func transport(from identity: PeerIdentity, life: Life, timeoutMilliseconds: Int) -> any MessageTransport {
        NetworkTransport(network: self, identity: identity, life: life, timeoutMilliseconds: timeoutMilliseconds)
    }

    private struct Fate {
        var isLost: Bool
        var delay: Int
        var copyAfter: Int?
    }

    private func fate(perMille: KeyPath<Weather, Int>, copies: Bool) -> Fate {
        let weather = weather
        let lost = random.chance(perMille: weather[keyPath: perMille])
        let delay = random.below(weather.delayMilliseconds + 1)
        let copied = copies && random.chance(perMille: weather.duplicatePerMille)
        return Fate(isLost: lost, delay: delay, copyAfter: copied ? random.below(max(1, weather.lateMilliseconds)) : nil)
    }

    fileprivate func exchange(
        _ service: String, _ what: String, _ bytes: [UInt8], from: PeerIdentity, to endpoint: String, requestID: String,
        timeoutMilliseconds: Int
    ) async -> Answer {
        state.withLock { s in
            s.calls += 1
            s.bytes += bytes.count
            // Questions change nothing: there is no harm in asking again.
            if !what.contains(".Describe") {
                s.recorded.append(Parcel(service: service, delay: 0, from: from, to: endpoint, requestID: requestID, bytes: bytes) { _ in })
            }
        }
        let (answers, continuation) = AsyncStream<Answer>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let there = fate(perMille: \.loseRequestPerMille, copies: true)
        if !there.isLost {
            parcelsContinuation.yield(
                Parcel(service: service, delay: there.delay, from: from, to: endpoint, requestID: requestID, bytes: bytes) {
                    [self] answer in
                    guard case .bytes(let reply) = answer else {
                        continuation.yield(answer)
                        return
                    }
                    state.withLock { $0.bytes += reply.count }
                    let back = fate(perMille: \.loseReplyPerMille, copies: false)
                    if back.isLost { return }
                    // The way back takes its time too; the caller waits for it.
                    parcelsContinuation.yield(
                        Parcel(service: service, delay: back.delay, from: from, to: "", requestID: requestID, bytes: []) { _ in
                            continuation.yield(answer)
                        })
                })
        }
        if let after = there.copyAfter {
            trace.note("copy of \(what) from \(from.name) to \(endpoint) comes after \(after) ms")
            parcelsContinuation.yield(
                Parcel(service: service, delay: after, from: from, to: endpoint, requestID: requestID, bytes: bytes) { _ in })
        }
        let clock = clock
        return await withTaskGroup(of: Answer.self) { group in
            group.addTask {
                for await answer in answers { return answer }
                return .timeout
            }
            group.addTask {
                try? await clock.sleep(milliseconds: timeoutMilliseconds)
                return .timeout
            }
            let first = await group.next() ?? .timeout
            group.cancelAll()
            return first
        }
    }
}

private struct NetworkTransport: MessageTransport {
    let network: LossyNetwork
    let identity: PeerIdentity
    let life: Life
    let timeoutMilliseconds: Int

    func call(
        _ service: ServiceDefinition, _ operation: Wire.Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value {
        try life.check()
        let what = "\(service.name).\(operation.name)"
        let answer = await network.exchange(
            service.name, what, SOAPEnvelope.wrap(InternalMessage.request(service, operation, input)), from: identity, to: endpoint,
            requestID: context.requestID, timeoutMilliseconds: timeoutMilliseconds)
        try life.check()
        func unavailable(_ why: String) -> CloudError {
            CloudError(.unavailable("The service at \(endpoint)"), context: "\(what): \(why)")
        }
        switch answer {
        case .timeout: throw unavailable("no answer in time")
        case .refused: throw unavailable("nobody listens")
        case .reset: throw unavailable("the connection ended without an answer")
        case .bytes(let bytes):
            let message = try SOAPEnvelope.open(try XMLReader.parse(bytes))
            return try InternalMessage.readReply(service, operation, message.operation)
        }
    }
}
