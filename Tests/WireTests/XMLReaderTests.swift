import Domain
import Testing
import Wire

/// The attacks on the parser of `reference/soap.md` §6.3, each refused with a named error and at once.
@Suite struct XMLReaderTests {
    private func parse(_ text: String, _ limits: XMLLimits = .init()) throws -> XMLElement {
        try XMLReader.parse(Array(text.utf8), limits: limits)
    }

    private func expectRefused(_ text: String, _ limits: XMLLimits = .init(), sourceLocation: SourceLocation = #_sourceLocation) {
        expectRefused(Array(text.utf8), limits, sourceLocation: sourceLocation)
    }

    private func expectRefused(_ bytes: [UInt8], _ limits: XMLLimits = .init(), sourceLocation: SourceLocation = #_sourceLocation) {
        do {
            _ = try XMLReader.parse(bytes, limits: limits)
            Issue.record("was accepted: \(String(decoding: bytes.prefix(80), as: UTF8.self))", sourceLocation: sourceLocation)
        } catch {
            let known = [CloudError.Reason.malformedRequest, .requestTooLarge(limit: limits.maxBytes)]
            #expect(known.contains(error.reason), sourceLocation: sourceLocation)
        }
    }

    @Test func readsElementsTextAndAttributes() throws {
        let e = try parse(
            "<?xml version='1.0' encoding='utf-8'?>\n<a xmlns='urn:a' xmlns:p='urn:p' p:k='v&amp;w' k=\"2\"><b>x&lt;y"
                + "<![CDATA[<&]]>&#233;</b><p:c/> </a>"
        )
        #expect(e.name == "a" && e.namespace == "urn:a")
        #expect(e.attribute("k") == "2" && e.attribute("k", namespace: "urn:p") == "v&w")
        #expect(e.first("b")?.text == "x<y<&é")
        #expect(e.first("c", namespace: "urn:p") != nil && e.first("c", namespace: "urn:a") == nil)
        #expect(e.hasOnlyBlankText)
    }

    @Test(arguments: [
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'http://127.0.0.1:1/x'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://127.0.0.1:1/x'>%p;]><a/>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/x.dtd'><a/>",
        "<!DOCTYPE a [<!ENTITY a0 'x'><!ENTITY a1 '&a0;&a0;'><!ENTITY a2 '&a1;&a1;'>]><a>&a2;</a>",
        "<!DOCTYPE a [<!ATTLIST a k CDATA 'v'>]><a/>",
        "<a>&unknown;</a>",
        "<a k='&unknown;'/>",
    ])
    func documentTypes(_ text: String) { expectRefused(text) }

    @Test(arguments: [
        "<a>i-1<!-- -->2</a>", "<!-- x --><a/>", "<a/><!-- x -->", "<a><?php x?></a>", "<?xml-stylesheet href='http://127.0.0.1:1/'?><a/>",
        "<a/><?x y?>", "<a><?xml version='1.0'?></a>", "<![CDATA[<!--]]><a/>",
    ])
    func commentsAndInstructions(_ text: String) { expectRefused(text) }

    @Test(arguments: [
        "", " ", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a/>junk", "junk<a/>", "<a k='1' k='2'/>",
        "<a xmlns:x='urn:1' xmlns:y='urn:1' x:k='1' y:k='2'/>", "<p:a/>", "<a xmlns:xml='urn:x'/>", "<a xmlns:xmlns='urn:x'/>", "<a k=1/>",
        "<a k='<'/>", "<a \u{0}/>", "<a>\u{1}</a>", "<a>\u{FFFE}</a>", "<a><b", "<a><![CDATA[x</a>", "<a k='1'l='2'/>", "<1/>",
        "<a>]]></a>",
        "<\u{212A}eyName/>", "<a>&#0;</a>", "<a>&#xFFFE;</a>", "<a xmlns:p=''/>",
    ])
    func malformed(_ text: String) { expectRefused(text) }

