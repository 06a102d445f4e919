public import Domain
import Glibc
import Synchronization

/// A program to run on the host. Never a shell: arguments reach the program as they are.
public struct Command: Sendable, Equatable, CustomStringConvertible {
    /// A path, or a name that is looked up in `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`.
    public var executable: String
    public var arguments: [String]
    /// Bytes for its standard input.
    public var input: [UInt8]
    /// Added to a minimal environment (PATH, LC_ALL=C.UTF-8).
    public var environment: [String: String]
    /// After this it gets SIGTERM, and SIGKILL two seconds later.
    public var timeoutMilliseconds: Int
    /// What is kept of each of its outputs; the rest is read and dropped.
    public var outputLimit: Int

    public init(
        _ executable: String, _ arguments: [String], input: [UInt8] = [], environment: [String: String] = [:],
        timeoutMilliseconds: Int = 30_000, outputLimit: Int = 4 << 20
    ) {
        self.executable = executable
        self.arguments = arguments
        self.input = input
        self.environment = environment
        self.timeoutMilliseconds = timeoutMilliseconds
        self.outputLimit = outputLimit
    }

    public var description: String { ([executable] + arguments).joined(separator: " ") }
}

public struct CommandResult: Sendable, Equatable {
    /// The exit code; `128 + n` when signal `n` ended it.
    public let status: Int
    public let output: [UInt8]
    public let errors: String
    public let timedOut: Bool

    public init(status: Int, output: [UInt8] = [], errors: String = "", timedOut: Bool = false) {
        self.status = status
        self.output = output
        self.errors = errors
        self.timedOut = timedOut
    }
    public var text: String { String(decoding: output, as: UTF8.self) }
}

/// Runs host commands. The daemons' is `CommandRunner`; tests record.
public protocol CommandRunning: Sendable {
    /// - Returns: the result, whatever its status.
    /// - Throws: `.unavailable` when the program cannot be started or the task is cancelled.
    func run(_ command: Command) async throws(CloudError) -> CommandResult
}

extension CommandRunning {
    /// Runs and insists on status 0.
    /// - Throws: `.unavailable` with the command, its status and the end of its errors in `context`.
    @discardableResult
    public func check(_ command: Command) async throws(CloudError) -> CommandResult {
        let result = try await run(command)
        guard result.status == 0 else {
            let reason = result.timedOut ? "timed out after \(command.timeoutMilliseconds) ms" : "status \(result.status)"
            throw CloudError(
                .unavailable(command.executable), context: "\(command): \(reason): \(result.errors.suffix(600))")
        }
        return result
    }
}

/// posix_spawn(3) on a thread of its own for each command.
public struct CommandRunner: CommandRunning {
    private static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    public init() {}

    public func run(_ command: Command) async throws(CloudError) -> CommandResult {
        let run = CommandRun(command, path: Self.path)
        let outcome: Result<CommandResult, CloudError> = await withTaskCancellationHandler {
            await withCheckedContinuation { waiter in
                NativeThread.start { waiter.resume(returning: run.execute()) }
            }
        } onCancel: {
            run.cancel()
        }
        return try outcome.get()
    }
}

/// One run. `execute` is called once, on the run's own thread; `cancel` from anywhere.
private final class CommandRun: Sendable {
    private struct State { var isCancelled = false }
    private let state = Mutex(State())
    private let command: Command
    private let path: String

    init(_ command: Command, path: String) {
        self.command = command
        self.path = path
    }

    func cancel() { state.withLock { $0.isCancelled = true } }

    func execute() -> Result<CommandResult, CloudError> {
        var pipes = Pipes()
        guard pipes.open() else { return failure("pipe: \(FileSystem.lastError)") }
        defer { pipes.closeAll() }
        var pid = pid_t()
        let code = spawn(&pid, pipes)
        guard code == 0 else { return failure(FileSystem.describe(code)) }
        pipes.closeChildEnds()
        return .success(follow(pid, &pipes))
    }

    private func failure(_ reason: String) -> Result<CommandResult, CloudError> {
        .failure(CloudError(.unavailable(command.executable), context: "cannot run \(command): \(reason)"))
    }

