import Daemon
import Domain
import Testing

@Suite struct CommandRunnerTests {
    private let runner = CommandRunner()

    @Test func outputInputAndStatus() async throws {
        let big = [UInt8](repeating: 65, count: 300_000)
        let result = try await runner.run(Command("cat", [], input: big))
        #expect(result.status == 0)
        #expect(result.output == big)
        let failed = try await runner.run(Command("/bin/sh", ["-c", "echo oops >&2; exit 7"]))
        #expect(failed.status == 7)
        #expect(failed.errors == "oops\n")
    }

    @Test func argumentsReachTheProgramAsTheyAre() async throws {
        let result = try await runner.run(Command("printf", ["%s|", "a b", "$HOME", "; rm -rf /", ""]))
        #expect(result.text == "a b|$HOME|; rm -rf /||")
    }

    @Test func aSlowOneIsEnded() async throws {
        let result = try await runner.run(Command("sleep", ["20"], timeoutMilliseconds: 100))
        #expect(result.timedOut)
        #expect(result.status == 128 + 15)
    }

    @Test func oneThatGoesToTheBackgroundDoesNotHoldUs() async throws {
        let result = try await runner.run(Command("/bin/sh", ["-c", "sleep 5 & echo started"], timeoutMilliseconds: 4000))
        #expect(result.text == "started\n")
        #expect(!result.timedOut)
    }

    @Test func failuresHaveTheirReason() async {
        await #expect(throws: CloudError.self) { try await CommandRunner().run(Command("no-such-program", [])) }
        do {
            try await runner.check(Command("/bin/sh", ["-c", "echo broken >&2; exit 3"]))
            Issue.record("it should have failed")
        } catch {
            #expect(error.context.contains("status 3: broken"))
        }
    }

    @Test func cancellationEndsTheChild() async throws {
        let runner = runner
        let result = await withTaskGroup(of: CommandResult?.self) { group in
            group.addTask { try? await runner.run(Command("sleep", ["20"])) }
            group.cancelAll()
            return await group.next() ?? nil
        }
        #expect(result?.timedOut == true)
    }

    @Test func noDescriptorLeaksIntoTheChild() async throws {
        let result = try await runner.run(Command("ls", ["/proc/self/fd"]))
        // 0, 1, 2 and the folder that ls itself reads
        #expect(result.text.split(separator: "\n").count <= 4)
    }
}
