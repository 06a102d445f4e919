import Domain
import Testing

@Suite struct JSONValueTests {
    @Test func whatItReadsItWrites() throws {
        let text = #"{"a":[1,-2.5e+3,true,false,null],"b":{"c":"x\"\\"},"d":[],"e":{},"f":""}"#
        let value = try JSONValue(parsing: text)
        #expect(value.encoded == text)
        #expect(try JSONValue(parsing: value.encoded) == value)
        #expect(value["b"]?["c"]?.text == "x\"\\")
        #expect(value["a"]?.items?[0].integer == 1)
        #expect(value["nothing"] == nil)
    }

    @Test func escapes() throws {
        #expect(try JSONValue(parsing: #""\u00fc\ud83d\ude00\n\t\/""#).text == "ü😀\n\t/")
        #expect(JSONValue.string("\u{1}\n").encoded == #""\u0001\u000a""#)
        #expect(try JSONValue(parsing: " \n\t\r1 ").integer == 1)
    }

    @Test(arguments: [
        "", " ", "{", "[", "\"", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1,]", "[1 2]", "tru", "nulll", "01", "-", "1.", "1e", "+1", ".5",
        "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\n\"", "1 2", "{\"a\":1,\"a\":2}", "{a:1}", "'a'", "NaN",
        String(repeating: "[", count: 5000), "{\"a\":" + String(repeating: "[", count: 40) + String(repeating: "]", count: 40) + "}",
    ])
    func whatIsNoJSONIsRefused(text: String) {
        #expect(throws: JSONValue.ParseError.self) { try JSONValue(parsing: text) }
    }

    @Test func limits() throws {
        #expect(throws: JSONValue.ParseError.self) { try JSONValue(parsing: "\"123456\"", maxBytes: 5) }
        #expect(throws: JSONValue.ParseError.self) { try JSONValue(parsing: [0x22, 0xff, 0x22]) }
        let deep = String(repeating: "[", count: JSONValue.depthLimit) + String(repeating: "]", count: JSONValue.depthLimit)
        _ = try JSONValue(parsing: deep)
    }
}
