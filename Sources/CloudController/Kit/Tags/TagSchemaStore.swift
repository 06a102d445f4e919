enum TagSchema {
    static let migration: [String] = [
        """
        CREATE TABLE cloud.tags (
            resource_id text NOT NULL, key text NOT NULL, value text NOT NULL, account_id text NOT NULL, resource_type text NOT NULL,
            PRIMARY KEY (resource_id, key));
        CREATE INDEX tags_account ON cloud.tags (account_id);
        """
    ]
}
