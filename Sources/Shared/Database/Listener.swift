internal import CPostgres
internal import Domain
internal import Glibc
internal import Synchronization

/// The thread behind `DatabasePool.listen`.
final class Listener: Sendable {
    /// Notifications that wait for their receiver. When more come, they are dropped and `.reconnected` says so.
    static let bufferLimit = 1024
    private static let retryMilliseconds: Int32 = 250

    private let url: String
    private let name: String
    private let channels: [String]
    private let continuation: AsyncStream<DatabasePool.Notification>.Continuation
    private let stopped = Atomic<Bool>(false)
    /// A pipe that wakes the thread from poll(2): its end for reading and its end for writing.
    private let wake: (read: Int32, write: Int32)

    init(url: String, name: String, channels: [String], continuation: AsyncStream<DatabasePool.Notification>.Continuation) {
        self.url = url
        self.name = name
        self.channels = channels
        self.continuation = continuation
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) == 0 {
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        }
        wake = (ends[0], ends[1])
    }
    deinit {
        for end in [wake.read, wake.write] where end >= 0 { close(end) }
    }

    var isStopped: Bool { stopped.load(ordering: .acquiring) }

    func start() -> Bool {
        wake.read >= 0 && SystemThread.start { self.run() }
    }

    func stop() {
        guard !stopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
        var byte: UInt8 = 1
        _ = write(wake.write, &byte, 1)
    }

    private func run() {
        defer { continuation.finish() }
        let connection = Connection(url: url, name: name)
        // Something was dropped for want of room, or may have been missed: said before anything else.
        var missed = true
        while !isStopped {
            if !connection.isConnected {
                guard connect(connection) else {
                    waitFor(nil, Self.retryMilliseconds)
                    continue
                }
                missed = true
            }
            if missed { missed = !offer(.reconnected) }
            let readable = waitFor(connection.socket, missed ? Self.retryMilliseconds : -1)
            guard readable else { continue }
            guard connection.consumeInput() else {
                connection.disconnect()
                continue
            }
            while let (channel, payload) = connection.nextNotification() {
                if !missed { missed = !offer(.message(channel: channel, payload: payload)) }
            }
        }
        connection.disconnect()
    }

    private func connect(_ connection: Connection) -> Bool {
        do throws(CloudError) {
            try connection.connect()
            for channel in channels {
                try connection.simple("LISTEN \"\(channel.replacing("\"", with: "\"\""))\"")
            }
            return true
        } catch {
            connection.disconnect()
            return false
        }
    }

    /// - Returns: false when there was no room for it.
    private func offer(_ notification: DatabasePool.Notification) -> Bool {
        if case .dropped = continuation.yield(notification) { return false }
        return true
    }

    /// - Returns: whether the socket has something (or is closed).
    @discardableResult
    private func waitFor(_ socket: Int32?, _ milliseconds: Int32) -> Bool {
        var descriptors = [pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0)]
        if let socket { descriptors.append(pollfd(fd: socket, events: Int16(POLLIN), revents: 0)) }
        let ready = poll(&descriptors, nfds_t(descriptors.count), milliseconds)
        return ready > 0 && descriptors.count > 1 && descriptors[1].revents != 0
    }
}
