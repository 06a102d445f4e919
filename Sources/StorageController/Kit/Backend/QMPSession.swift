import Daemon
import Domain
import Glibc

/// One conversation with a qemu-storage-daemon over its QMP socket (QEMU QMP Reference Manual). It blocks: use it inside `BlockingPool`.
///
/// The daemon talks to one client at a time; others wait in its backlog, so conversations are short.
final class QMPSession {
    /// The longest wait for an answer. Too low: a busy disk looks like a dead daemon; too high: a dead one holds a thread.
    private static let timeoutSeconds = 20

    private let descriptor: Int32
    private var buffer: [UInt8] = []

    /// - Returns: `nil` when nobody listens there: the daemon has ended.
    /// - Throws: `.unavailable` when somebody does, but does not speak QMP in time.
    init?(path: String) throws(CloudError) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw CloudError(.unavailable("The volume"), context: "socket: errno \(errno)") }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        self.descriptor = descriptor
        var limit = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard try Self.connect(descriptor, path) else {
            close(descriptor)
            return nil
        }
        _ = try line()
        _ = try command("qmp_capabilities")
    }

    deinit { close(descriptor) }

    private static func connect(_ descriptor: Int32, _ path: String) throws(CloudError) -> Bool {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard bytes.count < room else { throw .bug("the socket's path is longer than \(room - 1) bytes: \(path)") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let result = withUnsafePointer(to: &address) {
            // SAFETY: a sockaddr_un is read as the sockaddr that it begins with, for the length that is given.
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result == 0 { return true }
        guard errno == ECONNREFUSED || errno == ENOENT else {
            throw CloudError(.unavailable("The volume"), context: "connect \(path): errno \(errno)")
        }
        return false
    }

    /// - Returns: the reply's `return`.
    /// - Throws: `.named("QMP.<class>")` with the daemon's words in the context; `.unavailable` when it went away.
    @discardableResult
    func command(_ name: String, _ arguments: JSONValue = .object([])) throws(CloudError) -> JSONValue {
        try send(JSONValue.object([.init("execute", .string(name)), .init("arguments", arguments)]).encoded + "\n")
        while true {
            let reply = try line()
            if let value = reply["return"] { return value }
            if let error = reply["error"] {
                let description = error["desc"]?.text ?? ""
                throw CloudError(
                    .named(code: "QMP.\(error["class"]?.text ?? "")", status: 500), "The volume's daemon refused",
                    context: "QMP \(name): \(description)")
            }
            // Everything else is an event: what counts is asked for.
        }
    }

    private func send(_ text: String) throws(CloudError) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if sent < 0, errno == EINTR { continue }
            guard sent > 0 else { throw gone("send") }
            rest = rest.dropFirst(sent)
        }
    }

    private func line() throws(CloudError) -> JSONValue {
        while true {
            if let end = buffer.firstIndex(of: 0x0a) {
                let text = Array(buffer[..<end])
                buffer.removeSubrange(...end)
                do throws(JSONValue.ParseError) { return try JSONValue(parsing: text) } catch {
                    throw CloudError(.unavailable("The volume"), context: "QMP: \(error)")
                }
            }
            var chunk = [UInt8](repeating: 0, count: 16_384)
            let got = recv(descriptor, &chunk, chunk.count, 0)
            if got < 0, errno == EINTR { continue }
            guard got > 0, buffer.count < 1 << 20 else { throw gone("receive") }
            buffer += chunk[..<got]
        }
    }

    private func gone(_ what: String) -> CloudError {
        CloudError(.unavailable("The volume"), context: "QMP: cannot \(what): errno \(errno)")
    }
}
