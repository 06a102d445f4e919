public import Database
public import Domain
import Signing

/// Passwords of users, the account's rules for them, and its alias. Hashing a password takes a fifth of a second: it is done here, on the
/// connection's thread.
public enum LoginStore {
    public struct Profile: Sendable {
        public let created: Timestamp
        public let mustReset: Bool
    }

    /// - Throws: `NoSuchEntity` for a user without a password.
    public static func fetch(_ t: Transaction, _ user: Entity) throws(CloudError) -> Profile {
        let row = try t.execute("SELECT * FROM identity.users WHERE id = $1 AND password_hash IS NOT NULL", .text(user.id)).first
        guard let row else {
            throw CloudError(.named(code: "NoSuchEntity", status: 404), "Login Profile for User \(user.name) cannot be found.")
        }
        return Profile(created: row.optionalTimestamp("password_created") ?? user.created, mustReset: row.bool("password_reset"))
    }

    /// - Throws: `EntityAlreadyExists`, `PasswordPolicyViolation`.
    public static func create(
        _ t: Transaction, _ user: Entity, password: String, mustReset: Bool, now: Timestamp
    ) throws(CloudError) -> Profile {
        let taken = try t.execute("SELECT 1 FROM identity.users WHERE id = $1 AND password_hash IS NOT NULL", .text(user.id))
        guard taken.isEmpty else {
            throw CloudError(.named(code: "EntityAlreadyExists", status: 409), "Login Profile for user \(user.name) already exists.")
        }
        try set(t, user, password: password, mustReset: mustReset)
        try t.execute("UPDATE identity.users SET password_created = $2 WHERE id = $1", .text(user.id), .timestamp(now))
        return Profile(created: now, mustReset: mustReset)
    }

    /// - Throws: `NoSuchEntity`, `PasswordPolicyViolation`.
    public static func update(_ t: Transaction, _ user: Entity, password: String?, mustReset: Bool?) throws(CloudError) {
        let profile = try fetch(t, user)
        if let password {
            try set(t, user, password: password, mustReset: mustReset ?? profile.mustReset)
        } else if let mustReset {
            try t.execute("UPDATE identity.users SET password_reset = $2 WHERE id = $1", .text(user.id), .boolean(mustReset))
        }
    }

    private static func set(_ t: Transaction, _ user: Entity, password: String, mustReset: Bool) throws(CloudError) {
        let policy = try passwordPolicy(t, account: user.accountID)
        try (policy ?? PasswordPolicy()).check(password)
        let row = try t.execute("SELECT password_hash, password_history FROM identity.users WHERE id = $1", .text(user.id))[0]
        let kept = policy?.reusePrevention ?? 0
        let old = row.optionalText("password_hash").map { [$0] } ?? []
        let history = Array((old + row.textArray("password_history")).prefix(kept))
        for past in history where try PasswordHash.verify(password, past) {
            throw CloudError(
                .named(code: "PasswordPolicyViolation", status: 400),
                "The password does not conform to the account password policy: it was used before.")
        }
        try t.execute(
            "UPDATE identity.users SET password_hash = $2, password_reset = $3, password_history = $4 WHERE id = $1", .text(user.id),
            .text(try PasswordHash.make(password)), .boolean(mustReset), .textArray(Array(history.prefix(max(0, kept - 1)))))
    }

    /// By the user itself. - Throws: `InvalidUserType`, `AccessDenied`, `PasswordPolicyViolation`.
    public static func change(_ t: Transaction, _ user: Entity, old: String, new: String) throws(CloudError) {
        _ = try fetch(t, user)
        if let policy = try passwordPolicy(t, account: user.accountID), !policy.allowUsersToChange {
            throw CloudError(.forbidden(action: "iam:ChangePassword"), "The account's users may not change their passwords.")
        }
        guard try verify(t, user, password: old) else {
            throw CloudError(.forbidden(action: "iam:ChangePassword"), "The old password was incorrect.")
        }
        try set(t, user, password: new, mustReset: false)
    }

    /// Whether this is the user's password; `false` for one without.
    public static func verify(_ t: Transaction, _ user: Entity, password: String) throws(CloudError) -> Bool {
        let stored = try t.execute("SELECT password_hash FROM identity.users WHERE id = $1", .text(user.id)).first?
            .optionalText("password_hash")
        return try stored.map { stored throws(CloudError) in try PasswordHash.verify(password, stored) } ?? false
    }

    public static func delete(_ t: Transaction, _ user: Entity) throws(CloudError) {
        _ = try fetch(t, user)
        try t.execute(
            "UPDATE identity.users SET password_hash = NULL, password_created = NULL, password_reset = false WHERE id = $1",
            .text(user.id))
    }

    // MARK: of the account

    /// `nil`: none was set.
    public static func passwordPolicy(_ t: Transaction, account: String) throws(CloudError) -> PasswordPolicy? {
        guard
            let text = try t.execute("SELECT password_policy FROM identity.accounts WHERE id = $1", .text(account)).first?
                .optionalText("password_policy")
        else { return nil }
        do throws(JSONValue.ParseError) { return PasswordPolicy(try JSONValue(parsing: text)) } catch {
            throw .bug("the stored password policy of \(account): \(error)")
        }
    }

