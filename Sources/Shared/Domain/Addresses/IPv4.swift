/// An IPv4 address as a number, so that pools and ranges are arithmetic.
public struct IPv4Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let value: UInt32
    public init(_ value: UInt32) { self.value = value }

    /// Four decimal numbers without leading zeros; `nil` for every other form (`inet_aton`'s short and octal ones included, which
    /// two programs read in two ways).
    public init?(parsing text: some StringProtocol) {
        var value: UInt32 = 0
        var octets = 0
        for part in text.split(separator: ".", omittingEmptySubsequences: false) {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let octet = UInt8(part),
                part.utf8.count == 1 || part.utf8.first != 0x30
            else { return nil }
            value = value << 8 | UInt32(octet)
            octets += 1
        }
        guard octets == 4 else { return nil }
        self.value = value
    }

    public var octets: [UInt8] { [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)] }
    public var description: String { octets.map { String($0) }.joined(separator: ".") }
    public static func < (a: Self, b: Self) -> Bool { a.value < b.value }
    /// `nil` beyond 255.255.255.255.
    public func advanced(by n: UInt32) -> IPv4Address? {
        let (sum, over) = value.addingReportingOverflow(n)
        return over ? nil : IPv4Address(sum)
    }
}

/// A block of IPv4 addresses: `10.1.0.0/16`.
public struct CIDR: Hashable, Sendable, CustomStringConvertible {
    /// The first address of the block: bits beyond the prefix are zero.
    public let network: IPv4Address
    public let prefixLength: Int

    public init(network: IPv4Address, prefixLength: Int) {
        precondition((0...32).contains(prefixLength), "a prefix has 0 to 32 bits")
        self.prefixLength = prefixLength
        self.network = IPv4Address(network.value & CIDR.mask(prefixLength))
    }

    /// `a.b.c.d/n`; a bare address is a /32. Host bits that are set are cleared, as EC2 does with a rule's range.
    public init?(parsing text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = parts.first.flatMap({ IPv4Address(parsing: $0) }) else { return nil }
        guard parts.count == 2 else {
            self.init(network: address, prefixLength: 32)
            return
        }
        let digits = parts[1]
        guard (1...2).contains(digits.utf8.count), digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let length = Int(digits),
            length <= 32, digits.utf8.count == 1 || digits.utf8.first != 0x30
        else { return nil }
        self.init(network: address, prefixLength: length)
    }

    private static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : UInt32.max << UInt32(32 - length) }
    public var netmask: IPv4Address { IPv4Address(CIDR.mask(prefixLength)) }
    public var broadcast: IPv4Address { IPv4Address(network.value | ~CIDR.mask(prefixLength)) }
    /// How many addresses the block has, network and broadcast included.
    public var count: Int { 1 << (32 - prefixLength) }
    public func contains(_ address: IPv4Address) -> Bool { address.value & CIDR.mask(prefixLength) == network.value }
    public func contains(_ other: CIDR) -> Bool { other.prefixLength >= prefixLength && contains(other.network) }
    public func overlaps(_ other: CIDR) -> Bool { contains(other) || other.contains(self) }

    /// The addresses that a host can have: without network and broadcast where the block is larger than a /31 (RFC 3021).
    public var hosts: ClosedRange<UInt32> {
        prefixLength >= 31 ? network.value...broadcast.value : network.value + 1...broadcast.value - 1
    }
    public var description: String { "\(network)/\(prefixLength)" }
}

/// The hardware address of an instance, derived from its private address: `02:00` and the four octets. It is unique where the
/// address is, locally administered, and needs no table.
public func macAddress(of address: IPv4Address) -> String {
    (["02", "00"] + address.octets.map { Hex.encode([$0]) }).joined(separator: ":")
}
