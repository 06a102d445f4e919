import ArgumentParser
import Daemon
import WalrusKit

/// `karri-walrus quota --config F [ACCOUNT [--bytes N] [--objects N] [--buckets N] | ACCOUNT --clear]`: without an account, or with nothing to
/// set, it shows.
struct QuotaCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quota", abstract: "Show or set what an account may hold. A running daemon takes it over within a second.")

    @OptionGroup var file: ConfigurationOption
    @Argument(help: "The account's id: 12 digits.") var account: String?
    @Option(help: "Bytes of all its objects, versions and running uploads.") var bytes: Int?
    @Option(help: "Objects, versions included.") var objects: Int?
    @Option(help: "Buckets.") var buckets: Int?
    @Flag(help: "Take the account's quota away.") var clear = false

    func validate() throws {
        let sets = bytes != nil || objects != nil || buckets != nil
        if (sets || clear) && account == nil { throw ValidationError("an account is needed") }
        if sets && clear { throw ValidationError("--clear takes no limits") }
        if [bytes, objects, buckets].contains(where: { $0.map { $0 < 0 } ?? false }) { throw ValidationError("a limit is at least 0") }
    }

    func run() async throws {
        let (configuration, _) = try file.load(WalrusConfiguration.self)
        let quotas = QuotaRun(configuration)
        if let account, clear {
            try await quotas.clear(account: account)
        } else if let account, bytes != nil || objects != nil || buckets != nil {
            try await quotas.set(account: account, Quota(bytes: bytes, objects: objects, buckets: buckets))
        }
        for row in try await quotas.show(account: account) {
            func of(_ used: Int, _ limit: Int?) -> String { "\(used) of \(limit.map(String.init) ?? "any number")" }
            print(
                "\(row.account): bytes \(of(row.use.bytes, row.quota.bytes)), objects \(of(row.use.objects, row.quota.objects)), "
                    + "buckets \(of(row.use.buckets, row.quota.buckets))")
        }
    }
}
