import Signing

/// libvirt's text of a domain, by pure functions. Source: https://libvirt.org/formatdomain.html; every choice that is not plain is one
/// that was tried (`reference/virtualisation.md`). Golden files in `Tests/NodeControllerTests/Golden` hold it.
public enum DomainXML {
    /// The namespace of Karri's metadata element in a definition.
    public static let metadataNamespace = "urn:karri:domain:1"

    /// Seconds for which QEMU keeps requests of a lost volume connection before the guest gets EIO. Too high: a guest whose
    /// volume was revoked hangs for so long; too low: a restart of the volume's server becomes an I/O error.
    /// libvirt 9.0 (Debian 12) takes the element and drops it: there requests fail at once while the connection is away, and
    /// QEMU connects again at the next one. Seen in `dumpxml` and in QEMU's command line.
    public static let reconnectSeconds = 5

    /// The whole definition.
    public static func render(_ d: DomainSpecification) -> String {
        var x = XMLText()
        x.open("domain", [("type", d.kind == .xen ? "xen" : d.kind == .kvm ? "kvm" : "qemu")])
        x.element("name", d.instanceID)
        x.element("uuid", uuid(instanceID: d.instanceID))
        x.open("metadata")
        x.empty("karri:instance", [("xmlns:karri", metadataNamespace), ("id", d.instanceID), ("account", d.accountID)])
        x.close()
        x.element("memory", "\(d.memoryMiB)", [("unit", "MiB")])
        x.element("vcpu", "\(d.cores)")
        if d.kind == .xen { xenMachine(d, &x) } else { pcMachine(d, &x) }
        x.element("on_poweroff", "destroy")
        x.element("on_reboot", "restart")
        x.element("on_crash", "destroy")
        x.open("devices")
        if d.kind == .xen { xenDevices(d, &x) } else { pcDevices(d, &x) }
        x.close()
        x.close()
        return x.text
    }

    // MARK: QEMU

    private static func pcMachine(_ d: DomainSpecification, _ x: inout XMLText) {
        x.open("os")
        // `pc` (i440fx), not q35: with q35 a hot-plugged disk needs a free root port ("No more available PCI slots").
        x.element("type", "hvm", [("arch", "x86_64"), ("machine", "pc")])
        switch d.boot {
        case .disk: x.empty("boot", [("dev", "hd")])
        case .direct(let kernel, let ramdisk): direct(kernel, ramdisk, "root=/dev/vda console=ttyS0", &x)
        }
        x.close()
        x.open("features")
        x.empty("acpi")
        x.empty("apic")
        x.close()
        if d.kind == .kvm { x.empty("cpu", [("mode", "host-passthrough"), ("check", "none"), ("migratable", "on")]) }
        x.empty("clock", [("offset", "utc")])
    }

    private static func pcDevices(_ d: DomainSpecification, _ x: inout XMLText) {
        x.open("disk", [("type", "file"), ("device", "disk")])
        x.empty(
            "driver",
            [
                ("name", "qemu"), ("type", d.root.format), ("cache", d.root.direct ? "none" : "writeback"),
                ("io", d.root.direct ? "native" : "threads"), ("discard", "unmap"),
                // A full host disk pauses the guest; any other error is the guest's to see.
                ("error_policy", "enospace"),
            ])
        x.empty("source", [("file", d.root.path)])
        x.empty("target", [("dev", "vda"), ("bus", "virtio")])
        x.element("serial", "root")
        x.close()
        for volume in d.volumes { disk(volume, &x) }
        x.open("interface", [("type", "bridge")])
        x.empty("mac", [("address", d.interface.macAddress)])
        x.empty("source", [("bridge", d.interface.bridge)])
        x.empty("target", [("dev", d.interface.tap)])
        // Isolated: guests reach each other through the host only, where the filters are.
        x.empty("port", [("isolated", "yes")])
        x.empty("model", [("type", "virtio")])
        x.empty("driver", [("name", "qemu")])
        x.empty("mtu", [("size", "\(d.interface.mtu)")])
        // iPXE would cost seconds at each boot.
        x.empty("rom", [("enabled", "no")])
        x.close()
        x.open("serial", [("type", "file")])
        x.empty("source", [("path", d.consolePath), ("append", "on")])
        x.empty("target", [("port", "0")])
        x.close()
        if d.graphics {
            x.empty("graphics", [("type", "vnc"), ("port", "-1"), ("autoport", "yes"), ("listen", "127.0.0.1")])
            x.open("video")
            x.empty("model", [("type", "vga"), ("vram", "2048")])
            x.close()
        }
        x.empty("controller", [("type", "usb"), ("model", "none")])
        x.empty("memballoon", [("model", "virtio")])
        // Entropy: without it a guest under emulation waits for its first random bytes.
        x.open("rng", [("model", "virtio")])
        x.element("backend", "/dev/urandom", [("model", "random")])
        x.close()
    }

    // MARK: Xen

