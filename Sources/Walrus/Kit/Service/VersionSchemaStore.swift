import Database

extension SchemaStore {
    /// Versions, delete markers and object locks (decision 9).
    ///
    /// One table holds all versions. A *live* row is the current version of its key and no delete marker: what GET, PUT and lists of
    /// an unversioned bucket see. Every other row (old versions, and delete markers, current ones too) is not live. Each kind has
    /// indexes of its own, so that a page of a list never meets an old version or a marker, and an unversioned PUT keeps one index
    /// entry as before. There is no foreign key to `buckets`, whose check would need an index over all rows: an insert locks the
    /// bucket's row itself (`ObjectStore.objectInsert`), and `BucketStore.bucketDelete` looks for rows under the stronger lock.
    static let versions = Migration(
        2,
        """
        ALTER TABLE walrus.buckets
            ADD versioning smallint NOT NULL DEFAULT 0 CHECK (versioning BETWEEN 0 AND 2),
            ADD lock_enabled boolean NOT NULL DEFAULT false,
            ADD lock_mode text,
            ADD lock_days integer,
            ADD lock_years integer;

        -- Orders the rows of a key that are not live: the greater, the newer. Taken when a row ceases to be live, and by markers.
        CREATE SEQUENCE walrus.version_sequence;

        ALTER TABLE walrus.objects
            DROP CONSTRAINT objects_pkey,
            DROP CONSTRAINT objects_bucket_fkey,
            DROP CONSTRAINT objects_check,
            ADD version text COLLATE "C" NOT NULL DEFAULT 'null',
            ADD sequence bigint NOT NULL DEFAULT 0,
            ADD live boolean NOT NULL DEFAULT true,
            ADD marker boolean NOT NULL DEFAULT false,
            ADD retain_mode text,
            ADD retain_until bigint,
            ADD legal_hold boolean,
            ADD CONSTRAINT objects_content CHECK (num_nonnulls(inline, blob, upload) = CASE WHEN marker THEN 0 ELSE 1 END),
            ADD CONSTRAINT objects_marker CHECK (NOT (marker AND live));
        CREATE UNIQUE INDEX objects_live ON walrus.objects (bucket, key) WHERE live;
        CREATE UNIQUE INDEX objects_old ON walrus.objects (bucket, key, sequence DESC) WHERE NOT live;
        CREATE UNIQUE INDEX objects_old_version ON walrus.objects (bucket, key, version) WHERE NOT live;

        ALTER TABLE walrus.uploads ADD completed_version text, ADD retain_mode text, ADD retain_until bigint, ADD legal_hold boolean;

        -- As in migration 1, over live rows.
        CREATE OR REPLACE FUNCTION walrus.page(of_bucket bigint, prefix bytea, delimiter bytea, reach bytea, upto integer)
        RETURNS TABLE (entry bytea, is_prefix boolean, size bigint, etag text, modified bigint, account text, storage_class text,
            checksum_algorithm text, checksum_type text)
        LANGUAGE plpgsql STABLE
        SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
        DECLARE
            low bytea := CASE WHEN reach > prefix THEN reach ELSE prefix END;
            high bytea := CASE WHEN length(prefix) = 0 THEN '\\xff'::bytea
                ELSE set_byte(prefix, length(prefix) - 1, get_byte(prefix, length(prefix) - 1) + 1) END;
            found_at integer;
            emitted integer := 0;
            skipped boolean;
            o record;
        BEGIN
            WHILE emitted < upto LOOP
                skipped := false;
                FOR o IN
                    SELECT t.key, t.size, t.etag, t.modified, t.account, t.storage_class, t.checksum_algorithm, t.checksum_type
                    FROM walrus.objects t WHERE t.bucket = of_bucket AND t.live AND t.key >= low AND t.key < high ORDER BY t.key
                    LIMIT 1001
                LOOP
                    found_at := CASE WHEN length(delimiter) = 0 THEN 0
                        ELSE position(delimiter IN substring(o.key FROM length(prefix) + 1)) END;
                    emitted := emitted + 1;
                    IF found_at > 0 THEN
                        entry := substring(o.key FROM 1 FOR length(prefix) + found_at - 1 + length(delimiter));
                        is_prefix := true; size := NULL; etag := NULL; modified := NULL; account := NULL; storage_class := NULL;
                        checksum_algorithm := NULL; checksum_type := NULL;
                        RETURN NEXT;
                        low := set_byte(entry, length(entry) - 1, get_byte(entry, length(entry) - 1) + 1);
                        skipped := true;
                        EXIT;
                    END IF;
                    entry := o.key; is_prefix := false; size := o.size; etag := o.etag; modified := o.modified; account := o.account;
                    storage_class := o.storage_class; checksum_algorithm := o.checksum_algorithm; checksum_type := o.checksum_type;
                    RETURN NEXT;
                    EXIT WHEN emitted >= upto;
                END LOOP;
                EXIT WHEN NOT skipped;
            END LOOP;
        END $$;
        """)
}
