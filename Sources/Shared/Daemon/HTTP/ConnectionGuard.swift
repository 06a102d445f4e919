import NIOCore
import NIOHTTP1

// Cuts off connections that hold resources without using them. Two handlers share one state, both on the channel's event loop:
// `ByteWatch` before the HTTP decoder sees that bytes come at all; `ConnectionGuard` behind it sees which part of a request they are.
//
//   idle ──first byte──▶ head ──head complete──▶ body ──end──▶ replying ──reply's end──▶ idle
//
// idle and head together may take `idleSeconds`. In body, a client that we are waiting for must send `slowBytes` in `slowSeconds`.
// While replying, the peer must take what is written: a channel that stays unwritable for `slowSeconds` is closed (what is written at
// once is at most a megabyte). The handler's own time is not limited here.

final class ConnectionState {
    enum Phase { case idle, head, body, replying }
    var phase = Phase.idle
    /// Since when the phase lasts, or since the client last did what it has to do.
    var since = NIODeadline.now()
    var isWaitingForBytes = false
    var bytes = 0
    var isQuiescing = false
    var scheduled: Scheduled<Void>?
}

final class ByteWatch: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = IOData
    private let state: ConnectionState

    init(_ state: ConnectionState) { self.state = state }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if state.phase == .idle { state.phase = .head }
        state.bytes += unwrapInboundIn(data).readableBytes
        context.fireChannelRead(data)
    }

    func read(context: ChannelHandlerContext) {
        state.isWaitingForBytes = true
        context.read()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        state.isWaitingForBytes = false
        context.fireChannelReadComplete()
    }
}

@available(*, unavailable) extension ByteWatch: Sendable {}
@available(*, unavailable) extension ConnectionState: Sendable {}
@available(*, unavailable) extension ConnectionGuard: Sendable {}

final class ConnectionGuard: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    private let state: ConnectionState
    private let limits: HTTPLimits
    private let connections: Gauge
    private var isUnwritable = false

    init(_ state: ConnectionState, limits: HTTPLimits, connections: Gauge) {
        self.state = state
        self.limits = limits
        self.connections = connections
    }

    func handlerAdded(context: ChannelHandlerContext) {
        connections.add(1)
        enter(.idle, context)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        connections.add(-1)
        state.scheduled?.cancel()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head: enter(.body, context)
        case .body: break
        case .end: enter(.replying, context)
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        context.write(data, promise: promise)
        if case .end = part {
            // A refused body may still be coming in: then the connection closes, and only the idle limit matters.
            enter(.idle, context)
            if state.isQuiescing {
                context.flush()
                context.close(promise: nil)
            }
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        isUnwritable = !context.channel.isWritable
        if isUnwritable {
            state.since = .now()
            schedule(context)
        }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            state.isQuiescing = true
            if state.phase == .idle || state.phase == .head { context.close(promise: nil) }
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func enter(_ phase: ConnectionState.Phase, _ context: ChannelHandlerContext) {
        state.phase = phase
        state.since = .now()
        state.bytes = 0
        schedule(context)
    }

    private func schedule(_ context: ChannelHandlerContext) {
        // One timer that looks again when it fires costs less than one that is moved by each request.
        guard state.scheduled == nil else { return }
        let wait = min(limits.idleSeconds, limits.slowSeconds)
        state.scheduled = context.eventLoop.assumeIsolated().scheduleTask(in: .seconds(Int64(max(1, wait)))) { [self] in
            state.scheduled = nil
            check(context)
        }
    }

    private func check(_ context: ChannelHandlerContext) {
        let passed = NIODeadline.now() - state.since
        let slow = TimeAmount.seconds(Int64(limits.slowSeconds))
        switch state.phase {
        case .idle, .head:
            if passed >= .seconds(Int64(limits.idleSeconds)) { return context.close(promise: nil) }
        case .body:
            // Only the client's own slowness counts: while the handler does not ask for more, nothing is due.
            if passed >= slow {
                if state.isWaitingForBytes && state.bytes < limits.slowBytes { return context.close(promise: nil) }
                state.since = .now()
                state.bytes = 0
            }
        case .replying:
            break
        }
        if isUnwritable && passed >= slow { return context.close(promise: nil) }
        if state.phase != .replying || isUnwritable { schedule(context) }
    }
}
