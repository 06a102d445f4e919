enum InstanceSchema {
    static let migration: [String] = [
        "",
        "ALTER TABLE cloud.instances ADD COLUMN stop_protected boolean NOT NULL DEFAULT false;",
    ]
}
