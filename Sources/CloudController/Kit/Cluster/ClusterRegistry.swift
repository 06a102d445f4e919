public import API
public import Database
public import Domain
public import Wire

/// The other daemons of each zone, as clients. Reads the table each time: registering takes effect at once, and there is nothing to
/// forget.
public struct ClusterRegistry: Sendable {
    private let pool: DatabasePool
    private let transport: any MessageTransport

    public init(pool: DatabasePool, transport: any MessageTransport) {
        self.pool = pool
        self.transport = transport
    }

    public func components() async throws(CloudError) -> [Component] {
        try await pool.read { tx in try ComponentStore.all(tx) }
    }

    /// The cluster controller of a zone.
    /// - Throws: `.unavailable` when none is registered.
    public func cluster(zone: String) async throws(CloudError) -> any CCClusterActions {
        CCClient(transport: transport, endpoint: try await endpoint(.cc, zone))
    }

    /// The storage controller of a zone, and its address for nodes.
    /// - Throws: `.unavailable` when none is registered.
    public func storage(zone: String) async throws(CloudError) -> (client: any SCStorageActions, endpoint: String) {
        let endpoint = try await endpoint(.sc, zone)
        return (SCClient(transport: transport, endpoint: endpoint), endpoint)
    }

    func client(_ component: Component) -> any CCClusterActions { CCClient(transport: transport, endpoint: component.endpoint) }
    func storageClient(_ component: Component) -> any SCStorageActions { SCClient(transport: transport, endpoint: component.endpoint) }

    private func endpoint(_ role: Component.Role, _ zone: String) async throws(CloudError) -> String {
        let all = try await components()
        guard let found = all.first(where: { $0.role == role && $0.zone == zone }) else {
            let what = role == .cc ? "The cluster controller" : "The storage controller"
            throw CloudError(.unavailable("\(what) of \(zone)"), context: "no \(role.rawValue) is registered for zone \(zone)")
        }
        return found.endpoint
    }
}
