public import Daemon
public import Domain
import Glibc

/// `nc.conf`.
public struct NodeConfiguration: DaemonConfiguration {
    public static var keys: [ConfigurationKey] {
        [
            .standard("listen_address", .address, "0.0.0.0", "Where the cluster controller reaches this node"),
            .standard("port", .integer(0...65535), "8775", "Port of the internal listener"),
            .required("name", .text, "The node's name, as registered and as in its certificate"),
            .required("certificate", .file, "The node's certificate, PEM"),
            .required("key", .file, "The node's private key, PEM"),
            .required("ca", .file, "The cloud's CA certificate, PEM"),
            .required("cc_endpoint", .endpoint, "host:port of the zone's cluster controller"),
            .required("data_dir", .path, "Journal, image cache, disks, bundles"),
            .standard("libvirt_uri", .text, "qemu:///system", "libvirt's address, such as qemu+unix:///system?socket=/path"),
            .standard(
                "hypervisor", .choice(["auto", "kvm", "qemu", "xen"]), "auto",
                "auto probes whether KVM really works, and falls back to emulation"),
            .standard("xen_mode", .choice(["pvh", "pv", "hvm"]), "pvh", "How guests run on Xen"),
            .optional("cores", .integer(1...4096), "Cores for guests; standard: the host's. More than the host has: they share"),
            .optional("memory_mib", .integer(64...(64 << 20)), "Memory for guests; standard: the host's without its share"),
            .optional(
                "disk_gib", .integer(1...(1 << 20)), "Disk for guests; standard: what data_dir's file system has free, without the cache"),
            .standard("cache_mib", .integer(64...(1 << 30)), "10240", "Image cache"),
            .standard("bridge", .text, "karri0", "The node's own bridge, which guests are ports of"),
            .standard("mtu", .integer(576...9000), "1500", "MTU of guests"),
            .standard("max_concurrent_starts", .integer(1...64), "2", "Domains that are started at the same time"),
            .standard("grace_seconds", .integer(0...3600), "30", "How long a guest may take to shut down before it is ended by force"),
            .standard("poll_seconds", .integer(1...600), "5", "How often the hypervisor is looked at when it tells nothing"),
            .standard("vnc", .boolean, "no", "Give each domain a VNC screen on the loopback interface"),
            .standard("volume_tls", .boolean, "yes", "Volume connections by TLS"),
        ] + networkKeys
    }

    public let listenAddress: String
    public let port: Int
    public let name: String
    public let certificate, key, ca: String
    public let clusterEndpoint: String
    public let dataFolder: String
    public let libvirtURI: String
    /// `nil`: probe.
    public let hypervisor: HypervisorKind?
    public let xenMode: DomainSpecification.XenMode
    public let cacheMiB: Int
    public let bridge: String
    public let mtu: Int
    public let maxConcurrentStarts: Int
    public let graceSeconds: Int
    public let pollSeconds: Int
    public let vnc: Bool
    public let volumeTLS: Bool
    public let metadataPort: Int
    private let cores, memoryMiB, diskGiB: Int?
    /// For the parts of the node that read keys of their own (`Kit/Network`).
    public let values: ConfigurationValues

    public init(_ values: ConfigurationValues) throws(ConfigurationError) {
        listenAddress = values.text("listen_address")
        port = values.integer("port")
        name = values.text("name")
        certificate = values.text("certificate")
        key = values.text("key")
        ca = values.text("ca")
        clusterEndpoint = values.text("cc_endpoint")
        dataFolder = values.text("data_dir")
        libvirtURI = values.text("libvirt_uri")
        hypervisor = HypervisorKind(rawValue: values.text("hypervisor"))
        xenMode = DomainSpecification.XenMode(rawValue: values.text("xen_mode")) ?? .pvh
        cores = values.optionalInteger("cores")
        memoryMiB = values.optionalInteger("memory_mib")
        diskGiB = values.optionalInteger("disk_gib")
        cacheMiB = values.integer("cache_mib")
        bridge = values.text("bridge")
        mtu = values.integer("mtu")
        maxConcurrentStarts = values.integer("max_concurrent_starts")
        graceSeconds = values.integer("grace_seconds")
        pollSeconds = values.integer("poll_seconds")
        vnc = values.boolean("vnc")
        volumeTLS = values.boolean("volume_tls")
        metadataPort = values.integer("metadata_port")
        self.values = values
    }

    /// What guests may have: as configured, else what the host has without its own share.
    public func capacity() throws(CloudError) -> NodeCapacity {
        let host = try HostResources.read(dataFolder)
        return NodeCapacity(
            cores: cores ?? host.cores, memoryMiB: memoryMiB ?? host.memoryForGuestsMiB,
            diskGiB: diskGiB ?? max(1, host.diskGiB - (cacheMiB + 1023) / 1024))
    }
}

/// What the host has.
struct HostResources: Equatable {
    var cores: Int
    var memoryMiB: Int
    /// Free on the file system of the node's data.
    var diskGiB: Int

    /// The host and its daemons keep a tenth, at least 512 MiB; QEMU itself takes some beside each guest's memory, which comes out
    /// of this too.
    var memoryForGuestsMiB: Int { max(64, memoryMiB - max(512, memoryMiB / 10)) }

    static func read(_ dataFolder: String) throws(CloudError) -> HostResources {
        try FileSystem.makeFolder(dataFolder)
        let text = String(decoding: try FileSystem.read("/proc/meminfo", limit: 1 << 16), as: UTF8.self)
        return HostResources(
            cores: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))), memoryMiB: memory(text) ?? 0,
            diskGiB: (Folder.space(dataFolder)?.free ?? 0) >> 30)
    }

    /// `MemTotal:       24576000 kB`
    static func memory(_ meminfo: String) -> Int? {
        for line in meminfo.split(separator: "\n") where line.hasPrefix("MemTotal:") {
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 / 1024 }
        }
        return nil
    }
}
