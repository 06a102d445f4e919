public import Database
public import Domain

extension CloudSchema {
    /// The schemas of all daemons of a cloud. Each daemon makes its own; they are removed together.
    static let ofAllDaemons = ["cloud", "identity", "storage", "walrus"]

    /// Removes the schemas of all daemons, and nothing else in that database.
    /// - Returns: the schemas that were there.
    /// - Throws: `DatabaseInUse` while a daemon is connected.
    public static func drop(_ pool: DatabasePool) async throws(CloudError) -> [String] {
        try await pool.transaction { tx in
            let daemons = try tx.execute(
                """
                SELECT DISTINCT application_name FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'karri-%' ORDER BY 1
                """
            ).map { $0.text("application_name") }
            guard daemons.isEmpty else {
                throw CloudError(
                    .named(code: "DatabaseInUse", status: 409),
                    "The database is in use by \(daemons.joined(separator: ", ")): stop the daemons first")
            }
            let found = Set(try tx.execute("SELECT nspname::text AS name FROM pg_namespace").map { $0.text("name") })
            let ours = ofAllDaemons.filter(found.contains)
            for schema in ours { try tx.script("DROP SCHEMA \(schema) CASCADE") }
            return ours
        }
    }
}
