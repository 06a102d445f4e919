import Database
import Domain
import TestKit
import Testing

/// Statements that stand alone and travel together.
@Suite struct LaneTests {
    private static func pool() async throws -> DatabasePool {
        let pool = try TransientPostgres.pool(size: 2)
        try await pool.transaction { try $0.script("CREATE TABLE x (id bigint PRIMARY KEY, t text, b bytea, a text[])") }
        return pool
    }

    @Test func aQueryReadsWhatWasCommittedBeforeAndCannotWrite() async throws {
        let pool = try await Self.pool()
        defer { pool.close() }
        let bytes: [UInt8] = (0...255).map { UInt8($0) }
        let odd = ["", "with \"quotes\"", "comma, }", "NULL", "ümlaut 木"]
        _ = try await pool.shared(
            "INSERT INTO x VALUES ($1, $2, $3, $4)", order: [1], [7, "ümlaut", .bytes(bytes), .textArray(odd)])
        let row = try #require(try await pool.query("SELECT * FROM x WHERE id = $1", 7).first)
        #expect(row.int("id") == 7)
        #expect(row.text("t") == "ümlaut")
        #expect(row.bytes("b") == bytes)
        #expect(row.textArray("a") == odd)
        let error = await #expect(throws: CloudError.self) { try await pool.query("DELETE FROM x WHERE id = $1 RETURNING id", 7) }
        #expect(error?.context.contains("25006") == true)
        #expect(try await pool.query("SELECT count(*) AS n FROM x")[0].int("n") == 1)
    }

    /// Types that we do not read in binary form come as text, and empty, null and large values survive.
    @Test func valuesOfEveryForm() async throws {
        let pool = try await Self.pool()
        defer { pool.close() }
        let rows = try await pool.query(
            "SELECT 1.5::numeric AS n, sum(x) AS s, true AS b FROM generate_series(1::bigint, 3) x")
        #expect(rows[0].double("n") == 1.5)
        #expect(rows[0].int("s") == 6)
        #expect(rows[0].bool("b"))
        let big = [UInt8](repeating: 0xab, count: 300_000)
        _ = try await pool.shared("INSERT INTO x VALUES (1, NULL, $1, '{}')", order: [], [.bytes(big)])
        _ = try await pool.shared("INSERT INTO x VALUES (2, '', $1, NULL)", order: [], [.bytes([])])
        let back = try await pool.query("SELECT id::int4 AS id, t, b, a, 2.5::float8 AS f, 3::int2 AS i FROM x ORDER BY id")
        #expect(back[0].bytes("b") == big)
        #expect(back[0].optionalText("t") == nil)
        #expect(back[1].bytes("b") == [])
        #expect(back[1].text("t") == "")
        #expect(back[1].textArray("a") == [])
        #expect(back[1].double("f") == 2.5)
        #expect(back[1].int("i") == 3)
        #expect(back[1].text("id") == "2")
    }

    @Test func manyAtOnceHaveEachTheirOwnAnswer() async throws {
        let pool = try await Self.pool()
        defer { pool.close() }
        _ = try await pool.shared("INSERT INTO x VALUES (0)", order: [0], [])
        let outcomes = await withTaskGroup(of: (Int, Bool, Bool).self) { group in
            for i in 0..<200 {
                group.addTask {
                    // Each tenth breaks a key, and each tenth writes to a table that is not there.
                    let sql =
                        switch i % 10 {
                        case 3: "INSERT INTO x VALUES ($1 * 0)"
                        case 6: "INSERT INTO nowhere VALUES ($1)"
                        default: "INSERT INTO x VALUES ($1)"
                        }
                    do {
                        _ = try await pool.shared(sql, order: [UInt8(i)], [.integer(Int64(i + 1))])
                        let seen = try await pool.query("SELECT id FROM x WHERE id = $1", .integer(Int64(i + 1))).count
                        return (i, true, seen == 1)
                    } catch let error as CloudError {
                        let wanted = i % 10 == 3 ? error.isUniqueViolation : i % 10 == 6 && error.reason == .bug
                        return (i, false, wanted)
                    } catch {
                        return (i, false, false)
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.count == 200)
        for (i, worked, asWanted) in outcomes {
            #expect(worked == (i % 10 != 3 && i % 10 != 6), "statement \(i)")
            #expect(asWanted, "statement \(i)")
        }
        #expect(try await pool.query("SELECT count(*) AS n FROM x")[0].int("n") == 161)
        await #expect(throws: CloudError.self) { try await pool.query("SELECT $1::text", "a\0b") }
    }

    @Test func aFailingQuestionTakesNobodyWithIt() async throws {
        let pool = try await Self.pool()
        defer { pool.close() }
        let good = await withTaskGroup(of: Bool.self) { group in
            for i in 0..<120 {
                group.addTask {
                    do {
                        let rows = try await pool.query("SELECT 100 / $1::int AS q", .integer(Int64(i % 4)))
                        return i % 4 != 0 && rows[0].int("q") == 100 / (i % 4)
                    } catch { return i % 4 == 0 }
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(good == 120)
    }

    /// Two lanes that take the same rows in opposite order, beside ordinary transactions: nobody waits for ever, nothing is lost.
    @Test(.timeLimit(.minutes(1))) func contendedRows() async throws {
        let pool = try await Self.pool()
        defer { pool.close() }
        try await pool.transaction { try $0.script("INSERT INTO x SELECT i, '0' FROM generate_series(0, 3) i") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for i in 0..<200 {
                group.addTask {
                    let id = Int64(i % 4)
                    if i % 5 == 0 {
                        try await pool.transaction(isolation: .readCommitted) { t in
                            for one in [id, (id + 1) % 4].sorted(by: >) {
                                try t.execute("UPDATE x SET t = (t::int + 1)::text WHERE id = $1", .integer(one))
                            }
                        }
                    } else {
                        _ = try await pool.shared("UPDATE x SET t = (t::int + 1)::text WHERE id = $1", order: [UInt8(id)], [.integer(id)])
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await pool.query("SELECT sum(t::int) AS n FROM x")[0].int("n") == 160 + 80)
    }

    @Test(.timeLimit(.minutes(1))) func lanesComeBackAfterAnOutage() async throws {
        let server = try PostgresServer()
        let pool = DatabasePool(url: server.url(), size: 1, name: "lanes")
        defer { pool.close() }
        try await pool.transaction { try $0.script("CREATE TABLE x (id bigint PRIMARY KEY)") }
        _ = try await pool.shared("INSERT INTO x VALUES (1)", order: [], [])
        #expect(try await pool.query("SELECT id FROM x").count == 1)
        server.kill9()
        let refused = await #expect(throws: CloudError.self) { try await pool.shared("INSERT INTO x VALUES (2)", order: [], []) }
        #expect(refused?.reason == .unavailable("The database"))
        await #expect(throws: CloudError.self) { try await pool.query("SELECT id FROM x") }
        try server.start()
        // An idle connection that the server cut costs no error.
        _ = try await pool.shared("INSERT INTO x VALUES (3)", order: [], [])
        #expect(try await pool.query("SELECT id FROM x ORDER BY id").map { $0.int("id") } == [1, 3])
    }
}
