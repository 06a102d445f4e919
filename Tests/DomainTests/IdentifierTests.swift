import Domain
import Testing

@Suite struct IdentifierTests {
    @Test func makesAndParses() throws {
        let id = VolumeID(random: Array(0..<9))
        #expect(id.text == "vol-00010203040506070")
        #expect(try VolumeID(parsing: id.text) == id)
        #expect(try InstanceID(parsing: "i-0000000a").text == "i-0000000a")
    }

    @Test(arguments: [
        "", "i", "i-", "i-123", "i-0000000G", "i-0000000A", "vol-00000001", "i-00000000000000001a", "i-0000000a ", "I-0000000a",
    ])
    func refuses(text: String) {
        #expect {
            _ = try InstanceID(parsing: text)
        } throws: { error in
            (error as? CloudError)?.reason == .malformedID(.instance, id: text)
        }
    }

    @Test func hexIsItsOwnInverse() {
        let bytes = (0...255).map { UInt8($0) }
        #expect(Hex.decode(Hex.encode(bytes)) == bytes)
        #expect(Hex.decode("0g") == nil)
        #expect(Hex.decode("abc") == nil)
        #expect(Hex.decode("ABcd") == [0xab, 0xcd])
    }

    @Test func shortageSaysTheNumbers() {
        let shortage = Shortage(.cores, [.init("node1", .cores, asked: 4, free: 1, limit: 8)])
        #expect(CloudError(.capacity(shortage)).message == "Insufficient capacity. node1: asked 4 cores, 1 free of 8")
    }
}
