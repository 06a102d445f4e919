public import Database
public import Domain
public import Workflow

/// One bundling of an instance's disk: asked for by BundleInstance, or due when the instance ends (`karri:save-on-shutdown`).
public struct BundleTask: Sendable, Equatable {
    public let id: String
    public let accountID: String
    public let instanceID: String
    public let bucket: String
    public let prefix: String
    /// The owner's access key: the parts are written with the owner's rights, never with the cloud's.
    public let accessKeyID: String
    public let forShutdown: Bool
    public let startedAt: Timestamp
    public var state: BundleTaskState = .pending
    public var progress = 0
    public var errorCode = ""
    public var errorMessage = ""
    public var cancelled = false
    public var imageID = ""
    public var updatedAt: Timestamp
    public var finishedAt: Timestamp?

    public init(
        id: String, accountID: String, instanceID: String, bucket: String, prefix: String, accessKeyID: String, forShutdown: Bool,
        startedAt: Timestamp
    ) {
        self.id = id
        self.accountID = accountID
        self.instanceID = instanceID
        self.bucket = bucket
        self.prefix = prefix
        self.accessKeyID = accessKeyID
        self.forShutdown = forShutdown
        self.startedAt = startedAt
        updatedAt = startedAt
    }
}

/// The rows of bundle tasks, all in the caller's transaction.
public enum BundleTaskStore {
    /// How long a finished task can be described.
    static let visibleSeconds: Int64 = 24 * 3600