    public static func setPasswordPolicy(_ t: Transaction, account: String, _ policy: PasswordPolicy?) throws(CloudError) {
        try t.execute(
            "UPDATE identity.accounts SET password_policy = $2 WHERE id = $1", .text(account), SQLValue(policy?.json.encoded))
    }

    public static func alias(_ t: Transaction, account: String) throws(CloudError) -> String? {
        try t.execute("SELECT alias FROM identity.accounts WHERE id = $1", .text(account)).first?.optionalText("alias")
    }

    /// - Throws: `ValidationError`, `EntityAlreadyExists` when another account has it.
    public static func setAlias(_ t: Transaction, account: String, _ alias: String?) throws(CloudError) {
        if let alias {
            let fits =
                (3...63).contains(alias.utf8.count)
                && alias.utf8.allSatisfy { ($0 >= 0x61 && $0 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2d }
            guard fits, !alias.hasPrefix("-"), !alias.hasSuffix("-"), !alias.contains("--") else {
                throw IdentityError.invalid("AccountAlias", "it has 3 to 63 lower-case letters, digits and single inner hyphens")
            }
            let others = try t.execute("SELECT 1 FROM identity.accounts WHERE alias = $1 AND id <> $2", .text(alias), .text(account))
            guard others.isEmpty else {
                throw CloudError(
                    .named(code: "EntityAlreadyExists", status: 409), "The account alias \(alias) already exists.")
            }
        }
        try t.execute("UPDATE identity.accounts SET alias = $2 WHERE id = $1", .text(account), SQLValue(alias))
    }

    /// How many of each an account has, for GetAccountSummary.
    public static func counts(_ t: Transaction, account: String) throws(CloudError) -> [(name: String, count: Int)] {
        let row = try t.execute(
            """
            SELECT (SELECT count(*) FROM identity.users WHERE account = $1) AS users,
                (SELECT count(*) FROM identity.groups WHERE account = $1) AS groups,
                (SELECT count(*) FROM identity.roles WHERE account = $1) AS roles,
                (SELECT count(*) FROM identity.instance_profiles WHERE account = $1) AS profiles,
                (SELECT count(*) FROM identity.policies WHERE account = $1) AS policies,
                (SELECT count(*) FROM identity.policy_versions v JOIN identity.policies p ON p.arn = v.arn
                    WHERE p.account = $1) AS versions,
                (SELECT count(*) FROM identity.oidc_providers WHERE account = $1) AS providers,
                (SELECT count(*) FROM identity.access_keys WHERE account = $1 AND user_id IS NULL) AS keys,
                (SELECT count(*) FROM identity.certificates WHERE account = $1 AND user_id IS NULL) AS certificates
            """, .text(account))[0]
        return [
            ("Users", row.int("users")), ("UsersQuota", EntityKind.user.limit), ("Groups", row.int("groups")),
            ("GroupsQuota", EntityKind.group.limit), ("Roles", row.int("roles")), ("RolesQuota", EntityKind.role.limit),
            ("InstanceProfiles", row.int("profiles")), ("InstanceProfilesQuota", EntityKind.instanceProfile.limit),
            ("Policies", row.int("policies")), ("PoliciesQuota", IdentityRules.managedPolicies),
            ("PolicySizeQuota", IdentityRules.managedLimit), ("PolicyVersionsInUse", row.int("versions")),
            ("PolicyVersionsInUseQuota", 10_000), ("VersionsPerPolicyQuota", IdentityRules.policyVersions),
            ("Providers", row.int("providers")), ("AccountAccessKeysPresent", min(1, row.int("keys"))),
            ("AccountSigningCertificatesPresent", min(1, row.int("certificates"))), ("AccountMFAEnabled", 0), ("MFADevices", 0),
            ("MFADevicesInUse", 0), ("AccessKeysPerUserQuota", IdentityRules.keysPerUser),
            ("SigningCertificatesPerUserQuota", IdentityRules.certificatesPerUser),
            ("AttachedPoliciesPerUserQuota", IdentityRules.attachmentsPerEntity),
            ("AttachedPoliciesPerGroupQuota", IdentityRules.attachmentsPerEntity),
            ("AttachedPoliciesPerRoleQuota", IdentityRules.attachmentsPerEntity), ("GroupsPerUserQuota", IdentityRules.groupsPerUser),
            ("UserPolicySizeQuota", EntityKind.user.inlineLimit), ("GroupPolicySizeQuota", EntityKind.group.inlineLimit),
            ("RolePolicySizeQuota", EntityKind.role.inlineLimit), ("AssumeRolePolicySizeQuota", IdentityRules.trustLimit),
            ("ServerCertificates", 0), ("ServerCertificatesQuota", 0), ("GlobalEndpointTokenVersion", 1),
        ]
    }
}
