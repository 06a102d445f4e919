public import Database
public import Domain

/// The rows of the Storage Controller: schema `storage`. What should be stands here, and how far it has come; the bytes are the backend's.
public struct StorageStore: Sendable {
    let pool: DatabasePool

    public init(pool: DatabasePool) { self.pool = pool }

    public func migrate() async throws(CloudError) { try await pool.migrate(schema: "storage", Self.migrations) }

    static let gibibyte = 1 << 30

    /// Refuses what does not fit, inside the transaction that would take the space.
    ///
    /// Everything is reserved in full: a sparse volume's size, and a volume's size again for each snapshot on its way. So a guest never
    /// meets a full disk because of us; `space` (the medium's, asked for just before) tells what others left of it.
    static func reserve(
        _ t: Transaction, _ resource: Shortage.Resource, askedGiB: Int, capacityGiB: Int, space: BlockSpace, place: String
    ) throws(CloudError) {
        let row = try t.execute(
            """
            SELECT (SELECT coalesce(sum(size_gib), 0) FROM storage.volumes WHERE state <> 'deleted') +
                (SELECT coalesce(sum(size_gib), 0) FROM storage.snapshots WHERE state IN ('accepted', 'capturing', 'uploading')) AS taken
            """)[0]
        let taken = row.int("taken")
        let promised = max(0, taken * gibibyte - space.used)
        let onDisk = max(0, space.free - promised) / gibibyte
        let free = max(0, min(capacityGiB - taken, onDisk))
        guard askedGiB <= free else {
            let limit = capacityGiB - taken <= onDisk ? capacityGiB : min(capacityGiB, space.total / gibibyte)
            throw CloudError(
                .capacity(Shortage(resource, [Shortage.Place(place, resource, asked: askedGiB, free: free, limit: limit)])))
        }
    }

    /// For `DescribeCapacity`.
    func capacity() async throws(CloudError) -> (takenGiB: Int, volumes: Int, snapshots: Int) {
        try await pool.read { t in
            let row = try t.execute(
                """
                SELECT (SELECT coalesce(sum(size_gib), 0) FROM storage.volumes WHERE state <> 'deleted') +
                    (SELECT coalesce(sum(size_gib), 0) FROM storage.snapshots
                        WHERE state IN ('accepted', 'capturing', 'uploading')) AS taken,
                    (SELECT count(*) FROM storage.volumes WHERE state <> 'deleted') AS volumes,
                    (SELECT count(*) FROM storage.snapshots WHERE state <> 'deleted') AS snapshots
                """)[0]
            return (row.int("taken"), row.int("volumes"), row.int("snapshots"))
        }
    }

    /// Forgets what was deleted so long ago that no command about it can still be on its way.
    func tombstonesPurge(before moment: Timestamp) async throws(CloudError) {
        try await pool.transaction { t in
            try t.execute("DELETE FROM storage.volumes WHERE state = 'deleted' AND updated < $1", .timestamp(moment))
            try t.execute("DELETE FROM storage.snapshots WHERE state = 'deleted' AND updated < $1", .timestamp(moment))
            try t.execute("DELETE FROM storage.exports WHERE revoked AND updated < $1", .timestamp(moment))
        }
    }

    private static let migrations = [
        Migration(
            1,
            """
            CREATE TABLE storage.volumes (
                id text PRIMARY KEY, size_gib integer NOT NULL, snapshot text, deleted boolean NOT NULL DEFAULT false,
                generation bigint NOT NULL, error text NOT NULL DEFAULT '', updated bigint NOT NULL,
                state text NOT NULL CHECK (state IN ('creating', 'available', 'failed', 'deleted')));
            CREATE INDEX ON storage.volumes (state);
            CREATE TABLE storage.snapshots (
                id text PRIMARY KEY, volume text NOT NULL, size_gib integer NOT NULL, deleted boolean NOT NULL DEFAULT false,
                generation bigint NOT NULL, error text NOT NULL DEFAULT '', updated bigint NOT NULL, progress integer NOT NULL DEFAULT 0,
                sha256 text, bytes bigint, parts_sent integer NOT NULL DEFAULT 0,
                state text NOT NULL CHECK (state IN ('accepted', 'capturing', 'uploading', 'completed', 'failed', 'deleted')));
            CREATE INDEX ON storage.snapshots (state);
            CREATE TABLE storage.exports (
                attachment text PRIMARY KEY, volume text NOT NULL, secret text NOT NULL, node text NOT NULL,
                revoked boolean NOT NULL DEFAULT false, updated bigint NOT NULL);
            CREATE INDEX ON storage.exports (volume) WHERE NOT revoked;
            """)
    ]
}
