import Daemon
import Domain
import Glibc

/// The qemu-storage-daemon of one volume: started when something needs it, found again by its socket after a restart of ours, ended when
/// nothing needs it any more. It is a process of its own session, so that nothing that happens to us ends a guest's volume.
struct VolumeDaemon: Sendable {
    let id: String
    let layout: FileLayout
    let runner: any CommandRunning

    /// The name of the volume's block node inside the daemon.
    static let node = "volume"
    private static let credentials = "tls"
    private static let authorization = "nodes"
    /// Names NBD clients' connections; a guest uses one, a migration two.
    private static let connections = 16

    /// Starts it if it does not run. - Throws: `.notFound(volume)`.
    func ensure() async throws(CloudError) {
        if try await answers() { return }
        guard FileSystem.exists(layout.volume(id)) else { throw CloudError(.notFound(.volume, id: id)) }
        // A daemon that died leaves these; QEMU would take the pid file for a running one only if it could lock it.
        try layout.remove(layout.socket(id))
        try await runner.check(
            Command(
                "qemu-storage-daemon",
                [
                    "--chardev", "socket,id=qmp,path=\(layout.socket(id)),server=on,wait=off", "--monitor", "chardev=qmp",
                    "--object", "tls-creds-x509,id=\(Self.credentials),endpoint=server,verify-peer=on,dir=\(layout.tls)",
                    "--blockdev", "driver=file,node-name=file,filename=\(layout.volume(id)),discard=unmap",
                    "--blockdev", "driver=qcow2,node-name=\(Self.node),file=file,discard=unmap,detect-zeroes=unmap",
                    "--pidfile", layout.pid(id), "--daemonize",
                ]))
    }

    /// Whether it runs and is not about to end: one that is on its way out still takes a connection and then drops it.
    private func answers() async throws(CloudError) -> Bool {
        for attempt in 1... {
            do throws(CloudError) { return try await session({ _ throws(CloudError) in true }) != nil } catch {
                guard attempt < 40, case .unavailable = error.reason else { throw error }
            }
            try await BlockingPool.run { () throws(CloudError) in SystemPause.milliseconds(25) }
        }
        return false
    }

    /// Talks with the running daemon. - Returns: `nil` when it does not run.
    func session<R: Sendable>(_ body: @escaping @Sendable (QMPSession) throws(CloudError) -> R) async throws(CloudError) -> R? {
        let path = layout.socket(id)
        return try await BlockingPool.run { () throws(CloudError) -> R? in
            guard let session = try QMPSession(path: path) else { return nil }
            return try body(session)
        }
    }

    /// Exports as they should be.
    func apply(_ grants: [ExportGrant], host: String, ports: ClosedRange<Int>) async throws(CloudError) -> ExportAddress {
        let layout = layout
        let id = id
        let port = try await session { session throws(CloudError) -> Int in
            let present = try Self.exports(session)
            for export in present where !grants.contains(where: { $0.attachment == export }) {
                try Self.endExport(session, export)
            }
            try Self.authorize(session, grants)
            let port = try Self.listen(session, id, layout, host: host, ports: ports)
            for grant in grants where !present.contains(grant.attachment) {
                try session.command(
                    "block-export-add",
                    [
                        "type": "nbd", "id": .string(grant.attachment), "node-name": .string(Self.node), "writable": true,
                        "name": .string(grant.secretName),
                    ])
            }
            return port
        }
        guard let port else { throw CloudError(.unavailable("The volume"), context: "the daemon of \(id) has ended") }
        return ExportAddress(host: host, port: port)
    }

    /// Ends all exports, and the daemon too when no job runs in it.
    func release() async throws(CloudError) {
        let busy = try await session { session throws(CloudError) -> Bool in
            for export in try Self.exports(session) { try Self.endExport(session, export) }
            if let jobs = try session.command("query-jobs").items, !jobs.isEmpty { return true }
            // It may be gone before its answer is out.
            do throws(CloudError) { try session.command("quit") } catch {
                guard case .unavailable = error.reason else { throw error }
            }
            return false
        }
        if busy == true { return }
        // Until the process has closed the file, nobody else may open it.
        for _ in 0..<200 {
            if try await hasEnded() {
                for path in [layout.socket(id), layout.pid(id), layout.port(id)] { try layout.remove(path) }
                return
            }
            try await BlockingPool.run { () throws(CloudError) in SystemPause.milliseconds(25) }
        }
        throw CloudError(.unavailable("The volume"), context: "the daemon of \(id) does not end")
    }

