public import Database
public import Domain

/// An elastic address: the account's until it is released, whatever instances come and go.
public struct ElasticAddress: Sendable, Equatable {
    public let address: IPv4Address
    public let accountID: String
    public let allocationID: AddressAllocationID
    /// `vpc` or `standard`, as it was asked for.
    public let domain: String
    public let instanceID: String?
    public let associationID: String?
    /// Of the instance.
    public let privateAddress: String?
}

/// The public address of an instance.
public struct PublicAddress: Sendable, Equatable {
    public let address: String
    /// `nil` for a transient address, which goes with its instance.
    public let allocationID, associationID: String?
}

/// Public and private addresses. Taking and giving back happen in the transaction of the change that needs them: an address is never
/// taken without its instance, nor lost with it.
public enum AddressStore {
    // MARK: instances

    /// The lowest free public address, for an instance; the one that it has when it has one.
    /// - Throws: `.capacity(publicAddresses)` with the numbers of the pool.
    @discardableResult
    public static func takePublic(_ tx: Transaction, instanceID: String, settings: CloudSettings) throws(CloudError) -> IPv4Address {
        if let row = try tx.execute("SELECT value FROM cloud.addresses WHERE instance_id = $1", .text(instanceID)).first {
            return IPv4Address(UInt32(row.int64("value")))
        }
        let address = try freePublic(tx, settings)
        try tx.execute(
            "INSERT INTO cloud.addresses (value, address, instance_id) VALUES ($1, $2, $3)", .integer(Int64(address.value)),
            .text(address.description), .text(instanceID))
        return address
    }

    /// The lowest free private address, for an instance; the one that it has when it has one.
    /// - Parameters:
    ///   - block: its subnet's; the whole network without one.
    ///   - wanted: this very address.
    /// - Throws: `.capacity(privateAddresses)`; `InvalidIPAddress.InUse`.
    public static func takePrivate(
        _ tx: Transaction, instanceID: String, settings: CloudSettings, in block: CIDR? = nil, wanted: IPv4Address? = nil
    ) throws(CloudError) -> IPv4Address {
        if let row = try tx.execute("SELECT value FROM cloud.private_addresses WHERE instance_id = $1", .text(instanceID)).first {
            return IPv4Address(UInt32(row.int64("value")))
        }
        let network = block ?? settings.privateNetwork
        if let wanted { return try takePrivate(tx, wanted, instanceID: instanceID, settings: settings) }
        guard let value = try firstFree(tx, "cloud.private_addresses", network.hosts, except: [settings.gateway.value]) else {
            let limit = network.hosts.count - (network.contains(settings.gateway) ? 1 : 0)
            let used = try used(tx, "cloud.private_addresses", network.hosts)
            throw CloudError(
                .capacity(
                    Shortage(
                        .privateAddresses,
                        [
                            .init(
                                "\(block == nil ? "private network" : "subnet") \(network)", .privateAddresses, asked: 1,
                                free: Swift.max(0, limit - used), limit: limit)
                        ]))
            )
        }
        return try insertPrivate(tx, IPv4Address(value), instanceID: instanceID)
    }

    private static func takePrivate(
        _ tx: Transaction, _ wanted: IPv4Address, instanceID: String, settings: CloudSettings
    ) throws(CloudError) -> IPv4Address {
        let isTaken = !(try tx.execute("SELECT 1 FROM cloud.private_addresses WHERE value = $1", .integer(Int64(wanted.value))).isEmpty)
        guard !isTaken, wanted != settings.gateway else {
            throw CloudError(.named(code: "InvalidIPAddress.InUse", status: 400), "Address \(wanted) is in use.")
        }
        return try insertPrivate(tx, wanted, instanceID: instanceID)
    }

    private static func insertPrivate(_ tx: Transaction, _ address: IPv4Address, instanceID: String) throws(CloudError) -> IPv4Address {
        try tx.execute(
            "INSERT INTO cloud.private_addresses (value, address, instance_id) VALUES ($1, $2, $3)", .integer(Int64(address.value)),
            .text(address.description), .text(instanceID))
        return address
    }

    /// How many private addresses of a block somebody has.
    static func usedPrivate(_ tx: Transaction, _ block: CIDR) throws(CloudError) -> Int {
        try used(tx, "cloud.private_addresses", block.hosts)
    }

