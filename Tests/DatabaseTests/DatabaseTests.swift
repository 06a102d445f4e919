import Database
import Domain
import TestKit
import Testing

@Suite struct TransactionTests {
    @Test func valuesSurviveTheRoundTrip() async throws {
        let pool = try TransientPostgres.pool()
        defer { pool.close() }
        let bytes: [UInt8] = (0...255).map { UInt8($0) }
        let odd = ["plain", "", "with \"quotes\"", "back\\slash", "comma, brace }", "NULL", "ümlaut 木"]
        try await pool.transaction { t in
            try t.script("CREATE TABLE x (id bigint, t text, b bytea, f boolean, a text[], m bigint)")
            try t.execute(
                "INSERT INTO x VALUES ($1, $2, $3, $4, $5, $6)", 42, "ümlaut 木", .bytes(bytes), true, .textArray(odd),
                .timestamp(Timestamp(milliseconds: 1_790_000_000_123)))
            try t.execute("INSERT INTO x VALUES ($1, $2, $3, $4, $5, $6)", 43, nil, nil, false, .textArray([]), nil)
        }
        let rows = try await pool.read { try $0.execute("SELECT * FROM x ORDER BY id") }
        #expect(rows.count == 2)
        #expect(rows[0].int("id") == 42)
        #expect(rows[0].text("t") == "ümlaut 木")
        #expect(rows[0].bytes("b") == bytes)
        #expect(rows[0].bool("f"))
        #expect(rows[0].textArray("a") == odd)
        #expect(rows[0].timestamp("m").milliseconds == 1_790_000_000_123)
        #expect(rows[1].optionalText("t") == nil)
        #expect(rows[1].optionalBytes("b") == nil)
        #expect(rows[1].textArray("a") == [])
        #expect(!rows[1].bool("f"))
        let some = try await pool.read { try $0.execute("SELECT id FROM x WHERE t = ANY($1)", .textArray(["ümlaut 木", "no"])) }
        #expect(some.map { $0.int("id") } == [42])
    }

    @Test func aTextWithNULIsRefused() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        await #expect(throws: CloudError.self) { try await pool.read { try $0.execute("SELECT $1::text", "a\0b") } }
        let rows = try await pool.read { try $0.execute("SELECT 1 AS one") }
        #expect(rows[0].int("one") == 1)
    }

    @Test func anErrorRollsBackAndTheConnectionServesOn() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        try await pool.transaction { try $0.script("CREATE TABLE x (id bigint PRIMARY KEY)") }
        let error = await #expect(throws: CloudError.self) {
            try await pool.transaction { t in
                try t.execute("INSERT INTO x VALUES (1)")
                try t.execute("INSERT INTO x VALUES (1)")
            }
        }
        #expect(error?.isUniqueViolation == true)
        #expect(error?.context.contains("x_pkey") == true)
        #expect(error?.message.contains("x_pkey") == false)
        let count = try await pool.read { try $0.execute("SELECT count(*) AS n FROM x")[0].int("n") }
        #expect(count == 0)
        let wrong = await #expect(throws: CloudError.self) { try await pool.read { try $0.execute("SELEKT") } }
        #expect(wrong?.reason == .bug)
    }

    @Test func readOnlyIsReadOnly() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        await #expect(throws: CloudError.self) { try await pool.read { try $0.script("CREATE TABLE x ()") } }
    }

    @Test func aSwallowedErrorIsNotACommit() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        let error = await #expect(throws: CloudError.self) {
            try await pool.transaction { t in
                try t.script("CREATE TABLE x ()")
                _ = try? t.execute("SELECT 1/0")
            }
        }
        #expect(error?.reason == .bug)
        await #expect(throws: CloudError.self) { try await pool.read { try $0.execute("SELECT * FROM x") } }
    }

    @Test func attemptTakesBackOnlyItsOwnPart() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        let ids = try await pool.transaction { t -> [Int] in
            try t.script("CREATE TABLE x (id bigint PRIMARY KEY)")
            try t.execute("INSERT INTO x VALUES (1)")
            do {
                try t.attempt { t in
                    try t.execute("INSERT INTO x VALUES (2)")
                    try t.execute("INSERT INTO x VALUES (1)")
                }
            } catch let error as CloudError where error.isUniqueViolation {}
            return try t.execute("SELECT id FROM x").map { $0.int("id") }
        }
        #expect(ids == [1])
    }

    @Test func conflictingTransactionsAreRepeatedUntilAllHaveCounted() async throws {
        let pool = try TransientPostgres.pool(size: 8)
        defer { pool.close() }
        try await pool.transaction { try $0.script("CREATE TABLE counter (n bigint); INSERT INTO counter VALUES (0)") }
        let runs = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<64 {
                group.addTask {
                    try await pool.transaction { t in
                        runs.count()
                        // Read, then write what was read: wrong under anything less than serializable.
                        let n = try t.execute("SELECT n FROM counter")[0].int("n")
                        try t.execute("UPDATE counter SET n = $1", .integer(Int64(n + 1)))
                    }
                }
            }
            try await group.waitForAll()
        }
        let n = try await pool.read { try $0.execute("SELECT n FROM counter")[0].int("n") }
        #expect(n == 64)
        #expect(runs.now >= 64)
    }

    @Test func deadlocksAreRepeated() async throws {
        let pool = try TransientPostgres.pool(size: 2)
        defer { pool.close() }
        try await pool.transaction { try $0.script("CREATE TABLE x (id int PRIMARY KEY, n int); INSERT INTO x VALUES (1, 0), (2, 0)") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (first, second) in [(1, 2), (2, 1)] {
                group.addTask {
                    try await pool.transaction(isolation: .readCommitted) { t in
                        try t.execute("UPDATE x SET n = n + 1 WHERE id = $1", .integer(Int64(first)))
                        try t.execute("SELECT pg_sleep(0.1)")
                        try t.execute("UPDATE x SET n = n + 1 WHERE id = $1", .integer(Int64(second)))
                    }
                }
            }
            try await group.waitForAll()
        }
        let sum = try await pool.read { try $0.execute("SELECT sum(n) AS s FROM x")[0].int("s") }
        #expect(sum == 4)
    }

    @Test func manyTransactionsOnFewConnections() async throws {
        let pool = try TransientPostgres.pool(size: 2)
        defer { pool.close() }
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for i in 0..<500 {
                group.addTask { try await pool.read { try $0.execute("SELECT $1::int AS i", .integer(Int64(i)))[0].int("i") } }
            }
            return try await group.reduce(0, +)
        }
        #expect(sum == 499 * 500 / 2)
    }

    @Test func morePreparedStatementsThanAreKept() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        try await pool.read { t in
            for i in 0..<1100 {
                let row = try t.execute("SELECT \(i) AS i")[0]
                #expect(row.int("i") == i)
            }
        }
    }

    @Test func aClosedPoolRefuses() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        pool.close()
        let error = await #expect(throws: CloudError.self) { try await pool.read { try $0.execute("SELECT 1") } }
        #expect(error?.reason == .unavailable("The database"))
    }
}

