import Domain
import NodeControllerKit
import Testing

/// The texts that libvirt gets. Golden files: `UPDATE_GOLDEN=1` rewrites them; read the difference before committing it.
@Suite struct HypervisorXMLTests {
    static func specification(
        _ kind: HypervisorKind, boot: DomainSpecification.Boot = .direct(kernel: "/cache/aa.100.raw", ramdisk: "/cache/bb.200.raw"),
        volumes: [NetworkDisk] = [], graphics: Bool = false, xenMode: DomainSpecification.XenMode = .pvh, direct: Bool = true
    ) -> DomainSpecification {
        DomainSpecification(
            instanceID: "i-0123456789abcdef0", accountID: "123456789012", kind: kind, cores: 2, memoryMiB: 512, boot: boot,
            root: .init(path: "/node/instances/i-0123456789abcdef0/root.qcow2", format: "qcow2", direct: direct),
            interface: .init(
                macAddress: "d0:0d:01:02:03:04", tap: InstanceNames.tap("i-0123456789abcdef0"), bridge: "karri0", mtu: 1450),
            consolePath: "/node/instances/i-0123456789abcdef0/console.log", graphics: graphics, volumes: volumes, xenMode: xenMode)
    }
    static let volume = NetworkDisk(
        serial: "vol-00000001", target: "vdf", host: "10.0.0.9", port: 10_809, export: "s3cret", tlsHostname: "sc1")

    static let cases: [(name: String, specification: DomainSpecification)] = [
        ("kvm-disk-volume", specification(.kvm, boot: .disk, volumes: [volume])),
        ("qemu-direct", specification(.qemu)),
        ("qemu-direct-no-ramdisk-vnc", specification(.qemu, boot: .direct(kernel: "/cache/aa.100.raw", ramdisk: nil), graphics: true)),
        ("qemu-disk-page-cache", specification(.qemu, boot: .disk, direct: false)),
        ("xen-pvh-direct", specification(.xen, xenMode: .pvh)),
        ("xen-pv-direct", specification(.xen, xenMode: .pv)),
        ("xen-pv-disk", specification(.xen, boot: .disk, xenMode: .pv)),
        ("xen-hvm-disk", specification(.xen, boot: .disk, xenMode: .hvm)),
    ]

    @Test(arguments: cases.map(\.name))
    func golden(_ name: String) throws {
        let specification = try #require(Self.cases.first { $0.name == name }).specification
        let text = DomainXML.render(specification)
        expectGolden(text, "domain-\(name).xml")
    }

    @Test func theUUIDComesFromTheInstance() {
        let a = DomainXML.uuid(instanceID: "i-00000001")
        #expect(a == DomainXML.uuid(instanceID: "i-00000001"))
        #expect(a != DomainXML.uuid(instanceID: "i-00000002"))
        let digits = Array(a)
        #expect(digits.count == 36)
        #expect(digits[14] == "5", "version 5")
        #expect("89ab".contains(digits[19]), "RFC 4122 variant")
    }

    @Test func hostileNamesStayText() {
        var s = Self.specification(.qemu)
        s.accountID = "a'/><evil x=\"1\">&"
        let text = DomainXML.render(s)
        #expect(!text.contains("<evil"))
        #expect(text.contains("account='a&apos;/&gt;&lt;evil x=&quot;1&quot;&gt;&amp;'"))
    }

    @Test func tapsAreShortAndNotLibvirts() {
        for id in ["i-00000001", "i-0123456789abcdef0"] {
            #expect(InstanceNames.tap(id).utf8.count <= 15)
            #expect(!InstanceNames.tap(id).hasPrefix("vnet"))
        }
        #expect(InstanceNames.isInstance("i-00000001"))
        #expect(!InstanceNames.isInstance("i-0000001g"))
        #expect(!InstanceNames.isInstance("web"))
    }
}
