/// Everything that the definition of a domain says. A value: `DomainXML` turns it into libvirt's text and knows nothing else.
public struct DomainSpecification: Sendable, Equatable {
    /// Also the domain's name.
    public var instanceID: String
    public var accountID: String
    public var kind: HypervisorKind
    public var cores: Int
    public var memoryMiB: Int
    public var boot: Boot
    public var root: FileDisk
    public var interface: Interface
    /// The serial console is appended to this file.
    public var consolePath: String
    /// VNC on the loopback interface, with a port that the hypervisor picks.
    public var graphics: Bool
    public var volumes: [NetworkDisk]
    /// For Xen only.
    public var xenMode: XenMode

    /// How the machine comes up.
    public enum Boot: Sendable, Equatable {
        /// The root disk has a boot loader.
        case disk
        /// The hypervisor loads a kernel; the root disk is one partition.
        case direct(kernel: String, ramdisk: String?)
    }
    public enum XenMode: String, Sendable, CaseIterable {
        /// Paravirtual on hardware virtualisation: direct boot only; the usual choice.
        case pvh
        /// Classic paravirtualisation: direct boot only.
        case pv
        /// A whole PC.
        case hvm
    }
    public struct FileDisk: Sendable, Equatable {
        public var path: String
        /// `qcow2` or `raw`.
        public var format: String
        /// `none` with native I/O where the file system has O_DIRECT; else the page cache.
        public var direct: Bool
        public init(path: String, format: String, direct: Bool = true) {
            self.path = path
            self.format = format
            self.direct = direct
        }
    }
    public struct Interface: Sendable, Equatable {
        public var macAddress: String
        /// Name of the host's side. Never `vnet…`: libvirt takes those for its own and replaces them.
        public var tap: String
        public var bridge: String
        public var mtu: Int
        public init(macAddress: String, tap: String, bridge: String, mtu: Int) {
            self.macAddress = macAddress
            self.tap = tap
            self.bridge = bridge
            self.mtu = mtu
        }
    }

    public init(
        instanceID: String, accountID: String, kind: HypervisorKind, cores: Int, memoryMiB: Int, boot: Boot, root: FileDisk,
        interface: Interface, consolePath: String, graphics: Bool = false, volumes: [NetworkDisk] = [], xenMode: XenMode = .pvh
    ) {
        self.instanceID = instanceID
        self.accountID = accountID
        self.kind = kind
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.boot = boot
        self.root = root
        self.interface = interface
        self.consolePath = consolePath
        self.graphics = graphics
        self.volumes = volumes
        self.xenMode = xenMode
    }
}

/// A volume as a disk: an NBD export of a storage controller, over TLS.
public struct NetworkDisk: Sendable, Equatable {
    /// The volume's id; the guest finds the disk by it (`/dev/disk/by-id/virtio-<serial>`), as device names go by order of discovery.
    public var serial: String
    /// `vdb` … `vdz`: unique in the domain.
    public var target: String
    public var host: String
    public var port: Int
    /// The secret name of the export.
    public var export: String
    /// The name in the server's certificate, when it is not `host`.
    public var tlsHostname: String?
    public var tls: Bool

    public init(serial: String, target: String, host: String, port: Int, export: String, tlsHostname: String?, tls: Bool = true) {
        self.serial = serial
        self.target = target
        self.host = host
        self.port = port
        self.export = export
        self.tlsHostname = tlsHostname
        self.tls = tls
    }
}
