import Database
public import Domain
import Signing
import Workflow

/// Access keys and signing certificates. `user` is `nil` (or `root`) for the account's root.
extension IdentityStore {
    /// - Throws: `.named("LimitExceeded")` for a third key, `.notFound(user)`.
    public func accessKeyCreate(account: String, user: String? = nil) async throws(CloudError) -> AccessKeyPair {
        let pair = AccessKeyPair(id: IdentityRules.accessKeyID(random), secret: IdentityRules.secret(random))
        let sealed = try sealSecret(pair.secret, pair.id)
        let now = clock.now()
        try await pool.transaction { t in
            let owner = try Self.userID(t, user, account)
            try Self.insertKey(t, pair.id, sealed, account, owner, now)
        }
        return pair
    }

    /// The oldest active key, made if there is none: repeating it gives the same one. For the keys of the first account and of the
    /// daemons, which set-up writes down again when asked again.
    public func accessKeyEnsure(account: String, user: String? = nil) async throws(CloudError) -> AccessKeyPair {
        let fresh = AccessKeyPair(id: IdentityRules.accessKeyID(random), secret: IdentityRules.secret(random))
        let sealed = try sealSecret(fresh.secret, fresh.id)
        let now = clock.now()
        let (id, secret) = try await pool.transaction { t -> (String, [UInt8]) in
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
            throw CloudError(.named(code: "LimitExceeded", status: 409), "A user has at most \(IdentityRules.keysPerUser) access keys")
        }
        try t.execute(
            "INSERT INTO identity.access_keys (id, account, user_id, secret, created) VALUES ($1, $2, $3, $4, $5)", .text(id),
            .text(account), SQLValue(owner), .bytes(sealed), .timestamp(now))
        try t.notify(channel)
    }

    public func accessKeyList(account: String, user: String? = nil) async throws(CloudError) -> [AccessKey] {
        try await pool.read { t in
            let owner = try Self.userID(t, user, account)
            return try t.execute(
                "SELECT * FROM identity.access_keys WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2 ORDER BY created, id",
                .text(account), SQLValue(owner)
            ).map {
                AccessKey(id: $0.text("id"), userName: user ?? "root", isActive: $0.bool("active"), created: $0.timestamp("created"))
            }
        }
    }

    /// - Throws: `.notFound(keyPair)` when the account has no such key.
    public func accessKeySetActive(_ id: String, account: String, active: Bool) async throws(CloudError) {
        try await pool.transaction { t in
            let changed = try t.execute(
                "UPDATE identity.access_keys SET active = $3 WHERE id = $1 AND account = $2", .text(id), .text(account), .boolean(active))
            guard changed.affected > 0 else { throw CloudError(.notFound(.keyPair, id: id)) }
            try t.notify(Self.channel)
        }
    }

    /// - Throws: `.notFound(keyPair)`.
    public func accessKeyDelete(_ id: String, account: String) async throws(CloudError) {
        try await pool.transaction { t in
            let deleted = try t.execute("DELETE FROM identity.access_keys WHERE id = $1 AND account = $2", .text(id), .text(account))
            guard deleted.affected > 0 else { throw CloudError(.notFound(.keyPair, id: id)) }
            try t.notify(Self.channel)
        }
    }

    /// Registers a certificate; repeating it for the same user answers the same.
    /// - Returns: its fingerprint.
    /// - Throws: `.invalidParameter` for a text that is no certificate, or one whose RSA key is too weak; `.duplicate(keyPair)` when
    /// somebody
    ///   else has it; `.named("LimitExceeded")`.
    public func certificateAdd(pem: String, account: String, user: String? = nil) async throws(CloudError) -> String {
        let certificate = try Certificate(pem: pem)
        // Whoever holds the private key is the user: a weak one would be everybody's. SOAP messages are signed with RSA.
        guard try certificate.publicKey.isStrongRSA else {
            throw CloudError(.invalidParameter("CertificateBody"), "A signing certificate must have an RSA key of at least 2048 bits")
        }
        let fingerprint = certificate.fingerprintSHA256
        let text = certificate.pem
        let now = clock.now()
        return try await pool.transaction { t in
            let owner = try Self.userID(t, user, account)
            if let row = try t.execute("SELECT * FROM identity.certificates WHERE fingerprint = $1", .text(fingerprint)).first {
                guard row.text("account") == account, row.optionalText("user_id") == owner else {
                    throw CloudError(.duplicate(.keyPair, name: fingerprint))
                }
                return fingerprint
            }
            let count = try t.execute(
                "SELECT count(*) AS n FROM identity.certificates WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2", .text(account),
                SQLValue(owner))[0].int("n")
            guard count < IdentityRules.certificatesPerUser else {
                throw CloudError(
                    .named(code: "LimitExceeded", status: 409),
                    "A user has at most \(IdentityRules.certificatesPerUser) signing certificates")
            }
            try t.execute(
                "INSERT INTO identity.certificates (fingerprint, account, user_id, pem, created) VALUES ($1, $2, $3, $4, $5)",
                .text(fingerprint), .text(account), SQLValue(owner), .text(text), .timestamp(now))
            try t.notify(Self.channel)
            return fingerprint
        }
    }

    public func certificateList(account: String, user: String? = nil) async throws(CloudError) -> [SigningCertificate] {
        try await pool.read { t in
            let owner = try Self.userID(t, user, account)
            return try t.execute(
                "SELECT * FROM identity.certificates WHERE account = $1 AND user_id IS NOT DISTINCT FROM $2 ORDER BY created, fingerprint",
                .text(account), SQLValue(owner)
            ).map {
                SigningCertificate(
                    fingerprint: $0.text("fingerprint"), userName: user ?? "root", pem: $0.text("pem"), isActive: $0.bool("active"),
                    created: $0.timestamp("created"))
            }
        }
    }

    /// - Throws: `.notFound(keyPair)`.
    public func certificateDelete(fingerprint: String, account: String) async throws(CloudError) {
        try await pool.transaction { t in
            let deleted = try t.execute(
                "DELETE FROM identity.certificates WHERE fingerprint = $1 AND account = $2", .text(fingerprint), .text(account))
            guard deleted.affected > 0 else { throw CloudError(.notFound(.keyPair, id: fingerprint)) }
            try t.notify(Self.channel)
        }
    }
}
