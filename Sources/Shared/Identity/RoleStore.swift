public import Database
public import Domain
public import Workflow

/// Roles, and the instance profiles that carry them to instances.
public enum RoleStore {
    /// What a role needs beside a name and a path.
    public struct Order: Sendable {
        public let trust: String
        public let description: String
        public let maxSessionSeconds: Int
        public let boundary: String?

        public init(trust: String, description: String, maxSessionSeconds: Int, boundary: String?) {
            self.trust = trust
            self.description = description
            self.maxSessionSeconds = maxSessionSeconds
            self.boundary = boundary
        }
    }

    /// - Throws: `MalformedPolicyDocument`, `ValidationError`, `LimitExceeded`, `EntityAlreadyExists`, `NoSuchEntity` (the boundary).
    public static func create(
        _ t: Transaction, name: String, path: String, _ order: Order, account: String, random: any Workflow.Random, now: Timestamp
    ) throws(CloudError) -> Role {
        try EntityStore.check(t, .role, name: name, path: path, account: account)
        try checkTrust(order.trust)
        try checkSession(order.maxSessionSeconds)
        if let boundary = order.boundary { _ = try PolicyStore.fetch(t, boundary, account: account) }
        try t.execute(
            """
            INSERT INTO identity.roles (id, account, name, path, description, trust, max_session, boundary, created)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """, .text(IdentityRules.id(EntityKind.role.idPrefix, random)), .text(account), .text(name), .text(path),
            .text(order.description), .text(order.trust), .integer(Int64(order.maxSessionSeconds)), SQLValue(order.boundary),
            .timestamp(now))
        return try fetch(t, name, account: account)
    }

    static func checkTrust(_ document: String) throws(CloudError) {
        guard document.utf8.count <= IdentityRules.trustLimit else {
            throw IdentityError.limit("bytes of a trust policy", asked: document.utf8.count, limit: IdentityRules.trustLimit)
        }
        _ = try PolicyDocument(parsing: document, for: .trust)
    }

    static func checkSession(_ seconds: Int) throws(CloudError) {
        guard (3600...43200).contains(seconds) else { throw IdentityError.invalid("MaxSessionDuration", "it is 3600 to 43200 seconds") }
    }

    /// - Throws: `NoSuchEntity`.
    public static func fetch(_ t: Transaction, _ name: String, account: String) throws(CloudError) -> Role {
        let rows = try t.execute("SELECT * FROM identity.roles WHERE account = $1 AND lower(name) = lower($2)", .text(account), .text(name))
        guard let row = rows.first else { throw IdentityError.missing("role", String(name.prefix(128))) }
        return role(row)
    }

    static func fetch(_ t: Transaction, id: String) throws(CloudError) -> Role? {
        try t.execute("SELECT * FROM identity.roles WHERE id = $1", .text(id)).first.map(role)
    }

    public static func list(_ t: Transaction, account: String, pathPrefix: String = "/") throws(CloudError) -> [Role] {
        try t.execute("SELECT * FROM identity.roles WHERE account = $1 ORDER BY name", .text(account)).map(role)
            .filter { $0.entity.path.hasPrefix(pathPrefix) }
    }

    static func role(_ row: Row) -> Role {
        Role(
            entity: EntityStore.entity(.role, row), description: row.text("description"), trust: row.text("trust"),
            maxSessionSeconds: row.int("max_session"), boundary: row.optionalText("boundary"),
            used: row.optionalTimestamp("used_at").map { Role.Use(at: $0, region: row.text("used_region")) })
    }

    public static func update(
        _ t: Transaction, _ role: Role, description: String?, maxSessionSeconds: Int?, trust: String? = nil
    ) throws(CloudError) {
        if let maxSessionSeconds { try checkSession(maxSessionSeconds) }
        if let trust { try checkTrust(trust) }
        try t.execute(
            "UPDATE identity.roles SET description = $2, max_session = $3, trust = $4 WHERE id = $1", .text(role.entity.id),
            .text(description ?? role.description), .integer(Int64(maxSessionSeconds ?? role.maxSessionSeconds)),
            .text(trust ?? role.trust))
    }

    // MARK: instance profiles

    /// - Throws: `LimitExceeded`: a profile has one role.
    public static func add(_ t: Transaction, _ role: Role, to profile: Entity) throws(CloudError) {
        let changed = try t.execute(
            "UPDATE identity.instance_profiles SET role_id = $2 WHERE id = $1 AND role_id IS NULL", .text(profile.id),
            .text(role.entity.id))
        guard changed.affected > 0 else { throw IdentityError.limit("roles per instance profile", asked: 2, limit: 1) }
    }

    /// - Throws: `NoSuchEntity` when the profile has not got it.
    public static func remove(_ t: Transaction, _ role: Role, from profile: Entity) throws(CloudError) {
        let changed = try t.execute(
            "UPDATE identity.instance_profiles SET role_id = NULL WHERE id = $1 AND role_id = $2", .text(profile.id),
            .text(role.entity.id))
        guard changed.affected > 0 else { throw IdentityError.missing("role of the instance profile \(profile.name)", role.entity.name) }
    }

    public static func role(_ t: Transaction, of profile: Entity) throws(CloudError) -> Role? {
        try t.execute(
            "SELECT r.* FROM identity.roles r JOIN identity.instance_profiles p ON p.role_id = r.id WHERE p.id = $1", .text(profile.id)
        ).first.map(role)
    }

    public static func profiles(_ t: Transaction, of role: Role) throws(CloudError) -> [Entity] {
        try t.execute("SELECT * FROM identity.instance_profiles WHERE role_id = $1 ORDER BY name", .text(role.entity.id)).map {
            EntityStore.entity(.instanceProfile, $0)
        }
    }

    /// By ARN or by name, as EC2's IamInstanceProfile has it. - Throws: `NoSuchEntity`.
    public static func profile(_ t: Transaction, arn: String?, name: String?, account: String) throws(CloudError) -> Entity {
        if let name, !name.isEmpty { return try EntityStore.fetch(t, .instanceProfile, name, account: account) }
        let wanted = arn ?? ""
        let found = try EntityStore.fetch(
            t, .instanceProfile, wanted.split(separator: "/").last.map { String($0) } ?? wanted, account: account)
        guard found.arn == wanted else { throw IdentityError.missing("instance profile", String(wanted.prefix(200))) }
        return found
    }
}
