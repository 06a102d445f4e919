public import Database

/// The history of the controller's own tables (schema `cloud`). Moments are milliseconds since 1970. Nothing here stores a state that
/// a client sees: rows hold intent (`desired`, `generation`) and the last report (`observed_*`), and the state is derived in Domain.
public enum CoreSchema {
    public static let name = "cloud"
    public static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE cloud.counters (name text PRIMARY KEY, value bigint NOT NULL);
                INSERT INTO cloud.counters VALUES ('network', 1), ('cluster', 1);

                CREATE TABLE cloud.components (
                    role text NOT NULL, name text NOT NULL, zone text NOT NULL, endpoint text NOT NULL, registered_at bigint NOT NULL,
                    PRIMARY KEY (role, name));

                CREATE TABLE cloud.instance_types (
                    name text PRIMARY KEY, cores integer NOT NULL CHECK (cores > 0), memory_mib integer NOT NULL CHECK (memory_mib > 0),
                    disk_gib integer NOT NULL CHECK (disk_gib > 0), ordinal integer NOT NULL);
                INSERT INTO cloud.instance_types (ordinal, name, cores, memory_mib, disk_gib) VALUES
                    (10, 't1.micro', 1, 128, 1), (20, 't2.nano', 1, 512, 8), (21, 't2.micro', 1, 1024, 8),
                    (22, 't2.small', 1, 2048, 16), (23, 't2.medium', 2, 4096, 20), (24, 't2.large', 2, 8192, 40),
                    (30, 't3.nano', 2, 512, 8), (31, 't3.micro', 2, 1024, 8), (32, 't3.small', 2, 2048, 16),
                    (33, 't3.medium', 2, 4096, 20), (40, 'm1.small', 1, 256, 2), (41, 'm1.medium', 1, 512, 4),
                    (42, 'm1.large', 2, 1024, 8), (43, 'm1.xlarge', 2, 2048, 16), (50, 'c1.medium', 2, 512, 4),
                    (51, 'c1.xlarge', 4, 2048, 16), (60, 'm3.medium', 1, 3840, 16), (61, 'm3.large', 2, 7680, 32),
                    (62, 'm3.xlarge', 4, 15360, 80), (63, 'm3.2xlarge', 8, 30720, 160), (70, 'm5.large', 2, 8192, 40),
                    (71, 'm5.xlarge', 4, 16384, 80), (72, 'm5.2xlarge', 8, 32768, 160), (80, 'c5.large', 2, 4096, 20),
                    (81, 'c5.xlarge', 4, 8192, 40), (82, 'c5.2xlarge', 8, 16384, 80), (90, 'r5.large', 2, 16384, 40),
                    (91, 'r5.xlarge', 4, 32768, 80);

                CREATE TABLE cloud.client_tokens (
                    account_id text NOT NULL, action text NOT NULL, token text NOT NULL, request_hash text NOT NULL, result text NOT NULL,
                    created_at bigint NOT NULL, PRIMARY KEY (account_id, action, token));

                CREATE TABLE cloud.instances (
                    id text PRIMARY KEY, reservation_id text NOT NULL, account_id text NOT NULL, launch_index integer NOT NULL,
                    client_token text NOT NULL DEFAULT '', access_key_id text NOT NULL DEFAULT '', user_arn text NOT NULL DEFAULT '',
                    image_id text NOT NULL, kernel_id text, ramdisk_id text, architecture text NOT NULL,
                    instance_type text NOT NULL, cores integer NOT NULL, memory_mib integer NOT NULL, disk_gib integer NOT NULL,
                    key_name text, public_key text NOT NULL DEFAULT '', user_data bytea NOT NULL DEFAULT '',
                    zone text NOT NULL, node text NOT NULL, private_address text NOT NULL, mac_address text NOT NULL,
                    created_at bigint NOT NULL, launched_at bigint NOT NULL,
                    desired text NOT NULL, generation bigint NOT NULL, reboot_count integer NOT NULL DEFAULT 0,
                    attempts integer NOT NULL DEFAULT 0,
                    force boolean NOT NULL DEFAULT false, shutdown_behaviour text NOT NULL,
                    termination_protected boolean NOT NULL DEFAULT false,
                    tokens_required boolean NOT NULL DEFAULT false, hop_limit integer NOT NULL DEFAULT 1,
                    metadata_enabled boolean NOT NULL DEFAULT true,
                    save_state text NOT NULL DEFAULT 'none', save_location text NOT NULL DEFAULT '',
                    observed_state text, observed_generation bigint NOT NULL DEFAULT 0, observed_reboots integer NOT NULL DEFAULT 0,
                    observed_reason text NOT NULL DEFAULT '', observed_at bigint, has_run boolean NOT NULL DEFAULT false,
                    running_since bigint, node_silent_since bigint, retry_at bigint,
                    reason_code text NOT NULL DEFAULT '', reason_message text NOT NULL DEFAULT '',
                    transition_reason text NOT NULL DEFAULT '',
                    finished_at bigint);
                CREATE INDEX instances_account ON cloud.instances (account_id, created_at);
                CREATE INDEX instances_open ON cloud.instances (zone) WHERE finished_at IS NULL;
                CREATE INDEX instances_reservation ON cloud.instances (reservation_id);
                CREATE UNIQUE INDEX instances_address ON cloud.instances (private_address) WHERE finished_at IS NULL;

