public import ArgumentParser
import Glibc
import Logging
public import ServiceLifecycle
import UnixSignals
import Workflow

/// A daemon's executable. Conform a `@main` type to it:
/// ```swift
/// @main struct KarriNC: DaemonProgram {
///     static let name = "karri-nc"
///     static let abstract = "Node controller: one hypervisor host"
///     static var extraCommands: [any AsyncParsableCommand.Type] { [Teardown.self] }
///     static func services(_ configuration: NodeConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] { … }
/// }
/// ```
/// Commands: `run --config FILE`, `check-config --config FILE`, `--version`, `--help`, and the daemon's own.
public protocol DaemonProgram: Sendable {
    associatedtype Configuration: DaemonConfiguration
    static var name: String { get }
    static var abstract: String { get }
    static var extraCommands: [any AsyncParsableCommand.Type] { get }
    /// Builds everything, in one readable order. The services start together after this returns and stop in reverse order.
    static func services(_ configuration: Configuration, _ runtime: DaemonRuntime) async throws -> [any Service]
}

extension DaemonProgram {
    public static var extraCommands: [any AsyncParsableCommand.Type] { [] }

    public static func main() async {
        // A peer that goes away is an error of write(2), not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        await DaemonRootCommand<Self>.main()
    }
}

/// For subcommands of a daemon: `--config FILE`, checked like `run` does.
public struct ConfigurationOption: ParsableArguments {
    @Option(name: .long, help: "The configuration file.")
    public var config: String

    public init() {}

    /// Reads the file. On a wrong file it prints every problem and ends the command with code 78 (EX_CONFIG).
    public func load<C: DaemonConfiguration>(_ type: C.Type) throws -> (configuration: C, values: ConfigurationValues) {
        do {
            return try ConfigurationFile.load(type, path: config)
        } catch {
            for problem in error.problems { LogLine.write(Array("\(config): \(problem)\n".utf8)) }
            throw ExitCode(78)
        }
    }

    /// A runtime for a short command: logs to stderr, no listeners.
    public func runtime(_ name: String, _ values: ConfigurationValues) -> DaemonRuntime {
        let level = Logger.Level(rawValue: values.text("log_level")) ?? .info
        return DaemonRuntime(name: name, logger: LogSetup.start(daemon: name, level: level))
    }
}

struct DaemonRootCommand<Program: DaemonProgram>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        let own: [any ParsableCommand.Type] = [RunCommand<Program>.self, CheckConfigurationCommand<Program>.self]
        return CommandConfiguration(
            commandName: Program.name, abstract: Program.abstract, version: "\(Program.name) \(KarriVersion.text)",
            subcommands: own + Program.extraCommands.map { $0 as any ParsableCommand.Type })
    }
}

struct CheckConfigurationCommand<Program: DaemonProgram>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "check-config", abstract: "Check a configuration file and name every wrong or unknown key.",
            discussion: "Keys:\n"
                + (Program.Configuration.keys + ConfigurationKey.common).map { key in
                    let standard = key.standard.map { " [\($0)]" } ?? (key.isRequired ? " (required)" : "")
                    return "  \(key.name)\(standard)  \(key.doc)"
                }.joined(separator: "\n"))
    }

    @OptionGroup var file: ConfigurationOption

    func run() async throws {
        _ = try file.load(Program.Configuration.self)
        LogLine.write(Array("\(file.config): ok\n".utf8))
    }
}

struct RunCommand<Program: DaemonProgram>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "run", abstract: "Run the daemon in the foreground, until SIGTERM or SIGINT.")
    }

    @OptionGroup var file: ConfigurationOption

    func run() async throws {
        let (configuration, values) = try file.load(Program.Configuration.self)
        let runtime = file.runtime(Program.name, values)
        ProcessMetrics.register(in: runtime.metrics, daemon: Program.name, version: KarriVersion.text)
        runtime.logger.notice("starting", metadata: ["version": "\(KarriVersion.text)", "pid": "\(getpid())"])
        ServiceNotify.send("STATUS=starting")
        do {
            var services = try await Program.services(configuration, runtime)
            if values.integer("metrics_port") > 0 { services.append(Self.adminListener(values.integer("metrics_port"), runtime)) }
            services.append(ReadinessService(runtime: runtime))
            // Its own lines say nothing that ours do not.
            var quiet = runtime.logger
            quiet.logLevel = .warning
            var group = ServiceGroupConfiguration(
                services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet)
            group.maximumGracefulShutdownDuration = .seconds(values.integer("stop_seconds"))
            group.maximumCancellationDuration = .seconds(5)
            try await ServiceGroup(configuration: group).run()
        } catch {
            runtime.logger.critical("stopped by an error", metadata: ["error": "\(DaemonFailure.text(error))"])
            ServiceNotify.send("STATUS=failed")
            throw ExitCode(1)
        }
        runtime.logger.notice("stopped")
    }

    private static func adminListener(_ port: Int, _ runtime: DaemonRuntime) -> any Service {
        HTTPServer(
            address: "127.0.0.1", port: port, limits: HTTPLimits(connections: 32), runtime: runtime, name: "metrics",
            admin: runtime.admin(metricsForAnyone: true)
        ) { _ in HTTPReply(status: 404) }
    }
}

/// Tells systemd READY=1 once every part has started, STOPPING=1 when a stop begins, and keeps the watchdog quiet.
struct ReadinessService: Service {
    let runtime: DaemonRuntime

    func run() async throws {
        let watchdog = ServiceNotify.watchdogMilliseconds
        try await withGracefulShutdownHandler {
            // A graceful stop cancels the sleep; it is no error.
            do {
                try await cancelWhenGracefulShutdown {
                    while !runtime.health.hasStarted { try await runtime.clock.sleep(milliseconds: 10) }
                    ServiceNotify.send("READY=1\nSTATUS=running")
                    runtime.logger.notice("ready")
                    while true {
                        try await runtime.clock.sleep(milliseconds: watchdog.map { max(100, $0 / 2) } ?? 3_600_000)
                        if watchdog != nil { ServiceNotify.send("WATCHDOG=1") }
                    }
                }
            } catch is CancellationError {}
        } onGracefulShutdown: {
            ServiceNotify.send("STOPPING=1\nSTATUS=stopping")
        }
    }
}
