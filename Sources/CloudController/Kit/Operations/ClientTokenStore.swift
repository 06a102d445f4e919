public import Database
public import Domain
import Signing
import Wire

/// Idempotency by client token: the same account, action and token with the same parameters gives the first call's result again; with
/// other parameters it is refused. Source: EC2 API Reference, "Ensuring idempotency".
public enum ClientTokenStore {
    /// How long a token is remembered. Too low: a client that retries for long gets two; too high: the table grows.
    public static let retentionSeconds: Int64 = 24 * 3600

    /// Two requests with one client token are the same when their parameters are, in the canonical order of the value tree.
    static func hash(_ request: Value) -> String { Hex.encode(Digest.sha256(Array(Paging.canonical(request, top: false).utf8))) }

    /// The result that was stored with the token; `nil` when the token is new.
    /// - Throws: `.idempotencyMismatch`.
    public static func result(
        _ tx: Transaction, accountID: String, action: String, token: String, requestHash: String
    ) throws(CloudError) -> String? {
        guard !token.isEmpty else { return nil }
        let rows = try tx.execute(
            "SELECT request_hash, result FROM cloud.client_tokens WHERE account_id = $1 AND action = $2 AND token = $3",
            .text(accountID), .text(action), .text(token))
        guard let row = rows.first else { return nil }
        guard row.text("request_hash") == requestHash else { throw CloudError(.idempotencyMismatch) }
        return row.text("result")
    }

    /// Keeps the result. Two calls with one token at the same time: the serializable transaction of one of them runs again and finds
    /// the other's result.
    public static func store(
        _ tx: Transaction, accountID: String, action: String, token: String, requestHash: String, result: String, now: Timestamp
    ) throws(CloudError) {
        guard !token.isEmpty else { return }
        try tx.execute(
            "INSERT INTO cloud.client_tokens (account_id, action, token, request_hash, result, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
            .text(accountID), .text(action), .text(token), .text(requestHash), .text(result), .timestamp(now))
    }

    /// The call was refused after all: the token may be used again.
    static func forget(_ tx: Transaction, accountID: String, action: String, token: String) throws(CloudError) {
        try tx.execute(
            "DELETE FROM cloud.client_tokens WHERE account_id = $1 AND action = $2 AND token = $3", .text(accountID), .text(action),
            .text(token))
    }

    public static func expire(_ tx: Transaction, now: Timestamp) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.client_tokens WHERE created_at < $1", .timestamp(now.adding(seconds: -retentionSeconds)))
    }
}
