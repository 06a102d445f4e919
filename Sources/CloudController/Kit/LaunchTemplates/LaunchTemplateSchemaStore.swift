enum LaunchTemplateSchema {
    /// `data` is what the request said, as JSON of the message's tree: members by their names.
    static let migration: [String] = [
        "",
        """
        CREATE TABLE cloud.launch_templates (
            id text PRIMARY KEY, account_id text NOT NULL, name text NOT NULL, created_at bigint NOT NULL, created_by text NOT NULL,
            default_version integer NOT NULL, latest_version integer NOT NULL, UNIQUE (account_id, name));
        CREATE TABLE cloud.launch_template_versions (
            template_id text NOT NULL REFERENCES cloud.launch_templates ON DELETE CASCADE, version integer NOT NULL,
            description text NOT NULL, created_at bigint NOT NULL, created_by text NOT NULL, data text NOT NULL,
            PRIMARY KEY (template_id, version));
        """,
    ]
}
