import API
public import Database
public import Domain

/// The network's generation: every change of groups, rules, placed instances or addresses raises it, and nodes refuse older ones.
public enum NetworkStore {
    /// The channel on which reconcilers are woken; the payload is the kind of row that changed.
    public static let channel = "cloud"

    /// Call in the transaction that changes anything that the nodes' network is made of.
    public static func changed(_ tx: Transaction) throws(CloudError) {
        try tx.execute("UPDATE cloud.counters SET value = value + 1 WHERE name = 'network'")
        try tx.notify(channel, "network")
    }

    static func generation(_ tx: Transaction) throws(CloudError) -> Int64 {
        try tx.execute("SELECT value FROM cloud.counters WHERE name = 'network'").first?.int64("value") ?? 0
    }

    /// After a restored database: a controller below has seen a newer generation than we have.
    static func overtake(_ tx: Transaction, _ newest: Int64) throws(CloudError) {
        try tx.execute("UPDATE cloud.counters SET value = $1 WHERE name = 'network' AND value < $1", .integer(newest + 1))
    }

    /// One placed instance as the network sees it.
    struct Placed: Sendable {
        let id, zone, node, privateAddress, macAddress: String
        let subnetID: String?
        var groups: [String]
        /// What it is to have on its node, if it is to run.
        let claim: CC.Claim?
    }

    /// Instances that have, or may still have, anything on a node. An instance that is stopped keeps its address.
    static func placed(_ tx: Transaction) throws(CloudError) -> [Placed] {
        try tx.execute(
            """
            SELECT i.id, i.zone, i.node, i.private_address, i.mac_address, i.desired, i.generation, i.cores, i.memory_mib, i.disk_gib,
                   max(n.subnet_id) AS subnet_id,
                   coalesce(array_agg(g.group_id ORDER BY g.ordinal) FILTER (WHERE g.group_id IS NOT NULL), '{}') AS groups
            FROM cloud.instances i LEFT JOIN cloud.instance_groups g ON g.instance_id = i.id
            LEFT JOIN cloud.network_interfaces n ON n.instance_id = i.id
            WHERE i.finished_at IS NULL GROUP BY i.id ORDER BY i.id
            """
        ).map {
            Placed(
                id: $0.text("id"), zone: $0.text("zone"), node: $0.text("node"), privateAddress: $0.text("private_address"),
                macAddress: $0.text("mac_address"), subnetID: $0.optionalText("subnet_id"), groups: $0.textArray("groups"),
                claim: $0.text("desired") == DesiredInstance.running.rawValue
                    ? CC.Claim(
                        generation: $0.int("generation"), cores: $0.int("cores"), memoryMiB: $0.int("memory_mib"),
                        diskGiB: $0.int("disk_gib")) : nil)
        }
    }
}
