import Database

/// The history of the schema `identity`.
enum IdentitySchema {
    static let migrations = [
        Migration(
            1,
            """
            CREATE TABLE identity.accounts (
                id text PRIMARY KEY CHECK (id ~ '^[0-9]{12}$'), name text NOT NULL UNIQUE, canonical_id text NOT NULL UNIQUE,
                created bigint NOT NULL);
            CREATE TABLE identity.users (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL, path text NOT NULL,
                created bigint NOT NULL, UNIQUE (account, name));
            CREATE TABLE identity.access_keys (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, user_id text REFERENCES identity.users,
                secret bytea NOT NULL, active boolean NOT NULL DEFAULT true, created bigint NOT NULL);
            CREATE INDEX ON identity.access_keys (account, user_id);
            CREATE TABLE identity.certificates (
                fingerprint text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, user_id text REFERENCES identity.users,
                pem text NOT NULL, active boolean NOT NULL DEFAULT true, created bigint NOT NULL);
            CREATE INDEX ON identity.certificates (account, user_id);
            CREATE TABLE identity.user_policies (
                user_id text NOT NULL REFERENCES identity.users, name text NOT NULL, document text NOT NULL, PRIMARY KEY (user_id, name));
            """),
        // Groups, roles, managed policies and the rest of IAM. Policies, attachments and tags hang on the id of an entity, which says what
        // it is by its prefix; who deletes an entity deletes them with it.
        Migration(
            2,
            """
            ALTER TABLE identity.accounts ADD COLUMN alias text UNIQUE, ADD COLUMN password_policy text;
            ALTER TABLE identity.users ADD COLUMN boundary text, ADD COLUMN password_hash text, ADD COLUMN password_created bigint,
                ADD COLUMN password_reset boolean NOT NULL DEFAULT false, ADD COLUMN password_history text[] NOT NULL DEFAULT '{}';
            CREATE UNIQUE INDEX users_name ON identity.users (account, lower(name));
            ALTER TABLE identity.access_keys ADD COLUMN used_at bigint, ADD COLUMN used_service text NOT NULL DEFAULT '',
                ADD COLUMN used_region text NOT NULL DEFAULT '';

            CREATE TABLE identity.groups (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL, path text NOT NULL,
                created bigint NOT NULL);
            CREATE UNIQUE INDEX groups_name ON identity.groups (account, lower(name));
            CREATE TABLE identity.group_members (
                group_id text NOT NULL REFERENCES identity.groups, user_id text NOT NULL REFERENCES identity.users,
                PRIMARY KEY (group_id, user_id));
            CREATE INDEX ON identity.group_members (user_id);

            CREATE TABLE identity.roles (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL, path text NOT NULL,
                description text NOT NULL DEFAULT '', trust text NOT NULL, max_session integer NOT NULL, boundary text,
                created bigint NOT NULL, used_at bigint, used_region text NOT NULL DEFAULT '');
            CREATE UNIQUE INDEX roles_name ON identity.roles (account, lower(name));
            CREATE TABLE identity.instance_profiles (
                id text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL, path text NOT NULL,
                role_id text REFERENCES identity.roles, created bigint NOT NULL);
            CREATE UNIQUE INDEX instance_profiles_name ON identity.instance_profiles (account, lower(name));
            CREATE INDEX ON identity.instance_profiles (role_id);

            CREATE TABLE identity.policies (
                arn text PRIMARY KEY, id text NOT NULL UNIQUE, account text NOT NULL REFERENCES identity.accounts, name text NOT NULL,
                path text NOT NULL, description text NOT NULL DEFAULT '', default_version text NOT NULL, last_version integer NOT NULL,
                created bigint NOT NULL, updated bigint NOT NULL);
            CREATE UNIQUE INDEX policies_name ON identity.policies (account, lower(name));
            CREATE TABLE identity.policy_versions (
                arn text NOT NULL REFERENCES identity.policies, version text NOT NULL, number integer NOT NULL, document text NOT NULL,
                created bigint NOT NULL, PRIMARY KEY (arn, version));
            CREATE TABLE identity.attachments (
                entity_id text NOT NULL, policy_arn text NOT NULL, PRIMARY KEY (entity_id, policy_arn));
            CREATE INDEX ON identity.attachments (policy_arn);
            CREATE TABLE identity.inline_policies (
                entity_id text NOT NULL, name text NOT NULL, document text NOT NULL, PRIMARY KEY (entity_id, name));
            INSERT INTO identity.inline_policies SELECT user_id, name, document FROM identity.user_policies;
            DROP TABLE identity.user_policies;
            CREATE TABLE identity.tags (entity_id text NOT NULL, key text NOT NULL, value text NOT NULL, PRIMARY KEY (entity_id, key));

            CREATE TABLE identity.oidc_providers (
                arn text PRIMARY KEY, account text NOT NULL REFERENCES identity.accounts, url text NOT NULL, clients text[] NOT NULL,
                thumbprints text[] NOT NULL, created bigint NOT NULL);
            CREATE INDEX ON identity.oidc_providers (account);

            CREATE TABLE identity.quotas (
                account text NOT NULL REFERENCES identity.accounts, user_id text NOT NULL DEFAULT '', name text NOT NULL,
                value bigint NOT NULL CHECK (value >= 0), PRIMARY KEY (account, user_id, name));
            """),
    ]
}
