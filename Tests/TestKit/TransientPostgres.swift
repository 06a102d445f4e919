public import Database
import Glibc
import Synchronization

/// A throw-away PostgreSQL for tests: its own cluster in a folder under /tmp, reached by a unix socket, no protection against a crash of
/// the machine.
///
/// `TransientPostgres.database()` is what most tests need: the server starts once per test process, each call makes an empty database.
/// The server goes when the test process goes, however it ends: a shell watches a pipe that closes with us.
public enum TransientPostgres {
    private static let shared = Mutex<Result<PostgresServer, TestServerFailure>?>(nil)

    /// - Parameter template: the connection string of a database of this server that nobody is connected to: the new one is a copy of it.
    /// - Returns: the connection string of a new database, empty without a template.
    public static func database(template: String? = nil) throws -> String {
        let server = try shared.withLock { state -> PostgresServer in
            if let state { return try state.get() }
            let result = Result { () throws(TestServerFailure) -> PostgresServer in try PostgresServer() }
            state = result
            return try result.get()
        }
        return try server.createDatabase(template: template)
    }

    /// A started pool on a new, empty database.
    public static func pool(size: Int = 4, name: String = "test") throws -> DatabasePool {
        let pool = DatabasePool(url: try database(), size: size, name: name)
        pool.start()
        return pool
    }
}

public struct TestServerFailure: Error, CustomStringConvertible {
    public let description: String
}

/// A server of its own, for tests that stop it.
public final class PostgresServer: Sendable {
    public let folder: String
    private struct State {
        var watch: Int32 = -1
        var watcher: pid_t = 0
        var databases = 0
    }
    private let state = Mutex(State())
    private let binaries: String

    /// Makes the cluster and starts it.
    public init() throws(TestServerFailure) {
        binaries = try Self.findBinaries()
        var template = Array("/tmp/karri-pg-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw TestServerFailure(description: "mkdtemp: errno \(errno)") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let owner = geteuid() == 0 ? "chown postgres:postgres \(folder) && " : ""
        try Self.run(
            "\(owner)cd \(folder) && \(Self.asUser) \(binaries)/initdb -D \(folder)/data -U karri -A trust -E UTF8 --locale=C.UTF-8 "
                + "--no-sync >\(folder)/initdb.log 2>&1")
        try start()
    }

    deinit {
        stop()
        _ = try? Self.run("rm -rf \(folder)")
    }

    public func url(_ database: String = "postgres") -> String { "host=\(folder) user=karri dbname=\(database)" }

    /// - Returns: the connection string of a new, empty database.
    public func createDatabase(template: String? = nil) throws(TestServerFailure) -> String {
        let source = template.map { " -T \($0.split(separator: "=").last ?? "template1")" } ?? ""
        let name = state.withLock { s -> String in
            s.databases += 1
            return "test\(s.databases)"
        }
        try Self.run("\(binaries)/createdb -h \(folder) -U karri\(source) \(name) 2>>\(folder)/createdb.log")
        return url(name)
    }

    public func start() throws(TestServerFailure) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw TestServerFailure(description: "pipe: errno \(errno)") }
        // Only the watcher gets the reading end; no other child may keep the writing end open.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let server =
            "\(Self.asUser) \(binaries)/postgres -D \(folder)/data -c listen_addresses= -c unix_socket_directories=\(folder) -c fsync=off "
            + "-c full_page_writes=off -c max_connections=600 -c shared_buffers=32MB"
        // `q` (stop in order) or the end of the pipe (we are gone; the folder goes too).
        let script = """
            exec >/dev/null 2>&1; cd \(folder); \(server) >>\(folder)/server.log 2>&1 </dev/null & pid=$!
            if read -r order; then kill -INT $pid; wait $pid; else kill -QUIT $pid; wait $pid; rm -rf \(folder); fi
            """
        let pid = try Self.spawn(["/bin/sh", "-c", script], standardInput: ends[0])
        close(ends[0])
        state.withLock { s in
            s.watch = ends[1]
            s.watcher = pid
        }
        for _ in 0..<300 {
            if (try? Self.run("\(binaries)/pg_isready -q -h \(folder)")) != nil { return }
            usleep(50_000)
        }
        throw TestServerFailure(description: "PostgreSQL does not start; see \(folder)/server.log")
    }

    /// Stops in order (sessions are ended) and waits for it.
    public func stop() {
        let (watch, watcher) = state.withLock { s -> (Int32, pid_t) in
            defer {
                s.watch = -1
                s.watcher = 0
            }
            return (s.watch, s.watcher)
        }
        guard watch >= 0 else { return }
        _ = write(watch, "q\n", 2)
        var status: Int32 = 0
        waitpid(watcher, &status, 0)
        close(watch)
    }

    /// Kill -9 of the postmaster, as a crash of the server is.
    public func kill9() {
        _ = try? Self.run("kill -9 $(head -n1 \(folder)/data/postmaster.pid)")
        stop()
        // Its children end when they see that the postmaster is gone; until then the data folder counts as in use.
        usleep(300_000)
    }

    private static let asUser = geteuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --init-groups" : ""

    private static func findBinaries() throws(TestServerFailure) -> String {
        for version in (13...20).reversed() {
            let folder = "/usr/lib/postgresql/\(version)/bin"
            if access("\(folder)/initdb", X_OK) == 0 { return folder }
        }
        throw TestServerFailure(description: "no PostgreSQL server under /usr/lib/postgresql (apt install postgresql)")
    }

    private static func spawn(_ arguments: [String], standardInput: Int32?) throws(TestServerFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let standardInput { posix_spawn_file_actions_adddup2(&actions, standardInput, 0) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Its own process group: a Ctrl-C at the terminal ends the tests, and then the pipe ends the server in order.
        // The test runner blocks signals, and a shell that inherits a blocked SIGCHLD waits for ever.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var pid = pid_t()
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        let failure = posix_spawn(&pid, arguments[0], &actions, &attributes, pointers, environ)
        guard failure == 0 else { throw TestServerFailure(description: "\(arguments[0]): errno \(failure)") }
        return pid
    }

    private static func run(_ command: String) throws(TestServerFailure) {
        let pid = try spawn(["/bin/sh", "-c", command], standardInput: nil)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { throw TestServerFailure(description: "status \(status) of: \(command)") }
    }
}
