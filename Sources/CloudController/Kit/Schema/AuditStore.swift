public import Database
public import Domain
import Identity

/// Who changed what, in the transaction that changed it: there is no mutation without its row, and no row without its mutation.
public enum AuditStore {
    /// - Parameters:
    ///   - action: as IAM names it without the service: `RunInstances`.
    ///   - resource: the ids, blank-separated.
    ///   - detail: a few words; never a secret.
    public static func record(
        _ tx: Transaction, _ op: OperationContext, action: String, resource: String, detail: String = ""
    ) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.audit (at, account_id, principal, request_id, action, resource, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            .timestamp(op.now), .text(op.accountID), .text(op.caller.principal.arn), .text(op.requestID), .text(action), .text(resource),
            .text(detail))
    }

    /// In the account that it concerns, which may be another than the caller's.
    public static func record(
        _ tx: Transaction, at now: Timestamp, accountID: String, principal: String, requestID: String, action: String, resource: String,
        detail: String
    ) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.audit (at, account_id, principal, request_id, action, resource, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
            """, .timestamp(now), .text(accountID), .text(principal), .text(requestID), .text(action), .text(resource), .text(detail))
    }

    /// A change that the cloud made by itself (an instance given up, a disk saved).
    public static func record(
        _ tx: Transaction, at now: Timestamp, accountID: String, action: String, resource: String, detail: String
    ) throws(CloudError) {
        try tx.execute(
            """
            INSERT INTO cloud.audit (at, account_id, principal, request_id, action, resource, detail) 
            VALUES ($1, $2, 'karri', '', $3, $4, $5)
            """,
            .timestamp(now), .text(accountID), .text(action), .text(resource), .text(detail))
    }
}
