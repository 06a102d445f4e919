import Daemon
import Domain
import Glibc
import StorageControllerKit
import TestKit

struct SimulatedBlockBench: BlockBench {
    private let simulated = SimulatedBlockBackend(totalBytes: 1 << 40, ports: FileBlockBench.ports)
    var backend: any BlockBackend { simulated }

    func reopened() throws -> any BlockBackend { simulated }

    func write(
        _ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8
    ) async throws -> Bool {
        let bytes = [UInt8](repeating: pattern, count: count)
        return (try? await simulated.guestWrite(volume, secretName: grant.secretName, node: grant.node, at: offset, bytes)) != nil
    }

    func holds(
        _ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8
    ) async throws -> Bool {
        let bytes = try? await simulated.guestRead(volume, secretName: grant.secretName, node: grant.node, at: offset, count: count)
        return bytes == [UInt8](repeating: pattern, count: count)
    }

    func killDaemon(_ volume: String) async throws { await simulated.killDaemon(volume) }
    func close() async {}
}

/// Real daemons, in a folder under /tmp, on ports of the loopback.
struct FileBlockBench: BlockBench {
    static let ports = 21_400...21_403
    let backend: any BlockBackend
    private let folder: String
    private let certificates: TestCertificates
    private let guests: [String: NBDGuest]

    init() throws {
        var template = Array("/tmp/karri-sc-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CloudError.bug("mkdtemp: errno \(errno)") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        certificates = try TestCertificates(folder: "\(folder)/keys")
        try certificates.issue(role: "sc", name: "sc")
        var guests: [String: NBDGuest] = [:]
        for name in ["alpha", "beta"] {
            try certificates.issue(role: "nc", name: name)
            guests["nc \(name)"] = try NBDGuest(certificates, name: name)
        }
        self.guests = guests
        backend = try Self.open(folder, certificates)
    }

    private static func open(_ folder: String, _ certificates: TestCertificates) throws -> any BlockBackend {
        try FileBlockBackend(
            folder: "\(folder)/storage", host: "127.0.0.1", ports: ports, certificate: certificates.certificatePath("sc"),
            key: certificates.keyPath("sc"), ca: certificates.caPath)
    }

    func reopened() throws -> any BlockBackend { try Self.open(folder, certificates) }

    func write(
        _ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8
    ) async throws -> Bool {
        try await io(grant, address, ["write -P \(pattern) \(offset) \(count)", "flush"])
    }

    func holds(
        _ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8
    ) async throws -> Bool {
        try await io(grant, address, ["read -P \(pattern) \(offset) \(count)"])
    }

    private func io(_ grant: ExportGrant, _ address: ExportAddress, _ commands: [String]) async throws -> Bool {
        guard let guest = guests[grant.node] else { throw CloudError.bug("no guest on \(grant.node)") }
        return try await guest.io(address.host, address.port, grant.secretName, commands).ok
    }

    func killDaemon(_ volume: String) async throws {
        let text = String(decoding: try FileSystem.read("\(folder)/storage/run/\(volume).pid"), as: UTF8.self)
        guard let pid = pid_t(text.filter(\.isNumber)) else { return }
        kill(pid, SIGKILL)
        while kill(pid, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
    }

    func close() async {
        for volume in (try? await backend.runningVolumes()) ?? [] { try? await killDaemon(volume) }
        _ = try? await CommandRunner().run(Command("rm", ["-rf", folder]))
    }
}
