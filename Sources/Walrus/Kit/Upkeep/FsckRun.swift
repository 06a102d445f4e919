public import Daemon
import Database
import Domain
import NIOPosix
import Workflow

/// `karri-walrus fsck`: a check with its own connection to the database. It may run beside the daemon; repair may not.
public struct FsckRun: Sendable {
    private let configuration: WalrusConfiguration
    private let runtime: DaemonRuntime

    public init(_ configuration: WalrusConfiguration, _ runtime: DaemonRuntime) {
        self.configuration = configuration
        self.runtime = runtime
    }

    /// - Throws: `.unavailable` when the database or the store cannot be used, or when repair is asked for while the daemon runs.
    public func run(repair: Bool) async throws -> FsckReport {
        let pool = DatabasePool(url: configuration.databaseURL, size: 2, name: "karri-walrus-fsck")
        defer { pool.close() }
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        let bytes = try LocalBytes(root: configuration.dataDirectory, pool: .singleton, exclusive: repair)
        return try await Fsck(pool: pool, bytes: bytes, now: runtime.clock.now()).run(repair: repair)
    }
}