    private static func xenMachine(_ d: DomainSpecification, _ x: inout XMLText) {
        x.open("os")
        switch d.xenMode {
        case .pvh: x.element("type", "xenpvh", [("arch", "x86_64"), ("machine", "xenpvh")])
        case .pv: x.element("type", "linux", [("arch", "x86_64"), ("machine", "xenpv")])
        case .hvm:
            x.element("type", "hvm", [("arch", "x86_64"), ("machine", "xenfv")])
            x.element("loader", "/usr/lib/xen-4.17/boot/hvmloader", [("type", "rom")])
        }
        switch (d.boot, d.xenMode) {
        case (.direct(let kernel, let ramdisk), _): direct(kernel, ramdisk, "root=/dev/xvda console=hvc0", &x)
        case (.disk, .hvm): x.empty("boot", [("dev", "hd")])
        case (.disk, .pv), (.disk, .pvh):
            // A paravirtual guest has no BIOS: GRUB built for it finds the boot loader's configuration on the disk.
            x.element("kernel", d.xenMode == .pv ? "/usr/lib/grub-xen/grub-x86_64-xen.bin" : "/usr/lib/grub-xen/grub-i386-xen_pvh.bin")
        }
        x.close()
        if d.xenMode == .hvm {
            x.open("features")
            x.empty("acpi")
            x.empty("apic")
            x.close()
        }
        x.empty("clock", [("offset", "utc")])
    }

    private static func xenDevices(_ d: DomainSpecification, _ x: inout XMLText) {
        x.open("disk", [("type", "file"), ("device", "disk")])
        x.empty("driver", [("name", "qemu"), ("type", d.root.format)])
        x.empty("source", [("file", d.root.path)])
        x.empty("target", [("dev", "xvda"), ("bus", "xen")])
        x.close()
        x.open("interface", [("type", "bridge")])
        x.empty("mac", [("address", d.interface.macAddress)])
        x.empty("source", [("bridge", d.interface.bridge)])
        x.empty("script", [("path", "vif-bridge")])
        x.empty("target", [("dev", d.interface.tap)])
        x.close()
        x.open("console", [("type", "pty")])
        x.empty("target", [("type", "xen"), ("port", "0")])
        x.close()
    }

    private static func direct(_ kernel: String, _ ramdisk: String?, _ commandLine: String, _ x: inout XMLText) {
        x.element("kernel", kernel)
        if let ramdisk { x.element("initrd", ramdisk) }
        x.element("cmdline", commandLine)
    }

    // MARK: Parts

    /// The `<disk>` of a volume, for a definition and for attaching to a running domain alike.
    public static func disk(_ disk: NetworkDisk) -> String {
        var x = XMLText()
        Self.disk(disk, &x)
        return x.text
    }

    private static func disk(_ disk: NetworkDisk, _ x: inout XMLText) {
        x.open("disk", [("type", "network"), ("device", "disk")])
        x.empty(
            "driver",
            [
                ("name", "qemu"), ("type", "raw"), ("cache", "none"), ("discard", "unmap"), ("error_policy", "report"),
                ("rerror_policy", "report"),
            ])
        var source = [("protocol", "nbd"), ("name", disk.export)]
        if disk.tls {
            source.append(("tls", "yes"))
            if let name = disk.tlsHostname, !name.isEmpty { source.append(("tlsHostname", name)) }
        }
        x.open("source", source)
        x.empty("host", [("name", disk.host), ("port", "\(disk.port)")])
        x.empty("reconnect", [("delay", "\(reconnectSeconds)")])
        x.close()
        x.empty("target", [("dev", disk.target), ("bus", "virtio")])
        x.element("serial", disk.serial)
        x.close()
    }

    /// A UUID (version 5, RFC 4122 §4.3) from the instance id: the same instance is the same machine to libvirt, whoever defines it.
    public static func uuid(instanceID: String) -> String {
        let name = [UInt8]((metadataNamespace + "/" + instanceID).utf8)
        var b = Array(Digest.sha1(namespaceURL + name).prefix(16))
        b[6] = b[6] & 0x0f | 0x50
        b[8] = b[8] & 0x3f | 0x80
        let digits = Array("0123456789abcdef")
        var out = ""
        for (i, byte) in b.enumerated() {
            if i == 4 || i == 6 || i == 8 || i == 10 { out.append("-") }
            out.append(digits[Int(byte >> 4)])
            out.append(digits[Int(byte & 15)])
        }
        return out
    }
    /// RFC 4122 appendix C, `NameSpace_URL`.
    private static let namespaceURL: [UInt8] = [
        0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
    ]
}

/// Indented text of elements. Not `Wire.XMLWriter`: people read these definitions (`virsh dumpxml`, golden files), so lines matter.
private struct XMLText {
    private(set) var text = ""
    private var stack: [String] = []

    mutating func open(_ name: String, _ attributes: [(String, String)] = []) {
        line("<\(name)\(Self.render(attributes))>")
        stack.append(name)
    }
    mutating func close() {
        let name = stack.removeLast()
        line("</\(name)>")
    }
    mutating func empty(_ name: String, _ attributes: [(String, String)] = []) { line("<\(name)\(Self.render(attributes))/>") }
    mutating func element(_ name: String, _ value: String, _ attributes: [(String, String)] = []) {
        line("<\(name)\(Self.render(attributes))>\(Self.escape(value))</\(name)>")
    }
    private mutating func line(_ s: String) { text += String(repeating: "  ", count: stack.count) + s + "\n" }
    private static func render(_ attributes: [(String, String)]) -> String {
        attributes.map { " \($0.0)='\(escape($0.1))'" }.joined()
    }
    private static func escape(_ s: String) -> String {
        var out = ""
        for c in s.unicodeScalars {
            switch c {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "'": out += "&apos;"
            case "\"": out += "&quot;"
            default: if c.value >= 0x20 || c == "\n" || c == "\t" { out.unicodeScalars.append(c) }
            }
        }
        return out
    }
}
