public import Database
public import Domain

/// A key pair as the cloud knows it: the public half. The private half of one that the cloud made was given out once and is not kept.
public struct KeyPair: Sendable, Equatable {
    public let id: KeyPairID
    public let accountID, name: String
    /// `rsa` or `ed25519`.
    public let type: String
    public let fingerprint: String
    /// One line of `authorized_keys`.
    public let publicKey: String
    public let createdAt: Timestamp
}

public enum KeyPairStore {
    /// - Throws: `.duplicate(.keyPair)`; `.limitExceeded(.keyPairs)`.
    static func insert(_ tx: Transaction, _ key: KeyPair, limit: Int) throws(CloudError) {
        guard try find(tx, name: key.name, accountID: key.accountID) == nil else { throw CloudError(.duplicate(.keyPair, name: key.name)) }
        let count =
            try tx.execute("SELECT count(*) AS n FROM cloud.key_pairs WHERE account_id = $1", .text(key.accountID)).first?.int("n") ?? 0
        guard count < limit else { throw CloudError(.limitExceeded(.keyPairs, asked: count + 1, limit: limit)) }
        try tx.execute(
            """
            INSERT INTO cloud.key_pairs (id, account_id, name, type, fingerprint, public_key, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            .text(key.id.text), .text(key.accountID), .text(key.name), .text(key.type), .text(key.fingerprint), .text(key.publicKey),
            .timestamp(key.createdAt))
    }

    /// - Throws: `.notFound(.keyPair)`.
    public static func fetch(_ tx: Transaction, name: String, accountID: String) throws(CloudError) -> KeyPair {
        guard let found = try find(tx, name: name, accountID: accountID) else { throw CloudError(.notFound(.keyPair, id: name)) }
        return found
    }

    static func find(_ tx: Transaction, name: String, accountID: String) throws(CloudError) -> KeyPair? {
        guard
            let row = try tx.execute("SELECT * FROM cloud.key_pairs WHERE account_id = $1 AND name = $2", .text(accountID), .text(name))
                .first
        else { return nil }
        return try keyPair(row)
    }

    static func find(_ tx: Transaction, id: KeyPairID, accountID: String) throws(CloudError) -> KeyPair? {
        guard
            let row = try tx.execute("SELECT * FROM cloud.key_pairs WHERE account_id = $1 AND id = $2", .text(accountID), .text(id.text))
                .first
        else { return nil }
        return try keyPair(row)
    }

    /// In the order of names.
    static func list(_ tx: Transaction, accountID: String) throws(CloudError) -> [KeyPair] {
        var out: [KeyPair] = []
        for row in try tx.execute("SELECT * FROM cloud.key_pairs WHERE account_id = $1 ORDER BY name COLLATE \"C\"", .text(accountID)) {
            out.append(try keyPair(row))
        }
        return out
    }

    static func delete(_ tx: Transaction, id: KeyPairID) throws(CloudError) {
        try TagStore.deleteAll(tx, id.text)
        try tx.execute("DELETE FROM cloud.key_pairs WHERE id = $1", .text(id.text))
    }

    private static func keyPair(_ row: Row) throws(CloudError) -> KeyPair {
        KeyPair(
            id: try KeyPairID(parsing: row.text("id")), accountID: row.text("account_id"), name: row.text("name"), type: row.text("type"),
            fingerprint: row.text("fingerprint"), publicKey: row.text("public_key"), createdAt: row.timestamp("created_at"))
    }
}