    /// The daemon is gone: nobody listens, and the process of the pid file is no more, is a zombie that nobody collects, or is another
    /// program by now (after a restart of the host the numbers begin again).
    private func hasEnded() async throws(CloudError) -> Bool {
        guard try await !answers() else { return false }
        guard let text = try? FileSystem.read(layout.pid(id), limit: 64), let pid = pid_t(Self.trimmed(text)), pid > 1,
            let command = try? FileSystem.read("/proc/\(pid)/cmdline", limit: 65_536)
        else { return true }
        // A zombie has no command line.
        return !String(decoding: command, as: UTF8.self).contains(layout.socket(id))
    }

    // MARK: inside a session

    private static func exports(_ session: QMPSession) throws(CloudError) -> [String] {
        (try session.command("query-block-exports").items ?? []).compactMap { $0["id"]?.text }
    }

    /// Its connections end: the guest's requests fail, they do not hang.
    private static func endExport(_ session: QMPSession, _ export: String) throws(CloudError) {
        try session.command("block-export-del", ["id": .string(export), "mode": "hard"])
        for _ in 0..<200 {
            if !(try exports(session)).contains(export) { return }
            SystemPause.milliseconds(10)
        }
        throw CloudError(.unavailable("The volume"), context: "the export \(export) does not end")
    }

    /// Only the nodes that have an attachment may connect: a secret name is a secret only if not every node may list the names.
    private static func authorize(_ session: QMPSession, _ grants: [ExportGrant]) throws(CloudError) {
        var rules: [JSONValue] = []
        for node in Set(grants.map(\.node)).sorted() {
            // gnutls writes the subject as `CN=name` or `O=…,CN=name`. Names hold no wildcard characters (PeerIdentity).
            let patterns = node.isEmpty ? ["*"] : ["CN=\(node)", "*,CN=\(node)", "CN=\(node),*", "*,CN=\(node),*"]
            for pattern in patterns { rules.append(["match": .string(pattern), "policy": "allow", "format": "glob"]) }
        }
        // Between the two nobody gets in; connections that exist stay.
        do throws(CloudError) { try session.command("object-del", ["id": .string(authorization)]) } catch {
            if case .unavailable = error.reason { throw error }
        }
        try session.command(
            "object-add", ["qom-type": "authz-list", "id": .string(authorization), "policy": "deny", "rules": .array(rules)])
    }

    /// Starts the NBD server unless it runs. The port is written down *before* it is tried, and trying ends with the one that worked:
    /// so when the server runs, the file names its port, whatever was killed when.
    private static func listen(
        _ session: QMPSession, _ id: String, _ layout: FileLayout, host: String, ports: ClosedRange<Int>
    ) throws(CloudError) -> Int {
        let known = (try? FileSystem.read(layout.port(id), limit: 16)).flatMap { Int(trimmed($0)) }
        let others = try otherPorts(id, layout)
        var candidates = Array(ports).filter { !others.contains($0) }
        if let known, let index = candidates.firstIndex(of: known) { candidates.swapAt(0, index) }
        var last = ""
        for port in candidates {
            do throws(CloudError) {
                if port != known { try FileSystem.writeAtomically(Array("\(port)\n".utf8), to: layout.port(id)) }
                try session.command(
                    "nbd-server-start",
                    [
                        "addr": ["type": "inet", "data": ["host": .string(host), "port": .string("\(port)")]],
                        "tls-creds": .string(credentials), "tls-authz": .string(authorization),
                        "max-connections": .integer(connections),
                    ])
                return port
            } catch {
                if error.context.contains("already running"), let known {
                    if port != known { try FileSystem.writeAtomically(Array("\(known)\n".utf8), to: layout.port(id)) }
                    return known
                }
                guard error.context.contains("ddress already in use") else { throw error }
                last = error.context
            }
        }
        throw CloudError(
            .capacity(
                Shortage(
                    .connections,
                    [Shortage.Place("ports \(ports.lowerBound)-\(ports.upperBound)", .connections, asked: 1, free: 0, limit: ports.count)]
                )), context: last)
    }

    private static func otherPorts(_ id: String, _ layout: FileLayout) throws(CloudError) -> Set<Int> {
        var ports: Set<Int> = []
        for other in try layout.names(in: "run", ending: ".port") where other != id {
            if let text = try? FileSystem.read(layout.port(other), limit: 16), let port = Int(trimmed(text)) { ports.insert(port) }
        }
        return ports
    }

    private static func trimmed(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
    }
}
