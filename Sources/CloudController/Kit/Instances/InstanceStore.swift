public import Database
public import Domain

/// The rows of instances. All functions run in the caller's transaction, so that an action is one.
public enum InstanceStore {
    /// How long a terminated instance can still be described, as EC2 does ("for a short while", usually an hour).
    public static let visibleSeconds: Int64 = 3600

    // MARK: reading

    /// - Throws: `.notFound` when there is none of this account, or it has been terminated for too long.
    public static func fetch(_ tx: Transaction, id: String, accountID: String, now: Timestamp? = nil) throws(CloudError) -> InstanceRow {
        let oldest = now?.adding(seconds: -visibleSeconds) ?? Timestamp(milliseconds: 0)
        let rows = try tx.execute(
            "SELECT * FROM cloud.instances WHERE id = $1 AND account_id = $2 AND (finished_at IS NULL OR finished_at > $3)", .text(id),
            .text(accountID), .timestamp(oldest))
        guard let row = rows.first else { throw notFound(id) }
        return instance(row)
    }

    static func notFound(_ id: String) -> CloudError { CloudError(.notFound(.instance, id: id)) }

    /// Those of the account that are visible, oldest first.
    /// - Parameter ids: nil for all; otherwise each must be there.
    /// - Throws: `.notFound` with the ids that are not.
    public static func list(_ tx: Transaction, accountID: String, ids: [String]?, now: Timestamp) throws(CloudError) -> [InstanceRow] {
        let rows = try tx.execute(
            """
            SELECT * FROM cloud.instances
            WHERE account_id = $1 AND (finished_at IS NULL OR finished_at > $2) AND ($3::text[] IS NULL OR id = ANY($3))
            ORDER BY created_at, reservation_id, launch_index, id
            """,
            .text(accountID), .timestamp(now.adding(seconds: -visibleSeconds)), SQLValue(ids)
        ).map { instance($0) }
        if let ids {
            let found = Set(rows.map(\.id))
            let missing = ids.filter { !found.contains($0) }
            guard missing.isEmpty else { throw notFound(missing.joined(separator: ", ")) }
        }
        return rows
    }

    static func reservation(_ tx: Transaction, _ id: String) throws(CloudError) -> [InstanceRow] {
        try tx.execute("SELECT * FROM cloud.instances WHERE reservation_id = $1 ORDER BY launch_index", .text(id)).map { instance($0) }
    }

    /// Everything that is not finished, of all accounts: the reconciler's work list.
    static func open(_ tx: Transaction) throws(CloudError) -> [InstanceRow] {
        try tx.execute("SELECT * FROM cloud.instances WHERE finished_at IS NULL ORDER BY created_at, id").map { instance($0) }
    }

    static func find(_ tx: Transaction, _ id: String) throws(CloudError) -> InstanceRow? {
        try tx.execute("SELECT * FROM cloud.instances WHERE id = $1", .text(id)).first.map { instance($0) }
    }

    public struct GroupName: Sendable, Equatable {
        public let id, name: String
        public init(id: String, name: String) {
            self.id = id
            self.name = name
        }
    }

    /// The groups of each instance, in the order in which they were named at launch.
    public static func groups(_ tx: Transaction, ids: [String]) throws(CloudError) -> [String: [GroupName]] {
        var out: [String: [GroupName]] = [:]
        for row in try tx.execute(
            "SELECT * FROM cloud.instance_groups WHERE instance_id = ANY($1) ORDER BY instance_id, ordinal", .textArray(ids))
        {
            out[row.text("instance_id"), default: []].append(GroupName(id: row.text("group_id"), name: row.text("group_name")))
        }
        return out
    }

    /// Instances and cores that count against the account's quota.
    static func usage(_ tx: Transaction, accountID: String) throws(CloudError) -> (instances: Int, cores: Int) {
        let row = try tx.execute(
            "SELECT count(*) AS n, coalesce(sum(cores), 0) AS cores FROM cloud.instances WHERE account_id = $1 AND finished_at IS NULL",
            .text(accountID)
        ).first
        return (row?.int("n") ?? 0, row?.int("cores") ?? 0)
    }

    // MARK: intent

