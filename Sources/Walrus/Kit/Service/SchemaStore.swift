import Database

/// The tables of Walrus: schema `walrus`.
///
/// Keys are `bytea`, whose order is that of the bytes, which is S3's order (and that of `COLLATE "C"`), and which can hold U+0000.
/// `blob` columns name files; the row that holds the name owns the file. A name that loses its row goes to `garbage` in the same
/// transaction, so that no file is ever without an owner but in `incoming` (see `ObjectBytes`).
enum SchemaStore {
    static let name = "walrus"

    static let migrations: [Migration] = [
        Migration(
            1,
            """
            CREATE TABLE walrus.buckets (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                name text COLLATE "C" NOT NULL UNIQUE,
                account text NOT NULL,
                region text NOT NULL,
                created bigint NOT NULL,
                grants text[] NOT NULL,
                tags text[] NOT NULL DEFAULT '{}'
            );
            CREATE INDEX buckets_account ON walrus.buckets (account, name);

            CREATE TABLE walrus.objects (
                bucket bigint NOT NULL REFERENCES walrus.buckets (id),
                key bytea NOT NULL,
                size bigint NOT NULL CHECK (size >= 0),
                etag text NOT NULL,
                modified bigint NOT NULL,
                account text NOT NULL,
                grants text[] NOT NULL,
                headers text[] NOT NULL,
                metadata text[] NOT NULL,
                tags text[] NOT NULL DEFAULT '{}',
                storage_class text NOT NULL DEFAULT 'STANDARD',
                checksum_algorithm text,
                checksum_type text,
                checksum text,
                part_count integer NOT NULL DEFAULT 0,
                inline bytea,
                blob text,
                upload bigint,
                PRIMARY KEY (bucket, key),
                CHECK (num_nonnulls(inline, blob, upload) = 1)
            );
            -- Inline bytes are hashes and archives as often as text: compressing them costs more than it saves.
            ALTER TABLE walrus.objects ALTER inline SET STORAGE EXTERNAL;
            CREATE INDEX objects_blob ON walrus.objects (blob) WHERE blob IS NOT NULL;
            CREATE INDEX objects_upload ON walrus.objects (upload) WHERE upload IS NOT NULL;

            CREATE TABLE walrus.uploads (
                number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                id text COLLATE "C" NOT NULL UNIQUE,
                bucket bigint NOT NULL REFERENCES walrus.buckets (id),
                key bytea NOT NULL,
                account text NOT NULL,
                initiator text NOT NULL,
                created bigint NOT NULL,
                grants text[] NOT NULL,
                headers text[] NOT NULL,
                metadata text[] NOT NULL,
                tags text[] NOT NULL DEFAULT '{}',
                storage_class text NOT NULL DEFAULT 'STANDARD',
                checksum_algorithm text,
                checksum_type text,
                -- Set by CompleteMultipartUpload, so that a repeated Complete whose answer was lost gets the same answer.
                completed bigint,
                completed_etag text,
                completed_checksum text
            );
            CREATE INDEX uploads_listing ON walrus.uploads (bucket, key, id) WHERE completed IS NULL;
            CREATE INDEX uploads_completed ON walrus.uploads (completed) WHERE completed IS NOT NULL;

            -- The parts of uploads that run and of the objects that uploads became (then with their place in the object).
            CREATE TABLE walrus.parts (
                upload bigint NOT NULL,
                number integer NOT NULL,
                blob text NOT NULL,
                size bigint NOT NULL CHECK (size >= 0),
                etag text NOT NULL,
                modified bigint NOT NULL,
                checksum_algorithm text,
                checksum text,
                start bigint NOT NULL DEFAULT 0,
                PRIMARY KEY (upload, number)
            );
            CREATE UNIQUE INDEX parts_blob ON walrus.parts (blob);

            CREATE TABLE walrus.garbage (
                blob text PRIMARY KEY,
                since bigint NOT NULL
            );
            CREATE INDEX garbage_since ON walrus.garbage (since);

            -- A page of a bucket's list: plain keys and, with a delimiter, common prefixes. A common prefix costs one index probe
            -- however many keys it holds: the scan goes on behind it. `reach` is the first possible key; the last byte of UTF-8 text
            -- is never 255, so adding one to it cannot overflow. `upto` is at most 1001, the LIMIT of a scan.
            CREATE FUNCTION walrus.page(of_bucket bigint, prefix bytea, delimiter bytea, reach bytea, upto integer)
            RETURNS TABLE (entry bytea, is_prefix boolean, size bigint, etag text, modified bigint, account text, storage_class text,
                checksum_algorithm text, checksum_type text)
            LANGUAGE plpgsql STABLE
            -- Only the walk along the primary key stops early: a plan that sorts reads the whole bucket first.
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
                        FROM walrus.objects t WHERE t.bucket = of_bucket AND t.key >= low AND t.key < high ORDER BY t.key
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
            """),
        versions,
        ConfigurationStore.migration,
        NotificationStore.migration,
        encryption,
        guarding,
    ]
}
