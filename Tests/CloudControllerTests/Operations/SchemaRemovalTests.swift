import Database
import Domain
import TestKit
import Testing

@testable import CloudControllerKit

/// What `erase` does to a database that was given to the cloud: Karri's schemas go, what is another's stays.
@Suite struct SchemaRemovalTests {
    @Test func onlyOurSchemasGoAndOnlyWhileNoDaemonIsThere() async throws {
        let url = try TransientPostgres.database()
        let pool = DatabasePool(url: url, size: 1, name: "karri-clc command")
        defer { pool.close() }
        try await pool.migrate(schema: CloudSchema.name, CloudSchema.migrations)
        try await pool.transaction { tx in
            try tx.script("CREATE SCHEMA storage; CREATE TABLE storage.volumes (id int)")
            try tx.script("CREATE SCHEMA theirs; CREATE TABLE theirs.kept (id int)")
        }
        let daemon = DatabasePool(url: url, size: 1, name: "karri-sc")
        _ = try await daemon.read { tx in try tx.execute("SELECT 1 AS one").count }
        await #expect(throws: CloudError.self) { try await CloudSchema.drop(pool) }
        daemon.close()
        // The server notices the closed connection a moment later.
        var dropped: [String]?
        for _ in 0..<200 where dropped == nil { dropped = try? await CloudSchema.drop(pool) }
        #expect(dropped == ["cloud", "storage"])
        #expect(try await CloudSchema.drop(pool) == [])
        #expect(try await pool.read { tx in try tx.execute("SELECT * FROM theirs.kept").count } == 0)
    }
}