    /// Other groups than those of the launch.
    static func setGroups(_ tx: Transaction, id: String, _ groups: [GroupName]) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.instance_groups WHERE instance_id = $1", .text(id))
        try insertGroups(tx, id: id, groups)
    }

    private static func insertGroups(_ tx: Transaction, id: String, _ groups: [GroupName]) throws(CloudError) {
        for (ordinal, group) in groups.enumerated() {
            try tx.execute(
                "INSERT INTO cloud.instance_groups (instance_id, ordinal, group_id, group_name) VALUES ($1, $2, $3, $4)", .text(id),
                SQLValue(ordinal), .text(group.id), .text(group.name))
        }
    }

    static func insert(_ tx: Transaction, _ i: InstanceRow, groups: [GroupName]) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.instances (id, reservation_id, account_id, launch_index, client_token, access_key_id, user_arn, image_id,
                kernel_id,
                ramdisk_id, architecture, instance_type, cores, memory_mib, disk_gib, key_name, public_key, user_data, zone, node,
                private_address, mac_address, created_at, launched_at, desired, generation, shutdown_behaviour, termination_protected,
                tokens_required, hop_limit, metadata_enabled, stop_protected)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
                $27, $28, $29, $30, $31, $32)
            """,
            .text(i.id), .text(i.reservationID), .text(i.accountID), SQLValue(i.launchIndex), .text(i.clientToken), .text(i.accessKeyID),
            .text(i.userARN), .text(i.imageID), SQLValue(i.kernelID), SQLValue(i.ramdiskID), .text(i.architecture), .text(i.instanceType),
            SQLValue(i.cores), SQLValue(i.memoryMiB), SQLValue(i.diskGiB), SQLValue(i.keyName), .text(i.publicKey), .bytes(i.userData),
            .text(i.zone), .text(i.node), .text(i.privateAddress), .text(i.macAddress), .timestamp(i.createdAt), .timestamp(i.launchedAt),
            .text(i.desired.rawValue), .integer(i.generation), .text(i.shutdownBehaviour.rawValue), .boolean(i.terminationProtected),
            .boolean(i.tokensRequired), SQLValue(i.hopLimit), .boolean(i.metadataEnabled), .boolean(i.stopProtected))
        try insertGroups(tx, id: i.id, groups)
    }

    /// Changes the intent and raises the generation. `terminated` is final: a row that has it keeps it.
    /// - Parameter save: where its disk goes first; nil: nowhere.
    static func setDesired(
        _ tx: Transaction, id: String, _ desired: DesiredInstance, force: Bool = false, save: String? = nil, code: String, message: String,
        transition: String
    ) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET desired = $2, force = $3, generation = generation + 1, attempts = 0, retry_at = NULL,
                running_since = NULL, reason_code = $4, reason_message = $5, transition_reason = $6,
                save_state = CASE WHEN $7::text IS NULL THEN 'none' ELSE 'wanted' END, save_location = coalesce($7, '')
            WHERE id = $1 AND desired <> 'terminated' AND finished_at IS NULL
            """,
            .text(id), .text(desired.rawValue), .boolean(force), .text(code), .text(message), .text(transition), SQLValue(save))
        try tx.notify(NetworkStore.channel, "instance")
    }

    /// End it by force now, after a gentle order that may hang in the guest: a new command.
    static func setForce(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET force = true, generation = generation + 1 WHERE id = $1 AND NOT force AND finished_at IS NULL",
            .text(id))
        try tx.notify(NetworkStore.channel, "instance")
    }

    static func setStarted(_ tx: Transaction, id: String, now: Timestamp) throws(CloudError) {
        try setDesired(tx, id: id, .running, code: "", message: "", transition: "")
        try tx.execute("UPDATE cloud.instances SET launched_at = $2 WHERE id = $1", .text(id), .timestamp(now))
        // The cluster controller counts it from now on, even if it loses the reservation.
        try NetworkStore.changed(tx)
    }

    static func countReboot(_ tx: Transaction, id: String) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET reboot_count = reboot_count + 1 WHERE id = $1 AND desired = 'running' AND finished_at IS NULL",
            .text(id))
        try tx.notify(NetworkStore.channel, "instance")
    }

    /// Notes how far the saving of the disk is; raises the generation so that what follows is a new command for the node.
    static func setSave(_ tx: Transaction, id: String, _ save: SaveProgress) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET save_state = $2, generation = generation + 1 WHERE id = $1 AND finished_at IS NULL", .text(id),
            .text(save.rawValue))
        try tx.notify(NetworkStore.channel, "instance")
    }

    /// The disk could not be saved: the instance stays, stopped, with its disk, and says why. The only way back from `terminated`.
    static func keepAfterFailedSave(_ tx: Transaction, id: String, message: String) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET desired = 'stopped', save_state = 'failed', generation = generation + 1,
                reason_code = 'Server.SaveOnShutdownFailed', reason_message = $2, transition_reason = $2
            WHERE id = $1 AND finished_at IS NULL
            """,
            .text(id), .text(message))
        try tx.notify(NetworkStore.channel, "instance")
    }

    // MARK: what the reconciler notes; each is compare-and-set on the generation that it planned with

    /// The node's report. A report of an older command never overwrites that of a newer one.
    static func record(_ tx: Transaction, id: String, generation: Int64, _ facts: InstanceFacts, now: Timestamp) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET observed_state = $3, observed_generation = $4, observed_reboots = $5, observed_reason = $6,
                observed_at = $7,
                node_silent_since = NULL, has_run = has_run OR $3 = 'running',
                running_since = CASE WHEN $3 = 'running' THEN coalesce(running_since, $7) ELSE NULL END
            WHERE id = $1 AND generation = $2 AND observed_generation <= $4
                AND (observed_state, observed_generation, observed_reboots, observed_reason) IS DISTINCT FROM ($3, $4, $5::integer, $6)
            """,
            .text(id), .integer(generation), .text(facts.state.rawValue), .integer(facts.generation), SQLValue(facts.rebootCount),
            .text(facts.reason), .timestamp(now))
    }

    static func recordSilence(_ tx: Transaction, ids: [String], now: Timestamp) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET node_silent_since = $2 WHERE id = ANY($1) AND node_silent_since IS NULL", .textArray(ids),
            .timestamp(now))
    }

    static func recordAnswers(_ tx: Transaction, ids: [String]) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET node_silent_since = NULL WHERE id = ANY($1) AND node_silent_since IS NOT NULL", .textArray(ids))
    }

    /// The next attempt is not before this moment.
    static func setRetryAt(_ tx: Transaction, id: String, generation: Int64, at: Timestamp) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET retry_at = $3 WHERE id = $1 AND generation = $2", .text(id), .integer(generation), .timestamp(at))
    }

    /// One more attempt: a new generation.
    static func retry(_ tx: Transaction, id: String, generation: Int64, attempts: Int, reason: String) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET generation = generation + 1, attempts = $3, retry_at = NULL, running_since = NULL,
                reason_code = 'Server.Retrying',
                reason_message = $4
            WHERE id = $1 AND generation = $2
            """,
            .text(id), .integer(generation), SQLValue(attempts), .text(reason))
        try tx.notify(NetworkStore.channel, "instance")
    }

    static func overtake(_ tx: Transaction, id: String, generation: Int64, newest: Int64) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.instances SET generation = $3 WHERE id = $1 AND generation = $2", .text(id), .integer(generation),
            .integer(newest + 1))
    }

    /// It runs as it should: what was said about its start is over.
    static func clearReason(_ tx: Transaction, id: String, generation: Int64) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.instances SET reason_code = '', reason_message = ''
            WHERE id = $1 AND generation = $2 AND reason_code = 'Server.Retrying'
            """,
            .text(id), .integer(generation))
    }

    /// - Returns: whether this call closed the row (and so whoever called gives its addresses back).
    static func finish(_ tx: Transaction, id: String, generation: Int64, now: Timestamp) throws(CloudError) -> Bool {
        try tx.execute(
            "UPDATE cloud.instances SET finished_at = $3 WHERE id = $1 AND generation = $2 AND finished_at IS NULL", .text(id),
            .integer(generation), .timestamp(now)
        ).affected == 1
    }

    /// Rows that nobody can see any more.
    /// - Returns: their ids, for their tags.
    static func forget(_ tx: Transaction, now: Timestamp) throws(CloudError) -> [String] {
        try tx.execute(
            "DELETE FROM cloud.instances WHERE finished_at < $1 RETURNING id", .timestamp(now.adding(seconds: -2 * visibleSeconds))
        ).map { $0.text("id") }
    }

    private static func instance(_ r: Row) -> InstanceRow {
        var i = InstanceRow(
            id: r.text("id"), reservationID: r.text("reservation_id"), accountID: r.text("account_id"), launchIndex: r.int("launch_index"),
            clientToken: r.text("client_token"), accessKeyID: r.text("access_key_id"), userARN: r.text("user_arn"),
            imageID: r.text("image_id"),
            kernelID: r.optionalText("kernel_id"), ramdiskID: r.optionalText("ramdisk_id"), architecture: r.text("architecture"),
            instanceType: r.text("instance_type"), cores: r.int("cores"), memoryMiB: r.int("memory_mib"), diskGiB: r.int("disk_gib"),
            keyName: r.optionalText("key_name"), publicKey: r.text("public_key"), userData: r.bytes("user_data"), zone: r.text("zone"),
            node: r.text("node"), privateAddress: r.text("private_address"), macAddress: r.text("mac_address"),
            createdAt: r.timestamp("created_at"),
            shutdownBehaviour: ShutdownBehaviour(rawValue: r.text("shutdown_behaviour")) ?? .terminate,
            terminationProtected: r.bool("termination_protected"), tokensRequired: r.bool("tokens_required"), hopLimit: r.int("hop_limit"),
            metadataEnabled: r.bool("metadata_enabled"))
        i.stopProtected = r.bool("stop_protected")
        i.launchedAt = r.timestamp("launched_at")
        i.desired = DesiredInstance(rawValue: r.text("desired")) ?? .running
        i.generation = r.int64("generation")
        i.rebootCount = r.int("reboot_count")
        i.attempts = r.int("attempts")
        i.force = r.bool("force")
        i.save = SaveProgress(rawValue: r.text("save_state")) ?? .none
        i.saveLocation = r.text("save_location")
        if let state = r.optionalText("observed_state").flatMap({ NodeInstanceState(rawValue: $0) }) {
            i.facts = InstanceFacts(
                state, generation: r.int64("observed_generation"), rebootCount: r.int("observed_reboots"), reason: r.text("observed_reason")
            )
        }
        i.hasRun = r.bool("has_run")
        i.runningSince = r.optionalTimestamp("running_since")
        i.nodeSilentSince = r.optionalTimestamp("node_silent_since")
        i.retryAt = r.optionalTimestamp("retry_at")
        i.reasonCode = r.text("reason_code")
        i.reasonMessage = r.text("reason_message")
        i.transitionReason = r.text("transition_reason")
        i.finishedAt = r.optionalTimestamp("finished_at")
        return i
    }
}