@Suite struct MigrationTests {
    static let all = [
        Migration(1, "CREATE TABLE things.a (id bigint); INSERT INTO things.a VALUES (1)"),
        Migration(2, "ALTER TABLE things.a ADD COLUMN name text NOT NULL DEFAULT 'x'"),
    ]

    @Test func daemonsThatStartTogetherMigrateOnce() async throws {
        let url = try TransientPostgres.database()
        let pools = (0..<4).map { DatabasePool(url: url, size: 1, name: "p\($0)") }
        defer { for pool in pools { pool.close() } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for pool in pools { group.addTask { try await pool.migrate(schema: "things", Self.all) } }
            try await group.waitForAll()
        }
        let rows = try await pools[0].read { try $0.execute("SELECT * FROM things.a") }
        #expect(rows.count == 1)
        #expect(rows[0].text("name") == "x")
    }

    @Test func aRunningStatementOutlivesAMigration() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        try await pool.migrate(schema: "things", [Self.all[0]])
        let before = try await pool.read { try $0.execute("SELECT * FROM things.a") }
        #expect(before[0].int("id") == 1)
        try await pool.migrate(schema: "things", Self.all)
        let after = try await pool.read { try $0.execute("SELECT * FROM things.a") }
        #expect(after[0].text("name") == "x")
    }

    @Test func aNewerDatabaseIsRefusedAndABrokenMigrationLeavesNothing() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        await #expect(throws: CloudError.self) {
            try await pool.migrate(schema: "things", [Self.all[0], Migration(2, "ALTER TABLE things.nothing ADD COLUMN x int")])
        }
        await #expect(throws: CloudError.self) { try await pool.read { try $0.execute("SELECT * FROM things.a") } }
        try await pool.migrate(schema: "things", Self.all)
        await #expect(throws: CloudError.self) { try await pool.migrate(schema: "things", [Self.all[0]]) }
    }
}

