import Domain
import Testing

@testable import WalrusKit

@Suite(.serialized) struct ConditionTests {
    /// Of writers that all want the same step, one makes it: decided in the database, whatever they saw before.
    @Test func oneWriterWins() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            _ = try await s3("PUT", "/race")
            // Each text is written once: an ETag that came back would let a second writer in, rightly.
            func statuses(_ headers: [(String, String)], _ key: String, _ round: String) async throws -> [Int] {
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for n in 0..<12 {
                        group.addTask { try await s3("PUT", "/race/\(key)", headers: headers, text: "\(key) \(round) \(n)").status }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }.sorted()
                }
            }
            for state in ["", "Enabled", "Suspended"] {
                if !state.isEmpty { try await s3.setVersioning("race", state) }
                let key = "k\(state)"
                #expect(try await statuses([("If-None-Match", "*")], key, "first") == [200] + [Int](repeating: 412, count: 11), "\(state)")
                let etag = try #require(try await s3("HEAD", "/race/\(key)").header("etag"))
                let second = try await statuses([("If-Match", etag)], key, "second")
                #expect(second == [200] + [Int](repeating: 412, count: 11), "\(state)")
                // Deleted, it is as if it had never been there.
                #expect(try await s3("DELETE", "/race/\(key)").status == 204)
                #expect(try await s3("PUT", "/race/\(key)", headers: [("If-Match", etag)], text: "x").code == "NoSuchKey")
                #expect(try await s3("PUT", "/race/\(key)", headers: [("If-None-Match", "*")], text: "x").status == 200)
            }
        }
    }

    @Test func conditionsOfCopiesDeletesAndCompletions() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            _ = try await s3("PUT", "/cond")
            let etag = try #require(try await s3("PUT", "/cond/k", text: "abc").header("etag"))
            let source = ("x-amz-copy-source", "cond/k")
            #expect(try await s3("PUT", "/cond/c", headers: [source, ("If-None-Match", "*")]).status == 200)
            #expect(try await s3("PUT", "/cond/c", headers: [source, ("If-None-Match", "*")]).code == "PreconditionFailed")
            #expect(try await s3("PUT", "/cond/c", headers: [source, ("If-Match", "\"0\"")]).code == "PreconditionFailed")
            #expect(
                try await s3("PUT", "/cond/c", headers: [source, ("x-amz-copy-source-if-match", "\"0\"")]).code == "PreconditionFailed")
            #expect(
                try await s3("PUT", "/cond/c", headers: [source, ("x-amz-copy-source-if-none-match", etag)]).code == "PreconditionFailed")
            #expect(try await s3("PUT", "/cond/k", headers: [source]).code == "InvalidRequest")

            let created = try await s3("POST", "/cond/k", [("uploads", "")])
            let upload = try #require(created.text.split(separator: "<UploadId>").last?.split(separator: "<").first.map(String.init))
            let part = try #require(
                try await s3("PUT", "/cond/k", [("partNumber", "1"), ("uploadId", upload)], text: "part").header("etag"))
            let order = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(part)</ETag></Part></CompleteMultipartUpload>"
            let query = [("uploadId", upload)]
            #expect(try await s3("POST", "/cond/k", query, headers: [("If-None-Match", "*")], text: order).code == "PreconditionFailed")
            #expect(try await s3("POST", "/cond/k", query, headers: [("If-Match", "\"0\"")], text: order).code == "PreconditionFailed")
            #expect(try await s3("POST", "/cond/k", query, headers: [("If-Match", etag)], text: order).status == 200)

            #expect(try await s3("DELETE", "/cond/k", headers: [("If-Match", etag)]).code == "PreconditionFailed")
            #expect(try await s3("DELETE", "/cond/k", headers: [("x-amz-if-match-size", "5")]).code == "PreconditionFailed")
            #expect(try await s3("DELETE", "/cond/k", headers: [("x-amz-if-match-size", "x")]).code == "InvalidArgument")
            #expect(try await s3("DELETE", "/cond/k", headers: [("x-amz-if-match-size", "4")]).status == 204)
            #expect(try await s3("DELETE", "/cond/k", headers: [("If-Match", etag)]).status == 204)
        }
    }
}
