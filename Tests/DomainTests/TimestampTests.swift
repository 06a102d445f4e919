import Domain
import Testing

@Suite struct TimestampTests {
    @Test(arguments: [
        ("2026-11-22T14:33:36Z", "2026-11-22T14:33:36.000Z", "20261122T143336Z", "Sun, 22 Nov 2026 14:33:36 GMT"),
        ("1970-01-01T00:00:00.5Z", "1970-01-01T00:00:00.500Z", "19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("2000-02-29T23:59:59+00:00", "2000-02-29T23:59:59.000Z", "20000229T235959Z", "Tue, 29 Feb 2000 23:59:59 GMT"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59.000Z", "19691231T235959Z", "Wed, 31 Dec 1969 23:59:59 GMT"),
    ])
    func formats(text: String, iso: String, basic: String, http: String) throws {
        let moment = try #require(Timestamp(iso8601: text))
        #expect(moment.iso8601 == iso)
        #expect(moment.basic == basic)
        #expect(moment.httpDate == http)
        #expect(Timestamp(basic: basic)?.seconds == moment.seconds)
        #expect(Timestamp(httpDate: http)?.seconds == moment.seconds)
    }

    @Test(arguments: [
        "2026-02-30T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T14:33:60Z", "2026-11-22T14:33:36", "2026-11-22T14:33:36-00:00",
        "2026-11-22T14:33:36+01:00", "2026-11-22T14:33:36.Z", "2026-11-22T14:33:36.1234567890Z", "2026-11-22 14:33:36Z",
        "0000-01-01T00:00:00Z",
        "२०२६-11-22T14:33:36Z", "", "Z", "2026-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
    ])
    func refuses(text: String) { #expect(Timestamp(iso8601: text) == nil) }

    @Test func everyDayOfFourCenturiesRoundTrips() throws {
        var day = Int64(-10_957) * 86_400  // 1940-01-01
        while day < Int64(138_000) * 86_400 {
            let moment = Timestamp(seconds: day)
            #expect(Timestamp(iso8601: moment.iso8601) == moment)
            day += 86_400 * 13
        }
    }
}