    @Test func encodings() throws {
        expectRefused("<?xml version='1.0' encoding='UTF-16'?><a/>")
        expectRefused("<?xml version='1.0' encoding='ISO-8859-1'?><a>x</a>")
        expectRefused("<?xml version='1.0' encoding='UTF-7'?><a>+ADw-</a>")
        expectRefused([0xff, 0xfe] + "<a/>".utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
        expectRefused([0xfe, 0xff] + "<a/>".utf16.flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] })
        expectRefused([0, 0, 0xfe, 0xff, 0, 0, 0, 0x3c])
        expectRefused(Array("<a>".utf8) + [0xc0, 0xbc] + Array("</a>".utf8))  // overlong
        expectRefused(Array("<a>".utf8) + [0xed, 0xa0, 0x80] + Array("</a>".utf8))  // a surrogate
        expectRefused(Array("<a>".utf8) + [0xe9] + Array("</a>".utf8))
        expectRefused([0x4c, 0x6f, 0xa7, 0x94])  // EBCDIC
        expectRefused("<?xml version='1.0' encoding='ASCII'?><a>é</a>")
        #expect(try parse("<?xml version='1.0' encoding='ASCII'?><a>e</a>").text == "e")
        #expect(try XMLReader.parse([0xef, 0xbb, 0xbf] + Array("<?xml version='1.0' encoding='UTF-8'?><a>é</a>".utf8)).text == "é")
    }

    @Test func depth() throws {
        func nested(_ n: Int) -> String { String(repeating: "<a>", count: n) + String(repeating: "</a>", count: n) }
        #expect(try parse(nested(64)).name == "a")
        expectRefused(nested(65))
        expectRefused(nested(257))
        expectRefused(nested(20_000))
    }

    @Test func attributes() throws {
        func element(_ n: Int) -> String { "<a" + (0..<n).map { " k\($0)='v'" }.joined() + "/>" }
        #expect(try parse(element(64)).attributes.count == 64)
        expectRefused(element(65))
        expectRefused(element(8_000))
        let bomb = String(element(16_000).prefix(200_000)) + "/>"
        let start = ContinuousClock.now
        expectRefused(bomb)
        #expect(ContinuousClock.now - start < .milliseconds(500))
        expectRefused("<a" + (0..<33).map { " xmlns:p\($0)='urn:\($0)'" }.joined() + "/>")
    }

    @Test func sizes() throws {
        let small = XMLLimits(maxBytes: 100, maxElements: 5)
        #expect(try parse("<a>" + String(repeating: "x", count: 93) + "</a>", small).text.count == 93)
        expectRefused("<a>" + String(repeating: "x", count: 94) + "</a>", small)
        #expect(try parse("<a><b/><b/><b/><b/></a>", small).children.count == 4)
        expectRefused("<a><b/><b/><b/><b/><b/></a>", small)
    }

    /// Random damage to a sound document never crashes and never gives a tree with what is forbidden.
    @Test func damage() throws {
        let seed = SeededChoices.seed()
        print("KARRI_SEED=\(seed)")
        var choices = SeededChoices(seed: seed)
        let text =
            "<?xml version=\"1.0\"?><e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\"><e:Body>"
            + "<RunInstances xmlns=\"urn:x\"><imageId>emi-1&amp;</imageId><groupSet><item/></groupSet></RunInstances>"
            + "</e:Body></e:Envelope>"
        let sound = Array(text.utf8)
        let pieces = ["<", ">", "&", "'", "\"", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "/>", "xmlns=''", "\u{0}", "é"].map {
            Array($0.utf8)
        }
        for _ in 0..<5_000 {
            var bytes = sound
            for _ in 0...choices.below(4) {
                let at = choices.below(bytes.count)
                switch choices.below(3) {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: choices.next())
                case 1: bytes.remove(at: at)
                default: bytes.insert(contentsOf: pieces[choices.below(pieces.count)], at: at)
                }
            }
            _ = try? XMLReader.parse(bytes)
        }
    }
}
