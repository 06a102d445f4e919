import Domain
import Testing

@Suite struct IPv4Tests {
    @Test func addressesAreReadStrictly() {
        #expect(IPv4Address(parsing: "10.1.0.255")?.description == "10.1.0.255")
        for bad in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.-4", "1.2.3.4 ", "0x1.2.3.4", "1..3.4"] {
            #expect(IPv4Address(parsing: bad) == nil, "\(bad)")
        }
    }
    @Test func blocks() throws {
        let block = try #require(CIDR(parsing: "198.18.0.7/24"))
        #expect(block.description == "198.18.0.0/24")
        #expect(block.count == 256)
        #expect(block.hosts.count == 254)
        #expect(block.netmask.description == "255.255.255.0")
        #expect(block.broadcast.description == "198.18.0.255")
        #expect(block.contains(IPv4Address(parsing: "198.18.0.200")!))
        #expect(!block.contains(IPv4Address(parsing: "198.18.1.0")!))
        let all = try #require(CIDR(parsing: "0.0.0.0/0"))
        #expect(all.contains(block) && all.overlaps(block) && !block.contains(all))
        #expect(all.count == 1 << 32)
        #expect(CIDR(parsing: "10.0.0.1")?.prefixLength == 32)
        for bad in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/8/8", "/8"] { #expect(CIDR(parsing: bad) == nil, "\(bad)") }
    }
    @Test func aHardwareAddressComesFromThePrivateOne() {
        #expect(macAddress(of: IPv4Address(parsing: "10.1.2.255")!) == "02:00:0a:01:02:ff")
    }
}
