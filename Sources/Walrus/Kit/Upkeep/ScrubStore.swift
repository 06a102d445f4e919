import Database
import Domain

extension SchemaStore {
    /// What the scrub remembers, and what accounts may hold.
    static let guarding = Migration(
        40,
        """
        -- Blobs whose bytes are not those of their row: not served. 'inline' stands for bytes in rows of the database.
        CREATE TABLE walrus.quarantine (
            blob text PRIMARY KEY,
            found bigint NOT NULL,
            problem text NOT NULL
        );
        -- One row: how far the pass under way has come (a 256th each), when it began and when one ended last.
        CREATE TABLE walrus.scrub (
            solo boolean PRIMARY KEY DEFAULT true CHECK (solo),
            position integer NOT NULL,
            began bigint NOT NULL,
            ended bigint
        );
        CREATE TABLE walrus.quotas (
            account text PRIMARY KEY,
            bytes bigint CHECK (bytes >= 0),
            objects bigint CHECK (objects >= 0),
            buckets bigint CHECK (buckets >= 0)
        );
        """)
}

/// The rows of the scrub and of what it found.
enum ScrubStore {
    /// In place of a blob's name: some row's own bytes are damaged.
    static let inlineMark = "inline"

    struct Position: Sendable {
        /// The next 256th.
        var next: Int
        var began: Timestamp
        var ended: Timestamp?
    }

    static func positionFetch(_ t: Transaction) throws -> Position? {
        try t.execute("SELECT position, began, ended FROM walrus.scrub").first.map {
            Position(next: $0.int("position"), began: $0.timestamp("began"), ended: $0.optionalTimestamp("ended"))
        }
    }

    static func positionSet(_ t: Transaction, _ p: Position) throws {
        try t.execute(
            """
            INSERT INTO walrus.scrub (position, began, ended) VALUES ($1, $2, $3)
            ON CONFLICT (solo) DO UPDATE SET position = excluded.position, began = excluded.began, ended = excluded.ended
            """, SQLValue(p.next), .timestamp(p.began), SQLValue(p.ended))
    }

    static func quarantineAdd(_ t: Transaction, _ blob: String, problem: String, now: Timestamp) throws {
        try t.execute(
            "INSERT INTO walrus.quarantine (blob, found, problem) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", .text(blob), .timestamp(now),
            .text(problem))
    }

    static func quarantineRemove(_ t: Transaction, _ blobs: [String]) throws {
        try t.execute("DELETE FROM walrus.quarantine WHERE blob = ANY($1)", .textArray(blobs))
    }

    static func quarantineList(_ t: Transaction) throws -> [String] {
        try t.execute("SELECT blob FROM walrus.quarantine").map { $0.text("blob") }
    }
}
