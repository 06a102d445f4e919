public import Database
public import Domain
public import Workflow

/// Managed policies with their versions, their attachments, and inline policies.
public enum PolicyStore {
    // MARK: managed

    /// - Throws: `MalformedPolicyDocument`, `ValidationError`, `LimitExceeded`, `EntityAlreadyExists`.
    public static func create(
        _ t: Transaction, name: String, path: String, description: String, document: String, account: String,
        random: any Workflow.Random, now: Timestamp
    ) throws(CloudError) -> ManagedPolicy {
        try IdentityRules.checkPolicyName(name)
        try IdentityRules.checkEntityPath(path)
        try checkManaged(document)
        let row = try t.execute(
            "SELECT count(*) AS n, count(*) FILTER (WHERE lower(name) = lower($2)) AS same FROM identity.policies WHERE account = $1",
            .text(account), .text(name))[0]
        guard row.int("same") == 0 else { throw IdentityError.exists("policy", name) }
        guard row.int("n") < IdentityRules.managedPolicies else {
            throw IdentityError.limit("policies per account", asked: row.int("n") + 1, limit: IdentityRules.managedPolicies)
        }
        let arn = "arn:aws:iam::\(account):policy\(path)\(name)"
        try t.execute(
            """
            INSERT INTO identity.policies (arn, id, account, name, path, description, default_version, last_version, created, updated)
            VALUES ($1, $2, $3, $4, $5, $6, 'v1', 1, $7, $7)
            """, .text(arn), .text(IdentityRules.id("ANPA", random)), .text(account), .text(name), .text(path), .text(description),
            .timestamp(now))
        try insertVersion(t, arn, 1, document, now)
        return try fetch(t, arn, account: account)
    }

    private static func insertVersion(
        _ t: Transaction, _ arn: String, _ number: Int, _ document: String, _ now: Timestamp
    ) throws(CloudError) {
        try t.execute(
            "INSERT INTO identity.policy_versions (arn, version, number, document, created) VALUES ($1, $2, $3, $4, $5)", .text(arn),
            .text("v\(number)"), .integer(Int64(number)), .text(document), .timestamp(now))
    }

    static func checkManaged(_ document: String) throws(CloudError) {
        let size = IdentityRules.size(document)
        guard size <= IdentityRules.managedLimit else {
            throw IdentityError.limit("bytes of a policy", asked: size, limit: IdentityRules.managedLimit)
        }
        _ = try PolicyDocument(parsing: document, for: .identity, maxBytes: 131_072)
    }

    /// One of the account's, or one of Amazon's names. - Throws: `NoSuchEntity`.
    public static func fetch(_ t: Transaction, _ arn: String, account: String) throws(CloudError) -> ManagedPolicy {
        if let ours = AWSManagedPolicies.find(arn) { return ManagedPolicy(ours) }
        guard let row = try t.execute("SELECT * FROM identity.policies WHERE arn = $1 AND account = $2", .text(arn), .text(account)).first
        else {
            throw CloudError(
                .named(code: "NoSuchEntity", status: 404), "Policy \(arn.prefix(200)) does not exist or is not attachable.")
        }
        return ManagedPolicy(row)
    }

    /// The account's own, by ARN. - Throws: `AccessDenied` for those of Amazon's names, which nobody changes; `NoSuchEntity`.
    public static func fetchOwn(_ t: Transaction, _ arn: String, account: String) throws(CloudError) -> ManagedPolicy {
        let policy = try fetch(t, arn, account: account)
        guard !policy.isOurs else { throw CloudError(.forbidden(action: "iam"), "The policy \(arn) belongs to the cloud.") }
        return policy
    }

    public static func list(_ t: Transaction, account: String) throws(CloudError) -> [ManagedPolicy] {
        try t.execute("SELECT * FROM identity.policies WHERE account = $1 ORDER BY name", .text(account)).map { ManagedPolicy($0) }
    }

    public static func versions(_ t: Transaction, _ policy: ManagedPolicy) throws(CloudError) -> [ManagedPolicy.Version] {
        if let ours = AWSManagedPolicies.find(policy.arn) {
            return [ManagedPolicy.Version(id: "v1", document: ours.document, isDefault: true, created: AWSManagedPolicies.created)]
        }
        return try t.execute("SELECT * FROM identity.policy_versions WHERE arn = $1 ORDER BY number DESC", .text(policy.arn)).map {
            ManagedPolicy.Version(
                id: $0.text("version"), document: $0.text("document"), isDefault: $0.text("version") == policy.defaultVersion,
                created: $0.timestamp("created"))
        }
    }

