public import Database
public import Domain

/// How many of something an account, or one of its users, may have where it differs from the cloud's configuration.
public enum QuotaStore {
    public struct Quota: Sendable, Hashable {
        /// `nil`: of the account as a whole.
        public let user: String?
        public let name: String
        public let value: Int
    }

    /// By name of the limit (`LimitName`'s raw values). - Parameter userID: `nil`: those of the account.
    public static func values(_ t: Transaction, account: String, userID: String? = nil) throws(CloudError) -> [String: Int] {
        let rows = try t.execute(
            "SELECT name, value FROM identity.quotas WHERE account = $1 AND user_id = $2", .text(account), .text(userID ?? ""))
        return Dictionary(rows.map { ($0.text("name"), $0.int("value")) }, uniquingKeysWith: { first, _ in first })
    }

    public static func list(_ t: Transaction, account: String) throws(CloudError) -> [Quota] {
        try t.execute(
            """
            SELECT q.name AS name, q.value AS value, u.name AS user_name FROM identity.quotas q
            LEFT JOIN identity.users u ON u.id = q.user_id WHERE q.account = $1 ORDER BY u.name NULLS FIRST, q.name
            """, .text(account)
        ).map { Quota(user: $0.optionalText("user_name"), name: $0.text("name"), value: $0.int("value")) }
    }

    /// - Parameter value: `nil` goes back to the configuration's.
    public static func set(_ t: Transaction, account: String, user: Entity?, name: LimitName, value: Int?) throws(CloudError) {
        guard let value else {
            try t.execute(
                "DELETE FROM identity.quotas WHERE account = $1 AND user_id = $2 AND name = $3", .text(account), .text(user?.id ?? ""),
                .text(name.rawValue))
            return
        }
        guard value >= 0 else { throw CloudError(.invalidParameter("value"), "A quota is 0 or more, not \(value)") }
        try t.execute(
            """
            INSERT INTO identity.quotas (account, user_id, name, value) VALUES ($1, $2, $3, $4)
            ON CONFLICT (account, user_id, name) DO UPDATE SET value = excluded.value
            """, .text(account), .text(user?.id ?? ""), .text(name.rawValue), .integer(Int64(value)))
    }
}