    private func spawn(_ pid: inout pid_t, _ pipes: Pipes) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipes.input.read, 0)
        posix_spawn_file_actions_adddup2(&actions, pipes.output.write, 1)
        posix_spawn_file_actions_adddup2(&actions, pipes.errors.write, 2)
        // No descriptor of this process (listeners, TLS connections, libvirt) may leak into the child.
        _ = GNUFunctions.closeFrom?(&actions, 3)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var environment = ["PATH": path, "LC_ALL": "C.UTF-8"]
        environment.merge(command.environment) { _, new in new }
        var argv: [UnsafeMutablePointer<CChar>?] = ([command.executable] + command.arguments).map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer {
            for pointer in argv { free(pointer) }
            for pointer in envp { free(pointer) }
        }
        if command.executable.contains("/") { return posix_spawn(&pid, command.executable, &actions, &attributes, &argv, &envp) }
        // posix_spawnp looks in *our* PATH, which may be short in a service; so look here.
        for folder in path.split(separator: ":") {
            let candidate = "\(folder)/\(command.executable)"
            if access(candidate, X_OK) == 0 { return posix_spawn(&pid, candidate, &actions, &attributes, &argv, &envp) }
        }
        return ENOENT
    }

    /// Feeds and reads the child until it has ended. Its end counts, not the end of its outputs: a child that puts itself into the
    /// background leaves them open.
    private func follow(_ pid: pid_t, _ pipes: inout Pipes) -> CommandResult {
        var output: [UInt8] = []
        var errors: [UInt8] = []
        var sent = 0
        var raw: Int32 = 0
        var timedOut = false
        var termAt: Int64?
        let deadline = Self.now() + Int64(command.timeoutMilliseconds)
        if command.input.isEmpty { pipes.closeInput() }
        while true {
            pipes.poll(milliseconds: 10)
            if pipes.input.write >= 0 {
                sent += pipes.feed(command.input, from: sent)
                if sent >= command.input.count { pipes.closeInput() }
            }
            Pipes.drain(&pipes.output.read, into: &output, limit: command.outputLimit)
            Pipes.drain(&pipes.errors.read, into: &errors, limit: command.outputLimit)
            let waited = waitpid(pid, &raw, WNOHANG)
            if waited == pid || (waited < 0 && errno != EINTR) { break }
            let now = Self.now()
            let isCancelled = state.withLock { $0.isCancelled }
            if let at = termAt {
                if now >= at + 2000 { kill(pid, SIGKILL) }
            } else if now >= deadline || isCancelled {
                timedOut = true
                termAt = now
                kill(pid, SIGTERM)
            }
        }
        Pipes.drain(&pipes.output.read, into: &output, limit: command.outputLimit)
        Pipes.drain(&pipes.errors.read, into: &errors, limit: command.outputLimit)
        let signal = raw & 0x7f
        let status = signal == 0 ? Int((raw >> 8) & 0xff) : 128 + Int(signal)
        return CommandResult(status: status, output: output, errors: String(decoding: errors, as: UTF8.self), timedOut: timedOut)
    }

    private static func now() -> Int64 {
        var t = timespec()
        clock_gettime(CLOCK_MONOTONIC, &t)
        return Int64(t.tv_sec) * 1000 + Int64(t.tv_nsec) / 1_000_000
    }
}

private struct Pipes {
    struct Ends {
        var read: Int32 = -1
        var write: Int32 = -1
    }
    var input = Ends()
    var output = Ends()
    var errors = Ends()

    mutating func open() -> Bool {
        func make(_ ends: inout Ends) -> Bool {
            var pair: [Int32] = [-1, -1]
            guard GNUFunctions.pipe(&pair) else { return false }
            ends = Ends(read: pair[0], write: pair[1])
            return true
        }
        guard make(&input), make(&output), make(&errors) else {
            closeAll()
            return false
        }
        for descriptor in [input.write, output.read, errors.read] { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
        return true
    }

    mutating func closeChildEnds() {
        Self.end(&input.read)
        Self.end(&output.write)
        Self.end(&errors.write)
    }
    mutating func closeInput() { Self.end(&input.write) }
    mutating func closeAll() {
        closeChildEnds()
        Self.end(&input.write)
        Self.end(&output.read)
        Self.end(&errors.read)
    }
    private static func end(_ descriptor: inout Int32) {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    func poll(milliseconds: Int32) {
        var set = [
            pollfd(fd: output.read, events: Int16(POLLIN), revents: 0), pollfd(fd: errors.read, events: Int16(POLLIN), revents: 0),
            pollfd(fd: input.write, events: Int16(POLLOUT), revents: 0),
        ]
        _ = Glibc.poll(&set, 3, milliseconds)
        // Both outputs closed: the child is about to end; poll no longer waits, so wait here.
        if output.read < 0 && errors.read < 0 && input.write < 0 { usleep(500) }
    }

    mutating func feed(_ bytes: [UInt8], from offset: Int) -> Int {
        guard offset < bytes.count else { return 0 }
        let n = bytes.withUnsafeBytes { write(input.write, $0.baseAddress! + offset, $0.count - offset) }
        if n >= 0 { return n }
        if errno == EAGAIN || errno == EINTR { return 0 }
        return bytes.count - offset  // the child does not read any more (EPIPE): nothing is left to feed
    }

    static func drain(_ descriptor: inout Int32, into bytes: inout [UInt8], limit: Int) {
        guard descriptor >= 0 else { return }
        var chunk = [UInt8](repeating: 0, count: 32768)
        while true {
            let got = read(descriptor, &chunk, chunk.count)
            if got > 0 {
                bytes += chunk[..<min(got, max(0, limit - bytes.count))]
            } else if got < 0 && errno == EINTR {
                continue
            } else {
                if got == 0 {
                    close(descriptor)
                    descriptor = -1
                }
                return
            }
        }
    }
}

/// glibc functions behind _GNU_SOURCE, which the Glibc module does not show.
private enum GNUFunctions {
    typealias CloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32
    private typealias Pipe2 = @convention(c) (UnsafeMutablePointer<Int32>, Int32) -> Int32
    // SAFETY: the signatures are those of spawn.h (glibc 2.34) and unistd.h.
    static let closeFrom = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np").map { unsafeBitCast($0, to: CloseFrom.self) }
    private static let pipe2 = dlsym(nil, "pipe2").map { unsafeBitCast($0, to: Pipe2.self) }

    static func pipe(_ pair: inout [Int32]) -> Bool {
        if let pipe2 { return pipe2(&pair, O_CLOEXEC) == 0 }
        return Glibc.pipe(&pair) == 0
    }
}