    /// - Throws: `NoSuchEntity`.
    public static func version(_ t: Transaction, _ policy: ManagedPolicy, _ id: String) throws(CloudError) -> ManagedPolicy.Version {
        guard let found = try versions(t, policy).first(where: { $0.id == id }) else {
            throw CloudError(
                .named(code: "NoSuchEntity", status: 404),
                "Policy \(policy.arn) version \(id.prefix(20)) does not exist or is not attachable.")
        }
        return found
    }

    /// - Throws: `LimitExceeded` at five versions, `MalformedPolicyDocument`.
    public static func addVersion(
        _ t: Transaction, _ policy: ManagedPolicy, document: String, makeDefault: Bool, now: Timestamp
    ) throws(CloudError) -> ManagedPolicy.Version {
        try checkManaged(document)
        let count = try versions(t, policy).count + 1
        guard count <= IdentityRules.policyVersions else {
            throw CloudError(
                .named(code: "LimitExceeded", status: 409),
                "A managed policy can have up to \(IdentityRules.policyVersions) versions. Before you create a new version, you must "
                    + "delete an existing version.")
        }
        let number = try t.execute(
            "UPDATE identity.policies SET last_version = last_version + 1, updated = $2 WHERE arn = $1 RETURNING last_version",
            .text(policy.arn), .timestamp(now))[0].int("last_version")
        try insertVersion(t, policy.arn, number, document, now)
        if makeDefault { try setDefault(t, policy, "v\(number)", now: now) }
        return ManagedPolicy.Version(id: "v\(number)", document: document, isDefault: makeDefault, created: now)
    }

    public static func setDefault(_ t: Transaction, _ policy: ManagedPolicy, _ version: String, now: Timestamp) throws(CloudError) {
        _ = try Self.version(t, policy, version)
        try t.execute(
            "UPDATE identity.policies SET default_version = $2, updated = $3 WHERE arn = $1", .text(policy.arn), .text(version),
            .timestamp(now))
    }

    /// - Throws: `DeleteConflict` for the default version.
    public static func deleteVersion(_ t: Transaction, _ policy: ManagedPolicy, _ id: String) throws(CloudError) {
        guard try !version(t, policy, id).isDefault else {
            throw IdentityError.conflict("Cannot delete the default version of a policy.")
        }
        try t.execute("DELETE FROM identity.policy_versions WHERE arn = $1 AND version = $2", .text(policy.arn), .text(id))
    }

    /// - Throws: `DeleteConflict` while it is attached, is a boundary, or has other versions.
    public static func delete(_ t: Transaction, _ policy: ManagedPolicy) throws(CloudError) {
        guard try uses(t, policy.arn, account: nil) == 0, try boundaryUses(t, policy.arn) == 0 else {
            throw IdentityError.conflict("Cannot delete a policy attached to entities.")
        }
        guard try versions(t, policy).count == 1 else {
            throw IdentityError.conflict("This policy has more than one version. Before you delete a policy, you must delete its versions.")
        }
        try remove(t, policy)
    }

    static func remove(_ t: Transaction, _ policy: ManagedPolicy) throws(CloudError) {
        try t.execute("DELETE FROM identity.policy_versions WHERE arn = $1", .text(policy.arn))
        try t.execute("DELETE FROM identity.tags WHERE entity_id = $1", .text(policy.arn))
        try t.execute("DELETE FROM identity.policies WHERE arn = $1", .text(policy.arn))
    }

    // MARK: attachments

    /// Attaching it again changes nothing. - Throws: `LimitExceeded`, `NoSuchEntity`.
    public static func attach(_ t: Transaction, _ arn: String, to entity: Entity) throws(CloudError) {
        _ = try fetch(t, arn, account: entity.accountID)
        try t.execute(
            "INSERT INTO identity.attachments (entity_id, policy_arn) VALUES ($1, $2) ON CONFLICT DO NOTHING", .text(entity.id),
            .text(arn))
        let count = try t.execute("SELECT count(*) AS n FROM identity.attachments WHERE entity_id = $1", .text(entity.id))[0].int("n")
        guard count <= IdentityRules.attachmentsPerEntity else {
            throw IdentityError.limit("policies per \(entity.kind.words)", asked: count, limit: IdentityRules.attachmentsPerEntity)
        }
    }

