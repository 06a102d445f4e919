enum ImageSchema {
    /// A deregistered image keeps its row: instances that run of it are started again of it.
    /// `image_attributes`: kind `launch` (value: an account, or `all`), `product-code` (value: the code).
    static let migration: [String] = [
        """
        CREATE TABLE cloud.images (
            id text PRIMARY KEY, account_id text NOT NULL, name text, location text NOT NULL, bucket text NOT NULL,
            role text NOT NULL, format text NOT NULL, architecture text NOT NULL, kernel_id text, ramdisk_id text,
            description text NOT NULL DEFAULT '', root_device_name text NOT NULL, virtualization_type text NOT NULL,
            device_names text[] NOT NULL DEFAULT '{}', virtual_names text[] NOT NULL DEFAULT '{}',
            digest text NOT NULL, cache_key text NOT NULL, size bigint NOT NULL, virtual_size bigint NOT NULL, bundled_size bigint NOT NULL,
            encrypted_key text, encrypted_iv text, source_instance_id text,
            part_keys text[] NOT NULL, part_sizes text[] NOT NULL, part_digests text[] NOT NULL,
            created_at bigint NOT NULL, deregistered_at bigint);
        CREATE INDEX images_account ON cloud.images (account_id) WHERE deregistered_at IS NULL;
        CREATE UNIQUE INDEX images_name ON cloud.images (account_id, name) WHERE deregistered_at IS NULL AND name IS NOT NULL;
        CREATE TABLE cloud.image_attributes (
            image_id text NOT NULL REFERENCES cloud.images ON DELETE CASCADE, kind text NOT NULL, value text NOT NULL,
            PRIMARY KEY (image_id, kind, value));
        """,
        """
        ALTER TABLE cloud.images ADD COLUMN deprecate_at bigint, ADD COLUMN deregistration_protected boolean NOT NULL DEFAULT false;
        """,
    ]
}
