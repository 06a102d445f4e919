/// Names on the host that are made from an instance id. Domains are named by the id itself.
public enum InstanceNames {
    /// Every interface whose name begins so is the host's side of an instance.
    public static let tapPrefix = "kn"

    /// The host's side of the instance's network interface: at most 15 bytes (IFNAMSIZ), and not `vnet…`, which libvirt would replace.
    /// Of a 17-digit id the last 12 digits are used: 48 random bits are unique on one node.
    public static func tap(_ instanceID: String) -> String {
        let digits = instanceID.split(separator: "-").last.map(String.init) ?? instanceID
        return tapPrefix + digits.suffix(12)
    }

    /// Whether a domain of this name may be one of Karri's: `i-` and 8 or 17 hexadecimal digits.
    public static func isInstance(_ name: String) -> Bool {
        let digits = name.utf8.dropFirst(2)
        return name.hasPrefix("i-") && (digits.count == 8 || digits.count == 17)
            && digits.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
    }

    /// The disk's name in the domain for a device that the user asked for (`/dev/sdf`, `/dev/vdb`, `xvdc`): the same letter when it
    /// is free. The guest names disks by order of discovery anyway; the serial is what counts.
    /// - Returns: `nil` when all 25 are taken.
    public static func diskTarget(for device: String, taken: Set<String>) -> String? {
        let letters = Array("bcdefghijklmnopqrstuvwxyz")
        if let wanted = device.reversed().first(where: { $0.isLetter }), letters.contains(wanted), !taken.contains("vd\(wanted)") {
            return "vd\(wanted)"
        }
        return letters.map { "vd\($0)" }.first { !taken.contains($0) }
    }
}