    /// A transient public address goes back to the pool; an elastic one stays (the instance stops, and starts again with it).
    public static func releasePublic(_ tx: Transaction, instanceID: String) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.addresses WHERE instance_id = $1 AND allocation_id IS NULL", .text(instanceID))
    }

    /// Everything of an instance that has ended: its interface goes, transient and private address go back, an elastic one is free for
    /// another instance.
    public static func releaseInstance(_ tx: Transaction, instanceID: String) throws(CloudError) {
        try NetworkInterfaceStore.delete(tx, instanceID: instanceID)
        try releasePublic(tx, instanceID: instanceID)
        try tx.execute(
            "UPDATE cloud.addresses SET instance_id = NULL, association_id = NULL, transient_due = false WHERE instance_id = $1",
            .text(instanceID))
        try tx.execute("DELETE FROM cloud.private_addresses WHERE instance_id = $1", .text(instanceID))
    }

    /// Public addresses by instance id.
    public static func publicAddresses(_ tx: Transaction, instanceIDs: [String]) throws(CloudError) -> [String: PublicAddress] {
        guard !instanceIDs.isEmpty else { return [:] }
        var out: [String: PublicAddress] = [:]
        for row in try tx.execute(
            "SELECT instance_id, address, allocation_id, association_id FROM cloud.addresses WHERE instance_id = ANY($1)",
            .textArray(instanceIDs))
        {
            out[row.text("instance_id")] = PublicAddress(
                address: row.text("address"), allocationID: row.optionalText("allocation_id"),
                associationID: row.optionalText("association_id"))
        }
        return out
    }

    static func privateAddress(_ tx: Transaction, instanceID: String) throws(CloudError) -> String? {
        try tx.execute("SELECT address FROM cloud.private_addresses WHERE instance_id = $1", .text(instanceID)).first?.text("address")
    }

    // MARK: elastic addresses

    /// - Parameter wanted: this one, or any.
    /// - Throws: `.limitExceeded(.addresses)`; `.capacity`; `InvalidAddress.NotFound` for one that is not in the pool or not free.
    static func allocate(
        _ tx: Transaction, accountID: String, allocationID: AddressAllocationID, domain: String, wanted: IPv4Address?,
        settings: CloudSettings
    ) throws(CloudError) -> IPv4Address {
        let count =
            try tx.execute("SELECT count(*) AS n FROM cloud.addresses WHERE account_id = $1", .text(accountID)).first?.int("n") ?? 0
        let limit = try settings.quotas(tx, accountID: accountID).addresses
        guard count < limit else { throw CloudError(.limitExceeded(.addresses, asked: count + 1, limit: limit)) }
        let address: IPv4Address
        if let wanted {
            let isTaken = !(try tx.execute("SELECT 1 FROM cloud.addresses WHERE value = $1", .integer(Int64(wanted.value))).isEmpty)
            guard settings.publicPool.hosts.contains(wanted.value), !isTaken else { throw AddressRules.notFound(wanted.description) }
            address = wanted
        } else {
            address = try freePublic(tx, settings)
        }
        try tx.execute(
            "INSERT INTO cloud.addresses (value, address, account_id, allocation_id, domain) VALUES ($1, $2, $3, $4, $5)",
            .integer(Int64(address.value)), .text(address.description), .text(accountID), .text(allocationID.text), .text(domain))
        return address
    }

    static func release(_ tx: Transaction, _ address: ElasticAddress) throws(CloudError) {
        try TagStore.deleteAll(tx, address.allocationID.text)
        try tx.execute("DELETE FROM cloud.addresses WHERE allocation_id = $1", .text(address.allocationID.text))
    }

    /// In the order of addresses.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [ElasticAddress] {
        try select(tx, "a.account_id = $1 ORDER BY a.value", .text(accountID))
    }

    static func find(_ tx: Transaction, accountID: String, allocationID: AddressAllocationID) throws(CloudError) -> ElasticAddress? {
        try select(tx, "a.account_id = $1 AND a.allocation_id = $2", .text(accountID), .text(allocationID.text)).first
    }

    static func find(_ tx: Transaction, accountID: String, associationID: AddressAssociationID) throws(CloudError) -> ElasticAddress? {
        try select(tx, "a.account_id = $1 AND a.association_id = $2", .text(accountID), .text(associationID.text)).first
    }

    static func find(_ tx: Transaction, accountID: String, address: IPv4Address) throws(CloudError) -> ElasticAddress? {
        try select(tx, "a.account_id = $1 AND a.value = $2", .text(accountID), .integer(Int64(address.value))).first
    }

    /// Gives the address to the instance. What the instance had before goes: a transient address to the pool, an elastic one stays its
    /// account's. An instance that loses the address gets a transient one again.
    static func associate(
        _ tx: Transaction, _ address: ElasticAddress, instanceID: String, associationID: AddressAssociationID, settings: CloudSettings
    ) throws(CloudError) {
        if address.instanceID != nil { try disassociate(tx, address, settings: settings) }
        let had = try tx.execute(
            "SELECT allocation_id, transient_due FROM cloud.addresses WHERE instance_id = $1", .text(instanceID)
        ).first
        // An elastic address that is replaced hands its debt on.
        let due = had.map { $0.optionalText("allocation_id") == nil || $0.bool("transient_due") } ?? false
        try releasePublic(tx, instanceID: instanceID)
        try tx.execute(
            "UPDATE cloud.addresses SET instance_id = NULL, association_id = NULL, transient_due = false WHERE instance_id = $1",
            .text(instanceID))
        try tx.execute(
            "UPDATE cloud.addresses SET instance_id = $2, association_id = $3, transient_due = $4 WHERE allocation_id = $1",
            .text(address.allocationID.text), .text(instanceID), .text(associationID.text), .boolean(due))
    }

    /// Takes the address from its instance, which gets a transient one again if it had one and the pool has one: to be without is no reason
    /// to keep another's address.
    static func disassociate(_ tx: Transaction, _ address: ElasticAddress, settings: CloudSettings) throws(CloudError) {
        guard let instanceID = address.instanceID else { return }
        let due =
            try tx.execute(
                """
                SELECT a.transient_due AND i.finished_at IS NULL AND i.desired = 'running' AS due FROM cloud.addresses a
                JOIN cloud.instances i ON i.id = a.instance_id WHERE a.allocation_id = $1
                """, .text(address.allocationID.text)
            ).first?.bool("due") ?? false
        try tx.execute(
            "UPDATE cloud.addresses SET instance_id = NULL, association_id = NULL, transient_due = false WHERE allocation_id = $1",
            .text(address.allocationID.text))
        guard due else { return }
        do throws(CloudError) {
            try takePublic(tx, instanceID: instanceID, settings: settings)
        } catch {
            guard case .capacity = error.reason else { throw error }
        }
    }

    /// An instance of the account that has not ended; its desired state.
    /// - Throws: `.notFound(.instance)`.
    static func instanceDesired(_ tx: Transaction, accountID: String, id: InstanceID) throws(CloudError) -> String {
        guard
            let row = try tx.execute(
                "SELECT desired FROM cloud.instances WHERE id = $1 AND account_id = $2 AND finished_at IS NULL", .text(id.text),
                .text(accountID)
            ).first
        else { throw CloudError(.notFound(.instance, id: id.text)) }
        return row.text("desired")
    }

    // MARK: pools

    private static func freePublic(_ tx: Transaction, _ settings: CloudSettings) throws(CloudError) -> IPv4Address {
        let pool = settings.publicPool
        if let value = try firstFree(tx, "cloud.addresses", pool.hosts, except: []) { return IPv4Address(value) }
        let used = try used(tx, "cloud.addresses", pool.hosts)
        throw CloudError(
            .capacity(
                Shortage(
                    .publicAddresses,
                    [.init("public pool \(pool)", .publicAddresses, asked: 1, free: pool.hosts.count - used, limit: pool.hosts.count)])))
    }

    private static func used(_ tx: Transaction, _ table: String, _ range: ClosedRange<UInt32>) throws(CloudError) -> Int {
        try tx.execute(
            "SELECT count(*) AS n FROM \(table) WHERE value BETWEEN $1 AND $2", .integer(Int64(range.lowerBound)),
            .integer(Int64(range.upperBound))
        ).first?.int("n") ?? 0
    }

    /// The lowest number of the range without a row: the range's first, or the first gap behind a row. The index answers it, however
    /// large the range.
    private static func firstFree(
        _ tx: Transaction, _ table: String, _ range: ClosedRange<UInt32>, except: Set<UInt32>
    ) throws(CloudError) -> UInt32? {
        var low = range.lowerBound
        while range.contains(low) {
            let row = try tx.execute(
                """
                SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM \(table) WHERE value = $1::bigint) THEN $1::bigint
                       ELSE (SELECT a.value + 1 FROM \(table) a WHERE a.value >= $1::bigint AND a.value < $2::bigint
                             AND NOT EXISTS (SELECT 1 FROM \(table) b WHERE b.value = a.value + 1) ORDER BY a.value LIMIT 1)
                       END AS free
                """, .integer(Int64(low)), .integer(Int64(range.upperBound))
            ).first
            guard let free = row?.optionalInt64("free") else { return nil }
            let value = UInt32(free)
            if !except.contains(value) { return value }
            guard value < UInt32.max else { return nil }
            low = value + 1
        }
        return nil
    }

    private static func select(_ tx: Transaction, _ condition: String, _ parameters: SQLValue...) throws(CloudError) -> [ElasticAddress] {
        let sql = """
            SELECT a.value, a.account_id, a.allocation_id, a.domain, a.instance_id, a.association_id, p.address AS private_address
            FROM cloud.addresses a LEFT JOIN cloud.private_addresses p ON p.instance_id = a.instance_id
            WHERE a.allocation_id IS NOT NULL AND \(condition)
            """
        var out: [ElasticAddress] = []
        for row in try tx.execute(sql, parameters: parameters) {
            out.append(
                ElasticAddress(
                    address: IPv4Address(UInt32(row.int64("value"))), accountID: row.text("account_id"),
                    allocationID: try AddressAllocationID(parsing: row.text("allocation_id")), domain: row.text("domain"),
                    instanceID: row.optionalText("instance_id"), associationID: row.optionalText("association_id"),
                    privateAddress: row.optionalText("private_address")))
        }
        return out
    }
}