                CREATE TABLE cloud.instance_groups (
                    instance_id text NOT NULL REFERENCES cloud.instances ON DELETE CASCADE, ordinal integer NOT NULL,
                    group_id text NOT NULL, group_name text NOT NULL, PRIMARY KEY (instance_id, group_id));
                CREATE INDEX instance_groups_group ON cloud.instance_groups (group_id);

                CREATE TABLE cloud.volumes (
                    id text PRIMARY KEY, account_id text NOT NULL, zone text NOT NULL, size_gib integer NOT NULL, snapshot_id text,
                    volume_type text NOT NULL, iops integer, created_at bigint NOT NULL,
                    desired text NOT NULL, generation bigint NOT NULL,
                    observed_state text, observed_generation bigint NOT NULL DEFAULT 0, observed_error text NOT NULL DEFAULT '',
                    observed_at bigint,
                    finished_at bigint);
                CREATE INDEX volumes_account ON cloud.volumes (account_id, created_at);
                CREATE INDEX volumes_open ON cloud.volumes (zone) WHERE finished_at IS NULL;

                CREATE TABLE cloud.attachments (
                    id text PRIMARY KEY, volume_id text NOT NULL REFERENCES cloud.volumes ON DELETE CASCADE, instance_id text NOT NULL,
                    account_id text NOT NULL,
                    device text NOT NULL, device_letter text NOT NULL, delete_on_termination boolean NOT NULL DEFAULT false,
                    attached_at bigint NOT NULL,
                    desired text NOT NULL, generation bigint NOT NULL, force boolean NOT NULL DEFAULT false,
                    observed_state text, observed_generation bigint NOT NULL DEFAULT 0, observed_error text NOT NULL DEFAULT '',
                    observed_at bigint,
                    finished_at bigint);
                CREATE UNIQUE INDEX attachments_volume ON cloud.attachments (volume_id) WHERE finished_at IS NULL;
                CREATE UNIQUE INDEX attachments_device ON cloud.attachments (instance_id, device_letter) WHERE finished_at IS NULL;
                CREATE INDEX attachments_instance ON cloud.attachments (instance_id);

                CREATE TABLE cloud.snapshots (
                    id text PRIMARY KEY, account_id text NOT NULL, zone text NOT NULL, volume_id text NOT NULL, size_gib integer NOT NULL,
                    description text NOT NULL DEFAULT '', created_at bigint NOT NULL,
                    desired text NOT NULL, generation bigint NOT NULL,
                    observed_state text, observed_generation bigint NOT NULL DEFAULT 0, observed_error text NOT NULL DEFAULT '',
                    observed_at bigint,
                    progress integer NOT NULL DEFAULT 0, finished_at bigint);
                CREATE INDEX snapshots_account ON cloud.snapshots (account_id, created_at);
                CREATE INDEX snapshots_open ON cloud.snapshots (zone) WHERE finished_at IS NULL;

                CREATE TABLE cloud.bundle_tasks (
                    id text PRIMARY KEY, account_id text NOT NULL, instance_id text NOT NULL, bucket text NOT NULL, prefix text NOT NULL,
                    access_key_id text NOT NULL, for_shutdown boolean NOT NULL, state text NOT NULL, progress integer NOT NULL DEFAULT 0,
                    error_code text NOT NULL DEFAULT '', error_message text NOT NULL DEFAULT '', cancelled boolean NOT NULL DEFAULT false,
                    image_id text NOT NULL DEFAULT '', started_at bigint NOT NULL, updated_at bigint NOT NULL, finished_at bigint);
                CREATE INDEX bundle_tasks_account ON cloud.bundle_tasks (account_id, started_at);
                CREATE UNIQUE INDEX bundle_tasks_instance ON cloud.bundle_tasks (instance_id) WHERE finished_at IS NULL;

                CREATE TABLE cloud.saga_events (
                    saga_id text NOT NULL, ordinal integer NOT NULL, kind text NOT NULL, step integer NOT NULL,
                    fact_names text[] NOT NULL DEFAULT '{}', fact_values text[] NOT NULL DEFAULT '{}', message text NOT NULL DEFAULT '',
                    at bigint NOT NULL, PRIMARY KEY (saga_id, ordinal));

                CREATE TABLE cloud.audit (
                    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, account_id text NOT NULL,
                    principal text NOT NULL,
                    request_id text NOT NULL, action text NOT NULL, resource text NOT NULL, detail text NOT NULL);
                CREATE INDEX audit_account ON cloud.audit (account_id, at);
                """)
    ]
}
