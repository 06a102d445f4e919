public import Domain

/// What one object that is no bundle holds, told from its first bytes.
public struct ImageContent: Sendable, Equatable {
    public enum Role: String, Sendable { case machine, kernel, ramdisk }
    public enum Format: String, Sendable { case bundle, raw, qcow2 }
    public let role: Role
    public let format: Format
    /// Bytes of the disk that the guest sees; of the file for kernels and ramdisks.
    public let virtualSize: Int

    /// How many of the first bytes `init` wants to see.
    public static let headBytes = 4096

    /// - Parameters:
    ///   - head: the first `headBytes`, or all of a shorter object.
    ///   - size: of the whole object.
    ///   - name: the object's last path component; tells a compressed ramdisk from a compressed disk.
    /// - Throws: `InvalidManifest`, for what cannot be run as it is.
    public init(head: [UInt8], size: Int, name: String) throws(CloudError) {
        func number(_ at: Int, _ count: Int) -> Int { head[at..<at + count].reduce(0) { $0 << 8 | Int($1) } }
        if head.starts(with: [0x51, 0x46, 0x49, 0xfb]) {
            guard head.count >= 72 else { throw Self.refused(name, "the qcow2 header is cut off") }
            let version = number(4, 4)
            guard version == 2 || version == 3 else { throw Self.refused(name, "qcow2 of version \(version)") }
            // A disk that reads from another file would read a file of the node.
            guard number(8, 8) == 0 else { throw Self.refused(name, "a qcow2 with a backing file; flatten it with qemu-img convert") }
            guard number(32, 4) == 0 else { throw Self.refused(name, "an encrypted qcow2") }
            if version == 3 {
                guard head.count >= 104 else { throw Self.refused(name, "the qcow2 header is cut off") }
                let incompatible = number(72, 8)
                guard incompatible & 0b100 == 0 else { throw Self.refused(name, "a qcow2 with an external data file") }
                guard incompatible & 0b10 == 0 else { throw Self.refused(name, "a qcow2 that is marked as corrupt") }
            }
            guard head[24] < 0x40 else { throw Self.refused(name, "a qcow2 of impossible size") }
            let virtual = number(24, 8)
            guard virtual > 0 else { throw Self.refused(name, "a qcow2 of no size") }
            self.init(role: .machine, format: .qcow2, virtualSize: virtual)
            return
        }
        // Linux's boot header (Documentation/arch/x86/boot.rst): "HdrS" at 0x202.
        if head.count > 0x206, head[0x202..<0x206].elementsEqual("HdrS".utf8) {
            self.init(role: .kernel, format: .raw, virtualSize: size)
            return
        }
        if head.starts(with: "070701".utf8) || head.starts(with: "070702".utf8) {
            self.init(role: .ramdisk, format: .raw, virtualSize: size)
            return
        }
        let compressed: [(String, [UInt8])] = [
            ("gzip", [0x1f, 0x8b]), ("xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), ("zstd", [0x28, 0xb5, 0x2f, 0xfd]),
            ("lz4", [0x02, 0x21, 0x4c, 0x18]),
            ("bzip2", [0x42, 0x5a, 0x68]),
        ]
        if let (kind, _) = compressed.first(where: { head.starts(with: $0.1) }) {
            let lower = name.lowercased()
            guard ["initrd", "initramfs", "ramdisk"].contains(where: { lower.contains($0) }) || lower.contains(".cpio") else {
                throw Self.refused(
                    name, "it is compressed with \(kind); unpack it (a ramdisk has initrd, initramfs or ramdisk in its name)")
            }
            self.init(role: .ramdisk, format: .raw, virtualSize: size)
            return
        }
        guard !head.starts(with: "KDMV".utf8), !head.starts(with: "vhdxfile".utf8), !head.starts(with: "conectix".utf8) else {
            throw Self.refused(name, "a disk of another hypervisor; convert it with qemu-img convert -O qcow2")
        }
        guard size >= 512, size % 512 == 0 else { throw Self.refused(name, "\(size) bytes are no whole number of sectors of 512 bytes") }
        self.init(role: .machine, format: .raw, virtualSize: size)
    }

    init(role: Role, format: Format, virtualSize: Int) {
        self.role = role
        self.format = format
        self.virtualSize = virtualSize
    }

    private static func refused(_ name: String, _ why: String) -> CloudError {
        CloudError(.named(code: "InvalidManifest", status: 400), "The object \(name.prefix(200)) cannot be registered: \(why)")
    }
}
