import ArgumentParser
import Daemon
import WalrusKit

/// `karri-walrus quota --config F [ACCOUNT [--bytes N] [--objects N] [--buckets N] [--clear]]`; with nothing to set, it shows.
struct QuotaCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quota", abstract: "Show or set what an account may hold. A running daemon takes it over within a second.")

    @OptionGroup var file: ConfigurationOption
    @Argument(help: "The account's id: 12 digits.") var account: String?
    @Option(help: "Bytes of all its objects, versions and running uploads.") var bytes: Int?
    @Option(help: "Objects, versions included.") var objects: Int?
    @Option(help: "Buckets.") var buckets: Int?
    @Flag(help: "Take the account's quota away.") var clear = false

    func run() async throws {
        let (configuration, _) = try file.load(WalrusConfiguration.self)
        let quota = Quota(bytes: bytes, objects: objects, buckets: buckets)
        for line in try await QuotaRun(configuration).run(account: account, quota, clear: clear) { print(line) }
    }
}
