enum KeyPairSchema {
    static let migration: [String] = [
        """
        CREATE TABLE cloud.key_pairs (
            id text PRIMARY KEY, account_id text NOT NULL, name text NOT NULL, type text NOT NULL, fingerprint text NOT NULL,
            public_key text NOT NULL, created_at bigint NOT NULL, UNIQUE (account_id, name));
        """
    ]
}
