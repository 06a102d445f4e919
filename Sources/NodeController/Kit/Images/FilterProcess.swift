import Domain
import Glibc
import Synchronization

/// A program that reads from us and writes to us (gzip, tar). Both ends block: each is for one thread of its own.
///
/// The ends are sockets, not pipes: writing to a program that has gone is an error then, never a signal.
final class FilterProcess: Sendable {
    private struct State {
        var input: Int32
        var output: Int32
        var pid: pid_t
        var status: Int32?
    }
    private let state: Mutex<State>
    let name: String

    /// - Parameter takesInput: false: the program's standard input is `/dev/null`.
    init(_ program: String, _ arguments: [String], takesInput: Bool = true) throws(CloudError) {
        name = program
        func pair() throws(CloudError) -> (ours: Int32, theirs: Int32) {
            var ends: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
                throw CloudError(.unavailable(program), context: "socketpair: errno \(errno)")
            }
            return (ends[0], ends[1])
        }
        let stdin = takesInput ? try pair() : (ours: Int32(-1), theirs: open("/dev/null", O_RDONLY | O_CLOEXEC))
        let stdout = try pair()
        defer {
            close(stdin.theirs)
            close(stdout.theirs)
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, stdin.theirs, 0)
        posix_spawn_file_actions_adddup2(&actions, stdout.theirs, 1)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/bin:/bin"), strdup("LC_ALL=C"), nil]
        defer {
            for pointer in argv { free(pointer) }
            for pointer in envp { free(pointer) }
        }
        var pid = pid_t()
        var code = posix_spawn(&pid, "/usr/bin/" + program, &actions, &attributes, &argv, &envp)
        if code == ENOENT { code = posix_spawn(&pid, "/bin/" + program, &actions, &attributes, &argv, &envp) }
        guard code == 0 else {
            if stdin.ours >= 0 { close(stdin.ours) }
            close(stdout.ours)
            throw CloudError(.unavailable(program), context: "cannot run \(program): errno \(code)")
        }
        state = Mutex(State(input: stdin.ours, output: stdout.ours, pid: pid))
    }

    deinit { end() }

    /// - Returns: false when the program does not read any more.
    func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let descriptor = state.withLock { $0.input }
        var offset = 0
        while offset < bytes.count {
            let sent = send(descriptor, bytes.baseAddress! + offset, bytes.count - offset, Int32(MSG_NOSIGNAL))
            if sent < 0 && errno == EINTR { continue }
            guard sent > 0 else { return false }
            offset += sent
        }
        return true
    }

    /// The program sees the end of its input.
    func closeInput() {
        let descriptor = state.withLock { s -> Int32 in
            defer { s.input = -1 }
            return s.input
        }
        if descriptor >= 0 { close(descriptor) }
    }

    /// - Returns: how many bytes came; 0 at the end, negative for an error.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let descriptor = state.withLock { $0.output }
        while true {
            let got = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if got < 0 && errno == EINTR { continue }
            return got
        }
    }

    /// Makes both ends return: what is blocked in `read` or `write` gets its end. For a filter that is given up.
    func interrupt() {
        state.withLock { s in
            if s.input >= 0 { Glibc.shutdown(s.input, Int32(SHUT_RDWR)) }
            if s.output >= 0 { Glibc.shutdown(s.output, Int32(SHUT_RDWR)) }
        }
    }

    /// Waits for the program's end (blocking).
    /// - Returns: its exit status; 128 + n when signal n ended it.
    func wait() -> Int32 {
        let (known, pid) = state.withLock { ($0.status, $0.pid) }
        if let known { return known }
        var raw: Int32 = 0
        while waitpid(pid, &raw, 0) < 0 && errno == EINTR {}
        let signal = raw & 0x7f
        let status = signal == 0 ? (raw >> 8) & 0xff : 128 + signal
        state.withLock { $0.status = status }
        return status
    }

    /// Ends the program if it still runs, and gives everything back.
    func end() {
        let alive = state.withLock { s -> pid_t? in
            if s.input >= 0 { close(s.input) }
            if s.output >= 0 { close(s.output) }
            s.input = -1
            s.output = -1
            return s.status == nil ? s.pid : nil
        }
        if let alive {
            kill(alive, SIGKILL)
            _ = wait()
        }
    }
}
