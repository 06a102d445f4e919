import Wire

/// What we read out of libvirt's description of a domain. Anything that is missing or strange is simply absent: a domain that
/// somebody else made must not stop the listing of ours.
struct DomainDescription {
    var uuid = ""
    var instanceID: String?
    var cores = 0
    var memoryMiB = 0
    /// (serial, target device) of each disk.
    var disks: [(serial: String, target: String)] = []

    var serials: [String] { disks.map(\.serial).filter { !$0.isEmpty } }

    init(xml: String) {
        guard let root = try? XMLReader.parse([UInt8](xml.utf8), limits: .internal) else { return }
        uuid = Self.trimmed(root.first("uuid")?.text)
        cores = Int(Self.trimmed(root.first("vcpu")?.text)) ?? 0
        if let memory = root.first("memory"), let n = Int(Self.trimmed(memory.text)) {
            // libvirt normalises to KiB; a unit is named all the same.
            switch memory.attribute("unit") ?? "KiB" {
            case "MiB": memoryMiB = n
            case "GiB": memoryMiB = n * 1024
            case "b", "bytes": memoryMiB = n >> 20
            default: memoryMiB = n >> 10
            }
        }
        instanceID = root.first("metadata")?.first("instance", namespace: DomainXML.metadataNamespace)?.attribute("id")
        for disk in root.first("devices")?.all("disk") ?? [] {
            disks.append((Self.trimmed(disk.first("serial")?.text), disk.first("target")?.attribute("dev") ?? ""))
        }
    }

    /// The smallest `<disk>` by which libvirt finds the device to detach: it looks for the target only.
    static func diskElement(serial: String, in xml: String) -> String? {
        guard let disk = DomainDescription(xml: xml).disks.first(where: { $0.serial == serial }), !disk.target.isEmpty else { return nil }
        let safe = disk.target.unicodeScalars.allSatisfy { ("a"..."z").contains($0) || ("0"..."9").contains($0) }
        return safe ? "<disk type='file' device='disk'><target dev='\(disk.target)' bus='virtio'/></disk>" : nil
    }

    private static func trimmed(_ text: String?) -> String {
        guard let text else { return "" }
        let blank: (Character) -> Bool = { $0 == " " || $0 == "\n" || $0 == "\t" || $0 == "\r" }
        return String(text.drop(while: blank).reversed().drop(while: blank).reversed())
    }
}
