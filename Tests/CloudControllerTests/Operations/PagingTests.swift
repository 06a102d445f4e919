import Domain
import Testing
import Wire

@testable import CloudControllerKit

@Suite struct PagingTests {
    private let key = [UInt8](repeating: 3, count: 32)
    private let now = Timestamp(seconds: 1_800_000_000)

    private func paging(
        _ max: Int?, _ token: String?, account: String = "1", action: String = "DescribeTags", filter: String = "a",
        at now: Timestamp? = nil
    ) throws -> Paging {
        var record: [String: Value] = ["filters": .list([.record(["name": .text(filter)])])]
        if let max { record["maxResults"] = .integer(max) }
        if let token { record["nextToken"] = .text(token) }
        return try Paging(
            maxResults: max, nextToken: token, action: action, accountID: account, request: .record(record), key: key, now: now ?? self.now)
    }

    @Test func walksAll() throws {
        let all = (0..<23).map { "id-" + (10 + $0).description }
        var seen: [String] = []
        var token: String?
        var pages = 0
        repeat {
            let page = try paging(5, token).page(all) { $0 }
            seen += page.items
            token = page.nextToken
            pages += 1
        } while token != nil
        #expect(seen == all)
        #expect(pages == 5)
    }

    /// What comes and goes between two pages moves nothing else.
    @Test func keepsItsPlaceWhenThingsChange() throws {
        let first = try paging(5, nil).page(["b", "c", "d", "e", "f", "g", "h"]) { $0 }
        let second = try paging(5, first.nextToken).page(["a", "b", "d", "e", "g", "h", "i"]) { $0 }
        #expect(first.items == ["b", "c", "d", "e", "f"])
        #expect(second.items == ["g", "h", "i"])
        #expect(second.nextToken == nil)
    }

    @Test func noTokenWithoutMore() throws {
        #expect(try paging(5, nil).page(["a", "b", "c", "d", "e"]) { $0 }.nextToken == nil)
        #expect(try paging(nil, nil).page((0..<2000).map { "\($0)" }) { $0 }.items.count == 2000)
        #expect(try paging(5, nil).page([String]()) { $0 }.items.isEmpty)
    }

    @Test func aTokenIsBoundToItsRequest() throws {
        let token = try #require(try paging(5, nil).page((10..<30).map { "\($0)" }) { $0 }.nextToken)
        #expect(code { _ = try paging(5, token) } == "")
        #expect(code { _ = try paging(50, token) } == "")
        #expect(code { _ = try paging(5, token, account: "2") } == "InvalidNextToken")
        #expect(code { _ = try paging(5, token, action: "DescribeVolumes") } == "InvalidNextToken")
        #expect(code { _ = try paging(5, token, filter: "b") } == "InvalidNextToken")
        #expect(code { _ = try paging(5, token, at: now.adding(seconds: 3601)) } == "InvalidNextToken")
        #expect(code { _ = try paging(5, "nonsense") } == "InvalidNextToken")
        #expect(code { _ = try paging(5, "A" + token.dropFirst()) } == "InvalidNextToken")
        #expect(code { _ = try paging(5, String(token.dropLast(4))) } == "InvalidNextToken")
    }
}
