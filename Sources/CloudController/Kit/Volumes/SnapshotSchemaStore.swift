enum SnapshotSchema {
    /// Who beside the owner may make volumes of a snapshot: accounts, or `all`.
    static let migration: [String] = [
        "",
        """
        CREATE TABLE cloud.snapshot_permissions (
            snapshot_id text NOT NULL REFERENCES cloud.snapshots ON DELETE CASCADE, value text NOT NULL, PRIMARY KEY (snapshot_id, value));
        CREATE INDEX snapshot_permissions_value ON cloud.snapshot_permissions (value);
        """,
    ]
}
