import Database
import Domain

/// How a request names a template: by id or name, exactly one of them.
enum LaunchTemplateKey: Sendable {
    case id(LaunchTemplateID)
    case name(String)

    /// - Throws: `.missingParameter`, `.invalidCombination`, `.malformedID`.
    init(id: String?, name: String?) throws(CloudError) {
        switch (id, name) {
        case (nil, nil): throw CloudError(.missingParameter("LaunchTemplateId"))
        case (.some, .some): throw CloudError(.invalidCombination("Either a launch template's ID or its name is given, not both"))
        case (.some(let text), nil): self = .id(try LaunchTemplateID(parsing: text))
        case (nil, .some(let text)): self = .name(text)
        }
    }
}

/// The rows of launch templates, all in the caller's transaction.
enum LaunchTemplateStore {
    static func insert(_ tx: Transaction, _ t: LaunchTemplate, first: LaunchTemplateVersion) throws(CloudError) {
        guard
            try tx.execute("SELECT 1 FROM cloud.launch_templates WHERE account_id = $1 AND name = $2", .text(t.accountID), .text(t.name))
                .isEmpty
        else {
            throw CloudError(.duplicate(.launchTemplate, name: t.name), "Launch template name already in use.")
        }
        try tx.execute(
            """
            INSERT INTO cloud.launch_templates (id, account_id, name, created_at, created_by, default_version, latest_version)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """, .text(t.id.text), .text(t.accountID), .text(t.name), .timestamp(t.createdAt), .text(t.createdBy),
            SQLValue(t.defaultVersion), SQLValue(t.latestVersion))
        try insert(tx, first, of: t.id)
    }

    static func insert(_ tx: Transaction, _ v: LaunchTemplateVersion, of id: LaunchTemplateID) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.launch_template_versions (template_id, version, description, created_at, created_by, data)
            VALUES ($1, $2, $3, $4, $5, $6)
            """, .text(id.text), SQLValue(v.version), .text(v.description), .timestamp(v.createdAt), .text(v.createdBy),
            .text(LaunchTemplateRules.text(v.data)))
        try tx.execute(
            "UPDATE cloud.launch_templates SET latest_version = greatest(latest_version, $2) WHERE id = $1", .text(id.text),
            SQLValue(v.version))
    }

    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [LaunchTemplate] {
        var out: [LaunchTemplate] = []
        for row in try tx.execute("SELECT * FROM cloud.launch_templates WHERE account_id = $1 ORDER BY id", .text(accountID)) {
            out.append(try template(row))
        }
        return out
    }

    /// - Throws: `.notFound(.launchTemplate)`, `InvalidLaunchTemplateName.NotFoundException`.
    static func fetch(_ tx: Transaction, _ key: LaunchTemplateKey, accountID: String) throws(CloudError) -> LaunchTemplate {
        switch key {
        case .id(let id):
            let rows = try tx.execute(
                "SELECT * FROM cloud.launch_templates WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text))
            guard let row = rows.first else { throw CloudError(.notFound(.launchTemplate, id: id.text)) }
            return try template(row)
        case .name(let name):
            let rows = try tx.execute(
                "SELECT * FROM cloud.launch_templates WHERE account_id = $1 AND name = $2", .text(accountID), .text(name))
            guard let row = rows.first else { throw LaunchTemplateRules.noName(name) }
            return try template(row)
        }
    }

    /// Newest first.
    static func versions(_ tx: Transaction, of id: LaunchTemplateID) throws(CloudError) -> [LaunchTemplateVersion] {
        var out: [LaunchTemplateVersion] = []
        for row in try tx.execute(
            "SELECT * FROM cloud.launch_template_versions WHERE template_id = $1 ORDER BY version DESC", .text(id.text))
        {
            out.append(
                LaunchTemplateVersion(
                    version: row.int("version"), description: row.text("description"), createdAt: row.timestamp("created_at"),
                    createdBy: row.text("created_by"), data: try LaunchTemplateRules.value(row.text("data"))))
        }
        return out
    }

    static func setDefault(_ tx: Transaction, id: LaunchTemplateID, _ version: Int) throws(CloudError) {
        try tx.execute("UPDATE cloud.launch_templates SET default_version = $2 WHERE id = $1", .text(id.text), SQLValue(version))
    }

    static func deleteVersion(_ tx: Transaction, id: LaunchTemplateID, _ version: Int) throws(CloudError) {
        try tx.execute(
            "DELETE FROM cloud.launch_template_versions WHERE template_id = $1 AND version = $2", .text(id.text), SQLValue(version))
    }

    static func delete(_ tx: Transaction, id: LaunchTemplateID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.launch_templates WHERE id = $1", .text(id.text))
    }

    private static func template(_ row: Row) throws(CloudError) -> LaunchTemplate {
        LaunchTemplate(
            id: try LaunchTemplateID(parsing: row.text("id")), accountID: row.text("account_id"), name: row.text("name"),
            createdAt: row.timestamp("created_at"), createdBy: row.text("created_by"), defaultVersion: row.int("default_version"),
            latestVersion: row.int("latest_version"))
    }
}
