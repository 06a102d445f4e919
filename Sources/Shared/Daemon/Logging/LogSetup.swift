import Domain
import Glibc
public import Logging
import Workflow

// Logs are JSON lines on stderr, one object a line, or journald's native protocol when stderr is the journal (JOURNAL_STREAM).
// Every line that is written while a request is served carries that request's id, whichever daemon it came from.

/// The id of the request that the current task serves. It follows the call through all daemons (`X-Request-Id`).
public enum RequestID {
    @TaskLocal public static var current: String?
}

public enum LogSetup {
    /// Makes the process's logger; call it once, before any other use of a logger.
    /// - Parameter daemon: stands in every line.
    public static func start(daemon: String, level: Logger.Level) -> Logger {
        let journal = JournalSocket.ifStderrIsJournal()
        LoggingSystem.bootstrap(
            { label, provider in
                LineLogHandler(daemon: daemon, label: label, logLevel: level, metadataProvider: provider, journal: journal)
            },
            metadataProvider: Logger.MetadataProvider { RequestID.current.map { ["request_id": .string($0)] } ?? [:] })
        return Logger(label: daemon)
    }
}

struct LineLogHandler: LogHandler {
    let daemon: String
    let label: String
    var logLevel: Logger.Level
    var metadataProvider: Logger.MetadataProvider?
    var metadata: Logger.Metadata = [:]
    let journal: JournalSocket?

    init(daemon: String, label: String, logLevel: Logger.Level, metadataProvider: Logger.MetadataProvider?, journal: JournalSocket?) {
        self.daemon = daemon
        self.label = label
        self.logLevel = logLevel
        self.metadataProvider = metadataProvider
        self.journal = journal
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        if let more = metadataProvider?.get() { all.merge(more) { _, new in new } }
        if let more = event.metadata { all.merge(more) { _, new in new } }
        let fields = all.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
        if let journal, journal.send(daemon: daemon, level: event.level, message: "\(event.message)", fields: fields) { return }
        let line = LogLine.json(
            time: SystemClock().now(), level: event.level, daemon: daemon, label: label, message: "\(event.message)", fields: fields)
        LogLine.write(line)
    }
}

enum LogLine {
    /// Longer values are cut: a log line is for people, and pipes write up to 4096 bytes in one piece.
    static let valueLimit = 16 * 1024

    static func json(
        time: Timestamp, level: Logger.Level, daemon: String, label: String, message: String, fields: [(String, String)]
    ) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(256)
        out += "{\"time\":\"\(time.iso8601)\",\"level\":\"\(level.rawValue)\",\"daemon\":".utf8
        JSONText.append(daemon, to: &out)
        if label != daemon {
            out += ",\"label\":".utf8
            JSONText.append(label, to: &out)
        }
        out += ",\"message\":".utf8
        JSONText.append(message, limit: valueLimit, to: &out)
        for (name, value) in fields where !["time", "level", "daemon", "label", "message"].contains(name) {
            out.append(UInt8(ascii: ","))
            JSONText.append(name, to: &out)
            out.append(UInt8(ascii: ":"))
            JSONText.append(value, limit: valueLimit, to: &out)
        }
        out += "}\n".utf8
        return out
    }

    static func write(_ line: [UInt8]) {
        // One write(2) a line: lines of several threads do not mix. A failing stderr has nowhere to be reported.
        line.withUnsafeBytes { bytes in
            var offset = 0
            while offset < bytes.count {
                let n = Glibc.write(2, bytes.baseAddress! + offset, bytes.count - offset)
                if n < 0 && errno == EINTR { continue }
                if n <= 0 { return }
                offset += n
            }
        }
    }
}

/// JSON strings by hand (RFC 8259 §7): Foundation would cost 50 MB.
public enum JSONText {
    public static func append(_ text: String, limit: Int = .max, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for (index, c) in text.utf8.enumerated() {
            if index == limit { break }
            switch c {
            case UInt8(ascii: "\""): out += "\\\"".utf8
            case UInt8(ascii: "\\"): out += "\\\\".utf8
            case 0x0a: out += "\\n".utf8
            case 0x0d: out += "\\r".utf8
            case 0x09: out += "\\t".utf8
            case 0..<0x20: out += "\\u00\(Hex.encode([c]))".utf8
            default: out.append(c)
            }
        }
        out.append(UInt8(ascii: "\""))
    }

    public static func quoted(_ text: String) -> String {
        var out: [UInt8] = []
        append(text, to: &out)
        return String(decoding: out, as: UTF8.self)
    }
}
