import Database
import Domain

/// What an account has in this controller's own tables.
enum AccountStore {
    /// Instances that a user has started, and their cores.
    static func usage(_ t: Transaction, accountID: String, userARN: String) throws(CloudError) -> (instances: Int, cores: Int) {
        let row = try t.execute(
            """
            SELECT count(*) AS n, coalesce(sum(cores), 0) AS cores FROM cloud.instances
            WHERE account_id = $1 AND user_arn = $2 AND finished_at IS NULL
            """, .text(accountID), .text(userARN))[0]
        return (row.int("n"), row.int("cores"))
    }

    /// The first kind of thing that it still has; `nil` when it has nothing.
    static func owned(_ t: Transaction, accountID: String) throws(CloudError) -> (what: String, count: Int)? {
        let questions = [
            ("instances", "SELECT count(*) AS n FROM cloud.instances WHERE account_id = $1 AND finished_at IS NULL"),
            ("volumes", "SELECT count(*) AS n FROM cloud.volumes WHERE account_id = $1 AND finished_at IS NULL"),
            ("snapshots", "SELECT count(*) AS n FROM cloud.snapshots WHERE account_id = $1 AND finished_at IS NULL"),
            ("images", "SELECT count(*) AS n FROM cloud.images WHERE account_id = $1 AND deregistered_at IS NULL"),
            ("addresses", "SELECT count(*) AS n FROM cloud.addresses WHERE account_id = $1"),
        ]
        for (what, question) in questions {
            let count = try t.execute(question, .text(accountID))[0].int("n")
            if count > 0 { return (what, count) }
        }
        return nil
    }
}
