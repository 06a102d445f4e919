public import Domain
import Wire

/// The node's memory: what it was told, on disk before it is answered. After a kill the node reads it again and goes on; nothing else of
/// the node's state has to survive.
///
/// Updates are one at a time: changed in a copy, written, and only then visible. A write that fails (a full disk) changes nothing,
/// and the command that wanted it is refused.
public actor Journal {
    private let storage: any JournalStorage
    private let turn = Gate(1)
    private var instances: [String: InstanceRecord] = [:]
    private var bundles: [String: BundleRecord] = [:]
    /// How often the node was started on this journal.
    public private(set) var startCount = 0

    /// How long a tombstone is kept at least. Too low: a command that was long on its way makes a terminated instance again; too
    /// high: nothing but a small file each.
    public static let tombstoneSeconds: Int64 = 2 * 86_400

    private enum Room {
        static let instances = "instances"
        static let bundles = "bundles"
        static let node = "node"
    }

    public init(storage: any JournalStorage) { self.storage = storage }

    /// Reads everything and counts the start.
    /// - Returns: what could not be read, for the log. A damaged record is left where it is, and its instance is then "unknown":
    /// reported and
    ///   not touched.
    public func open() async throws(CloudError) -> [String] {
        var damaged: [String] = []
        for (name, bytes) in try await storage.load(Room.instances) {
            do throws(CloudError) {
                let record = try InstanceRecord(recordValue: RecordText.decode(bytes))
                instances[record.instanceID] = record
            } catch { damaged.append("\(Room.instances)/\(name): \(error.message) \(error.context)") }
        }
        for (name, bytes) in try await storage.load(Room.bundles) {
            do throws(CloudError) {
                let record = try BundleRecord(recordValue: RecordText.decode(bytes))
                bundles[record.taskID] = record
            } catch { damaged.append("\(Room.bundles)/\(name): \(error.message) \(error.context)") }
        }
        if let bytes = try await storage.load(Room.node)["node"], let fields = try? RecordText.decode(bytes).fields() {
            startCount = (try? fields.integer("startCount")) ?? 0
        }
        startCount += 1
        try await storage.save(Room.node, "node", RecordText.encode(.record(["startCount": .integer(startCount)])))
        return damaged
    }

    // MARK: Instances

    public func instance(_ id: String) -> InstanceRecord? { instances[id] }
    public func allInstances() -> [InstanceRecord] { instances.values.sorted { $0.instanceID < $1.instanceID } }

    /// Changes the record of `id` (`nil`: there is none) by `body`; durable when it returns. `body` may refuse by throwing: nothing
    /// is changed.
    /// - Returns: the record as it is now; `nil` when there is none.
    @discardableResult
    public func update(
        _ id: String, _ body: @Sendable (inout InstanceRecord?) throws(CloudError) -> Void
    ) async throws(CloudError) -> InstanceRecord? {
        await turn.enter()
        do throws(CloudError) {
            var record = instances[id]
            try body(&record)
            if record != instances[id] {
                if let record {
                    try await storage.save(Room.instances, id, RecordText.encode(record.recordValue))
                } else {
                    try await storage.remove(Room.instances, id)
                }
                instances[id] = record
            }
            await turn.leave()
            return record
        } catch {
            await turn.leave()
            throw error
        }
    }

    /// Forgets tombstones that are old enough.
    public func expire(now: Timestamp) async throws(CloudError) {
        let limit = now.adding(seconds: -Self.tombstoneSeconds)
        for record in instances.values {
            if let ended = record.endedAt, ended < limit {
                try await update(record.instanceID) { $0 = nil }
            } else if record.volumes.contains(where: { ($0.detachedAt ?? now) < limit }) {
                try await update(record.instanceID) { $0?.volumes.removeAll { ($0.detachedAt ?? now) < limit } }
            }
        }
    }

    // MARK: Bundles

    public func bundle(_ id: String) -> BundleRecord? { bundles[id] }
    public func allBundles() -> [BundleRecord] { bundles.values.sorted { $0.taskID < $1.taskID } }

    @discardableResult
    public func updateBundle(
        _ id: String, _ body: @Sendable (inout BundleRecord?) throws(CloudError) -> Void
    ) async throws(CloudError) -> BundleRecord? {
        await turn.enter()
        do throws(CloudError) {
            var record = bundles[id]
            try body(&record)
            if record != bundles[id] {
                if let record {
                    try await storage.save(Room.bundles, id, RecordText.encode(record.recordValue))
                } else {
                    try await storage.remove(Room.bundles, id)
                }
                bundles[id] = record
            }
            await turn.leave()
            return record
        } catch {
            await turn.leave()
            throw error
        }
    }
}
