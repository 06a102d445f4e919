public import Database
public import Domain
import Signing
import Workflow

/// Access keys and signing certificates. `user` is `nil` (or `root`) for the account's root. Each change comes as a step of a caller's
/// transaction, so that the audit row stands in the same one, and as a call of its own.
extension IdentityStore {
    /// - Throws: `.named("LimitExceeded")` for a third key, `.notFound(user)`.
    public func accessKeyCreate(account: String, user: String? = nil) async throws(CloudError) -> AccessKeyPair {
        try await change { t in try self.accessKeyCreate(t, account: account, user: user, now: self.clock.now()) }
    }

    public func accessKeyCreate(_ t: Transaction, account: String, user: String?, now: Timestamp) throws(CloudError) -> AccessKeyPair {
        let pair = AccessKeyPair(id: IdentityRules.accessKeyID(random), secret: IdentityRules.secret(random))
        let sealed = try sealSecret(pair.secret, pair.id)
        let owner = try Self.userID(t, user, account)
        try Self.insertKey(t, pair.id, sealed, account, owner, now)
        return pair
    }

    /// The oldest active key, made if there is none: repeating it gives the same one. For the keys of the first account and of the
    /// daemons, which set-up writes down again when asked again.
    public func accessKeyEnsure(account: String, user: String? = nil) async throws(CloudError) -> AccessKeyPair {
        let fresh = AccessKeyPair(id: IdentityRules.accessKeyID(random), secret: IdentityRules.secret(random))
        let sealed = try sealSecret(fresh.secret, fresh.id)
        let now = clock.now()
        let (id, secret) = try await change { t -> (String, [UInt8]) in
            let owner = try Self.userID(t, user, account)
            let rows = try t.execute(
                """
                SELECT * FROM identity.access_keys WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2 AND active
                ORDER BY created, id LIMIT 1
                """, .text(account), SQLValue(owner))
            if let row = rows.first { return (row.text("id"), row.bytes("secret")) }
            try Self.insertKey(t, fresh.id, sealed, account, owner, now)
            return (fresh.id, sealed)
        }
        return AccessKeyPair(id: id, secret: try openSecret(secret, id))
    }

    private static func insertKey(
        _ t: Transaction, _ id: String, _ sealed: [UInt8], _ account: String, _ owner: String?, _ now: Timestamp
    ) throws(CloudError) {
        let count = try t.execute(
            "SELECT count(*) AS n FROM identity.access_keys WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2", .text(account),
            SQLValue(owner))[0].int("n")
        guard count < IdentityRules.keysPerUser else {
            throw IdentityError.limit("access keys per user", asked: count + 1, limit: IdentityRules.keysPerUser)
        }
        try t.execute(
            "INSERT INTO identity.access_keys (id, account, user_id, secret, created) VALUES ($1, $2, $3, $4, $5)", .text(id),
            .text(account), SQLValue(owner), .bytes(sealed), .timestamp(now))
    }

    public func accessKeyList(account: String, user: String? = nil) async throws(CloudError) -> [AccessKey] {
        try await pool.read { t in try Self.accessKeyList(t, account: account, user: user) }
    }

    public static func accessKeyList(_ t: Transaction, account: String, user: String?) throws(CloudError) -> [AccessKey] {
        let owner = try Self.userID(t, user, account)
        return try t.execute(
            "SELECT * FROM identity.access_keys WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2 ORDER BY created, id",
            .text(account), SQLValue(owner)
        ).map { Self.key($0, user ?? "root") }
    }

    private static func key(_ row: Row, _ user: String) -> AccessKey {
        AccessKey(
            id: row.text("id"), userName: user, isActive: row.bool("active"), created: row.timestamp("created"),
            used: row.optionalTimestamp("used_at").map {
                AccessKey.Use(at: $0, service: row.text("used_service"), region: row.text("used_region"))
            })
    }