    /// - Throws: `NoSuchEntity` when it is not attached.
    public static func detach(_ t: Transaction, _ arn: String, from entity: Entity) throws(CloudError) {
        let gone = try t.execute(
            "DELETE FROM identity.attachments WHERE entity_id = $1 AND policy_arn = $2", .text(entity.id), .text(arn))
        guard gone.affected > 0 else {
            throw CloudError(.named(code: "NoSuchEntity", status: 404), "Policy \(arn.prefix(200)) was not found.")
        }
    }

    /// Of an entity, by name.
    public static func attached(_ t: Transaction, _ entity: Entity) throws(CloudError) -> [ManagedPolicy] {
        var out: [ManagedPolicy] = []
        for row in try t.execute("SELECT policy_arn FROM identity.attachments WHERE entity_id = $1", .text(entity.id)) {
            out.append(try fetch(t, row.text("policy_arn"), account: entity.accountID))
        }
        return out.sorted { ($0.name, $0.arn) < ($1.name, $1.arn) }
    }

    /// The entities of an account that have it attached, or as a boundary.
    public static func entities(
        _ t: Transaction, _ arn: String, _ kind: EntityKind, account: String, asBoundary: Bool
    ) throws(CloudError) -> [Entity] {
        if asBoundary {
            guard kind != .group else { return [] }
            return try t.execute(
                "SELECT * FROM \(kind.table) WHERE account = $1 AND boundary = $2 ORDER BY name", .text(account), .text(arn)
            ).map { EntityStore.entity(kind, $0) }
        }
        return try t.execute(
            """
            SELECT e.* FROM \(kind.table) e JOIN identity.attachments a ON a.entity_id = e.id
            WHERE e.account = $1 AND a.policy_arn = $2 ORDER BY e.name
            """, .text(account), .text(arn)
        ).map { EntityStore.entity(kind, $0) }
    }

    /// How many have it attached; of Amazon's names in one account only.
    public static func uses(_ t: Transaction, _ arn: String, account: String?) throws(CloudError) -> Int {
        guard let account, arn.hasPrefix(AWSManagedPolicies.prefix) else {
            return try t.execute("SELECT count(*) AS n FROM identity.attachments WHERE policy_arn = $1", .text(arn))[0].int("n")
        }
        var count = 0
        for kind in [EntityKind.user, .group, .role] { count += try entities(t, arn, kind, account: account, asBoundary: false).count }
        return count
    }

    public static func boundaryUses(_ t: Transaction, _ arn: String) throws(CloudError) -> Int {
        try t.execute(
            """
            SELECT (SELECT count(*) FROM identity.users WHERE boundary = $1)
                + (SELECT count(*) FROM identity.roles WHERE boundary = $1) AS n
            """, .text(arn))[0].int("n")
    }

    // MARK: inline

    /// Adds or replaces. - Throws: `MalformedPolicyDocument`, `LimitExceeded`, `ValidationError`.
    public static func put(_ t: Transaction, _ entity: Entity, name: String, document: String) throws(CloudError) {
        try IdentityRules.checkPolicyName(name)
        _ = try PolicyDocument(parsing: document, for: .identity, maxBytes: 131_072)
        try t.execute(
            """
            INSERT INTO identity.inline_policies (entity_id, name, document) VALUES ($1, $2, $3)
            ON CONFLICT (entity_id, name) DO UPDATE SET document = excluded.document
            """, .text(entity.id), .text(name), .text(document))
        let size = try inline(t, entity).reduce(0) { $0 + IdentityRules.size($1.document) }
        guard size <= entity.kind.inlineLimit else {
            throw CloudError(
                .named(code: "LimitExceeded", status: 409),
                "Maximum policy size of \(entity.kind.inlineLimit) bytes exceeded for \(entity.kind.words) \(entity.name): \(size) bytes.")
        }
    }

    /// Name and text of each, by name.
    public static func inline(_ t: Transaction, _ entity: Entity) throws(CloudError) -> [(name: String, document: String)] {
        try t.execute("SELECT name, document FROM identity.inline_policies WHERE entity_id = $1 ORDER BY name", .text(entity.id)).map {
            ($0.text("name"), $0.text("document"))
        }
    }

