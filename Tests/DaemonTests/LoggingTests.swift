@testable import Daemon
import Domain
import Logging
import Testing

@Suite struct LoggingTests {
    @Test func aLineIsOneJSONObject() {
        let line = LogLine.json(
            time: Timestamp(milliseconds: 0), level: .warning, daemon: "karri-nc", label: "http", message: "a \"b\"\n\u{1}",
            fields: [("request_id", "r-1"), ("message", "must not double")])
        #expect(
            String(decoding: line, as: UTF8.self)
                == "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warning\",\"daemon\":\"karri-nc\",\"label\":\"http\","
                + "\"message\":\"a \\\"b\\\"\\n\\u0001\",\"request_id\":\"r-1\"}\n")
    }

    @Test func journalFields() {
        var out: [UInt8] = []
        JournalSocket.append("A", "b", to: &out)
        JournalSocket.append("C", "d\ne", to: &out)
        #expect(out == Array("A=b\nC\n".utf8) + [3, 0, 0, 0, 0, 0, 0, 0] + Array("d\ne\n".utf8))
        #expect(JournalSocket.fieldName("request-id") == "KARRI_REQUEST_ID")
    }
}
