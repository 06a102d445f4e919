enum VpcSchema {
    /// The default network of each account. `default_networks` says for which zones it was made, so that what was deleted is not made again
    /// by the next look. A route without a gateway is the local one. The standard entry 32767 of an ACL is not stored: it cannot change.
    static let migration: [String] = [
        "",
        """
        CREATE TABLE cloud.default_networks (
            account_id text NOT NULL, zone text NOT NULL, PRIMARY KEY (account_id, zone));
        CREATE TABLE cloud.vpcs (
            id text PRIMARY KEY, account_id text NOT NULL UNIQUE, cidr text NOT NULL, created_at bigint NOT NULL);
        CREATE TABLE cloud.network_acls (
            id text PRIMARY KEY, account_id text NOT NULL, vpc_id text NOT NULL, is_default boolean NOT NULL DEFAULT false);
        CREATE INDEX network_acls_account ON cloud.network_acls (account_id);
        CREATE TABLE cloud.network_acl_entries (
            acl_id text NOT NULL REFERENCES cloud.network_acls ON DELETE CASCADE, egress boolean NOT NULL, number integer NOT NULL,
            protocol integer NOT NULL, allow boolean NOT NULL, cidr text NOT NULL, first integer, last integer,
            PRIMARY KEY (acl_id, egress, number));
        CREATE TABLE cloud.subnets (
            id text PRIMARY KEY, account_id text NOT NULL, vpc_id text NOT NULL, zone text NOT NULL, cidr text NOT NULL,
            is_default boolean NOT NULL DEFAULT false, map_public boolean NOT NULL DEFAULT false,
            acl_id text NOT NULL REFERENCES cloud.network_acls, acl_association_id text NOT NULL UNIQUE);
        CREATE INDEX subnets_account ON cloud.subnets (account_id);
        CREATE TABLE cloud.route_tables (
            id text PRIMARY KEY, account_id text NOT NULL, vpc_id text NOT NULL, is_main boolean NOT NULL DEFAULT false,
            main_association_id text UNIQUE, CHECK (is_main = (main_association_id IS NOT NULL)));
        CREATE INDEX route_tables_account ON cloud.route_tables (account_id);
        CREATE TABLE cloud.internet_gateways (
            id text PRIMARY KEY, account_id text NOT NULL, vpc_id text UNIQUE);
        CREATE INDEX internet_gateways_account ON cloud.internet_gateways (account_id);
        CREATE TABLE cloud.routes (
            table_id text NOT NULL REFERENCES cloud.route_tables ON DELETE CASCADE, destination text NOT NULL, gateway_id text NOT NULL,
            PRIMARY KEY (table_id, destination));
        CREATE TABLE cloud.route_associations (
            id text PRIMARY KEY, table_id text NOT NULL REFERENCES cloud.route_tables,
            subnet_id text NOT NULL UNIQUE REFERENCES cloud.subnets ON DELETE CASCADE);
        CREATE INDEX route_associations_table ON cloud.route_associations (table_id);
        CREATE TABLE cloud.network_interfaces (
            id text PRIMARY KEY, account_id text NOT NULL, instance_id text NOT NULL UNIQUE REFERENCES cloud.instances ON DELETE CASCADE,
            subnet_id text NOT NULL REFERENCES cloud.subnets, attachment_id text NOT NULL UNIQUE, description text NOT NULL DEFAULT '',
            created_at bigint NOT NULL);
        CREATE INDEX network_interfaces_account ON cloud.network_interfaces (account_id);
        CREATE INDEX network_interfaces_subnet ON cloud.network_interfaces (subnet_id);
        """,
    ]
}