    /// - Throws: `NoSuchEntity`.
    public static func inline(_ t: Transaction, _ entity: Entity, name: String) throws(CloudError) -> String {
        guard let found = try inline(t, entity).first(where: { $0.name == name }) else {
            throw IdentityError.missing("\(entity.kind.words) policy", String(name.prefix(128)))
        }
        return found.document
    }

    /// - Throws: `NoSuchEntity`.
    public static func deleteInline(_ t: Transaction, _ entity: Entity, name: String) throws(CloudError) {
        let gone = try t.execute("DELETE FROM identity.inline_policies WHERE entity_id = $1 AND name = $2", .text(entity.id), .text(name))
        guard gone.affected > 0 else { throw IdentityError.missing("\(entity.kind.words) policy", String(name.prefix(128))) }
    }

    // MARK: for the evaluator

    /// A policy that applies to somebody, with its name for simulations.
    public struct Source: Sendable {
        public let name: String
        /// `IAM Policy` words of a simulation: `user`, `group`, `role`, `aws-managed`, `user-managed`.
        public let type: String
        public let document: PolicyDocument

        public init(name: String, type: String, document: PolicyDocument) {
            self.name = name
            self.type = type
            self.document = document
        }
    }

    /// All that hang on a user and its groups, or on a role. They were checked when they were stored; one that cannot be read now might
    /// hold a Deny: so it fails closed.
    public static func sources(_ t: Transaction, entityID: String) throws(CloudError) -> [Source] {
        let rows = try t.execute(
            """
            WITH e AS (SELECT $1::text AS id UNION SELECT group_id FROM identity.group_members WHERE user_id = $1)
            SELECT i.entity_id AS entity, i.name AS name, i.document AS document, '' AS arn
            FROM identity.inline_policies i JOIN e ON e.id = i.entity_id
            UNION ALL
            SELECT a.entity_id, coalesce(p.name, ''), coalesce(v.document, ''), a.policy_arn
            FROM identity.attachments a JOIN e ON e.id = a.entity_id LEFT JOIN identity.policies p ON p.arn = a.policy_arn
            LEFT JOIN identity.policy_versions v ON v.arn = p.arn AND v.version = p.default_version
            ORDER BY 1, 2, 4
            """, .text(entityID))
        var out: [Source] = []
        for row in rows {
            if let ours = AWSManagedPolicies.find(row.text("arn")) {
                out.append(Source(name: ours.name, type: "aws-managed", document: ours.parsed))
                continue
            }
            let kind = EntityKind.allCases.first { row.text("entity").hasPrefix($0.idPrefix) }
            out.append(
                Source(
                    name: row.text("name"), type: row.text("arn").isEmpty ? kind?.rawValue ?? "none" : "user-managed",
                    document: try PolicyDocument(parsing: row.text("document"), maxBytes: 131_072)))
        }
        return out
    }

    /// The document of a managed policy as it applies now; `nil` when there is none (any more), which as a boundary allows nothing.
    static func document(_ t: Transaction, _ arn: String) throws(CloudError) -> PolicyDocument? {
        if let ours = AWSManagedPolicies.find(arn) { return ours.parsed }
        let rows = try t.execute(
            """
            SELECT v.document FROM identity.policies p JOIN identity.policy_versions v ON v.arn = p.arn AND v.version = p.default_version
            WHERE p.arn = $1
            """, .text(arn))
        guard let row = rows.first else { return nil }
        return try PolicyDocument(parsing: row.text("document"), maxBytes: 131_072)
    }
}

extension ManagedPolicy {
    init(_ ours: AWSManagedPolicy) {
        self.init(
            arn: ours.arn, id: ours.id, name: ours.name, path: ours.path, description: ours.description, defaultVersion: "v1",
            created: AWSManagedPolicies.created, updated: AWSManagedPolicies.created)
    }

    init(_ row: Row) {
        self.init(
            arn: row.text("arn"), id: row.text("id"), name: row.text("name"), path: row.text("path"), description: row.text("description"),
            defaultVersion: row.text("default_version"), created: row.timestamp("created"), updated: row.timestamp("updated"))
    }
}