@Suite struct NotificationTests {
    @Test(.timeLimit(.minutes(1))) func listenersHearCommitsOnly() async throws {
        let pool = try TransientPostgres.pool(size: 2)
        defer { pool.close() }
        var events = pool.listen(["jobs", "odd \"name\""]).makeAsyncIterator()
        #expect(await events.next() == .reconnected)
        struct Stop: Error {}
        _ = try? await pool.transaction { t in
            try t.notify("jobs", "never")
            throw Stop()
        }
        try await pool.transaction { t in
            try t.notify("jobs", "one")
            try t.notify("odd \"name\"", "two")
            try t.notify("other", "three")
        }
        #expect(await events.next() == .message(channel: "jobs", payload: "one"))
        #expect(await events.next() == .message(channel: "odd \"name\"", payload: "two"))
        pool.close()
        #expect(await events.next() == nil)
    }

    @Test(.timeLimit(.minutes(1))) func aSlowListenerIsToldThatItMissedSomething() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        var events = pool.listen(["jobs"]).makeAsyncIterator()
        #expect(await events.next() == .reconnected)
        try await pool.transaction { t in for i in 0..<3000 { try t.notify("jobs", "\(i)") } }
        try await Task.sleep(for: .milliseconds(500))
        var heard = 0
        while let event = await events.next(), event != .reconnected { heard += 1 }
        #expect(heard >= 1000)
        #expect(heard < 3000)
    }
}

/// Their own servers: they are stopped.
@Suite(.serialized) struct OutageTests {
    @Test(.timeLimit(.minutes(2))) func thePoolAndTheListenersComeBackByThemselves() async throws {
        let server = try PostgresServer()
        let pool = DatabasePool(url: server.url(), size: 2, name: "outage")
        defer { pool.close() }
        var events = pool.listen(["jobs"]).makeAsyncIterator()
        #expect(await events.next() == .reconnected)
        try await pool.transaction { try $0.script("CREATE TABLE x (id bigint)") }

        server.stop()
        let error = await #expect(throws: CloudError.self) { try await pool.transaction { try $0.execute("INSERT INTO x VALUES (1)") } }
        #expect(error?.reason == .unavailable("The database"))

        try server.start()
        try await pool.transaction { try $0.execute("INSERT INTO x VALUES (2)") }
        #expect(await events.next() == .reconnected)
        try await pool.transaction { try $0.notify("jobs", "again") }
        #expect(await events.next() == .message(channel: "jobs", payload: "again"))
    }

    @Test(.timeLimit(.minutes(2))) func aServerKilledInTheMiddleOfATransaction() async throws {
        let server = try PostgresServer()
        let pool = DatabasePool(url: server.url(), size: 1, name: "outage")
        defer { pool.close() }
        try await pool.transaction { try $0.script("CREATE TABLE x (id bigint)") }
        let error = await #expect(throws: CloudError.self) {
            try await pool.transaction { t in
                try t.execute("INSERT INTO x VALUES (1)")
                server.kill9()
                try t.execute("INSERT INTO x VALUES (2)")
            }
        }
        #expect(error?.reason == .unavailable("The database"))
        try server.start()
        #expect(try await pool.read { try $0.execute("SELECT * FROM x").count } == 0)
    }

    @Test(.timeLimit(.minutes(2))) func aCommitWithoutAnAnswerIsUnavailable() async throws {
        let server = try PostgresServer()
        let pool = DatabasePool(url: server.url(), size: 1, name: "outage")
        defer { pool.close() }
        let error = await #expect(throws: CloudError.self) {
            try await pool.transaction { t in
                try t.script("CREATE TABLE x (id bigint)")
                server.kill9()
            }
        }
        #expect(error?.reason == .unavailable("The database"))
        #expect(error?.context.contains("outcome of a COMMIT is unknown") == true)
        try server.start()
        #expect(try await pool.read { try $0.execute("SELECT 1").count } == 1)
    }

    /// An idle connection that was cut by the other side costs nobody an error.
    @Test(.timeLimit(.minutes(1))) func anIdleConnectionThatWasCut() async throws {
        let pool = try TransientPostgres.pool(size: 1)
        defer { pool.close() }
        let other = try await pool.read { try $0.execute("SELECT pg_backend_pid() AS pid, current_setting('port') AS p")[0].int("pid") }
        let name = try await pool.read { try $0.execute("SELECT current_database() AS d")[0].text("d") }
        let killer = DatabasePool(url: try TransientPostgres.database(), size: 1, name: "killer")
        defer { killer.close() }
        try await killer.transaction { t in
            try t.execute("SELECT pg_terminate_backend($1::int)", .integer(Int64(other)))
        }
        try await Task.sleep(for: .milliseconds(100))
        #expect(try await pool.read { try $0.execute("SELECT current_database() AS d")[0].text("d") } == name)
    }
}
