public import Database
public import Domain
public import Workflow

/// Users, groups, roles and instance profiles: what is alike. All is done in a transaction of the caller's, so that the audit row stands in
/// the same one; the caller ends with `IdentityStore.changed`.
public enum EntityStore {
    /// - Throws: `ValidationError`, `LimitExceeded`, `EntityAlreadyExists`.
    static func check(_ t: Transaction, _ kind: EntityKind, name: String, path: String, account: String) throws(CloudError) {
        try IdentityRules.checkName(name, kind)
        try IdentityRules.checkEntityPath(path)
        let row = try t.execute(
            """
            SELECT count(*) AS n, count(*) FILTER (WHERE lower(name) = lower($2)) AS same FROM \(kind.table) WHERE account = $1
            """, .text(account), .text(name))[0]
        guard row.int("same") == 0 else { throw IdentityError.exists(kind.words, name) }
        let count = row.int("n") + 1
        guard count <= kind.limit else { throw IdentityError.limit("\(kind.words)s per account", asked: count, limit: kind.limit) }
    }

    /// A user, a group or an instance profile; roles have a maker of their own.
    public static func create(
        _ t: Transaction, _ kind: EntityKind, name: String, path: String, account: String, random: any Workflow.Random, now: Timestamp
    ) throws(CloudError) -> Entity {
        try check(t, kind, name: name, path: path, account: account)
        let id = IdentityRules.id(kind.idPrefix, random)
        try t.execute(
            "INSERT INTO \(kind.table) (id, account, name, path, created) VALUES ($1, $2, $3, $4, $5)", .text(id), .text(account),
            .text(name), .text(path), .timestamp(now))
        return Entity(kind: kind, id: id, accountID: account, name: name, path: path, created: now)
    }

    /// Names ignore case. - Throws: `NoSuchEntity`.
    public static func fetch(_ t: Transaction, _ kind: EntityKind, _ name: String, account: String) throws(CloudError) -> Entity {
        let rows = try t.execute(
            "SELECT * FROM \(kind.table) WHERE account = $1 AND lower(name) = lower($2)", .text(account), .text(name))
        guard let row = rows.first else { throw IdentityError.missing(kind.words, String(name.prefix(128))) }
        return entity(kind, row)
    }

    /// By name, those whose path begins so.
    public static func list(
        _ t: Transaction, _ kind: EntityKind, account: String, pathPrefix: String = "/"
    ) throws(CloudError) -> [Entity] {
        try t.execute("SELECT * FROM \(kind.table) WHERE account = $1 ORDER BY name", .text(account)).map { entity(kind, $0) }
            .filter { $0.path.hasPrefix(pathPrefix) }
    }

    static func entity(_ kind: EntityKind, _ row: Row) -> Entity {
        Entity(
            kind: kind, id: row.text("id"), accountID: row.text("account"), name: row.text("name"), path: row.text("path"),
            created: row.timestamp("created"))
    }

    /// Another name or path. The id stays, and with it keys, policies and membership.
    public static func rename(_ t: Transaction, _ entity: Entity, name: String?, path: String?) throws(CloudError) {
        if let path { try IdentityRules.checkEntityPath(path) }
        if let name, name.lowercased() != entity.name.lowercased() {
            try check(t, entity.kind, name: name, path: entity.path, account: entity.accountID)
        } else if let name {
            try IdentityRules.checkName(name, entity.kind)
        }
        try t.execute(
            "UPDATE \(entity.kind.table) SET name = $2, path = $3 WHERE id = $1", .text(entity.id), .text(name ?? entity.name),
            .text(path ?? entity.path))
    }

    /// - Throws: `DeleteConflict` while it has policies, keys, members or the like.
    public static func delete(_ t: Transaction, _ entity: Entity) throws(CloudError) {
        let hangers: [(query: String, words: String)] =
            [
                ("SELECT 1 FROM identity.inline_policies WHERE entity_id = $1 LIMIT 1", "delete policies first"),
                ("SELECT 1 FROM identity.attachments WHERE entity_id = $1 LIMIT 1", "detach all policies first"),
            ] + own(entity.kind)
        for (query, words) in hangers {
            guard try t.execute(query, .text(entity.id)).isEmpty else {
                throw IdentityError.conflict("Cannot delete entity, must \(words).")
            }
        }
        try remove(t, entity)
    }

    /// With everything that hangs on it: for accounts that go as a whole.
    static func remove(_ t: Transaction, _ entity: Entity) throws(CloudError) {
        try t.execute("DELETE FROM identity.inline_policies WHERE entity_id = $1", .text(entity.id))
        try t.execute("DELETE FROM identity.attachments WHERE entity_id = $1", .text(entity.id))
        try t.execute("DELETE FROM identity.tags WHERE entity_id = $1", .text(entity.id))
        if entity.kind == .user { try t.execute("DELETE FROM identity.quotas WHERE user_id = $1", .text(entity.id)) }
        try t.execute("DELETE FROM \(entity.kind.table) WHERE id = $1", .text(entity.id))
    }

