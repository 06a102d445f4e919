public import Domain

/// One step of a schema's history. A migration that was released never changes: the next one corrects it.
public struct Migration: Sendable {
    /// 1, 2, 3, …
    public let version: Int
    /// One or more statements; the schema's name must stand in them.
    public let sql: String

    public init(_ version: Int, _ sql: String) {
        self.version = version
        self.sql = sql
    }

    public init(version: Int, sql: String) { self.init(version, sql) }
}

extension DatabasePool {
    /// Brings `schema` up to the newest migration, all in one transaction, under an advisory lock (daemons that start at the same time
    /// wait for each other). What was applied stands in `<schema>.migrations`.
    /// - Throws: `.unavailable`; `.bug` when a migration fails, or when the database is of a newer program.
    public func migrate(schema: String, _ migrations: [Migration]) async throws(CloudError) {
        // READ COMMITTED: after the wait for the lock the next statement must see what the other one did.
        try await transaction(isolation: .readCommitted) { t in
            try t.script("SET LOCAL statement_timeout = 0")
            try t.execute("SELECT pg_advisory_xact_lock(hashtext($1))", .text("karri.migrate.\(schema)"))
            try t.script("CREATE SCHEMA IF NOT EXISTS \(schema)")
            try t.script(
                """
                CREATE TABLE IF NOT EXISTS \(schema).migrations
                    (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())
                """)
            let applied = Set(try t.execute("SELECT version FROM \(schema).migrations").map { $0.int("version") })
            let newest = migrations.map(\.version).max() ?? 0
            if let unknown = applied.max(), unknown > newest {
                throw CloudError.bug("the database's schema \(schema) has version \(unknown), this program knows \(newest): it is too old")
            }
            for migration in migrations.sorted(by: { $0.version < $1.version }) where !applied.contains(migration.version) {
                try t.script(migration.sql)
                try t.execute("INSERT INTO \(schema).migrations (version) VALUES ($1)", .integer(Int64(migration.version)))
            }
        }
    }
}