    static func fetch(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> BundleTask {
        let rows = try tx.execute("SELECT * FROM cloud.bundle_tasks WHERE id = $1 AND account_id = $2", .text(id), .text(accountID))
        guard let row = rows.first else { throw CloudError(.notFound(.bundleTask, id: id)) }
        return task(row)
    }

    static func list(_ tx: Transaction, accountID: String, ids: [String]?, now: Timestamp) throws(CloudError) -> [BundleTask] {
        let rows = try tx.execute(
            """
            SELECT * FROM cloud.bundle_tasks
            WHERE account_id = $1 AND (finished_at IS NULL OR finished_at > $2) AND ($3::text[] IS NULL OR id = ANY($3))
            ORDER BY started_at, id
            """,
            .text(accountID), .timestamp(now.adding(seconds: -visibleSeconds)), SQLValue(ids)
        ).map { task($0) }
        if let ids {
            let found = Set(rows.map(\.id))
            let missing = ids.filter { !found.contains($0) }
            guard missing.isEmpty else { throw CloudError(.notFound(.bundleTask, id: missing.joined(separator: ", "))) }
        }
        return rows
    }

    /// The task of an instance that is not over; there is at most one.
    static func openTask(_ tx: Transaction, instanceID: String) throws(CloudError) -> BundleTask? {
        try tx.execute("SELECT * FROM cloud.bundle_tasks WHERE instance_id = $1 AND finished_at IS NULL", .text(instanceID)).first.map {
            task($0)
        }
    }

    static func open(_ tx: Transaction) throws(CloudError) -> [BundleTask] {
        try tx.execute("SELECT * FROM cloud.bundle_tasks WHERE finished_at IS NULL ORDER BY started_at, id").map { task($0) }
    }

    static func insert(_ tx: Transaction, _ t: BundleTask) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.bundle_tasks (id, account_id, instance_id, bucket, prefix, access_key_id, for_shutdown, state,
                started_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
            """,
            .text(t.id), .text(t.accountID), .text(t.instanceID), .text(t.bucket), .text(t.prefix), .text(t.accessKeyID),
            .boolean(t.forShutdown), .text(t.state.rawValue), .timestamp(t.startedAt))
        try tx.notify(NetworkStore.channel, "bundle")
    }

    static func setProgress(_ tx: Transaction, id: String, _ state: BundleTaskState, progress: Int, now: Timestamp) throws(CloudError) {
        try tx.execute(
            """
            UPDATE cloud.bundle_tasks SET state = $2, progress = $3, updated_at = $4
            WHERE id = $1 AND finished_at IS NULL AND (state, progress) IS DISTINCT FROM ($2, $3::integer)
            """,
            .text(id), .text(state.rawValue), SQLValue(progress), .timestamp(now))
    }

    static func cancel(_ tx: Transaction, id: String, now: Timestamp) throws(CloudError) {
        try tx.execute(
            "UPDATE cloud.bundle_tasks SET cancelled = true, state = 'cancelling', updated_at = $2 WHERE id = $1 AND finished_at IS NULL",
            .text(id), .timestamp(now))
        try tx.notify(NetworkStore.channel, "bundle")
    }

    /// - Returns: whether this call closed the row.
    static func finish(
        _ tx: Transaction, id: String, imageID: String, errorCode: String, errorMessage: String, now: Timestamp
    ) throws(CloudError) -> Bool {
        try tx.execute(
            """
            UPDATE cloud.bundle_tasks SET state = CASE WHEN $3 = '' THEN 'complete' ELSE 'failed' END,
                progress = CASE WHEN $3 = '' THEN 100 ELSE progress END, image_id = $2, error_code = $3, error_message = $4,
                    updated_at = $5,
                finished_at = $5
            WHERE id = $1 AND finished_at IS NULL
            """,
            .text(id), .text(imageID), .text(errorCode), .text(errorMessage), .timestamp(now)
        ).affected == 1
    }

    /// Tasks that cannot be described any more, with their sagas' events.
    static func forget(_ tx: Transaction, now: Timestamp) throws(CloudError) {
        let moment = now.adding(seconds: -2 * visibleSeconds)
        try tx.execute(
            "DELETE FROM cloud.saga_events WHERE saga_id IN (SELECT id FROM cloud.bundle_tasks WHERE finished_at < $1)", .timestamp(moment))
        try tx.execute("DELETE FROM cloud.bundle_tasks WHERE finished_at < $1", .timestamp(moment))
    }

    private static func task(_ r: Row) -> BundleTask {
        var t = BundleTask(
            id: r.text("id"), accountID: r.text("account_id"), instanceID: r.text("instance_id"), bucket: r.text("bucket"),
            prefix: r.text("prefix"),
            accessKeyID: r.text("access_key_id"), forShutdown: r.bool("for_shutdown"), startedAt: r.timestamp("started_at"))
        t.state = BundleTaskState(rawValue: r.text("state")) ?? .pending
        t.progress = r.int("progress")
        t.errorCode = r.text("error_code")
        t.errorMessage = r.text("error_message")
        t.cancelled = r.bool("cancelled")
        t.imageID = r.text("image_id")
        t.updatedAt = r.timestamp("updated_at")
        t.finishedAt = r.optionalTimestamp("finished_at")
        return t
    }
}

/// The events of sagas in `cloud.saga_events`.
public struct SagaEventStore: SagaLog {
    private let pool: DatabasePool
    private let clock: any Workflow.Clock
    public init(pool: DatabasePool, clock: any Workflow.Clock) {
        self.pool = pool
        self.clock = clock
    }

    public func sagaEvents(_ id: String) async throws(CloudError) -> [SagaEvent] {
        try await pool.read { tx in
            try tx.execute("SELECT * FROM cloud.saga_events WHERE saga_id = $1 ORDER BY ordinal", .text(id)).compactMap { row in
                let step = row.int("step")
                let facts = Dictionary(
                    zip(row.textArray("fact_names"), row.textArray("fact_values")).map { ($0, $1) }, uniquingKeysWith: { first, _ in first }
                )
                switch row.text("kind") {
                case "started": return .started(step: step, facts: facts)
                case "succeeded": return .succeeded(step: step, facts: facts)
                case "failed": return .failed(step: step, message: row.text("message"))
                case "undone": return .undone(step: step)
                default: return nil
                }
            }
        }
    }

    public func sagaAppend(_ id: String, _ event: SagaEvent) async throws(CloudError) {
        let kind: String
        let at: Int
        var facts: SagaFacts = [:]
        var message = ""
        switch event {
        case .started(let step, let known): (kind, at, facts) = ("started", step, known)
        case .succeeded(let step, let known): (kind, at, facts) = ("succeeded", step, known)
        case .failed(let step, let why): (kind, at, message) = ("failed", step, why)
        case .undone(let step): (kind, at) = ("undone", step)
        }
        let now = clock.now()
        let names = facts.keys.sorted()
        let values = names.map { facts[$0] ?? "" }
        try await pool.transaction { [message] tx in
            try tx.execute(
                """
                INSERT INTO cloud.saga_events (saga_id, ordinal, kind, step, fact_names, fact_values, message, at)
                SELECT $1, coalesce(max(ordinal), 0) + 1, $2, $3::integer, $4, $5, $6, $7::bigint FROM cloud.saga_events WHERE saga_id = $1
                """,
                .text(id), .text(kind), SQLValue(at), .textArray(names), .textArray(values), .text(message), .timestamp(now))
        }
    }
}