    /// Of whichever user, with its account. - Throws: `.notFound(keyPair)`.
    public static func accessKeyFetch(_ t: Transaction, _ id: String) throws(CloudError) -> (account: String, key: AccessKey) {
        let rows = try t.execute(
            """
            SELECT k.*, coalesce(u.name, 'root') AS user_name FROM identity.access_keys k LEFT JOIN identity.users u ON u.id = k.user_id
            WHERE k.id = $1
            """, .text(id))
        guard let row = rows.first else { throw CloudError(.notFound(.keyPair, id: id)) }
        return (row.text("account"), key(row, row.text("user_name")))
    }

    /// - Throws: `.notFound(keyPair)` when the account has no such key.
    public func accessKeySetActive(_ id: String, account: String, active: Bool) async throws(CloudError) {
        try await change { t in try Self.accessKeySetActive(t, id, account: account, active: active) }
    }

    /// - Parameter user: when given, the key must be this user's.
    public static func accessKeySetActive(
        _ t: Transaction, _ id: String, account: String, user: String? = nil, active: Bool
    ) throws(CloudError) {
        try checkOwner(t, id, account, user)
        try t.execute("UPDATE identity.access_keys SET active = $2 WHERE id = $1", .text(id), .boolean(active))
    }

    /// - Throws: `.notFound(keyPair)`.
    public func accessKeyDelete(_ id: String, account: String) async throws(CloudError) {
        try await change { t in try Self.accessKeyDelete(t, id, account: account) }
    }

    public static func accessKeyDelete(_ t: Transaction, _ id: String, account: String, user: String? = nil) throws(CloudError) {
        try checkOwner(t, id, account, user)
        try t.execute("DELETE FROM identity.access_keys WHERE id = $1", .text(id))
    }

    private static func checkOwner(_ t: Transaction, _ id: String, _ account: String, _ user: String?) throws(CloudError) {
        let found = try accessKeyFetch(t, id)
        guard found.account == account, user == nil || found.key.userName.lowercased() == user?.lowercased() else {
            throw CloudError(.notFound(.keyPair, id: id))
        }
    }

    /// Remembers that a key was used: written when the last note is older than a quarter of an hour, so that reading stays reading.
    public func accessKeyUsed(_ id: String, service: String, region: String) async throws(CloudError) {
        let now = clock.now()
        guard uses.isDue(id, now: now) else { return }
        try await pool.transaction { t in
            try t.execute(
                "UPDATE identity.access_keys SET used_at = $2, used_service = $3, used_region = $4 WHERE id = $1", .text(id),
                .timestamp(now), .text(service), .text(region))
        }
    }

    /// The same of a role: when a session of it was used last.
    public func roleUsed(_ arn: String, roleID: String, region: String) async throws(CloudError) {
        let now = clock.now()
        guard uses.isDue(arn, now: now) else { return }
        try await pool.transaction { t in
            try t.execute(
                "UPDATE identity.roles SET used_at = $2, used_region = $3 WHERE id = $1", .text(roleID), .timestamp(now), .text(region))
        }
    }

    // MARK: certificates

    /// Registers a certificate; repeating it for the same user answers the same.
    /// - Returns: its fingerprint.
    /// - Throws: `.invalidParameter` for a text that is no certificate, or one whose RSA key is too weak; `.duplicate(keyPair)` when
    ///   somebody else has it; `.named("LimitExceeded")`.
    public func certificateAdd(pem: String, account: String, user: String? = nil) async throws(CloudError) -> String {
        try await change { t in
            try Self.certificateAdd(t, pem: pem, account: account, user: user, now: self.clock.now()).fingerprint
        }
    }

