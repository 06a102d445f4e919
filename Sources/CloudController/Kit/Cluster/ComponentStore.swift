public import Database
public import Domain

/// One registered daemon.
public struct Component: Sendable, Equatable {
    public enum Role: String, Sendable, CaseIterable { case walrus, cc, sc, nc }
    public let role: Role
    public let name: String
    public let zone: String
    /// `host:port`
    public let endpoint: String
    public init(role: Role, name: String, zone: String, endpoint: String) {
        self.role = role
        self.name = name
        self.zone = zone
        self.endpoint = endpoint
    }
}

/// The daemons that belong to the cloud. `cluster` counts changes: a cluster controller that has an older number is told again.
public enum ComponentStore {
    public static func all(_ tx: Transaction) throws(CloudError) -> [Component] {
        try tx.execute("SELECT role, name, zone, endpoint FROM cloud.components ORDER BY role, name").compactMap { row in
            Component.Role(rawValue: row.text("role")).map {
                Component(role: $0, name: row.text("name"), zone: row.text("zone"), endpoint: row.text("endpoint"))
            }
        }
    }

    /// Registers, or changes zone and endpoint. The same again changes nothing.
    /// - Returns: whether anything changed.
    @discardableResult
    public static func register(_ tx: Transaction, _ component: Component, now: Timestamp) throws(CloudError) -> Bool {
        let changed = try tx.execute(
            """
            INSERT INTO cloud.components AS c (role, name, zone, endpoint, registered_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (role, name) DO UPDATE SET zone = excluded.zone, endpoint = excluded.endpoint
            WHERE (c.zone, c.endpoint) IS DISTINCT FROM (excluded.zone, excluded.endpoint)
            """,
            .text(component.role.rawValue), .text(component.name), .text(component.zone), .text(component.endpoint), .timestamp(now))
        guard changed.affected > 0 else { return false }
        try bump(tx)
        return true
    }

    /// - Returns: whether there was one.
    @discardableResult
    public static func deregister(_ tx: Transaction, role: Component.Role, name: String) throws(CloudError) -> Bool {
        let gone = try tx.execute("DELETE FROM cloud.components WHERE role = $1 AND name = $2", .text(role.rawValue), .text(name))
        guard gone.affected > 0 else { return false }
        try bump(tx)
        return true
    }

    /// Instances on a node that nobody has ended.
    public static func openInstances(_ tx: Transaction, node: String) throws(CloudError) -> Int {
        try tx.execute("SELECT count(*) AS n FROM cloud.instances WHERE node = $1 AND finished_at IS NULL", .text(node)).first?.int("n")
            ?? 0
    }

    public static func generation(_ tx: Transaction) throws(CloudError) -> Int64 {
        try tx.execute("SELECT value FROM cloud.counters WHERE name = 'cluster'").first?.int64("value") ?? 0
    }

    static func overtake(_ tx: Transaction, _ newest: Int64) throws(CloudError) {
        try tx.execute("UPDATE cloud.counters SET value = $1 WHERE name = 'cluster' AND value < $1", .integer(newest + 1))
    }

    private static func bump(_ tx: Transaction) throws(CloudError) {
        try tx.execute("UPDATE cloud.counters SET value = value + 1 WHERE name = 'cluster'")
        try tx.notify(NetworkStore.channel, "cluster")
        try NetworkStore.changed(tx)
    }
}
