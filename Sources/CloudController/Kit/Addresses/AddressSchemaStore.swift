enum AddressSchema {
    /// A row is an address that is taken; what has no row is free. `allocation_id` is set for elastic ones; the others belong to their
    /// instance and go with it. `transient_due`: the instance had a transient address before this elastic one and gets one again after it.
    static let migration: [String] = [
        """
        CREATE TABLE cloud.addresses (
            value bigint PRIMARY KEY, address text NOT NULL UNIQUE, account_id text, allocation_id text UNIQUE,
            domain text NOT NULL DEFAULT 'vpc',
            instance_id text UNIQUE, association_id text UNIQUE, transient_due boolean NOT NULL DEFAULT false,
            CHECK (allocation_id IS NOT NULL OR instance_id IS NOT NULL), CHECK ((allocation_id IS NULL) = (account_id IS NULL)));
        CREATE INDEX addresses_account ON cloud.addresses (account_id);
        CREATE TABLE cloud.private_addresses (
            value bigint PRIMARY KEY, address text NOT NULL UNIQUE, instance_id text NOT NULL UNIQUE);
        """
    ]
}
