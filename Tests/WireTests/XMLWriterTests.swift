import Testing
import Wire

@Suite struct XMLWriterTests {
    @Test func escapes() throws {
        var w = XMLWriter()
        w.open("a", attributes: [("k", "\"<&>\n\t'")])
        w.text("<&>\"'\r\n\té\u{0}\u{1F}\u{FFFE}\u{FFFF}😀")
        w.element("b", "")
        w.close()
        #expect(
            w.string
                == "<a k=\"&quot;&lt;&amp;&gt;&#10;&#9;'\">&lt;&amp;&gt;&quot;'&#13;\n\té\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}😀<b/></a>")
        let back = try XMLReader.parse(w.bytes)
        #expect(back.attribute("k") == "\"<&>\n\t'")
        #expect(back.text == "<&>\"'\r\n\té\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}😀")
    }

    @Test func everyScalarOfXMLSurvives() throws {
        var text = String.UnicodeScalarView()
        for code in stride(from: UInt32(0x20), to: 0x10FFFF, by: 61) {
            if let scalar = Unicode.Scalar(code), code < 0xfffe || code > 0xffff { text.append(scalar) }
        }
        var w = XMLWriter()
        w.element("a", String(text))
        let back = try XMLReader.parse(w.bytes)
        #expect(back.text.utf8.elementsEqual(String(text).utf8))
    }
}
