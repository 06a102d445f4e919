enum SecurityGroupSchema {
    /// `content` is the rule's own words in one canonical text, so that the same permission cannot be there twice.
    static let migration: [String] = [
        """
        CREATE TABLE cloud.security_groups (
            id text PRIMARY KEY, account_id text NOT NULL, name text NOT NULL, description text NOT NULL,
            UNIQUE (account_id, name));
        CREATE TABLE cloud.security_group_rules (
            id text PRIMARY KEY, group_id text NOT NULL REFERENCES cloud.security_groups ON DELETE CASCADE, account_id text NOT NULL,
            ordinal bigint GENERATED ALWAYS AS IDENTITY, content text NOT NULL,
            protocol text NOT NULL, from_port integer, to_port integer, cidr text, cidr6 text,
            source_group_id text REFERENCES cloud.security_groups, source_account_id text, description text NOT NULL DEFAULT '',
            UNIQUE (group_id, content));
        CREATE INDEX security_group_rules_source ON cloud.security_group_rules (source_group_id);
        """,
        // What was open without saying so says so now.
        """
        ALTER TABLE cloud.security_group_rules ADD COLUMN egress boolean NOT NULL DEFAULT false,
            DROP CONSTRAINT security_group_rules_group_id_content_key, ADD UNIQUE (group_id, egress, content);
        CREATE INDEX security_group_rules_account ON cloud.security_group_rules (account_id);
        INSERT INTO cloud.security_group_rules (id, group_id, account_id, content, protocol, cidr, egress)
            SELECT 'sgr-' || substr(md5('egress of ' || id), 1, 17), id, account_id, '-1 -1 -1 4 0.0.0.0/0', '-1', '0.0.0.0/0', true
            FROM cloud.security_groups;
        """,
    ]
}
