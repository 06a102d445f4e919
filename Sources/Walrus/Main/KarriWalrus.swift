import ArgumentParser
import Daemon
import ServiceLifecycle
import WalrusKit

/// `karri-walrus`: the object store.
@main struct KarriWalrus: DaemonProgram {
    static let name = "karri-walrus"
    static let abstract = "Walrus: the object store (S3)"
    static var extraCommands: [any AsyncParsableCommand.Type] { [FsckCommand.self, QuotaCommand.self] }

    static func services(_ configuration: WalrusConfiguration, _ runtime: DaemonRuntime) async throws -> [any Service] {
        ProcessMemory.useFewHeaps()
        return try await WalrusService.make(configuration, runtime).services
    }
}

/// `karri-walrus fsck --config F [--repair]`: code 0 clean, 1 defects found (and repaired, where that is possible).
struct FsckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fsck", abstract: "Check that every row has its bytes and every byte its row. Reads the whole store.")

    @OptionGroup var file: ConfigurationOption
    @Flag(help: "Remove bytes and parts without an owner.")
    var repair = false

    func run() async throws {
        let (configuration, values) = try file.load(WalrusConfiguration.self)
        let report = try await FsckRun(configuration, file.runtime("karri-walrus", values)).run(repair: repair)
        for line in report.lines { print(line) }
        if !report.isClean { throw ExitCode(1) }
    }
}