    public static func certificateAdd(
        _ t: Transaction, pem: String, account: String, user: String?, now: Timestamp
    ) throws(CloudError) -> SigningCertificate {
        let certificate = try Certificate(pem: pem)
        // Whoever holds the private key is the user: a weak one would be everybody's. SOAP messages are signed with RSA.
        guard try certificate.publicKey.isStrongRSA else {
            throw CloudError(.invalidParameter("CertificateBody"), "A signing certificate must have an RSA key of at least 2048 bits")
        }
        let fingerprint = certificate.fingerprintSHA256
        let owner = try Self.userID(t, user, account)
        if let row = try t.execute("SELECT * FROM identity.certificates WHERE fingerprint = $1", .text(fingerprint)).first {
            guard row.text("account") == account, row.optionalText("user_id") == owner else {
                throw CloudError(.duplicate(.keyPair, name: fingerprint))
            }
            return self.certificate(row, user ?? "root")
        }
        let count = try t.execute(
            "SELECT count(*) AS n FROM identity.certificates WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2", .text(account),
            SQLValue(owner))[0].int("n")
        guard count < IdentityRules.certificatesPerUser else {
            throw IdentityError.limit("signing certificates per user", asked: count + 1, limit: IdentityRules.certificatesPerUser)
        }
        try t.execute(
            "INSERT INTO identity.certificates (fingerprint, account, user_id, pem, created) VALUES ($1, $2, $3, $4, $5)",
            .text(fingerprint), .text(account), SQLValue(owner), .text(certificate.pem), .timestamp(now))
        return SigningCertificate(
            fingerprint: fingerprint, userName: user ?? "root", pem: certificate.pem, isActive: true, created: now)
    }

    private static func certificate(_ row: Row, _ user: String) -> SigningCertificate {
        SigningCertificate(
            fingerprint: row.text("fingerprint"), userName: user, pem: row.text("pem"), isActive: row.bool("active"),
            created: row.timestamp("created"))
    }

    public func certificateList(account: String, user: String? = nil) async throws(CloudError) -> [SigningCertificate] {
        try await pool.read { t in try Self.certificateList(t, account: account, user: user) }
    }

    public static func certificateList(_ t: Transaction, account: String, user: String?) throws(CloudError) -> [SigningCertificate] {
        let owner = try Self.userID(t, user, account)
        return try t.execute(
            "SELECT * FROM identity.certificates WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2 ORDER BY created, fingerprint",
            .text(account), SQLValue(owner)
        ).map { certificate($0, user ?? "root") }
    }

    /// - Throws: `.notFound(keyPair)`.
    public static func certificateSetActive(
        _ t: Transaction, fingerprint: String, account: String, user: String?, active: Bool
    ) throws(CloudError) {
        let changed = try t.execute(
            """
            UPDATE identity.certificates SET active = $4 WHERE fingerprint = $1 AND account = $2 AND user_id IS NOT DISTINCT FROM $3
            """, .text(fingerprint), .text(account), SQLValue(try Self.userID(t, user, account)), .boolean(active))
        guard changed.affected > 0 else { throw CloudError(.notFound(.keyPair, id: fingerprint)) }
    }

    /// - Throws: `.notFound(keyPair)`.
    public func certificateDelete(fingerprint: String, account: String) async throws(CloudError) {
        try await change { t in
            let deleted = try t.execute(
                "DELETE FROM identity.certificates WHERE fingerprint = $1 AND account = $2", .text(fingerprint), .text(account))
            guard deleted.affected > 0 else { throw CloudError(.notFound(.keyPair, id: fingerprint)) }
        }
    }

    public static func certificateDelete(
        _ t: Transaction, fingerprint: String, account: String, user: String?
    ) throws(CloudError) {
        let deleted = try t.execute(
            "DELETE FROM identity.certificates WHERE fingerprint = $1 AND account = $2 AND user_id IS NOT DISTINCT FROM $3",
            .text(fingerprint), .text(account), SQLValue(try Self.userID(t, user, account)))
        guard deleted.affected > 0 else { throw CloudError(.notFound(.keyPair, id: fingerprint)) }
    }
}
