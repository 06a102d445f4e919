import Domain
import Glibc
import Logging

/// journald's native protocol (systemd.journal-fields(7), "Native Journal Protocol"): one datagram a message, `KEY=value` lines, values
/// with newlines as `KEY`, newline, 64-bit length, bytes.
final class JournalSocket: Sendable {
    private let descriptor: Int32
    private let path: String

    init?(path: String = "/run/systemd/journal/socket") {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        self.path = path
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    /// systemd sets JOURNAL_STREAM to device:inode of the stream; it is only ours when stderr still is that stream.
    static func ifStderrIsJournal() -> JournalSocket? {
        guard let stream = getenv("JOURNAL_STREAM").map({ String(cString: $0) }) else { return nil }
        var status = stat()
        guard fstat(2, &status) == 0, stream == "\(status.st_dev):\(status.st_ino)" else { return nil }
        return JournalSocket()
    }

    /// - Returns: false when the journal did not take it; the caller then writes the line to stderr.
    func send(daemon: String, level: Logger.Level, message: String, fields: [(String, String)]) -> Bool {
        var out: [UInt8] = []
        Self.append("MESSAGE", message, to: &out)
        Self.append("PRIORITY", Self.priority(level), to: &out)
        Self.append("SYSLOG_IDENTIFIER", daemon, to: &out)
        for (name, value) in fields { Self.append(Self.fieldName(name), value, to: &out) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let sent = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { to in
                sendto(descriptor, out, out.count, Int32(MSG_NOSIGNAL), to, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return sent == out.count
    }

    static func append(_ name: String, _ value: String, to out: inout [UInt8]) {
        out += name.utf8
        if value.utf8.contains(0x0a) {
            out.append(0x0a)
            withUnsafeBytes(of: UInt64(value.utf8.count).littleEndian) { out += $0 }
        } else {
            out.append(UInt8(ascii: "="))
        }
        out += value.utf8
        out.append(0x0a)
    }

    /// Field names are upper case, digits and underscore, and do not begin with an underscore.
    static func fieldName(_ name: String) -> String {
        "KARRI_"
            + String(
                decoding: name.utf8.map { c -> UInt8 in
                    switch c {
                    case 0x61...0x7a: c - 0x20
                    case 0x41...0x5a, 0x30...0x39: c
                    default: UInt8(ascii: "_")
                    }
                }, as: UTF8.self)
    }

    private static func priority(_ level: Logger.Level) -> String {
        switch level {
        case .trace, .debug: "7"
        case .info: "6"
        case .notice: "5"
        case .warning: "4"
        case .error: "3"
        case .critical: "2"
        }
    }
}
