@testable import Daemon
import Domain
import ServiceLifecycle
import Signing
import Synchronization
import Testing
import Wire
import Workflow

/// A service of one operation, so that these tests need no generated code.
let echoService: ServiceDefinition = {
    let shape = Shape("Echo", [Member("text", .string, required: true)])
    return ServiceDefinition(
        name: "NC", namespace: "urn:karri:nc:1", audience: .internal,
        operations: [Operation("Echo", iamAction: "nc:Echo", resource: "Echo", input: shape, output: Shape("EchoResponse", shape.members))])
}()

@Suite(.serialized) struct InternalCallTests {
    private static let dispatch: @Sendable (String, Value, CallContext) async throws(CloudError) -> Value = {
        (operation, input, context) async throws(CloudError) -> Value in
        guard case .record(let record) = input, case .text(let text)? = record["text"] else { throw CloudError(.malformedRequest) }
        if text == "capacity" {
            throw CloudError(.capacity(Shortage(.cores, [Shortage.Place("node-1", .cores, asked: 4, free: 1, limit: 8)])))
        }
        return .record(["text": .text("\(text) from \(context.caller?.role ?? "?") \(context.requestID)")])
    }

    private func listening(
        _ cloud: TestCloud, as role: String = "nc", _ body: @escaping @Sendable (Int, HostIdentity) async throws -> Void
    ) async throws {
        let identity = try cloud.host(role)
        let listener = InternalListener(
            address: "127.0.0.1", port: 0, identity: identity, service: echoService, allowedRoles: ["*": ["cc"]], runtime: testRuntime(),
            dispatch: Self.dispatch)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await listener.run() }
            let port = await listener.waitUntilListening()
            defer { group.cancelAll() }
            try await body(port, identity)
        }
    }

    private static func call(_ identity: HostIdentity, _ text: String, port: Int) async throws -> String {
        guard let operation = echoService.operations["Echo"] else { return "" }
        let transport = InternalTransport(identity: identity, clock: SystemClock(), random: SystemRandom(), timeoutMilliseconds: 5000)
        let output = try await transport.call(
            echoService, operation, .record(["text": .text(text)]), to: "127.0.0.1:\(port)", context: CallContext(requestID: "req-12345678")
        )
        guard case .record(let record) = output, case .text(let answer)? = record["text"] else { return "" }
        return answer
    }

    @Test func aCallThereAndBack() async throws {
        let cloud = try TestCloud()
        let caller = try cloud.host("cc")
        try await listening(cloud) { port, _ in
            let first = try await Self.call(caller, "hello & <good>", port: port)
            #expect(first == "hello & <good> from cc req-12345678")
            let second = try await Self.call(caller, "again", port: port)
            #expect(second == "again from cc req-12345678")
        }
    }

    @Test func errorsArriveAsTheyWereThrown() async throws {
        let cloud = try TestCloud()
        let caller = try cloud.host("cc")
        try await listening(cloud) { port, _ in
            await expect(.capacity(Shortage(.cores, [Shortage.Place("node-1", .cores, asked: 4, free: 1, limit: 8)]))) {
                _ = try await Self.call(caller, "capacity", port: port)
            }
        }
    }

    @Test func aRoleThatMayNotCallIsRefused() async throws {
        let cloud = try TestCloud()
        let walrus = try cloud.host("walrus")
        try await listening(cloud) { port, _ in
            await expect(.forbidden(action: "NC:Echo")) { _ = try await Self.call(walrus, "x", port: port) }
        }
    }

    @Test func anotherCloudAndAnotherCAAreRefused() async throws {
        let cloud = try TestCloud()
        let sameCA = try cloud.host("cc", cloud: "c2")
        let other = try TestCloud().host("cc")
        try await listening(cloud) { port, _ in
            for stranger in [sameCA, other] {
                await #expect(throws: CloudError.self) { try await Self.call(stranger, "x", port: port) }
            }
        }
    }

    @Test func nobodyWithoutACertificate() async throws {
        let cloud = try TestCloud()
        try await listening(cloud) { port, _ in
            let client = HTTPClient(tls: ClientTLS(ca: cloud.caPath))
            await #expect(throws: CloudError.self) { try await client.execute(HTTPClientRequest(url: "https://127.0.0.1:\(port)/health")) }
        }
    }

    @Test func healthIsThereForPeers() async throws {
        let cloud = try TestCloud()
        let caller = try cloud.host("cc")
        try await listening(cloud) { port, _ in
            let reply = try await HTTPClient(tls: caller.clientTLS).execute(HTTPClientRequest(url: "https://127.0.0.1:\(port)/health"))
            #expect(reply.status == 200)
        }
    }

    @Test func aServiceOfTheWrongRoleIsNotBelieved() async throws {
        let cloud = try TestCloud()
        let caller = try cloud.host("cc")
        try await listening(cloud, as: "sc") { port, _ in
            await expect(.unavailable("The service at 127.0.0.1:\(port)")) { _ = try await Self.call(caller, "x", port: port) }
        }
    }

    /// Straight to the endpoint, with bytes that a thief could have.
    @Test func replayedStolenAndMisdirectedMessages() async throws {
        let cloud = try TestCloud()
        let node = try cloud.host("nc")
        let caller = try cloud.host("cc")
        let thief = try cloud.host("walrus")
        let endpoint = InternalEndpoint(
            identity: node, service: echoService, allowedRoles: ["*": ["cc", "walrus"]], runtime: testRuntime(), dispatch: Self.dispatch)
        func message(to: String = "https://127.0.0.1:8775/", action: String = "urn:karri:nc:1#Echo") throws -> [UInt8] {
            try WSSecurity.sign(
                body: InternalMessage.request(
                    echoService, try #require(echoService.operations["Echo"]), .record(["text": .text("x")])),
                key: caller.key, certificate: caller.certificate,
                wsa: .init(to: to, action: action, messageID: InternalNames.messageID(SystemRandom().bytes(16))), now: SystemClock().now(),
                ttl: 60)
        }
        func send(_ bytes: [UInt8], from peer: HostIdentity) async -> Int {
            await endpoint.answer(
                HTTPRequest(
                    id: "r", method: "POST", target: "/", headers: [], remoteAddress: "127.0.0.1", isTLS: true,
                    peerCertificateDER: peer.certificate.der, body: RequestBody(bytes: bytes))
            ).status
        }
        let good = try message()
        #expect(await send(good, from: thief) == 500)
        #expect(await send(good, from: caller) == 200)
        #expect(await send(good, from: caller) == 500)
        #expect(await send(try message(to: "https://10.9.9.9:8775/"), from: caller) == 500)
        #expect(await send(try message(action: "urn:karri:nc:1#Other"), from: caller) == 500)
        #expect(await send(Array("<x/>".utf8), from: caller) == 500)
        #expect(await send([], from: caller) == 500)
        #expect(await send(try message(), from: caller) == 200)
    }

    /// A message from before the other side's start: refused (its replay cache is empty), and sent anew at once. The caller learns nothing of
    /// it when the new one is taken, and the true reason when it is not. Once it said "RelatesTo is malformed".
    @Test func aMessageFromBeforeTheStart() async throws {
        let cloud = try TestCloud()
        let caller = try cloud.host("cc")
        try await listening(cloud) { port, _ in
            func call(behind: [Int64]) async throws -> String {
                let transport = InternalTransport(
                    identity: caller, clock: ClockBehind(behind), random: SystemRandom(), timeoutMilliseconds: 5000)
                let output = try await transport.call(
                    echoService, try #require(echoService.operations["Echo"]), .record(["text": .text("x")]), to: "127.0.0.1:\(port)",
                    context: CallContext(requestID: "req-12345678"))
                guard case .record(let record) = output, case .text(let answer)? = record["text"] else { return "" }
                return answer
            }
            // The clock is asked for the message, for its reply, for the next message, …
            #expect(try await call(behind: [30, 0]) == "x from cc req-12345678")
            do {
                _ = try await call(behind: [30, 0, 30, 0])
                Issue.record("a message from before the start was taken")
            } catch let error as CloudError {
                #expect(error.reason == .unavailable("The service at 127.0.0.1:\(port)"))
                #expect(error.context == "NC.Echo at 127.0.0.1:\(port) refused the message: expired")
            }
        }
    }
}

/// Seconds behind the machine's clock, by question; the last counts for all that follow.
private final class ClockBehind: Workflow.Clock {
    private let left: Mutex<[Int64]>
    init(_ seconds: [Int64]) { left = Mutex(seconds) }
    func now() -> Timestamp {
        let behind = left.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
        return SystemClock().now().adding(seconds: -behind)
    }
    func monotonic() -> Int64 { SystemClock().monotonic() }
    func sleep(milliseconds: Int) async throws { try await SystemClock().sleep(milliseconds: milliseconds) }
}