    private static func own(_ kind: EntityKind) -> [(query: String, words: String)] {
        switch kind {
        case .user:
            [
                ("SELECT 1 FROM identity.access_keys WHERE user_id = $1 LIMIT 1", "delete access keys first"),
                ("SELECT 1 FROM identity.certificates WHERE user_id = $1 LIMIT 1", "delete signing certificates first"),
                ("SELECT 1 FROM identity.group_members WHERE user_id = $1 LIMIT 1", "remove users from group first"),
                ("SELECT 1 FROM identity.users WHERE id = $1 AND password_hash IS NOT NULL", "delete login profile first"),
            ]
        case .group: [("SELECT 1 FROM identity.group_members WHERE group_id = $1 LIMIT 1", "remove users from group first")]
        case .role:
            [("SELECT 1 FROM identity.instance_profiles WHERE role_id = $1 LIMIT 1", "remove roles from instance profile first")]
        case .instanceProfile:
            [
                (
                    "SELECT 1 FROM identity.instance_profiles WHERE id = $1 AND role_id IS NOT NULL",
                    "remove roles from instance profile first"
                )
            ]
        }
    }

    // MARK: boundary

    /// - Parameter arn: of a managed policy that exists; `nil` takes the boundary away.
    /// - Throws: `NoSuchEntity`.
    public static func setBoundary(_ t: Transaction, _ entity: Entity, _ arn: String?) throws(CloudError) {
        if let arn {
            _ = try PolicyStore.fetch(t, arn, account: entity.accountID)
        } else if try boundary(t, entity) == nil {
            throw IdentityError.missing("permissions boundary of the \(entity.kind.words)", entity.name)
        }
        try t.execute("UPDATE \(entity.kind.table) SET boundary = $2 WHERE id = $1", .text(entity.id), SQLValue(arn))
    }

    public static func boundary(_ t: Transaction, _ entity: Entity) throws(CloudError) -> String? {
        guard entity.kind == .user || entity.kind == .role else { return nil }
        return try t.execute("SELECT boundary FROM \(entity.kind.table) WHERE id = $1", .text(entity.id)).first?.optionalText("boundary")
    }

    // MARK: tags

    /// - Parameter owner: the id of an entity, or the ARN of a policy or provider.
    /// - Throws: `ValidationError`, `LimitExceeded`.
    public static func tag(_ t: Transaction, _ owner: String, _ tags: [IdentityTag]) throws(CloudError) {
        var seen: Set<String> = []
        for tag in tags {
            try IdentityRules.checkTag(tag)
            guard seen.insert(tag.key.lowercased()).inserted else {
                throw IdentityError.input("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
            }
            try t.execute(
                """
                INSERT INTO identity.tags (entity_id, key, value) VALUES ($1, $2, $3)
                ON CONFLICT (entity_id, key) DO UPDATE SET value = excluded.value
                """, .text(owner), .text(tag.key), .text(tag.value))
        }
        let count = try t.execute("SELECT count(*) AS n FROM identity.tags WHERE entity_id = $1", .text(owner))[0].int("n")
        guard count <= IdentityRules.tagsPerEntity else {
            throw IdentityError.limit("tags per resource", asked: count, limit: IdentityRules.tagsPerEntity)
        }
    }

    public static func untag(_ t: Transaction, _ owner: String, _ keys: [String]) throws(CloudError) {
        try t.execute("DELETE FROM identity.tags WHERE entity_id = $1 AND key = ANY($2)", .text(owner), .textArray(keys))
    }

    /// By key.
    public static func tags(_ t: Transaction, _ owner: String) throws(CloudError) -> [IdentityTag] {
        try t.execute("SELECT key, value FROM identity.tags WHERE entity_id = $1 ORDER BY key", .text(owner)).map {
            IdentityTag(key: $0.text("key"), value: $0.text("value"))
        }
    }

    // MARK: membership

    /// Adding a member again changes nothing. - Throws: `LimitExceeded`.
    public static func join(_ t: Transaction, user: Entity, group: Entity) throws(CloudError) {
        try t.execute(
            "INSERT INTO identity.group_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", .text(group.id),
            .text(user.id))
        let count = try t.execute("SELECT count(*) AS n FROM identity.group_members WHERE user_id = $1", .text(user.id))[0].int("n")
        guard count <= IdentityRules.groupsPerUser else {
            throw IdentityError.limit("groups per user", asked: count, limit: IdentityRules.groupsPerUser)
        }
    }

    /// - Throws: `NoSuchEntity` for a user that is no member.
    public static func leave(_ t: Transaction, user: Entity, group: Entity) throws(CloudError) {
        let gone = try t.execute(
            "DELETE FROM identity.group_members WHERE group_id = $1 AND user_id = $2", .text(group.id), .text(user.id))
        guard gone.affected > 0 else { throw IdentityError.missing("member of the group \(group.name)", user.name) }
    }

    public static func members(_ t: Transaction, group: Entity) throws(CloudError) -> [Entity] {
        try t.execute(
            """
            SELECT u.* FROM identity.users u JOIN identity.group_members m ON m.user_id = u.id WHERE m.group_id = $1 ORDER BY u.name
            """, .text(group.id)
        ).map { entity(.user, $0) }
    }

    public static func groups(_ t: Transaction, user: Entity) throws(CloudError) -> [Entity] {
        try t.execute(
            """
            SELECT g.* FROM identity.groups g JOIN identity.group_members m ON m.group_id = g.id WHERE m.user_id = $1 ORDER BY g.name
            """, .text(user.id)
        ).map { entity(.group, $0) }
    }
}
