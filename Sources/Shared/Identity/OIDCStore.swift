public import Database
public import Domain

/// OpenID Connect providers that an account trusts.
public enum OIDCStore {
    /// - Parameter url: `https://host[/path]`.
    /// - Throws: `InvalidInput`, `EntityAlreadyExists`, `LimitExceeded`.
    public static func create(
        _ t: Transaction, url: String, clients: [String], thumbprints: [String], account: String, now: Timestamp
    ) throws(CloudError) -> OIDCProvider {
        let lower = url.lowercased()
        guard lower.hasPrefix("https://"), url.utf8.count > 8, url.utf8.count <= 255,
            url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), !url.contains("?"), !url.contains("#")
        else { throw IdentityError.input("The URL of a provider is https://host[/path].") }
        var name = String(url.dropFirst(8))
        while name.hasSuffix("/") { name = String(name.dropLast()) }
        try check(clients: clients, thumbprints: thumbprints)
        let arn = "arn:aws:iam::\(account):oidc-provider/\(name)"
        guard try t.execute("SELECT 1 FROM identity.oidc_providers WHERE arn = $1", .text(arn)).isEmpty else {
            throw CloudError(
                .named(code: "EntityAlreadyExists", status: 409), "Provider with url https://\(name) already exists.")
        }
        let count = try list(t, account: account).count + 1
        guard count <= IdentityRules.oidcProviders else {
            throw IdentityError.limit("OpenID Connect providers per account", asked: count, limit: IdentityRules.oidcProviders)
        }
        try t.execute(
            "INSERT INTO identity.oidc_providers (arn, account, url, clients, thumbprints, created) VALUES ($1, $2, $3, $4, $5, $6)",
            .text(arn), .text(account), .text(name), .textArray(clients), .textArray(thumbprints.map { $0.lowercased() }), .timestamp(now))
        return try fetch(t, arn, account: account)
    }

    static func check(clients: [String], thumbprints: [String]) throws(CloudError) {
        guard clients.count <= 100 else { throw IdentityError.limit("client IDs per provider", asked: clients.count, limit: 100) }
        guard clients.allSatisfy({ (1...255).contains($0.utf8.count) }) else {
            throw IdentityError.input("A client ID has 1 to 255 characters.")
        }
        guard thumbprints.count <= 5 else { throw IdentityError.limit("thumbprints per provider", asked: thumbprints.count, limit: 5) }
        guard thumbprints.allSatisfy({ $0.utf8.count == 40 && Hex.decode($0) != nil }) else {
            throw IdentityError.input("A thumbprint is the SHA-1 of a certificate: 40 hexadecimal digits.")
        }
    }

    /// - Throws: `NoSuchEntity`.
    public static func fetch(_ t: Transaction, _ arn: String, account: String) throws(CloudError) -> OIDCProvider {
        let rows = try t.execute("SELECT * FROM identity.oidc_providers WHERE arn = $1 AND account = $2", .text(arn), .text(account))
        guard let row = rows.first else {
            throw CloudError(
                .named(code: "NoSuchEntity", status: 404), "OpenIDConnect Provider not found for arn \(arn.prefix(300))")
        }
        return provider(row)
    }

    public static func list(_ t: Transaction, account: String) throws(CloudError) -> [OIDCProvider] {
        try t.execute("SELECT * FROM identity.oidc_providers WHERE account = $1 ORDER BY arn", .text(account)).map(provider)
    }

    private static func provider(_ row: Row) -> OIDCProvider {
        OIDCProvider(
            arn: row.text("arn"), accountID: row.text("account"), url: row.text("url"), clients: row.textArray("clients"),
            thumbprints: row.textArray("thumbprints"), created: row.timestamp("created"))
    }

    public static func update(
        _ t: Transaction, _ provider: OIDCProvider, clients: [String]? = nil, thumbprints: [String]? = nil
    ) throws(CloudError) {
        let clients = clients ?? provider.clients
        let thumbprints = thumbprints ?? provider.thumbprints
        try check(clients: clients, thumbprints: thumbprints)
        try t.execute(
            "UPDATE identity.oidc_providers SET clients = $2, thumbprints = $3 WHERE arn = $1", .text(provider.arn),
            .textArray(clients), .textArray(thumbprints.map { $0.lowercased() }))
    }

    public static func delete(_ t: Transaction, _ provider: OIDCProvider) throws(CloudError) {
        try t.execute("DELETE FROM identity.tags WHERE entity_id = $1", .text(provider.arn))
        try t.execute("DELETE FROM identity.oidc_providers WHERE arn = $1", .text(provider.arn))
    }
}
