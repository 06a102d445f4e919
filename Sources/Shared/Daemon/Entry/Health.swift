import Synchronization

/// How the parts of a process are. `/health` shows it: 200 when every part is ok or degraded, 503 otherwise.
public final class HealthRegistry: Sendable {
    public enum State: Sendable, Equatable {
        case starting
        case ok
        /// It works, but somebody should look.
        case degraded(String)
        case failed(String)
    }
    private let parts = Mutex<[String: State]>([:])
    private let daemon: String

    public init(daemon: String) { self.daemon = daemon }

    public func set(_ part: String, _ state: State) { parts.withLock { $0[part] = state } }
    public func state(_ part: String) -> State? { parts.withLock { $0[part] } }

    /// No part is starting any more.
    public var hasStarted: Bool { parts.withLock { !$0.values.contains(.starting) } }

    public var isServing: Bool {
        parts.withLock {
            $0.values.allSatisfy { state in
                switch state {
                case .ok, .degraded: true
                case .starting, .failed: false
                }
            }
        }
    }

    /// `{"status": "ok" | "degraded" | "failed", "daemon": …, "version": …, "parts": {name: {"status": …, "reason": …}}}`
    /// - Parameter reasons: false: what is wrong is left out.
    public func json(reasons: Bool = true) -> String {
        let now = parts.withLock { $0 }
        var worst = "ok"
        var items: [String] = []
        for (name, state) in now.sorted(by: { $0.key < $1.key }) {
            let (status, reason) =
                switch state {
                case .starting: ("starting", "")
                case .ok: ("ok", "")
                case .degraded(let why): ("degraded", why)
                case .failed(let why): ("failed", why)
                }
            if status == "failed" || status == "starting" { worst = "failed" }
            if status == "degraded" && worst == "ok" { worst = "degraded" }
            let more = reason.isEmpty || !reasons ? "" : ",\"reason\":\(JSONText.quoted(reason))"
            items.append("\(JSONText.quoted(name)):{\"status\":\"\(status)\"\(more)}")
        }
        return "{\"status\":\"\(worst)\",\"daemon\":\(JSONText.quoted(daemon)),\"version\":\(JSONText.quoted(KarriVersion.text)),"
            + "\"parts\":{\(items.joined(separator: ","))}}\n"
    }
}

public enum KarriVersion {
    public static let text = "0.1.0"
}
