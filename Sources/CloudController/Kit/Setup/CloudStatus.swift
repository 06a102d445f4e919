import API
public import Daemon
public import Domain
import Wire

/// One screen of how the cloud is: each daemon, whether it answers and in which version; each node with what it has and what is free.
public struct CloudStatus: Sendable {
    private let configuration: CloudConfiguration
    private let registry: ClusterRegistry
    /// With this controller's own certificate, for the other daemons' internal listeners.
    private let peers: any HTTPRequesting
    private let plain: any HTTPRequesting

    public init(configuration: CloudConfiguration, registry: ClusterRegistry, peers: any HTTPRequesting, plain: any HTTPRequesting) {
        self.configuration = configuration
        self.registry = registry
        self.peers = peers
        self.plain = plain
    }

    /// `{"region", "components": [{role, name, zone, endpoint, state, version, lastError}], "nodes": [{name, zone, endpoint, state,
    /// hypervisor, version, cores, freeCores, memoryMiB, freeMemoryMiB, diskGiB, freeDiskGiB, cacheMiB, freeCacheMiB, lastError}]}`.
    /// A component is `up`, `degraded` or `down`; a node `up` or `unknown`.
    public func json() async throws(CloudError) -> JSONValue {
        let members = try await registry.components()
        var components = [await clc()]
        for member in members { components.append(await component(member)) }
        var nodes: [JSONValue] = []
        for member in members where member.role == .cc { nodes += await self.nodes(member) }
        return ["region": .string(configuration.settings.region), "components": .array(components), "nodes": .array(nodes)]
    }

    private func clc() async -> JSONValue {
        let host = configuration.listenAddress == "0.0.0.0" ? "127.0.0.1" : configuration.listenAddress
        let endpoint = "\(host):\(configuration.port)"
        return await describe("clc", "clc", "", endpoint, "http://\(endpoint)/health", plain)
    }

    private func component(_ member: Component) async -> JSONValue {
        switch member.role {
        case .walrus: await describe("walrus", member.name, member.zone, member.endpoint, "http://\(member.endpoint)/health", plain)
        case .cc, .sc, .nc:
            await describe(member.role.rawValue, member.name, member.zone, member.endpoint, "https://\(member.endpoint)/health", peers)
        }
    }

    private func describe(
        _ role: String, _ name: String, _ zone: String, _ endpoint: String, _ url: String, _ http: any HTTPRequesting
    ) async -> JSONValue {
        var state = "down"
        var version = ""
        var lastError = ""
        do throws(CloudError) {
            let reply = try await http.execute(HTTPClientRequest("GET", url: url, sink: .memory(limit: 1 << 20), timeoutMilliseconds: 5000))
            state = "up"
            if let health = try? JSONValue(parsing: reply.body) {
                version = health["version"]?.text ?? ""
                if let said = health["status"]?.text, said != "ok" { state = said == "degraded" ? "degraded" : "down" }
                lastError = (health["parts"]?.members ?? []).compactMap { part in part.value["reason"]?.text.map { "\(part.name): \($0)" } }
                    .joined(
                        separator: "; ")
            }
        } catch {
            lastError = error.context.isEmpty ? error.message : error.context
        }
        return [
            "role": .string(role), "name": .string(name), "zone": .string(zone), "endpoint": .string(endpoint), "state": .string(state),
            "version": .string(version), "lastError": .string(lastError),
        ]
    }

    private func nodes(_ controller: Component) async -> [JSONValue] {
        let context = CallContext(requestID: "status")
        guard let answer = try? await registry.client(controller).describeNodes(CC.DescribeNodes(), context) else { return [] }
        return answer.nodes.map { node in
            let report = node.report
            return [
                "name": .string(node.name ?? ""), "zone": .string(controller.zone), "endpoint": .string(node.endpoint ?? ""),
                "state": .string(node.state ?? "unknown"), "version": .string(report?.version ?? ""),
                "hypervisor": .string(report?.hypervisor ?? ""), "cores": .integer(report?.cores ?? 0),
                "freeCores": .integer(node.freeCores ?? 0), "memoryMiB": .integer(report?.memoryMiB ?? 0),
                "freeMemoryMiB": .integer(node.freeMemoryMiB ?? 0), "diskGiB": .integer(report?.diskGiB ?? 0),
                "freeDiskGiB": .integer(node.freeDiskGiB ?? 0), "cacheMiB": .integer(report?.cacheMiB ?? 0),
                "freeCacheMiB": .integer(report?.cacheFreeMiB ?? 0),
                "lastError": .string(
                    [node.lastError, node.report?.lastError].compactMap { $0 }.filter { !$0.isEmpty }.joined(separator: "; ")),
            ]
        }
    }

    /// The same as lines of text.
    public static func text(_ status: JSONValue) -> String {
        func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }
        var lines = [
            pad("ROLE", 8) + pad("NAME", 14) + pad("ZONE", 12) + pad("ENDPOINT", 24) + pad("STATE", 10) + pad("VERSION", 10) + "LAST ERROR"
        ]
        for c in status["components"]?.items ?? [] {
            func field(_ name: String) -> String { c[name]?.text ?? "" }
            lines.append(
                pad(field("role"), 8) + pad(field("name"), 14) + pad(field("zone"), 12) + pad(field("endpoint"), 24)
                    + pad(field("state"), 10)
                    + pad(field("version"), 10) + field("lastError"))
        }
        lines.append("")
        lines.append(
            pad("NODE", 14) + pad("STATE", 9) + pad("KIND", 10) + pad("CORES free/all", 16) + pad("MEMORY MiB", 18) + pad("DISK GiB", 14)
                + "LAST ERROR")
        for n in status["nodes"]?.items ?? [] {
            func pair(_ free: String, _ all: String) -> String { "\(n[free]?.integer ?? 0)/\(n[all]?.integer ?? 0)" }
            lines.append(
                pad(n["name"]?.text ?? "", 14) + pad(n["state"]?.text ?? "", 9) + pad(n["hypervisor"]?.text ?? "", 10)
                    + pad(pair("freeCores", "cores"), 16)
                    + pad(pair("freeMemoryMiB", "memoryMiB"), 18) + pad(pair("freeDiskGiB", "diskGiB"), 14) + (n["lastError"]?.text ?? ""))
        }
        return lines.joined(separator: "\n")
    }
}
